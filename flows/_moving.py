"""Progress that moves in the flow run's page."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import cast
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from dfpipe import progress

__all__ = ["moving_progress"]

EVERY_SECONDS = 4.0
"""Time between two looks at what has changed: a shard tells of every video, and the server need not hear of each."""

PATIENCE_SECONDS = 10.0
"""How long the end of a run waits for its last word of progress."""

_log = logging.getLogger(__name__)


@contextmanager
def moving_progress(*, every_seconds: float = EVERY_SECONDS) -> Iterator[None]:
    """Keep an artifact ``progress-STAGE`` up to date for every stage that advances while the block runs.

    It is sent from a thread of its own, so work never waits for the server; a server that does not answer costs a line
    in the log.
    """
    artifacts: dict[str, UUID] = {}
    sent: dict[str, tuple[int, int]] = {}
    latest: dict[str, tuple[int, int]] = {}
    ended = threading.Event()

    def note(stage: str, done: int, expected: int) -> None:
        latest[stage] = (done, expected)

    def send(stage: str, done: int, expected: int) -> None:
        if sent.get(stage) != (done, expected) and expected:
            percent, text = min(100.0, 100 * done / expected), f"{stage}: {done:,} of {expected:,}"
            if stage in artifacts:
                update_progress_artifact(artifacts[stage], progress=percent, description=text)
            else:
                # Typed for async flows too, in which it would have to be awaited.
                made = create_progress_artifact(percent, key=f"progress-{stage}", description=text)
                artifacts[stage] = cast("UUID", made)
            sent[stage] = (done, expected)

    def go_on() -> None:
        failed = False
        while True:
            last = ended.wait(every_seconds)
            for stage, (done, expected) in latest.copy().items():
                try:
                    send(stage, done, expected)
                except Exception as error:  # noqa: BLE001 - whatever ails the server, the run is not about its progress
                    if not failed:
                        _log.warning("progress is not shown in Prefect: %s: %s", type(error).__name__, error)
                    failed = True
            if last:
                return

    # The thread writes in the name of this flow run.
    sender = threading.Thread(target=copy_context().run, args=(go_on,), name="progress", daemon=True)
    with progress.listen(note):
        sender.start()
        try:
            yield
        finally:
            ended.set()
            sender.join(PATIENCE_SECONDS)
