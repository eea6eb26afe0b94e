"""Merging, dropping and giving bytes back on a real S3 server, while a run goes on."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from dfpipe.shards import open_tables
from dfpipe.shards.upkeep import compact, describe_tables, drop, vacuum
from dfpipe.testing import BY, make_row

pytestmark = pytest.mark.services


def extract(tables, video, *, fingerprint="fp"):
    rows = {
        "faces": [
            make_row("faces", video_id=video, content_id="c", frame_index=n, crop_png=b"x" * 9) for n in range(3)
        ],
        "videos": [make_row("videos", video_id=video, content_id="c", attempt=1)],
    }
    works = tables.settle(rows, [(video, "c", 1)], fingerprint=fingerprint, shard=video, by=BY)
    tables.commit(works, by=BY)


def objects(tables, table="faces"):
    location = tables.location(table)
    return [path for path in location.fs.find(location.path) if path.endswith(".parquet") and "_delta_log" not in path]


def test_a_store_in_a_bucket_is_kept_in_shape(bucket, s3):
    # Without the compare-and-swap of a merge, rows that the run adds meanwhile are lost or stand twice.
    tables = open_tables(f"{bucket}/store", s3)
    for video in "abcdef":
        extract(tables, video)
    extract(tables, "a", fingerprint="earlier")
    with ThreadPoolExecutor(2) as pool:
        merging = pool.submit(compact, tables, target_bytes=2**20, by=BY)
        for video in "ghi":
            extract(tables, video)
        merging.result()
    compact(tables, target_bytes=2**20, by=BY)
    version = tables.version("faces")
    expected = dict.fromkeys("abcdefghi", 3)
    assert Counter(tables.read("faces", fingerprint="fp")["video_id"].to_pylist()) == expected
    (faces,) = (one for one in describe_tables(tables, target_bytes=2**20) if one.table == "faces")
    assert {part.fingerprint: (part.rows, part.files) for part in faces.partitions} == {
        "fp": (27, 1),
        "earlier": (3, 1),
    }

    # What a run has put and not claimed yet, and versions that somebody needs.
    tables.write_shard("faces", [make_row("faces", video_id="z", content_id="c")], fingerprint="fp", name="under-way")
    drop(tables, {"earlier"}, by=BY)
    vacuum(tables, retention_hours=0, keep_versions={"faces": [version]}, by=BY)
    assert len(objects(tables)) == 3
    found = {one.table: one for one in vacuum(tables, retention_hours=0, keep_versions={}, by=BY)}
    assert (found["faces"].files_before, found["faces"].files) == (3, 1)
    assert len(objects(tables)) == 2
    assert Counter(tables.read("faces")["video_id"].to_pylist()) == expected

    # What was dropped is done again.
    extract(tables, "a", fingerprint="earlier")
    assert tables.read("faces", fingerprint="earlier").num_rows == 3
