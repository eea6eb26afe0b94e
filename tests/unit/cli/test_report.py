"""What a store accounts for, on the terminal and as JSON."""

import json

import pytest

from dfpipe.plan import plan_faces
from dfpipe.settings import Settings
from dfpipe.shards import open_tables
from dfpipe.testing import as_catalog, finish_faces, make_video, write_catalog

EVIL = "d/[bold]x\x1b[2J"


@pytest.fixture
def store(tmp_path):
    settings = Settings(store=str(tmp_path / ".dfpipe" / "store"))
    tables = open_tables(settings.store, settings.s3)
    videos = [make_video("good"), make_video(EVIL, label="fake")]
    write_catalog(tables, videos)
    columns = {
        "good": {"frames_wanted": 7, "frames_decoded": 7, "frames_with_face": 7, "frames_with_kept_face": 7}
        | {"num_frames": 200, "codec": "h264", "faces_found": 7, "faces_kept": 7, "run_id": "run-1"},
        EVIL: {"status": "corrupt", "reason": "a reason that is long " * 10, "run_id": "run-1"},
    }
    finish_faces(tables, plan_faces(as_catalog(videos), tables, settings), columns=columns)
    return settings


def test_report_of_an_empty_store(dfpipe):
    code, text, _ = dfpipe("report")
    assert code == 0
    assert text.endswith("no run has written a catalog to this store yet\n")


def test_report(dfpipe, store):
    code, text, _ = dfpipe("report")
    assert code == 0
    assert "this run: the rows that run run-1 wrote" in text
    assert "every one of them looked at" in text
    assert "0.0 % of the real videos and 100.0 % of the fake ones end without a face" in " ".join(text.split())
    assert " corrupt  d/[bold]x\\x1b[2J  a reason" in text
    assert ("a reason that is long " * 10).strip() in text
    assert "\x1b" not in text


def test_report_as_json(dfpipe, store):
    report = json.loads(dfpipe("report", "--json", "--run", "run-1")[1])
    assert (report["videos"], report["whole"]["statuses"]) == (2, {"ok": 1, "corrupt": 1})
    assert (report["run_id"], report["run"]["statuses"]) == ("run-1", {"ok": 1, "corrupt": 1})
    assert report["losses"]["overall"]["videos"]["value"] == 0.5


@pytest.mark.parametrize("more", [[], ["--json"], ["--out", "there"]])
def test_report_of_a_run_that_is_not_there(dfpipe, store, tmp_path, more):
    code, text, error = dfpipe("report", "--run", "NOSUCHRUN", *more)
    assert code == 2
    assert "run 'NOSUCHRUN' wrote no row" in error
    assert error.endswith("newest first: run-1\n")
    assert error.count("\n") == 1
    assert "store " not in text
    assert not (tmp_path / "there").exists()


def test_report_of_a_run_where_there_is_none(dfpipe):
    code, text, error = dfpipe("report", "--run", "run-1")
    assert (code, text) == (2, "")
    assert error.rstrip().endswith("no run has yet: dfpipe run")


def test_report_into_a_folder(dfpipe, store, tmp_path):
    code, text, _ = dfpipe("report", "--out", "there")
    assert code == 0
    assert f"written {tmp_path}/there/report.md\n" in text
    names = ["distributions.png", "report.html", "report.md"]
    assert sorted(path.name for path in (tmp_path / "there").iterdir()) == names
    assert "](distributions.png)" in (tmp_path / "there" / "report.md").read_text()


def test_report_as_one_page(dfpipe, store, tmp_path):
    code, text, error = dfpipe("report", "--html", "page.html")
    assert (code, error) == (0, "")
    assert f"written {tmp_path}/page.html\n" in text
    assert "d/[bold]x\\x1b[2J" in (tmp_path / "page.html").read_text()
    code, _, error = dfpipe("report", "--html", "page.html", "--set", "mlflow.tracking_uri=http://127.0.0.1:1")
    assert code == 0
    assert error.startswith("warning: the page tells of no training: ")
    assert error.count("\n") == 1


def test_status_shows_the_balance(dfpipe, store):
    code, text, _ = dfpipe("status", "--failures")
    assert code == 0
    heading, bad, good = text.splitlines()[1:4]
    assert " ".join(heading.split()) == "status videos frames wanted decoded missing with a face without faces kept"
    assert good.split() == ["ok", "1", "7", "7", "0", "7", "0", "7"]
    assert bad.split() == ["corrupt", "1", "0", "0", "0", "0", "0", "0"]
    assert "     corrupt  d/[bold]x\\x1b[2J: a reason" in text
    lines = {line.split()[0]: line for line in text.splitlines()[4:]}
    assert "commits, dfpipe" in lines["run"]
    assert "videos" in lines["size"]
    assert lines["dfpipe"].endswith("no champion and no challenger yet")


def test_status_does_without_mlflow(dfpipe, store):
    code, text, error = dfpipe("status", "--set", "mlflow.tracking_uri=http://127.0.0.1:1")
    assert (code, error) == (0, "")
    assert "\nmodels          unknown: " in text
    code, text, _ = dfpipe("status", "--json", "--set", "mlflow.tracking_uri=http://127.0.0.1:1")
    told = json.loads(text)
    assert code == 0
    assert {"statuses", "runs", "sizes", "models"} <= told.keys()
    assert told["models"]["problem"]
    # As in every other command, and as jq and JavaScript read it.
    assert "T" in told["runs"][0]["first_commit"]
