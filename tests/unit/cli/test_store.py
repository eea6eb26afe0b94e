"""What a store holds and what is merged, dropped and deleted there, on the terminal and as JSON."""

import io
import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import pytest

from dfpipe.extract import extract_fingerprint
from dfpipe.forget import Search
from dfpipe.plan import feature_fingerprint
from dfpipe.settings import Settings
from dfpipe.shards import open_tables
from dfpipe.stages import StageRecord
from dfpipe.testing import BY, make_row


@pytest.fixture
def settings(tmp_path):
    return Settings(store=str(tmp_path / ".dfpipe" / "store"))


@pytest.fixture
def fingerprints(settings):
    """Those of the present settings: of the faces, and of the first feature set."""
    faces = extract_fingerprint(settings.extract)
    return faces, feature_fingerprint(settings.train.features[0], faces)


@pytest.fixture
def store(settings, fingerprints):
    """Twenty small shards of the present settings with features, and two of some earlier ones."""
    tables = open_tables(settings.store, settings.s3)
    faces, features = fingerprints
    for number in range(20):
        extract(tables, faces, number)
        extract(tables, features, number, table="features")
    for number in range(2):
        extract(tables, "earlier", number)
    return tables


def extract(tables, fingerprint, number, *, table="videos"):
    video = f"v{number:02}"
    rows = {table: [make_row(table, video_id=video, content_id="c")]}
    if table == "videos":
        rows = {"faces": [make_row("faces", video_id=video, content_id="c")]} | rows
    works = tables.settle(rows, [(video, "c", 1)], fingerprint=fingerprint, shard=f"s{number}", by=BY)
    tables.commit(works, by=BY)


def files(tables, table="faces"):
    return Counter(file.fingerprint for file in tables.log(table).files(tables.log(table).open()))


def cells(text, table="faces"):
    """Return what stands in a table's line."""
    (line,) = (line.split() for line in text.splitlines() if line.split()[:1] == [table])
    return line


@pytest.mark.parametrize("command", ["tables", "compact", "vacuum"])
def test_an_empty_store(dfpipe, command, tmp_path):
    code, text, error = dfpipe(command)
    assert (code, error) == (0, "")
    assert text.endswith("no run has written to this store yet\n")
    # Nothing is made where a store was misspelt.
    assert not (tmp_path / ".dfpipe").exists()
    assert json.loads(dfpipe(command, "--json")[1]) is not None


def test_tables(dfpipe, store, fingerprints):
    code, text, _ = dfpipe("tables")
    assert code == 0
    assert cells(text)[:4] == ["faces", fingerprints[0], "20", "20"]
    assert f"\n{fingerprints[0]}  present faces\n" in text
    assert "\nearlier  settings not known\n" in text
    assert "100 files are small, which makes readers slow: merge them with dfpipe compact" in text
    (faces,) = (one for one in json.loads(dfpipe("tables", "--json")[1]) if one["table"] == "faces")
    assert {part["fingerprint"]: (part["rows"], part["settings"]) for part in faces["partitions"]} == {
        fingerprints[0]: (20, "present faces"),
        "earlier": (2, None),
    }


def test_columns_are_described(dfpipe):
    text = dfpipe("tables", "--describe")[1]
    assert "| `duration_seconds` | double, may be null | yes | duration |" in text
    told = json.loads(dfpipe("tables", "--describe", "--json")[1])
    assert told["faces"][-1] == {
        "column": "fingerprint",
        "type": "string",
        "nullable": False,
        "statistics": False,
        "meaning": "settings that wrote the row",
    }


def test_compact(dfpipe, store, fingerprints):
    rows = store.read("faces").num_rows
    code, text, _ = dfpipe("compact")
    assert code == 0
    assert (cells(text)[1], cells(text)[3]) == ("22", "2")
    assert "stay for readers of earlier versions until dfpipe vacuum" in " ".join(text.split())
    assert files(store) == {fingerprints[0]: 1, "earlier": 1}
    assert store.read("faces").num_rows == rows
    commit = store.log("faces").open().history(1)[0]
    assert (commit["run_id"], len(commit["settings_hash"])) == ("dfpipe compact", 16)
    assert dfpipe("compact")[1].endswith("there was nothing to merge\n")
    assert json.loads(dfpipe("compact", "--json")[1])[0].keys() >= {"table", "files_before", "bytes_after"}
    assert "small" not in dfpipe("tables")[1]


def test_compact_to_a_size_of_ones_own(dfpipe, store, fingerprints):
    dfpipe("compact", "--target-bytes", "1")
    assert files(store)[fingerprints[0]] == 20


def test_vacuum_keeps_a_week_by_default(dfpipe, store, tmp_path):
    dfpipe("compact")
    code, text, error = dfpipe("vacuum")
    assert (code, error) == (0, "")
    assert cells(text)[3] == "0"
    counted = json.loads(dfpipe("vacuum", "--json", "--dry-run", "--retention-hours", "0")[1])
    (faces,) = (one for one in counted["vacuumed"] if one["table"] == "faces")
    assert (faces["files_before"], faces["files"]) == (24, 22)
    code, text, error = dfpipe("vacuum", "--retention-hours", "0")
    assert cells(text)[5] == "2"
    assert "may miss them. Runs are safe" in error


