"""What comes back from a child is held against the tables before anybody believes it."""

import io
from dataclasses import fields
from datetime import UTC, datetime

import pyarrow as pa
import pytest

from dfpipe import errors
from dfpipe.catalog import VideoRef
from dfpipe.extract import VideoRows, lost_video
from dfpipe.isolation.extract import USER_ERRORS
from dfpipe.isolation.wire import ADDED_LATER, decode_rows, encode_rows, frame, read_frame, tells_of_no_memory
from dfpipe.shards import SCHEMAS

VIDEO = VideoRef("d/v", "/v.mp4", 7, "c")

EXAMPLES = {
    pa.string(): "text",
    pa.int32(): 3,
    pa.int64(): 2**40,
    pa.float32(): 0.5,
    pa.float64(): 0.1,
    pa.bool_(): True,
    pa.large_binary(): b"\0\xff",
    pa.list_(pa.float32()): [0.5, 1.5],
    pa.timestamp("us", tz="UTC"): datetime(2026, 1, 2, 3, 4, 5, 6, UTC),
}


def example_row(table, **more):
    values = {column.name: EXAMPLES[column.type] for column in SCHEMAS[table] if column.name not in ADDED_LATER}
    return values | {"video_id": VIDEO.video_id, "content_id": VIDEO.content_id} | more


def example_rows():
    """Rows with a value in every column of every table that there is a field for."""
    others = [one.name for one in fields(VideoRows) if one.name != "video"]
    return VideoRows(
        example_row("videos", status="ok"),
        **{name: [example_row(name), example_row(name)] for name in others},
    )


def test_rows_come_back_as_they_went():
    rows = example_rows()
    assert decode_rows(encode_rows(rows), VIDEO) == rows


def test_the_rows_of_a_lost_video_come_back():
    rows = decode_rows(encode_rows(lost_video(VIDEO, fault="timeout", reason="why")), VIDEO)
    assert (rows.video["status"], rows.video["reason"], rows.frames) == ("timeout", "why", [])
    assert rows.video["width"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_id": "another"}, "the video are another video's"),
        ({"content_id": "another"}, "the video are another video's"),
        ({"status": "splendid"}, "no single ledger row in a known state"),
    ],
)
def test_a_ledger_row_that_cannot_be_is_refused(change, message):
    rows = example_rows()
    rows.video |= change
    with pytest.raises(ValueError, match=message):
        decode_rows(encode_rows(rows), VIDEO)


def test_a_missing_value_is_refused_on_both_sides():
    rows = example_rows()
    del rows.video["reason"]
    with pytest.raises(ValueError, match="reason is missing in rows of video"):
        encode_rows(rows)
    parts = encode_rows(example_rows())
    table = pa.ipc.open_stream(parts[0]).read_all()
    parts[0] = stream(pa.table([pa.nulls(1, column.type) for column in table.schema], schema=table.schema))
    with pytest.raises(ValueError, match="is missing in rows of video"):
        decode_rows(parts, VIDEO)


def test_frames_of_another_video_are_refused():
    rows = example_rows()
    rows.frames[1]["video_id"] = "another"
    with pytest.raises(ValueError, match="the frames are another video's"):
        decode_rows(encode_rows(rows), VIDEO)


@pytest.mark.parametrize("count", [0, 2])
def test_there_is_one_ledger_row(count):
    parts = encode_rows(example_rows())
    table = pa.ipc.open_stream(parts[0]).read_all()
    parts[0] = stream(pa.concat_tables([table] * count) if count else table.slice(0, 0))
    with pytest.raises(ValueError, match="no single ledger row"):
        decode_rows(parts, VIDEO)


def test_a_table_is_missing():
    with pytest.raises(ValueError, match=r"got \d tables, expected \d"):
        decode_rows(encode_rows(example_rows())[:-1], VIDEO)


def test_other_columns_are_refused():
    parts = encode_rows(example_rows())
    parts[1] = parts[2]
    with pytest.raises(ValueError, match="the frames have other columns than their table"):
        decode_rows(parts, VIDEO)


def test_offsets_that_point_outside_are_refused():
    # Read without a full check, such a table reads memory that is not its own.
    parts = encode_rows(example_rows())
    data = pa.py_buffer(parts[0])
    offsets = pa.ipc.open_stream(data).read_all()["video_id"].chunk(0).buffers()[1]
    last = offsets.address - data.address + 4
    assert parts[0][last : last + 4] == b"\3\0\0\0"
    parts[0] = parts[0][:last] + b"\xff\xff\xff\x7f" + parts[0][last + 4 :]
    with pytest.raises(ValueError, match="the video are no Arrow table"):
        decode_rows(parts, VIDEO)


@pytest.mark.parametrize("keep", [0, 1, 8, 100, -1])
def test_a_cut_or_garbled_stream_is_refused(keep):
    parts = encode_rows(example_rows())
    whole = parts[1]
    for part in (whole[:keep], b"garbage" * 9, whole[:40] + bytes(200) + whole[240:]):
        parts[1] = part
        with pytest.raises(ValueError, match="the frames"):
            decode_rows(parts, VIDEO)


def test_every_error_that_the_user_can_mend_can_come_back():
    named = {name for name in errors.__all__ if name.endswith("Error")}
    kinds = {name: getattr(errors, name) for name in named}
    assert {name: kind for name, kind in kinds.items() if issubclass(kind, errors.UserError)} == USER_ERRORS
    # Nothing but these is ever made of what a child says: a video's fault comes as a row.
    assert "VideoError" not in USER_ERRORS


def test_frames_are_read_whole_or_not_at_all():
    stream = io.BytesIO(frame(b"one") + frame(b"") + frame(b"three")[:-1])
    assert [read_frame(stream) for _ in range(3)] == [b"one", b"", None]
    assert read_frame(io.BytesIO(b"\0\0")) is None


@pytest.mark.parametrize(
    ("text", "tells"),
    [
        ("", False),
        ("terminate called after throwing an instance of 'std::bad_alloc'", True),
        ("memory allocation of 1048576 bytes failed", True),
        ("OpenCV(5.0) error: (-4:Insufficient memory) Failed to allocate 9 bytes in function 'x'", True),
        ("[Errno 12] Cannot allocate memory", True),
        ("Segmentation fault", False),
    ],
)
def test_words_for_no_memory(text, tells):
    assert tells_of_no_memory(text) is tells


def stream(table):
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()
