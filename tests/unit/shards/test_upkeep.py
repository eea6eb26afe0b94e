"""Merging, dropping and giving bytes back, while others run or die."""

import os
import time
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest

from dfpipe.settings import S3Settings
from dfpipe.shards import Tables, files, open_tables, upkeep
from dfpipe.shards.upkeep import compact, describe_tables, drop, merge_records, vacuum
from dfpipe.testing import BY, make_row

NIGHT_SECONDS = 13 * 3600
DAY_SECONDS = 25 * 3600


class DiedError(BaseException):
    """The process is gone."""


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path), S3Settings())


def settle(tables, videos, *, shard="s", fingerprint="fp", attempt=1, faces=1):
    keys = [(video, "c", attempt) for video in videos]
    rows = {
        "faces": [
            make_row("faces", video_id=video, content_id="c", frame_index=frame, crop_png=video.encode() * 9)
            for video in videos
            for frame in range(faces)
        ],
        "videos": [make_row("videos", video_id=video, content_id="c", attempt=attempt) for video in videos],
    }
    return tables.settle(rows, keys, fingerprint=fingerprint, shard=shard, by=BY)


def extract(tables, videos, **more):
    tables.commit(settle(tables, videos, **more), by=BY)


def counts(tables, table="faces", fingerprint="fp"):
    return Counter(tables.read(table, fingerprint=fingerprint, columns=["video_id"])["video_id"].to_pylist())


def parquet_files(tmp_path, table="faces"):
    return sorted((tmp_path / "tables" / table).glob("fingerprint=*/*.parquet"))


def age(tmp_path, seconds):
    """Make every file of the tables look as if it had been put so long ago."""
    then = time.time() - seconds
    for file in (tmp_path / "tables").glob("*/fingerprint=*/*.parquet"):
        os.utime(file, (then, then))


def die_before_claiming(tables, videos, monkeypatch, **more):
    def die(*_arguments, **_options):
        raise DiedError

    with monkeypatch.context() as dying:
        dying.setattr(Tables, "_claim", die)
        with pytest.raises(DiedError):
            settle(tables, videos, **more)


# Giving bytes back


def test_what_a_run_has_put_and_not_claimed_stays_whatever_the_retention(tables, tmp_path, monkeypatch):
    # It fails with a single full vacuum of the retention asked for: the files are gone.
    extract(tables, "a")
    die_before_claiming(tables, "b", monkeypatch, shard="t")
    age(tmp_path, NIGHT_SECONDS)
    assert all(one.files == 0 for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY))
    age(tmp_path, DAY_SECONDS)
    found = {one.table: one for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY)}
    assert {table: found[table].files for table in ("faces", "videos", "claims")} == {
        "faces": 1,
        "videos": 1,
        "claims": 0,
    }
    assert (found["faces"].files_before, len(parquet_files(tmp_path))) == (2, 1)
    assert counts(tables) == {"a": 1}


def test_files_that_an_attempt_of_long_ago_left_are_not_relied_on(tables, tmp_path, monkeypatch):
    # The next attempt at the same videos would find them there under its own name. It fails where `_claim` does not
    # look at `is_old`: a vacuum that comes between has them deleted, and the tables then speak of files that are gone.
    extract(tables, "a")
    die_before_claiming(tables, "b", monkeypatch, shard="t")
    age(tmp_path, DAY_SECONDS)
    claim = Tables._claim

    def claim_after_vacuum(self, *arguments, **options):
        vacuum(tables, retention_hours=0, keep_versions={}, by=BY)
        return claim(self, *arguments, **options)

    with monkeypatch.context() as late:
        late.setattr(Tables, "_claim", claim_after_vacuum)
        works = settle(tables, "b", shard="t")
    tables.commit(works, by=BY)
    assert counts(tables) == counts(tables, "videos") == {"a": 1, "b": 1}
    # What is claimed is relied on at any age.
    age(tmp_path, DAY_SECONDS)
    extract(tables, "b", shard="t")
    assert counts(tables) == counts(tables, "videos") == counts(tables, "claims") == {"a": 1, "b": 1}


def test_claimed_files_stay_however_old(tables, tmp_path):
    # It fails without the roll_forward in `vacuum`.
    settle(tables, "a")
    age(tmp_path, 10 * DAY_SECONDS)
    assert all(one.files == 0 for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY))
    assert counts(tables) == counts(tables, "videos") == {"a": 1}


def test_a_dry_run_counts_and_writes_nothing(tables, tmp_path):
    extract(tables, "a")
    extract(tables, "b", shard="t")
    compact(tables, target_bytes=2**20, by=BY)
    settle(tables, "c", shard="u")
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    found = {one.table: one for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY, dry_run=True)}
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before
    sizes = {path.name: path.stat().st_size for path in parquet_files(tmp_path)}
    merged = sum(size for name, size in sizes.items() if name.startswith(("s-", "t-")))
    assert (found["faces"].files, found["faces"].size_bytes) == (2, merged)
    assert (found["faces"].files_before, found["faces"].bytes_before) == (4, sum(sizes.values()))