@pytest.mark.parametrize("hours", ["-1", "a week"])
def test_a_retention_that_is_none(dfpipe, store, hours):
    code, _, error = dfpipe("vacuum", "--retention-hours", hours)
    assert code == 2
    assert "--retention-hours" in error


def test_dropping_a_fingerprint_takes_its_features_too(dfpipe, store, fingerprints):
    code, text, _ = dfpipe("vacuum", "--drop", fingerprints[0], "--yes")
    assert code == 0
    assert f"dropped {', '.join(sorted(fingerprints))}: 100 files" in text
    assert [store.fingerprints(table) for table in ("claims", "faces", "videos")] == [["earlier"]] * 3
    assert store.fingerprints("features") == []


def test_records_of_stages_say_what_a_fingerprint_stands_for(dfpipe, store, settings, fingerprints, tmp_path):
    extract(store, "earlier-features", 0, table="features")
    for fingerprint, record in {
        "earlier": StageRecord("faces", 1, settings.extract.model_dump(mode="json")),
        "earlier-features": StageRecord("features", 1, {"name": "residual"}, faces_fingerprint="earlier"),
    }.items():
        file = tmp_path / ".dfpipe" / "store" / "stages" / f"{fingerprint}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(asdict(record)))
    text = dfpipe("tables")[1]
    assert "faces: mtcnn, sampling every, crop box 320 px" in text
    assert "features: residual of earlier" in text
    dropped = json.loads(dfpipe("vacuum", "--drop", "earlier", "--yes", "--json")[1])["fingerprints"]
    assert dropped == ["earlier", "earlier-features"]
    assert store.fingerprints("features") == [fingerprints[1]]


def test_dropping_what_is_not_used(dfpipe, store, fingerprints):
    counted = json.loads(dfpipe("vacuum", "--drop-unused", "--dry-run", "--json")[1])
    assert (counted["fingerprints"], counted["dropped"]) == (["earlier"], [])
    assert "earlier" in store.fingerprints("faces")
    done = json.loads(dfpipe("vacuum", "--drop-unused", "--yes", "--json")[1])
    assert {one["table"]: one["files"] for one in done["dropped"]}["faces"] == 2
    assert store.fingerprints("faces") == [fingerprints[0]]
    assert store.fingerprints("features") == [fingerprints[1]]


def test_nothing_is_dropped_unasked(dfpipe, store, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, _, error = dfpipe("vacuum", "--drop-unused")
    assert code == 2
    assert "earlier: claims" in error
    assert "repeat with --yes" in error
    assert "earlier" in store.fingerprints("faces")


class Terminal(io.StringIO):
    """Somebody who gives an answer, or Ctrl-C instead."""

    def isatty(self):
        return True

    def readline(self, *size):
        if self.getvalue() == "Ctrl-C":
            raise KeyboardInterrupt
        return super().readline(*size)


# A 1 would tell a script that dfpipe has a defect.
@pytest.mark.parametrize(
    ("answer", "code", "said"),
    [
        ("n\n", 2, "dfpipe: the answer was no, so nothing was done\n"),
        ("Ctrl-C", 130, "dfpipe: interrupted"),
        ("", 130, "dfpipe: interrupted"),
        ("y\n", 0, ""),
    ],
)
def test_who_is_asked_may_say_no(dfpipe, store, monkeypatch, answer, code, said):
    monkeypatch.setattr(sys, "stdin", Terminal(answer))
    ended, _, error = dfpipe("vacuum", "--drop-unused")
    assert ended == code
    assert said in error
    assert ("earlier" in store.fingerprints("faces")) == bool(code)


def test_nothing_is_forgotten_unasked(dfpipe, monkeypatch):
    monkeypatch.setattr("dfpipe.forget.look_for", lambda *_, **__: Search(("v",), {}, (), ()))
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n"))
    code, _, error = dfpipe("forget", "--video", "v")
    assert code == 2
    assert error.endswith("repeat with --yes\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--drop", "nosuch"], "nothing in"),
        (["--drop", "earlier", "--drop-unused"], "exclude each other"),
    ],
)
def test_drops_that_cannot_be(dfpipe, store, arguments, named):
    code, _, error = dfpipe("vacuum", *arguments, "--yes")
    assert code == 2
    assert named in error
    assert error.count("\n") == 1
    assert "earlier" in store.fingerprints("faces")


def test_the_page_about_tables_shows_every_column_as_it_is(dfpipe):
    page = (Path(__file__).parents[3] / "docs" / "tables.md").read_text()
    assert page.partition("prints this chapter.\n\n")[2] == dfpipe("tables", "--describe")[1]
