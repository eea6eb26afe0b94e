"""Tables that something else has changed: one line that says so, and nothing is quietly missing."""

import shutil

import pytest

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.shards import open_tables
from dfpipe.shards.upkeep import drop
from dfpipe.testing import BY, make_row


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path), S3Settings())


def extract(tables, video="a"):
    rows = {
        "frames": [],
        "detections": [],
        "faces": [make_row("faces", video_id=video, content_id="c")],
        "face_videos": [],
        "videos": [make_row("videos", video_id=video, content_id="c", attempt=1)],
    }
    tables.commit(tables.settle(rows, [(video, "c", 1)], fingerprint="fp", shard=f"s-{video}", by=BY), by=BY)


def faces_and_videos(tables):
    return [sorted(tables.read(table)["video_id"].to_pylist()) for table in ("faces", "videos")]


def test_a_ledger_that_is_gone_is_missed(tables, tmp_path):
    # Without the look at the last file, what is claimed counts as finished: every later run ends well, does nothing
    # and leaves the ledger empty.
    extract(tables)
    shutil.rmtree(tmp_path / "tables" / "videos")
    with pytest.raises(StoreError, match=r"tables/videos has lost s-a-\w+\.parquet.*dfpipe vacuum --drop fp"):
        tables.roll_forward("fp", by=BY)
    drop(tables, ["fp"], by=BY)
    tables.roll_forward("fp", by=BY)
    extract(tables)
    assert faces_and_videos(tables) == [["a"], ["a"]]


def test_a_file_that_is_gone_is_named(tables, tmp_path):
    # Without the translation of errors in read_file, it is a defect with a traceback.
    extract(tables)
    [file] = (tmp_path / "tables" / "faces" / "fingerprint=fp").iterdir()
    file.unlink()
    with pytest.raises(StoreError, match=f"cannot read {file}: no such file"):
        tables.read("faces")


def test_a_foreign_file_is_not_read(tables, tmp_path):
    # If the folder were listed and the log not asked, the face would be there twice.
    extract(tables)
    [file] = (tmp_path / "tables" / "faces" / "fingerprint=fp").iterdir()
    shutil.copy(file, file.with_name("foreign.parquet"))
    (file.parent / "notes.txt").write_text("not a table")
    extract(tables, "b")
    assert faces_and_videos(tables) == [["a", "b"], ["a", "b"]]