def test_a_version_that_is_kept_stays_readable(tables, tmp_path):
    # It fails where either of the two passes does not name the version.
    extract(tables, "a")
    extract(tables, "b", shard="t")
    version = tables.version("faces")
    compact(tables, target_bytes=2**20, by=BY)
    age(tmp_path, 10 * DAY_SECONDS)
    vacuum(tables, retention_hours=0, keep_versions={"faces": [version]}, by=BY)
    assert counts(tables.at({"faces": version})) == {"a": 1, "b": 1}
    assert len(parquet_files(tmp_path, "videos")) == 1
    # What is gone is not counted again.
    found = {one.table: one.files for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY)}
    assert (found["faces"], found["videos"]) == (2, 0)


def test_logs_are_kept_for_those_who_ask_for_a_version_by_number(tables):
    extract(tables, "a")
    configuration = tables.log("faces").open().metadata().configuration
    assert configuration["delta.enableExpiredLogCleanup"] == "false"


# Dropping


def test_what_was_dropped_can_be_done_again(tables):
    # It fails where `_claim` does not tell that a name is used up: its commits are remembered, so nothing is written.
    for _ in range(3):
        extract(tables, "ab", faces=2)
        assert counts(tables) == {"a": 2, "b": 2}
        drop(tables, {"fp"}, by=BY)
        assert [tables.read(table).num_rows for table in ("claims", "faces", "videos")] == [0, 0, 0]


def test_only_what_was_named_is_dropped_and_its_bytes_are_given_back(tables, tmp_path):
    for fingerprint in ("old", "older", "now"):
        extract(tables, "ab", fingerprint=fingerprint)
    size_bytes = sum(path.stat().st_size for path in parquet_files(tmp_path))
    dropped = {one.table: one for one in drop(tables, {"old", "older", "never"}, by=BY)}
    assert {table: dropped[table].files for table in ("claims", "faces", "videos")} == dict.fromkeys(
        ("claims", "faces", "videos"), 2
    )
    assert tables.fingerprints("faces") == tables.fingerprints("videos") == tables.fingerprints("claims") == ["now"]
    assert len(parquet_files(tmp_path)) == 3
    vacuum(tables, retention_hours=0, keep_versions={}, by=BY)
    (left,) = parquet_files(tmp_path)
    assert left.parent.name == "fingerprint=now"
    assert dropped["faces"].size_bytes == size_bytes - left.stat().st_size


@pytest.mark.parametrize("until", ["videos", "faces", "claims"])
def test_a_drop_that_is_cut_short_leaves_nothing_done_that_is_half_gone(tables, monkeypatch, until):
    # It fails in the order in which tables are committed: the ledger says that all is well, and the faces are gone.
    extract(tables, "ab")
    transact = type(tables.log("faces")).transact

    def die(self, *arguments, **options):
        if self.table == until:
            raise DiedError
        transact(self, *arguments, **options)

    with monkeypatch.context() as dying:
        dying.setattr(type(tables.log("faces")), "transact", die)
        with pytest.raises(DiedError):
            drop(tables, {"fp"}, by=BY)
    assert counts(tables, "videos") <= counts(tables)
    drop(tables, {"fp"}, by=BY)
    assert not counts(tables)
    assert not counts(tables, "claims")
    extract(tables, "ab")
    assert counts(tables) == counts(tables, "videos") == {"a": 1, "b": 1}


# Merging


def test_merged_rows_are_sorted_and_their_groups_bounded(tables, tmp_path, monkeypatch):
    # It fails with groups of equally many rows: the clips of one video are a hundred times those of another.
    bound = 2**16
    monkeypatch.setattr(files, "ROW_GROUP_BYTES", bound)
    random = np.random.default_rng(0)
    sizes = {}
    for shard in range(6):
        rows = []
        for number in range(12):
            size = sizes[shard, number] = bound * 2 if number == shard == 3 else bound // (2 if number > 8 else 50)
            # Every shard covers the same range of videos.
            rows.append(
                make_row("face_videos", video_id=f"v{number:02}-{shard}", content_id="c", mp4=random.bytes(size))
            )
        keys = [(row["video_id"], "c", 1) for row in rows]
        ledger = [make_row("videos", video_id=video, content_id="c", attempt=1) for video, _, _ in keys]
        works = tables.settle({"face_videos": rows, "videos": ledger}, keys, fingerprint="fp", shard=f"s{shard}", by=BY)
        tables.commit(works, by=BY)
    compact(tables, target_bytes=2**24, by=BY)
    merged = pq.ParquetFile(next(path for path in parquet_files(tmp_path, "face_videos") if "merged" in path.name))
    ids = merged.read(["video_id"])["video_id"].to_pylist()
    assert len(ids) == 72
    assert ids == sorted(ids)
    groups = [merged.read_row_group(number) for number in range(merged.num_row_groups)]
    assert [group.num_rows for group in groups if group.nbytes > bound + 2000] == [1]
    assert len(groups) < 40


