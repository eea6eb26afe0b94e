"""Whatever happens in whatever order, every video's rows stand in every table once."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dfpipe.settings import S3Settings
from dfpipe.shards import Tables, open_tables
from dfpipe.shards.upkeep import compact, vacuum
from dfpipe.testing import BY, make_row

VIDEOS = "abcdefgh"
STEPS = ["frames", "detections", "faces", "face_videos", "videos", None]


class DiedError(BaseException):
    """The process is gone."""


def extract(tables, videos, attempts, *, shard, faces, until=None, monkeypatch=None):
    """Extract videos as a run does, and die before the commit to a table if one is named."""
    keys = [(video, "c", attempts.get(video, 0) + 1) for video in videos]
    rows = {
        "frames": [],
        "detections": [],
        "faces": [
            make_row("faces", video_id=video, content_id="c", frame_index=frame, score=attempt)
            for video, _, attempt in keys
            for frame in range(faces)
        ],
        "face_videos": [],
        "videos": [
            make_row("videos", video_id=video, content_id="c", attempt=attempt, faces_kept=faces)
            for video, _, attempt in keys
        ],
    }
    works = tables.settle(rows, keys, fingerprint="fp", shard=shard, by=BY)
    if until is None:
        tables.commit(works, by=BY)
        return
    commit = Tables._commit_to

    def die(self, table, *some):
        if table == until:
            raise DiedError
        commit(self, table, *some)

    with monkeypatch.context() as dying:
        dying.setattr(Tables, "_commit_to", die)
        # There is nothing to die of where a later attempt has taken the place of all of it.
        with suppress(DiedError):
            tables.commit(works, by=BY)


def check(tables):
    """Every video that was ever claimed has one ledger row, of its last attempt, and the faces of that one alone."""
    tables.roll_forward("fp", by=BY)
    ledger = {row["video_id"]: row for row in tables.read("videos").to_pylist()}
    assert tables.read("videos").num_rows == len(ledger)
    faces = tables.read("faces").to_pylist()
    assert Counter(row["video_id"] for row in faces) == {
        video: row["faces_kept"] for video, row in ledger.items() if row["faces_kept"]
    }
    assert {(row["video_id"], row["score"]) for row in faces} == {
        (video, row["attempt"]) for video, row in ledger.items() if row["faces_kept"]
    }
    return {video: row["attempt"] for video, row in ledger.items()}


event = st.one_of(
    st.tuples(st.just("extract"), st.integers(0, 6), st.integers(1, 4), st.integers(0, 2), st.sampled_from(STEPS)),
    st.tuples(st.just("again"), st.integers(0, 7), st.sampled_from(STEPS)),
    st.tuples(st.sampled_from(["compact", "vacuum", "check"])),
)


@example(
    [("extract", 0, 1, 0, "videos"), ("again", 0, "videos"), ("vacuum",), ("extract", 0, 4, 2, None)],
)
@given(st.lists(event, min_size=3, max_size=10))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_history_of_runs_deaths_retries_and_merges(tmp_path_factory, monkeypatch, history):
    # It fails without the claims (two windows overlap), without the ids of commits (a merged file is added again), and
    # where a merge does not look whether its files are still there.
    tables = open_tables(str(tmp_path_factory.mktemp("store")), S3Settings())
    claimed: set[str] = set()
    attempts: dict[str, int] = {}
    for number, (kind, *arguments) in enumerate(history):
        match kind, arguments:
            case "extract", [start, length, faces, until]:
                window = VIDEOS[start : start + length]
                claimed |= set(window)
                # A plan that was made before others committed: attempts are the first for all.
                extract(
                    tables, window, {}, shard=f"w{start}{length}", faces=faces, until=until, monkeypatch=monkeypatch
                )
            case "again", [index, until]:
                attempts = check(tables)
                if VIDEOS[index] in attempts:
                    again = {VIDEOS[index]: attempts[VIDEOS[index]]}
                    extract(tables, again, again, shard=f"r{number}", faces=1, until=until, monkeypatch=monkeypatch)
            case "compact", _:
                compact(tables, target_bytes=2**20, by=BY)
            case "vacuum", _:
                vacuum(tables, retention_hours=0, keep_versions={}, by=BY)
            case _:
                check(tables)
    assert set(check(tables)) == claimed


def test_runs_and_merges_at_the_same_time(tmp_path):
    tables = open_tables(str(tmp_path), S3Settings())
    windows = [VIDEOS[start : start + 3] for start in range(6)]

    def run(job):
        if job == "compact":
            compact(tables, target_bytes=2**20, by=BY)
        else:
            extract(tables, job, {}, shard=f"from-{job}", faces=1)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, [*windows[:3], "compact", *windows[3:], "compact", *windows]))
    assert check(tables) == dict.fromkeys(VIDEOS, 1)


def test_merging_leaves_every_row_and_few_files(tmp_path):
    tables = open_tables(str(tmp_path), S3Settings())
    for video in VIDEOS:
        extract(tables, video, {}, shard=video, faces=2)
    before = {table: tables.read(table).num_rows for table in ("faces", "videos", "claims")}
    done = {one.table: one for one in compact(tables, target_bytes=2**20, by=BY)}
    assert {table: (done[table].files_before, done[table].files_after) for table in before} == dict.fromkeys(
        before, (8, 1)
    )
    assert {table: tables.read(table).num_rows for table in before} == before
    check(tables)
    # What was merged once is not merged again.
    assert all(one.bytes_merged == 0 for one in compact(tables, target_bytes=2**20, by=BY))
    found = {one.table: one.files for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY)}
    assert {table: found[table] for table in before} == dict.fromkeys(before, 8)
    check(tables)
    assert len(list((tmp_path / "tables" / "faces" / "fingerprint=fp").iterdir())) == 1


def test_merged_files_come_near_the_target(tmp_path):
    tables = open_tables(str(tmp_path), S3Settings())
    for video in VIDEOS:
        extract(tables, video, {}, shard=video, faces=1)
    sizes = [file.stat().st_size for file in (tmp_path / "tables" / "videos" / "fingerprint=fp").iterdir()]
    size_bytes = max(sizes)
    done = {one.table: one for one in compact(tables, target_bytes=size_bytes, by=BY)}
    assert done["videos"].files_after == len(VIDEOS)
    done = {one.table: one for one in compact(tables, target_bytes=4 * size_bytes, by=BY)}
    assert done["videos"].files_after == 2


def test_a_vacuum_spares_what_is_young_wanted_or_asked_for(tmp_path):
    tables = open_tables(str(tmp_path), S3Settings())
    extract(tables, "a", {}, shard="s", faces=1)
    extract(tables, "b", {}, shard="t", faces=1)
    version = tables.version("faces")
    compact(tables, target_bytes=2**20, by=BY)
    assert all(one.files == 0 for one in vacuum(tables, retention_hours=1, keep_versions={}, by=BY))
    vacuum(tables, retention_hours=0, keep_versions={"faces": [version]}, by=BY)
    assert tables.at({"faces": version}).read("faces").num_rows == 2
    counted = {one.table: one.files for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY, dry_run=True)}
    assert counted["faces"] == 2
    assert tables.at({"faces": version}).read("faces").num_rows == 2
    vacuum(tables, retention_hours=0, keep_versions={}, by=BY)
    with pytest.raises(OSError, match="no such file"):
        tables.at({"faces": version}).read("faces")
