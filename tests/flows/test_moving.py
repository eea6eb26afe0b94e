"""Progress in Prefect's pages never stands in the way of the work."""

import logging
import threading

from dfpipe import progress
from flows import _moving


def test_updates_are_few_the_last_one_is_sent_and_a_deaf_server_harms_nothing(monkeypatch, caplog):
    told, looked = [], threading.Event()

    def create(percent, *, key, description):
        told.append((key, percent, description))
        looked.set()
        return len(told)

    def refuse(*_, **__):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(_moving, "create_progress_artifact", create)
    monkeypatch.setattr(_moving, "update_progress_artifact", lambda one, **how: told.append((one, *how.values())))
    with _moving.moving_progress(every_seconds=0.01):
        progress.expect("faces", 1000)
        assert looked.wait(60)
        for _ in range(1000):
            progress.advance("faces")
    assert told[0] == ("progress-faces", 0.0, "faces: 0 of 1,000")
    assert told[-1] == (1, 100.0, "faces: 1,000 of 1,000")
    assert len(told) < 500

    monkeypatch.setattr(_moving, "create_progress_artifact", refuse)
    with caplog.at_level(logging.WARNING), _moving.moving_progress(every_seconds=0.001):
        for _ in range(3):
            progress.expect("faces", 2)
            progress.advance("faces")
    assert [record.message for record in caplog.records] == [
        "progress is not shown in Prefect: ConnectionError: nobody answers"
    ]
