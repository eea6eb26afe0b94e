"""Erasing while others write: nobody's table breaks, nothing comes back unseen, and neighbours lose nothing."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dfpipe.settings import S3Settings
from dfpipe.shards import Tables, erase, open_tables
from dfpipe.shards.erase import Erased
from dfpipe.shards.upkeep import compact
from dfpipe.testing import BY, make_row

FP = "fp"


class DiedError(BaseException):
    """The process is gone."""


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path / "store"), S3Settings())


def settle(tables, *videos, shard=None):
    keys = [(video, f"content of {video}", 1) for video in videos]
    rows = {
        "faces": [make_row("faces", video_id=video, content_id=content) for video, content, _ in keys],
        "videos": [make_row("videos", video_id=video, content_id=content, attempt=1) for video, content, _ in keys],
    }
    return tables.settle(rows, keys, fingerprint=FP, shard=shard or "".join(videos), by=BY)


def extract(tables, *videos, shard=None):
    tables.commit(settle(tables, *videos, shard=shard), by=BY)


def die(*_args, **_options):
    raise DiedError


def forget(tables, *videos):
    names = pa.array(videos)
    return {one.table: one for one in erase.erase(tables, lambda rows: pc.is_in(rows["video_id"], names), by=BY)}


def done(tables):
    """Return the videos that are done, having seen that the tables agree."""
    ledger = sorted(tables.read("videos")["video_id"].to_pylist())
    assert sorted(tables.read("faces")["video_id"].to_pylist()) == ledger
    assert ledger == sorted(set(ledger))
    return "".join(ledger)


def files(tables, table="faces"):
    return sorted(
        path.name for path in Path(tables.location(table).path).rglob("*.parquet") if "log" not in path.parts[-2]
    )


def test_an_empty_store_has_nothing_to_erase(tables):
    assert forget(tables, "a") == {}


def test_counts_are_of_what_was_there(tables):
    extract(tables, "a", "b")
    extract(tables, "c")
    size_bytes = {
        table: sum(path.stat().st_size for path in Path(tables.location(table).path).rglob("ab-*.parquet"))
        for table in ("claims", "faces", "videos")
    }
    erased = {table: one for table, one in forget(tables, "a").items() if one}
    assert erased == {table: Erased(table, 1, 1, size, 1) for table, size in size_bytes.items()}
    assert not any(forget(tables, "a").values())
    assert done(tables) == "bc"


def test_a_run_that_is_about_to_claim_breaks_no_table(tables, monkeypatch):
    """Without `_lay_to_rest` the run's commit speaks of files that are gone, and nobody can read the table."""
    extract(tables, "c")
    claim = Tables._claim

    def forget_first(self, videos, files, **options):
        monkeypatch.undo()
        assert forget(tables, "a")["faces"].files == 1
        return claim(self, videos, files, **options)

    monkeypatch.setattr(Tables, "_claim", forget_first)
    extract(tables, "a", "b")
    # Its name is used up; it held the rows and has put them under another. Forgetting again takes them.
    assert done(tables) == "abc"
    forget(tables, "a")
    assert done(tables) == "bc"
    assert not any(name.startswith("ab") for name in files(tables) + files(tables, "claims"))


def test_what_a_dead_run_claimed_is_finished_for_its_other_videos(tables, monkeypatch):
    """Without finishing it in `_lay_to_rest`, nobody would: its claim is gone."""
    with monkeypatch.context() as dying:
        dying.setattr(Tables, "_commit_to", die)
        with pytest.raises(DiedError):
            extract(tables, "a", "b")
    forget(tables, "a")
    assert done(tables) == "b"


def test_a_claim_between_the_look_and_the_delete_is_finished_too(tables, monkeypatch):
    """Without finishing it, the other video is claimed for ever and never done."""
    extract(tables, "c")
    find, looks = erase.find_pairs, []

    def claim_after_the_look(some, is_meant):
        if not looks:
            looks.append(settle(tables, "a", "b"))
        return find(some, is_meant)

    monkeypatch.setattr(erase, "find_pairs", claim_after_the_look)
    forget(tables, "a")
    assert done(tables) == "bc"
    # The run goes on, and finds its work done.
    tables.commit(looks[0], by=BY)
    assert done(tables) == "bc"


def test_what_is_committed_afterwards_is_found_the_next_time(tables):
    forget(tables, "a")
    extract(tables, "a", "b")
    assert done(tables) == "ab"
    forget(tables, "a")
    assert done(tables) == "b"


def test_merging_at_the_same_time_brings_nothing_back(tables, monkeypatch):
    for video in "abc":
        extract(tables, video)
    write = Tables.write_shard

    def forget_before_the_commit(self, table, rows, *, fingerprint, name):
        file = write(self, table, rows, fingerprint=fingerprint, name=name)
        if table == "faces" and name.startswith("merged"):
            monkeypatch.undo()
            forget(tables, "a")
        return file

    monkeypatch.setattr(Tables, "write_shard", forget_before_the_commit)
    compact(tables, target_bytes=10**6, by=BY)
    assert done(tables) == "bc"


def test_a_late_commit_is_not_lost_under_an_older_number(tables):
    """If entries of the log were deleted instead of rewritten, this commit would be put where nobody reads."""
    extract(tables, "a")
    opened = tables.log("faces").open()
    for video in "bcd":
        extract(tables, video)
    forget(tables, "a")
    version = opened.version() + 1
    (file,) = [one for one in tables.log("faces").files(tables.log("faces").open()) if one.first_video_id == "b"]
    from dfpipe.errors import StoreError
    from dfpipe.shards.log import Change

    with pytest.raises(StoreError):
        tables.log("faces")._commit(opened, Change(remove=[file]), BY)
    assert tables.version("faces") > version
    assert done(tables) == "bcd"


def test_checkpoints_keep_what_others_need(tables):
    """Versions that only a checkpoint knows stay readable, and only files that are gone lose their statistics."""
    for number in range(30):
        extract(tables, f"{number:02}")
    log = Path(tables.location("faces").path, "_delta_log")
    checkpoint = next(log.glob("*.checkpoint.parquet"))
    version = int(checkpoint.name.partition(".")[0])
    forget(tables, "03")
    adds = [add for add in pq.read_table(checkpoint)["add"].to_pylist() if add is not None]
    assert [json.loads(add["stats"])["numRecords"] if add["stats"] else None for add in adds].count(None) == 1
    for entry in log.glob("*.json"):
        if int(entry.stem) <= version:
            entry.unlink()
    (log / "_last_checkpoint").unlink()
    assert len(tables.log("faces").files(tables.log("faces").open(version=version))) == len(adds)
    assert tables.read("faces").num_rows == 29
    assert tables.log("faces").is_committed(tables.log("faces").open(), next(iter(settle(tables, "05"))).commit_id)
