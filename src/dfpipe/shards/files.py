"""One shard's rows as one Parquet file: sorted, in bounded row groups, put whole, and described by its own footer."""

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dfpipe.shards.schemas import FILTERED_BY, PICTURES, SCHEMAS, Table
from dfpipe.storage import Location, storage_errors

__all__ = [
    "LEFT_OVER_AFTER",
    "MERGED",
    "REST",
    "Rows",
    "ShardFile",
    "encode_shard",
    "find_file",
    "shard_name",
    "shard_path",
    "without_fingerprint",
]

ROW_GROUP_BYTES = 8 * 2**20
"""Uncompressed bytes in a row group: what a reader of one video has to read of a large file."""

LEFT_OVER_AFTER = timedelta(hours=12)
"""Age from which no attempt relies on a file that was put and never claimed: a vacuum may be deleting it."""

ORDER = ("video_id", "frame_index", "track")
"""Columns by which rows are sorted, those of them that a table has."""

MERGED, REST = "merged-", "rest-"
"""How the names of files begin that were made of others: of several, and of one without some of its videos."""

Rows: TypeAlias = Sequence[Mapping[str, Any]] | pa.Table
"""Rows of one table, without the column ``fingerprint``."""


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A Parquet file that lies in the store and is not (yet) known to be committed."""

    table: Table
    """Table it belongs to."""
    fingerprint: str
    """Partition it belongs to."""
    name: str
    """Name of the file without its ending; the same in every table that one settling wrote to."""
    size_bytes: int
    """Size of the file."""
    statistics: str
    """Rows, and smallest, largest and missing values of the columns people filter by, as Delta's JSON."""
    is_old: bool = False
    """It was found, not put, and has lain there for `LEFT_OVER_AFTER`."""

    @property
    def path(self) -> str:
        """Path below the table's folder."""
        return shard_path(self.fingerprint, self.name)

    @property
    def rows(self) -> int:
        """Rows in it."""
        return int(json.loads(self.statistics)["numRecords"])


def shard_path(fingerprint: str, name: str) -> str:
    """Return the path of a shard's file below its table's folder."""
    return f"fingerprint={fingerprint}/{name}.parquet"


def shard_name(path: str) -> str | None:
    """Return the name under which a file was settled; None for one that was made of others."""
    name = path.rpartition("/")[2].removesuffix(".parquet")
    return None if name.startswith((MERGED, REST)) else name


def without_fingerprint(table: Table) -> pa.Schema:
    """Return the columns that a table's files hold: the partition stands in their path."""
    schema = SCHEMAS[table]
    return schema.remove(schema.get_field_index("fingerprint"))


def encode_shard(rows: Rows, schema: pa.Schema) -> tuple[bytes, str]:
    """Encode rows as one Parquet file and describe it.

    It is made in memory: a writer that is interrupted on its way to the store leaves a valid, shorter file behind.

    Parameters
    ----------
    rows
        In any order; stored by video, frame and person.
    schema
        Columns of the file.

    Returns
    -------
    bytes
        The file.
    str
        Its statistics.
    """
    buffer = io.BytesIO()
    plain = [name for name in schema.names if name not in PICTURES]
    options = {
        # Pictures are compressed already, no two are the same, and nobody asks for the smallest.
        "compression": {name: "zstd" if name in plain else "none" for name in schema.names},
        "use_dictionary": plain,
        "write_statistics": plain,
    }
    with pq.ParquetWriter(buffer, schema, **options) as writer:
        for group in _row_groups(rows, schema):
            writer.write_table(group)
    # The buffer's own bytes, not a copy, as long as nobody looks into the buffer: a shard takes its memory once.
    data = buffer.getvalue()
    return data, _statistics(pq.read_metadata(pa.BufferReader(data)))


def find_file(location: Location, table: Table, fingerprint: str, name: str) -> ShardFile | None:
    """Describe a file that somebody has put below a table's folder, None where there is none."""
    location = location.child(shard_path(fingerprint, name))
    with storage_errors("read", location.url):
        if not location.fs.exists(location.path):
            return None
        size_bytes = int(location.fs.size(location.path))
        is_old = datetime.now(UTC) - location.fs.modified(location.path) > LEFT_OVER_AFTER
        with location.fs.open(location.path, "rb") as file:
            metadata = pq.read_metadata(file)
    return ShardFile(table, fingerprint, name, size_bytes, _statistics(metadata), is_old)


def _row_groups(rows: Rows, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows sorted, in tables of at most `ROW_GROUP_BYTES`; a row that is larger stands alone.

    They are sorted or turned to Arrow group by group, since all at once would take their memory twice.
    """
    keys = [name for name in ORDER if name in schema.names]
    if isinstance(rows, pa.Table):
        data = rows.select(schema.names).cast(schema)
        order = pc.sort_indices(data, sort_keys=[(name, "ascending") for name in keys]).to_numpy()
        yield from (data.take(pa.array(some)) for some in _cut(order, _row_bytes(data)))
        return
    group: list[Mapping[str, Any]] = []
    size_bytes = 0
    for row in sorted(rows, key=lambda row: tuple(row[name] for name in keys)):
        row_bytes = sum(len(value) for value in row.values() if isinstance(value, bytes))
        if group and size_bytes + row_bytes > ROW_GROUP_BYTES:
            yield pa.Table.from_pylist(group, schema=schema)
            group, size_bytes = [], 0
        group.append(row)
        size_bytes += row_bytes
    if group:
        yield pa.Table.from_pylist(group, schema=schema)


def _row_bytes(data: pa.Table) -> NDArray[np.int64]:
    """Return the bytes of each row: its pictures' own, and an even share of all the rest."""
    pictures = [column for column in data.columns if pa.types.is_large_binary(column.type)]
    sizes: NDArray[np.int64] = np.zeros(data.num_rows, np.int64)
    for column in pictures:
        sizes += pc.fill_null(pc.binary_length(column), 0).to_numpy()
    sizes += (data.nbytes - int(sizes.sum())) // max(1, data.num_rows)
    return sizes


def _cut(order: NDArray[np.int64], row_bytes: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield rows in their order, as many as fit into `ROW_GROUP_BYTES`, and at least one."""
    ends = np.cumsum(row_bytes[order])
    start = before = 0
    while start < len(order):
        stop = max(start + 1, int(np.searchsorted(ends, before + ROW_GROUP_BYTES, side="right")))
        yield order[start:stop]
        start, before = stop, int(ends[stop - 1])


def _statistics(metadata: pq.FileMetaData) -> str:
    """Add up what the footer says of every row group."""
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    missing: dict[str, int] = {}
    for column in range(metadata.num_columns):
        name = metadata.schema.column(column).path
        if name not in FILTERED_BY:
            continue
        groups = [metadata.row_group(group).column(column).statistics for group in range(metadata.num_row_groups)]
        missing[name] = sum(group.null_count for group in groups)
        known = [group for group in groups if group.has_min_max]
        # A group of nothing but nulls or NaN has no bounds, and needs none, as no filter finds it; one of which they
        # are not known spoils the rest.
        is_float = metadata.schema.column(column).physical_type in ("FLOAT", "DOUBLE")
        if known and all(group.has_min_max or group.num_values == 0 or is_float for group in groups):
            smallest[name] = _plain(min(group.min for group in known))
            largest[name] = _plain(max(group.max for group in known))
    return json.dumps(
        {"numRecords": metadata.num_rows, "minValues": smallest, "maxValues": largest, "nullCount": missing}
    )


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="microseconds").replace("+00:00", "Z") if isinstance(value, datetime) else value
