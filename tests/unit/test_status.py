"""The ledger at a glance: every video in one state, and the sums of what became of its frames."""

from dataclasses import astuple

import pytest

from dfpipe import __version__
from dfpipe.plan import plan_faces
from dfpipe.provenance import Provenance
from dfpipe.report import make_report
from dfpipe.settings import CropSettings, ExtractSettings, MlflowSettings, Settings
from dfpipe.shards import open_tables
from dfpipe.status import Aliases, Failure, read_aliases, read_status
from dfpipe.testing import as_catalog, finish_faces, ledger_row, make_video, write_catalog

COUNTS = {
    "frames_wanted": 7,
    "frames_decoded": 6,
    "frames_missing": 1,
    "frames_with_face": 5,
    "frames_without_face": 1,
    "frames_with_kept_face": 4,
    "faces_found": 6,
    "faces_kept": 4,
}


@pytest.fixture
def settings(tmp_path):
    return Settings(store=str(tmp_path))


def test_an_empty_store(settings):
    status = read_status(settings)
    assert (status.statuses, status.failures, status.runs, status.sizes) == ((), (), (), ())


def test_last_runs_and_sizes_come_from_the_tables_logs(settings, tmp_path):
    tables = open_tables(settings.store, settings.s3)
    write_catalog(tables, [make_video("a")])
    for run in ("run-1", "run-2"):
        rows = {"videos": [ledger_row(make_video(run).ref)]}
        key, by = make_video(run).ref.key, Provenance(run)
        tables.commit(tables.settle(rows, [key], fingerprint="fp", shard=run, by=by), by=by)
    status = read_status(settings)
    assert [run.run_id for run in status.runs][:2] == ["run-2", "run-1"]
    newest = status.runs[0]
    # A claim and a row of the ledger.
    assert (newest.commits, newest.dfpipe_version) == (2, __version__)
    assert newest.first_commit <= newest.last_commit
    sizes = {one.table: (one.files, one.size_bytes) for one in status.sizes if one.files}
    files = {
        table: [path.stat().st_size for path in (tmp_path / "tables" / table).rglob("*.parquet")]
        for table in ("catalog", "videos", "claims")
    }
    assert sizes == {table: (len(found), sum(found)) for table, found in files.items()}


def test_aliases_where_nothing_was_trained_and_where_nobody_answers(settings, tmp_path):
    settings = settings.model_copy(update={"state": tmp_path / "state"})
    assert read_aliases(settings) == Aliases("dfpipe", {})
    gone = settings.model_copy(update={"mlflow": MlflowSettings(tracking_uri="http://127.0.0.1:1")})
    found = read_aliases(gone)
    assert found.versions == {}
    assert "127.0.0.1:1" in found.problem
    assert "\n" not in found.problem


def test_what_the_filter_turned_away_is_counted_but_is_no_failure(settings):
    tables = open_tables(settings.store, settings.s3)
    videos = [make_video(name) for name in "abc"]
    write_catalog(tables, videos)
    columns = {
        "a": {"status": "filtered", "reason": "frames is 9, less than extract.filter.min_frames = 10"},
        "b": {"status": "no_face", "reason": "none of 7 faces was kept: 7 blurred"},
    }
    todo = plan_faces(as_catalog(videos[:2]), tables, settings)
    finish_faces(tables, todo, columns=columns)
    status = read_status(settings)
    assert {row.status: row.videos for row in status.statuses} == {"filtered": 1, "no_face": 1, "pending": 1}
    assert [one.video_id for one in status.failures] == ["b"]
    report = make_report(settings)
    assert (report.failures, report.num_failures) == (status.failures, 1)


def test_states_sums_and_failures(settings):
    tables = open_tables(settings.store, settings.s3)
    videos = [make_video(name) for name in "abcde"]
    write_catalog(tables, videos[:4])
    columns = {
        "a": COUNTS,
        "b": COUNTS,
        "c": {"status": "corrupt", "reason": "torn"},
        # No longer in the catalog.
        "e": COUNTS,
    }
    ended = [video for video in videos if video.video_id in columns]
    finish_faces(tables, plan_faces(as_catalog(ended), tables, settings), columns=columns)
    status = read_status(settings)
    assert [astuple(row) for row in status.statuses] == [
        ("ok", 2, 14, 12, 2, 10, 2, 8),
        ("corrupt", 1, 0, 0, 0, 0, 0, 0),
        ("pending", 1, 0, 0, 0, 0, 0, 0),
    ]
    assert status.failures == (Failure("c", "corrupt", "torn"),)
    write_catalog(tables, [make_video("a", content="new bytes"), *videos[1:4]])
    assert {row.status: row.videos for row in read_status(settings).statuses} == {"ok": 1, "corrupt": 1, "pending": 2}
    other = settings.model_copy(update={"extract": ExtractSettings(crop=CropSettings(size_px=32))})
    assert [(row.status, row.videos) for row in read_status(other).statuses] == [("pending", 4)]
