import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.shards import SCHEMAS, Tables, open_tables
from dfpipe.testing import make_row


def face(video_id, frame_index):
    return make_row(
        "faces", video_id=video_id, content_id="c", frame_index=frame_index, crop_size_px=8, crop_png=b"png"
    )


def ledger(video_id, shard="s1"):
    return make_row("videos", video_id=video_id, content_id="c", status="ok", run_id="r", shard=shard)


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path / "store"), S3Settings())


def test_a_table_that_was_never_written_is_empty(tables):
    assert tables.read("faces", columns=["video_id"]).num_rows == 0
    assert tables.shards("faces", "fp") == set()


def test_rows_are_seen_only_after_the_commit_and_sorted(tables):
    file = tables.write_shard("faces", [face("b", 30), face("b", 0), face("a", 0)], fingerprint="fp", shard="s1")
    assert tables.read("faces").num_rows == 0
    tables.commit([file], run_id="r")
    rows = tables.read("faces", fingerprint="fp", columns=["video_id", "frame_index", "fingerprint"]).to_pylist()
    assert rows == [
        {"video_id": "a", "frame_index": 0, "fingerprint": "fp"},
        {"video_id": "b", "frame_index": 0, "fingerprint": "fp"},
        {"video_id": "b", "frame_index": 30, "fingerprint": "fp"},
    ]
    assert tables.read("faces").schema.field("crop_png").type == pa.large_binary()


def test_committing_twice_doubles_nothing(tables):
    for _ in range(2):
        file = tables.write_shard("faces", [face("a", 0), face("a", 30)], fingerprint="fp", shard="s1")
        tables.commit([file, None], run_id="r")
    assert tables.read("faces").num_rows == 2
    assert tables.shards("faces", "fp") == {"s1"}


def test_a_retry_keeps_what_the_first_attempt_put(tables):
    # Timings differ between attempts; a rewritten object would no longer fit the size in the table's log.
    first = tables.write_shard("videos", [ledger("a")], fingerprint="fp", shard="s1")
    tables.commit([first], run_id="r")
    again = tables.write_shard("videos", [ledger("a") | {"reason": "x" * 999}], fingerprint="fp", shard="s1")
    assert again == first
    assert tables.read("videos")["reason"].to_pylist() == [""]
    tables.commit([again], run_id="r")
    assert tables.read("videos")["reason"].to_pylist() == [""]


def test_partitions_are_read_alone(tables):
    for fingerprint in ("old", "new"):
        tables.commit([tables.write_shard("faces", [face("a", 0)], fingerprint=fingerprint, shard="s")], run_id="r")
    assert tables.read("faces").num_rows == 2
    assert tables.read("faces", fingerprint="new", columns=["fingerprint"]).to_pylist() == [{"fingerprint": "new"}]
    assert tables.shards("faces", "old") == {"s"}


def test_one_shard_is_read_without_the_table(tables):
    tables.commit([tables.write_shard("faces", [face("a", 0)], fingerprint="fp", shard="s")], run_id="r")
    rows = tables.read("faces", fingerprint="fp", shard="s", columns=["fingerprint", "video_id"]).to_pylist()
    assert rows == [{"fingerprint": "fp", "video_id": "a"}]


def test_no_rows_write_no_file(tables, tmp_path):
    assert tables.write_shard("faces", [], fingerprint="fp", shard="s1") is None
    assert not list((tmp_path / "store").rglob("*.parquet"))


@pytest.mark.parametrize("seen", [["faces"], ["frames", "faces"]])
def test_a_run_that_died_between_two_tables_is_rolled_forward(tables, seen):
    # Without roll_forward these rows would be written a second time under another shard's name.
    frame = {"video_id": "a", "content_id": "c", "frame_index": 0, "pts_seconds": 0.0, "width": 1, "height": 1}
    files = {
        "frames": tables.write_shard("frames", [frame | {"jpeg": b"j"}], fingerprint="fp", shard="s1"),
        "faces": tables.write_shard("faces", [face("a", 0)], fingerprint="fp", shard="s1"),
        "videos": tables.write_shard("videos", [ledger("a")], fingerprint="fp", shard="s1"),
    }
    tables.commit([files[table] for table in seen], run_id="dead")
    assert tables.roll_forward("fp", run_id="next") == 1
    assert {table: tables.read(table).num_rows for table in files} == {"frames": 1, "faces": 1, "videos": 1}
    assert tables.roll_forward("fp", run_id="next") == 0


def test_replace_keeps_the_earlier_version_readable(tables):
    row = {"video_id": "a", "url": "u", "dataset": "d", "label": "real", "manipulation": "original", "compression": ""}
    row |= {"target": "t", "source": None, "split": None, "size_bytes": 1, "content_id": "c", "modified": "m"}
    for ids in (["a", "b"], ["c"]):
        data = pa.Table.from_pylist([row | {"video_id": name} for name in ids], schema=SCHEMAS["catalog"])
        tables.replace("catalog", data, run_id="r")
    assert tables.read("catalog")["video_id"].to_pylist() == ["c"]
    assert DeltaTable(tables.location("catalog").url, version=0).count() == 2


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file"):
        open_tables(str(tmp_path / "file" / "store"), S3Settings())


