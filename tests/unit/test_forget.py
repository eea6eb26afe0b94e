"""Looking for people and videos, remembering them without naming them, and the command."""

import io
import json
import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

from dfpipe import cli
from dfpipe import forget as forgetting
from dfpipe.decisions import Decision, append, read_decisions
from dfpipe.errors import CatalogError
from dfpipe.fingerprint import fingerprint
from dfpipe.forget import forget, look_for
from dfpipe.forgotten import Forgotten, leave_out_forgotten, load_forgotten, remember_forgotten
from dfpipe.report import escape_markdown
from dfpipe.settings import load_settings
from dfpipe.shards import open_tables
from dfpipe.storage import open_location
from dfpipe.testing import BY, as_catalog, ledger_row, make_row, make_video, write_catalog

ANNA = make_video("anna", "content 1", target="Anna")
BEN = make_video("ben", "c2", target="Ben")
FAKE = make_video("fake", "c3", target="Ben", source="Anna", label="fake")
COPY = make_video("copy of anna", "content 1", target="Clara")
NOTHING = make_video("nothing", "c0", target="Anna", size_bytes=0)
NOTHING_TOO = make_video("nothing too", "c0", target="Ben", size_bytes=0)
EVERYBODY = [ANNA, BEN, FAKE, COPY, NOTHING, NOTHING_TOO]


@pytest.fixture
def settings(tmp_path):
    return load_settings(overrides=[f"store={tmp_path}/store", f"state={tmp_path}/state"], environ={})


@pytest.fixture
def tables(settings):
    tables = open_tables(settings.store, settings.s3)
    write_catalog(tables, EVERYBODY)
    extract(tables, EVERYBODY)
    return tables


def extract(tables, videos):
    rows = {
        "faces": [make_row("faces", video_id=one.video_id, content_id=one.content_id) for one in videos],
        "videos": [ledger_row(one.ref) for one in videos],
    }
    keys = [one.ref.key for one in videos]
    tables.commit(tables.settle(rows, keys, fingerprint="fp", shard=fingerprint(keys), by=BY), by=BY)


def names(tables, table="videos"):
    return set(tables.read(table)["video_id"].to_pylist())


def test_nobody_is_forgotten_at_first(settings, tables):
    assert load_forgotten(tables) == Forgotten(b"", frozenset())
    catalog = as_catalog(EVERYBODY)
    assert leave_out_forgotten(tables, catalog) is catalog


def test_a_person_is_found_as_target_as_source_and_as_the_same_bytes(settings, tables):
    found = look_for(settings, identities=["Anna"])
    assert found.videos == ("anna", "copy of anna", "fake", "nothing")
    assert found.rows == {"claims": 4, "faces": 4, "videos": 4}
    forget(settings, found)
    for table in ("catalog", "claims", "faces", "videos"):
        assert names(tables, table) == {"ben", "nothing too"}


def test_a_video_takes_no_other_of_the_same_people_along(settings, tables):
    """Nor another empty file, although all of them have the same content."""
    assert look_for(settings, videos=["fake"]).videos == ("fake",)
    assert look_for(settings, videos=["nothing"]).videos == ("nothing",)


def test_a_person_is_found_in_catalogs_of_former_times(settings, tables):
    """A video that is in the source no more has rows still."""
    write_catalog(tables, [BEN])
    forget(settings, look_for(settings, identities=["Anna"]))
    assert names(tables) == {"ben", "nothing too"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"videos": ["ana"]}, r"has no video 'ana'; .* under video_id"),
        ({"identities": ["anna"]}, r"has no identity 'anna'; .* under target or source"),
    ],
)
def test_a_name_that_is_not_there_is_one_line(settings, tables, asked, message):
    with pytest.raises(CatalogError, match=message):
        look_for(settings, **asked)


def test_what_a_source_still_has_is_left_out(settings, tables, caplog):
    forget(settings, look_for(settings, identities=["Anna"]))
    later = make_video("another of anna", "c9", target="Ben", source="Anna")
    moved = make_video("moved", "content 1", target="nobody")
    renewed = make_video("anna", "c8", target="nobody")
    with caplog.at_level("INFO"):
        left = leave_out_forgotten(tables, as_catalog([*EVERYBODY, later, moved, renewed]))
    assert left["video_id"].to_pylist() == ["ben", "nothing too"]
    assert "7 videos of the source are left out" in caplog.text


def test_the_list_names_nobody_and_two_lists_have_nothing_in_common(settings, tables, tmp_path):
    forget(settings, look_for(settings, identities=["Anna"]))
    kept = list((tmp_path / "store/forgotten").iterdir())
    assert len(kept) == 2
    for file in kept:
        assert not any(name in file.read_bytes() for name in (b"Anna", b"anna", b"content"))
    other = open_tables(str(tmp_path / "other"), settings.s3)
    theirs = remember_forgotten(other, [("identity", "Anna")], receipt_id="r")
    assert theirs.has("identity", "Anna")
    assert not theirs.has("video", "Anna")
    assert theirs.marks.isdisjoint(load_forgotten(tables).marks)


def test_a_run_that_was_under_way_is_cleaned_up_after(settings, tables):
    forget(settings, look_for(settings, identities=["Anna"]))
    write_catalog(tables, EVERYBODY)
    extract(tables, [ANNA, make_video("ben too", "c7", target="Ben")])
    # Whoever is named now, everything that was ever forgotten goes.
    receipt = forget(settings, look_for(settings, videos=["nothing too"]))
    assert names(tables) == names(tables, "catalog") | {"ben too"} == {"ben", "ben too"}
    assert receipt.rows["faces"] == 2
    assert not forget(settings, look_for(settings, identities=["Anna"])).did_anything


