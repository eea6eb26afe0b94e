"""Records on one line each, with the ids of what they are about."""

import json
import logging
import sys
from threading import Thread

import pytest

from dfpipe.logs import JsonFormatter, MessageFormatter, TextFormatter, about, run_logs
from dfpipe.provenance import make_provenance
from dfpipe.settings import LogSettings, Settings

FORGED = "a.mp4\n2026-01-01T00:00:00.000Z ERROR dfpipe forged\x1b[2J\u2028"


def lines_of(text):
    return [line for line in text.splitlines() if line]


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter(), MessageFormatter()])
@pytest.mark.parametrize("where", ["message", "video", "error"])
def test_no_name_forges_a_line(formatter, where):
    name = {"message": "x", "video": "x", "error": "x"} | {where: FORGED}
    failure = (ValueError, ValueError(name["error"]), None)
    record = logging.LogRecord("dfpipe.x", logging.INFO, __file__, 1, "video %s", (name["message"],), failure)
    record.video = name["video"]
    line = formatter.format(record)
    assert len(line.splitlines()) == 1
    assert line.isprintable()


def test_records_carry_the_ids_of_the_block_and_loggers_are_left_as_they_were(capsys, monkeypatch):
    # Where Prefect was imported before, it sends these to a server.
    theirs = logging.getLogger("prefect.task_runs")
    monkeypatch.setattr(theirs, "handlers", [])
    monkeypatch.setattr(theirs, "level", logging.NOTSET)
    log = logging.getLogger("dfpipe.some")
    ours = logging.getLogger("dfpipe")
    before = (list(ours.handlers), ours.level, ours.propagate)
    settings = LogSettings(format="json", level="info")
    with run_logs(settings, run="outer"):
        with run_logs(settings, run="inner"), about(shard="s1"):
            log.info("one", extra={"video": "v1"})
            log.debug("not wanted")
        theirs.warning("two")
    log.info("too late")
    first, second = map(json.loads, lines_of(capsys.readouterr().err))
    assert (first["run"], first["shard"], first["video"], first["message"]) == ("inner", "s1", "v1", "one")
    assert first["time"].endswith("Z")
    assert first["level"] == "info"
    assert (second["run"], second["logger"]) == ("outer", "prefect.task_runs")
    assert "shard" not in second
    assert (list(ours.handlers), ours.level, ours.propagate) == before


def test_lines_that_dask_writes_with_its_own_handlers_are_objects_too(capsys, monkeypatch):
    theirs, form = logging.getLogger("distributed"), logging.Formatter("%(message)s")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(form)
    monkeypatch.setattr(theirs, "handlers", [handler])
    with run_logs(LogSettings(format="json"), run="r"):
        elsewhere = Thread(target=logging.getLogger("distributed.nanny").warning, args=["still alive"])
        elsewhere.start()
        elsewhere.join()
    (line,) = lines_of(capsys.readouterr().err)
    assert json.loads(line).items() >= {"logger": "distributed.nanny", "message": "still alive", "run": "r"}.items()
    assert handler.formatter is form


def test_only_warnings_are_written_unless_asked_and_others_hear_of_the_rest(capsys):
    heard = []
    handler = logging.Handler(logging.INFO)
    handler.emit = heard.append
    with run_logs(LogSettings(), run="r", others=[handler]):
        logging.getLogger("dfpipe.some").info("quiet")
        logging.getLogger("flows.some").warning("loud")
    (line,) = lines_of(capsys.readouterr().err)
    assert line.endswith("Z WARNING flows.some run=r loud")
    assert [record.getMessage() for record in heard] == ["quiet", "loud"]


def test_how_a_run_logs_is_in_no_hash():
    loud = Settings(log=LogSettings(format="json", level="debug"))
    assert make_provenance(loud, run_id="r") == make_provenance(Settings(), run_id="r")