def test_row_groups_are_bounded_in_bytes(tables, monkeypatch):
    monkeypatch.setattr("dfpipe.shards.tables.ROW_GROUP_BYTES", 4096)
    rows = [face("a", index) | {"crop_png": bytes(2000)} for index in range(10)]
    file = tables.write_shard("faces", rows, fingerprint="fp", shard="s1")
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(f"{tables.location('faces').path}/{file.path}")
    assert metadata.num_row_groups >= 5


def test_a_store_of_an_earlier_version_gets_the_columns_that_came_later(tables, monkeypatch):
    later = SCHEMAS["faces"]
    earlier = pa.schema([field for field in later if field.name not in {"track", "yaw_degrees"}])
    with monkeypatch.context() as then:
        then.setitem(SCHEMAS, "faces", earlier)
        old = {name: value for name, value in face("a", 0).items() if name in earlier.names}
        tables.commit([tables.write_shard("faces", [old], fingerprint="old", shard="s1")], run_id="r")
    open_tables(tables.url, S3Settings())
    tables.commit([tables.write_shard("faces", [face("b", 0)], fingerprint="new", shard="s2")], run_id="r")
    rows = tables.read("faces", columns=["video_id", "track"]).to_pylist()
    assert sorted(rows, key=lambda row: row["video_id"]) == [
        {"video_id": "a", "track": None},
        {"video_id": "b", "track": 0},
    ]
    seen = DeltaTable(tables.location("faces").url).to_pyarrow_table(columns=["video_id", "track"])
    assert sorted(seen.to_pylist(), key=lambda row: row["video_id"]) == sorted(rows, key=lambda row: row["video_id"])


def test_rows_are_sorted_across_row_groups_whatever_they_come_as(tables, monkeypatch):
    monkeypatch.setattr("dfpipe.shards.tables.ROW_GROUP_BYTES", 1000)
    rows = [face("b", number) | {"crop_png": bytes(400)} for number in (3, 1, 2, 0)] + [face("a", 7)]
    schema = pa.schema([field for field in SCHEMAS["faces"] if field.name != "fingerprint"])
    for shard, given in (("rows", rows), ("arrow", pa.Table.from_pylist(rows, schema=schema))):
        file = tables.write_shard("faces", given, fingerprint="fp", shard=shard)
        assert (file.rows, file.first_video_id, file.last_video_id) == (5, "a", "b")
        stored = pq.ParquetFile(tables.location("faces").child(file.path).path)
        assert stored.num_row_groups >= 2
        read = stored.read(["video_id", "frame_index"]).to_pylist()
        assert [(row["video_id"], row["frame_index"]) for row in read] == [("a", 7), *(("b", n) for n in range(4))]


def extracted(kept):
    """Rows and ledger of a video of which an attempt keeps so many faces."""
    rows = {"frames": [], "detections": [], "faces": [face("a", n) for n in range(kept)], "face_videos": []}
    status = "ok" if kept else "timeout"
    ended = make_row("videos", video_id="a", content_id="c", status=status, faces_kept=kept, run_id="r")
    del ended["shard"]
    return rows, [ended]


def put(tables, kept):
    rows, ended = extracted(kept)
    return tables.write_extracted(rows, ended, fingerprint="fp", shard="s1")


@pytest.mark.parametrize(("first", "second"), [(3, 0), (0, 3), (2, 3)])
def test_faces_and_ledger_are_always_those_of_one_attempt(tables, monkeypatch, first, second):
    write = Tables.write_shard

    def die_before_the_ledger(self, table, rows, **place):
        if table == "videos":
            raise KeyboardInterrupt
        return write(self, table, rows, **place)

    with monkeypatch.context() as dying:
        dying.setattr(Tables, "write_shard", die_before_the_ledger)
        with pytest.raises(KeyboardInterrupt):
            put(tables, first)
    tables.commit(put(tables, second), run_id="r")
    (ended,) = tables.read("videos").to_pylist()
    assert (ended["faces_kept"], tables.read("faces").num_rows) == (second, second)


def test_of_two_attempts_the_one_that_put_the_ledger_counts(tables):
    one, other = put(tables, 3), put(tables, 1)
    assert other == one
    tables.commit(other, run_id="r")
    tables.commit(one, run_id="r")
    (ended,) = tables.read("videos").to_pylist()
    assert (ended["faces_kept"], tables.read("faces").num_rows) == (3, 3)
    assert tables.shards("faces", "fp") == {ended["shard"]}


def test_commits_that_were_begun_are_finished_with_the_files_of_their_ledger(tables):
    files = put(tables, 2)
    tables.commit([file for file in files if file and file.table == "faces"], run_id="r")
    assert tables.read("videos").num_rows == 0
    assert tables.roll_forward("fp", run_id="r") == 1
    (ended,) = tables.read("videos").to_pylist()
    assert (ended["faces_kept"], tables.read("faces").num_rows) == (2, 2)
    assert tables.roll_forward("fp", run_id="r") == 0