def test_a_merge_is_bounded_in_rows(tables, monkeypatch):
    # Rows of the ledger take ten times their size on disk in memory.
    monkeypatch.setattr(upkeep, "MOST_ROWS", 4)
    for number in range(10):
        extract(tables, f"{number}", shard=f"s{number}")
    done = {one.table: one for one in compact(tables, target_bytes=2**30, by=BY)}
    assert (done["videos"].files_before, done["videos"].files_after) == (10, 3)
    # Files with half the bound are good files.
    done = {one.table: one for one in compact(tables, target_bytes=2**30, by=BY)}
    assert done["videos"].bytes_merged == 0
    assert counts(tables, "videos") == dict.fromkeys("0123456789", 1)


def test_claims_are_merged_whatever_became_of_their_rows(tables):
    # It fails where only names that are visible in the ledger count as finished: a retry has replaced these.
    for number in range(3):
        extract(tables, [f"{number}", f"x{number}"], shard=f"s{number}")
        extract(tables, f"{number}", shard=f"t{number}", attempt=2)
    done = {one.table: one for one in compact(tables, target_bytes=2**20, by=BY)}
    assert (done["claims"].files_before, done["claims"].files_after) == (6, 1)
    assert sum(counts(tables, "claims").values()) == 9
    assert counts(tables, "videos") == dict.fromkeys(("0", "1", "2", "x0", "x1", "x2"), 1)


def test_claims_of_a_run_that_died_are_not_merged(tables, monkeypatch):
    # It fails when `compact` takes every claim for finished: nothing is left by which the dead run is found out.
    extract(tables, "a")
    extract(tables, "b", shard="t")
    with monkeypatch.context() as late:
        # The run claims after the merge has looked for dead ones.
        late.setattr(Tables, "roll_forward", lambda *_, **__: settle(tables, "c", shard="u"))
        compact(tables, target_bytes=2**20, by=BY)
    assert counts(tables, "videos") == {"a": 1, "b": 1}
    assert tables.roll_forward("fp", by=BY) == 1
    assert counts(tables) == counts(tables, "videos") == {"a": 1, "b": 1, "c": 1}


def test_rows_that_are_deleted_under_a_merge_do_not_come_back(tables, monkeypatch):
    # It fails where `_merge` does not look whether its files are still there.
    extract(tables, "a")
    extract(tables, "b", shard="t")
    write_shard = Tables.write_shard

    def write_late(self, table, rows, **options):
        file = write_shard(self, table, rows, **options)
        if options["name"].startswith("merged-") and table == "faces":
            tables.delete_videos("faces", {("a", "c")}, by=BY)
        return file

    monkeypatch.setattr(Tables, "write_shard", write_late)
    compact(tables, target_bytes=2**20, by=BY)
    assert counts(tables) == {"b": 1}


# Looking


def test_tables_are_described(tables, tmp_path):
    for number in range(3):
        extract(tables, f"{number}", shard=f"s{number}", faces=number + 1)
    extract(tables, "0", fingerprint="other")
    facts = {one.table: one for one in describe_tables(tables, target_bytes=2**20)}
    assert facts["faces"].version == tables.version("faces")
    assert facts["faces"].versions == facts["faces"].version + 1
    assert facts["faces"].oldest_commit < facts["faces"].newest_commit
    mine, other = facts["faces"].partitions
    sizes = sorted(path.stat().st_size for path in parquet_files(tmp_path) if path.parent.name == "fingerprint=fp")
    assert (mine.fingerprint, mine.rows, mine.files, mine.small_files) == ("fp", 6, 3, 3)
    assert (mine.size_bytes, mine.median_file_bytes) == (sum(sizes), sizes[1])
    # One file alone has nothing to be merged with.
    assert (other.fingerprint, other.rows, other.files, other.small_files) == ("other", 1, 1, 0)
    assert "features" not in facts


def test_a_store_without_tables_has_nothing_to_keep(tables):
    assert describe_tables(tables, target_bytes=1) == []
    assert vacuum(tables, keep_versions={}, by=BY) == []
    assert drop(tables, {"fp"}, by=BY) == []
    assert all(one.files_before == 0 for one in compact(tables, target_bytes=1, by=BY))


def test_the_records_are_merged_once_they_are_many(tables, monkeypatch):
    monkeypatch.setattr("dfpipe.shards.upkeep.MOST_RECORD_FILES", 3)
    for video in "abc":
        extract(tables, video, shard=video)
    assert merge_records(tables, target_bytes=2**20, by=BY) == []
    extract(tables, "d", shard="d")
    merged = {one.table: one.files_after for one in merge_records(tables, target_bytes=2**20, by=BY)}
    assert merged == {"claims": 1, "videos": 1}
    # Pictures are no record: that is for whoever asks.
    assert len(tables.log("faces").files(tables.log("faces").open())) == 4
