"""What passes between a process and its child: frames of bytes, and a video's rows as Arrow.

Every frame is its length in eight bytes, then that many bytes.
"""

import re
import struct
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, BinaryIO, get_args

import pyarrow as pa

from dfpipe.catalog import VideoRef
from dfpipe.errors import VideoStatus
from dfpipe.extract import DETECTION_VERSION, VideoRows
from dfpipe.extract import VERSION as EXTRACT_VERSION
from dfpipe.fingerprint import fingerprint
from dfpipe.shards import SCHEMAS

__all__ = ["LENGTH", "VERSION", "decode_rows", "encode_rows", "frame", "read_frame", "tells_of_no_memory"]

LENGTH = struct.Struct(">Q")

ADDED_LATER = ("attempt", "stored_bytes", "limits", "shard", "run_id", "fingerprint")
"""Columns that whoever writes the shard adds."""

STATUSES = frozenset(get_args(VideoStatus))

NO_MEMORY = re.compile(
    r"bad[ _]alloc|insufficient memory|failed to allocate memory|cannot allocate memory|out of memory"
    r"|memory allocation of \d+ bytes failed",
    re.IGNORECASE,
)


VERSION = fingerprint(EXTRACT_VERSION, DETECTION_VERSION, {name: str(schema) for name, schema in SCHEMAS.items()})
"""Parent and child must be of the same code: a child that starts after an upgrade is of another."""


def frame(payload: bytes) -> bytes:
    """Return the payload with its length before it."""
    return LENGTH.pack(len(payload)) + payload


def read_frame(stream: BinaryIO) -> bytes | None:
    """Wait for a frame and return its payload, None where the stream ends."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    payload = stream.read(length)
    return payload if len(payload) == length else None


def encode_rows(rows: VideoRows) -> list[bytes]:
    """Return an Arrow stream for every field of the rows, in the fields' order.

    Raises
    ------
    ValueError
        A row lacks a column that its table insists on.
    """
    parts = []
    for name, schema in _schemas().items():
        table = pa.Table.from_pylist(_as_list(getattr(rows, name)), schema=schema)
        _check_nulls(name, table)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(table)
        parts.append(sink.getvalue().to_pybytes())
    return parts


def decode_rows(parts: Sequence[bytes], video: VideoRef) -> VideoRows:
    """Read back what `encode_rows` gave, trusting nothing.

    Parameters
    ----------
    parts
        One Arrow stream for every field.
    video
        The only video that the rows may speak of.

    Raises
    ------
    ValueError
        They are not the rows of this video, whole and in the tables' schemas.
    """
    schemas = _schemas()
    if len(parts) != len(schemas):
        raise ValueError(f"got {len(parts)} tables, expected {len(schemas)}")
    values: dict[str, Any] = {}
    for (name, schema), part in zip(schemas.items(), parts, strict=True):
        table = _read_table(name, schema, part)
        if any(row_ids != {expected} for row_ids, expected in _ids(table, video)):
            raise ValueError(f"the {name} are another video's")
        values[name] = table.to_pylist()
    ledger = values["video"]
    if len(ledger) != 1 or ledger[0]["status"] not in STATUSES:
        raise ValueError("no single ledger row in a known state")
    return VideoRows(**values | {"video": ledger[0]})


def tells_of_no_memory(text: str) -> bool:
    """Say whether a library that has no MemoryError of its own says so in these words."""
    return NO_MEMORY.search(text) is not None


def _read_table(name: str, schema: pa.Schema, part: bytes) -> pa.Table:
    try:
        with pa.ipc.open_stream(part) as reader:
            # Looked at before any rows are read.
            if not reader.schema.equals(schema):
                raise ValueError(f"the {name} have other columns than their table")
            table = reader.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"the {name} are no Arrow table: {error}") from error
    _check_nulls(name, table)
    return table


def _ids(table: pa.Table, video: VideoRef) -> list[tuple[set[str], str]]:
    """Pair what stands in the columns that name a video with what must stand there; nothing for no rows."""
    if not table.num_rows:
        return []
    return [(set(table[name].to_pylist()), getattr(video, name)) for name in ("video_id", "content_id")]


def _check_nulls(name: str, table: pa.Table) -> None:
    for column in table.schema:
        if not column.nullable and table[column.name].null_count:
            raise ValueError(f"{column.name} is missing in rows of {name}, expected a value in each")


def _schemas() -> dict[str, pa.Schema]:
    """Return the schema of every field of `VideoRows`."""
    tables = {one.name: "videos" if one.name == "video" else one.name for one in fields(VideoRows)}
    return {
        name: pa.schema([column for column in SCHEMAS[table] if column.name not in ADDED_LATER])  # type: ignore[index]
        for name, table in tables.items()
    }


def _as_list(rows: Any) -> list[dict[str, Any]]:
    return [rows] if isinstance(rows, dict) else rows