def test_reports_lose_the_lines_that_name_it(settings, tables, tmp_path):
    report = tmp_path / "store/reports/r/report.md"
    report.parent.mkdir(parents=True)
    name = "odd_na|me <x>"
    write_catalog(tables, [*EVERYBODY, make_video(name, "c5")])
    lines = ["# Report", "anna", f"| corrupt | {escape_markdown(name)} | why |", "| corrupt | ben | because |", ""]
    report.write_text("\n".join(lines))
    page = report.with_suffix(".html")
    row = '<tr><td class="left">corrupt</td><td class="left name">{}</td><td>why</td></tr>\n'
    page.write_text(row.format("odd_na|me &lt;x&gt;") + row.format("ben"))
    assert forget(settings, look_for(settings, videos=[name])).reports == 2
    assert page.read_text() == row.format("ben")
    assert report.read_text().splitlines() == ["# Report", "anna", "| corrupt | ben | because |"]


@pytest.mark.parametrize(
    ("reason", "kept"),
    [
        ("better on Anna, the test says", False),
        ("Anna", False),
        ("not shown (nothing of Anna)!", False),
        ("", True),
        ("better on Annabel and Ben", True),
    ],
)
def test_the_history_of_champions_loses_the_reasons_that_name_her(settings, tables, reason, kept):
    registry = open_location(tables.url, settings.s3).child("registry")
    decision = Decision(
        number=1,
        decided_at="2026-11-29T06:00:00+00:00",
        action="rollback",
        model="dfpipe",
        alias="champion",
        version="1",
        run_id="r",
        champion_before="2",
        champion_after="1",
        forced=False,
        reason=reason,
        passed=None,
        refusals=(),
        checks=(),
        videos=0,
        groups=0,
        compared_videos=0,
        compared_groups=0,
        rules=settings.gate,
        dfpipe_version="0",
    )
    append(registry, decision)
    assert forget(settings, look_for(settings, identities=["Anna"])).reasons == (not kept)
    assert read_decisions(registry) == [decision.model_copy(update={"reason": reason if kept else "(forgotten)"})]


def test_a_name_of_several_words_is_found():
    assert "copy of anna" in set(forgetting._names("not shown (copy of anna)!"))


@pytest.fixture
def dfpipe(monkeypatch, capsys, settings, tables):
    def run(*arguments, answer=""):
        terminal = io.StringIO(answer)
        monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stdin", terminal)
        where = ["--set", f"store={settings.store}", "--set", f"state={settings.state}"]
        monkeypatch.setattr(sys, "argv", ["dfpipe", *arguments, *where])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code, *capsys.readouterr()

    return run


def test_the_command_asks_first(dfpipe, tables):
    code, out, err = dfpipe("forget", "--identity", "Anna", answer="n\n")
    assert code == 2
    assert "fake" in out
    assert "4 of faces" in " ".join(out.split())
    assert "cannot be undone" in err
    assert "anna" in names(tables)
    code, out, _ = dfpipe("forget", "--identity", "Anna", answer="y\n")
    assert code == 0
    assert "4 of faces" in out
    assert names(tables) == {"ben", "nothing too"}
    code, out, _ = dfpipe("forget", "--identity", "Anna", "--yes")
    assert (code, out.splitlines()[-1]) == (0, "nothing was left to do")


def test_the_command_in_json(dfpipe, tables):
    code, out, _ = dfpipe("forget", "--video", "fake", "--json")
    assert (code, json.loads(out)["done"], json.loads(out)["videos"]) == (0, False, ["fake"])
    assert "fake" in names(tables)
    code, out, _ = dfpipe("forget", "--video", "fake", "--json", "--yes")
    assert json.loads(out)["rows"] == {"catalog": 1, "claims": 1, "faces": 1, "videos": 1}
    assert "fake" not in names(tables)


def test_nobody_named_is_one_line(dfpipe):
    code, _, err = dfpipe("forget", "--yes")
    assert (code, err.count("\n")) == (2, 1)
    assert "--video ID or --identity ID" in err


def test_training_at_a_run_has_no_other_last_stage(dfpipe):
    code, _, err = dfpipe("run", "--at", "r", "--until", "faces")
    assert (code, err.count("\n")) == (2, 1)
    assert "leave out --until" in err


@dataclass
class Opinion:
    verdict: str = "real"


@pytest.mark.parametrize(("mark", "lines"), [(None, 0), ("0123abcd", 1)])
def test_a_verdict_of_a_marked_model_says_so_in_one_line(dfpipe, monkeypatch, mark, lines):
    monkeypatch.setattr("dfpipe.training.connect_tracking", lambda settings: None)
    monkeypatch.setattr("dfpipe.tracking.load_champion", lambda *_, **__: SimpleNamespace(name="dfpipe", version="3"))
    monkeypatch.setattr("dfpipe.tracking.forgotten_by", lambda tracking, name, version: mark)
    monkeypatch.setattr("dfpipe.verdict.judge", lambda *_, **__: Opinion())
    code, out, err = dfpipe("predict", "x.mp4", "--json")
    assert (code, json.loads(out)) == (0, [{"verdict": "real"}])
    assert err.count("\n") == lines
    assert ("version 3 of dfpipe was trained on videos that were forgotten since (receipt 0123abcd)" in err) == bool(
        mark
    )
