"""The store's Delta tables: shards written whole under deterministic names, then committed.

A shard's file is first put as an object that no reader sees, then added to its table in one transaction.
An object that is there is never written again: its size and statistics stand in the table's log. So whoever does not
know whether a put or a commit went through repeats it, and changes nothing.
"""

import io
import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake import Schema as DeltaSchema
from deltalake.exceptions import TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from dfpipe import __version__
from dfpipe.fingerprint import fingerprint as digest
from dfpipe.settings import S3Settings
from dfpipe.shards.schemas import EXTRACTED, SCHEMAS, Table
from dfpipe.storage import Location, delta_options, open_location, storage_errors

__all__ = ["ShardFile", "Tables", "open_tables"]

ROW_GROUP_BYTES = 32 * 2**20
"""Uncompressed bytes in a row group: what a reader holds in memory at once."""

READERS = 8
"""Files read at once: requests to a store are mostly waiting."""

VIDEO_IDS = pa.schema([pa.field("video_id", pa.string())])
SHARDS = pa.schema([pa.field("shard", pa.string())])

BY_CHANCE = frozenset({"run_id", "finished_at", "cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds"})
"""Columns of the ledger in which two attempts differ although they found the same."""

SHARD_PATH = re.compile(r"fingerprint=(?P<fingerprint>[^/]+)/(?P<shard>[^/]+)\.parquet")
"""Path of a shard's file below its table."""


@dataclass(frozen=True, slots=True)
class ShardFile:
    """A Parquet file that lies in the store and is not (yet) known to be committed."""

    table: Table
    """Table it belongs to."""
    fingerprint: str
    """Partition it belongs to."""
    shard: str
    """Name of the shard, the same in every table."""
    size_bytes: int
    """Size of the file."""
    rows: int
    """Rows in it."""
    first_video_id: str
    """Smallest video_id in it, for readers that skip files."""
    last_video_id: str
    """Largest video_id in it."""

    @property
    def path(self) -> str:
        """Path below the table's folder."""
        return f"fingerprint={self.fingerprint}/{self.shard}.parquet"


@dataclass(frozen=True, slots=True)
class Tables:
    """The Delta tables of one store; cheap to make, safe to send to a worker."""

    url: str
    """URL of the store."""
    s3: S3Settings
    """How to reach it."""

    def location(self, table: Table) -> Location:
        """Return the folder of a table."""
        return open_location(self.url, self.s3).child("tables", table)

    def write_shard(
        self, table: Table, rows: Sequence[Mapping[str, Any]] | pa.Table, *, fingerprint: str, shard: str
    ) -> ShardFile | None:
        """Put a shard's rows into the store as one Parquet file that no reader sees before `commit`.

        Parameters
        ----------
        table
            Table whose schema the rows have, without the ``fingerprint`` column.
        rows
            Rows of the shard, in any order; stored sorted by video and frame.
        fingerprint, shard
            Partition and name; the same pair always means the same rows.

        Returns
        -------
        ShardFile or None
            None where there are no rows, as then there is nothing to commit. What an earlier attempt has put under
            the same name stays, and is returned.
        """
        earlier = self._find_file(table, fingerprint, shard)
        if earlier is not None:
            return earlier
        schema = SCHEMAS[table].remove(SCHEMAS[table].get_field_index("fingerprint"))
        if len(rows) == 0:
            return None
        # Encoded in memory first: a ParquetWriter that is interrupted leaves a valid, shorter file behind.
        buffer = io.BytesIO()
        with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
            for group in _row_groups(rows, schema):
                writer.write_table(group)
        ids = rows["video_id"].to_pylist() if isinstance(rows, pa.Table) else [row["video_id"] for row in rows]
        file = ShardFile(
            table=table,
            fingerprint=fingerprint,
            shard=shard,
            size_bytes=buffer.tell(),
            rows=len(ids),
            first_video_id=min(ids),
            last_video_id=max(ids),
        )
        if self.location(table).child(file.path).create_bytes(buffer.getvalue()):
            return file
        # Another attempt was faster by a moment; what it put is what counts.
        return self._find_file(table, fingerprint, shard)

    def write_extracted(
        self,
        rows: Mapping[Table, Sequence[Mapping[str, Any]]],
        ledger: Sequence[Mapping[str, Any]],
        *,
        fingerprint: str,
        shard: str,
    ) -> list[ShardFile | None]:
        """Put all that extraction gives of a shard, so that its tables always speak of the same attempt.

        Two attempts may end differently, as a video that is done in time by one may not be by the other. So the files
        of pictures and faces carry the ending in their name, and the ledger, which is put last and of which there is
        one for a shard, names in its column ``shard`` the files that belong to it. Those of an attempt that came too
        late are never committed.

        Parameters
        ----------
        rows
            Rows by table, without the ledger's.
        ledger
            One row for every video, without ``shard``.
        fingerprint, shard
            Partition, and name of the ledger's file.

        Returns
        -------
        list of ShardFile or None
            What is to be committed, in the order of `EXTRACTED`.
        """
        ending = digest([{name: row[name] for name in row if name not in BY_CHANCE} for row in ledger])
        files = f"{shard}-{ending}"
        for table in EXTRACTED[:-1]:
            self.write_shard(table, rows[table], fingerprint=fingerprint, shard=files)
        self.write_shard("videos", [{**row, "shard": files} for row in ledger], fingerprint=fingerprint, shard=shard)
        return self._extracted(fingerprint, shard)

    def _extracted(self, fingerprint: str, shard: str) -> list[ShardFile | None]:
        """Find the ledger's file of a shard, and those that belong to it."""
        path = f"fingerprint={fingerprint}/{shard}.parquet"
        (files,) = set(self._read_file("videos", path, None, SHARDS)["shard"].to_pylist())
        names = dict.fromkeys(EXTRACTED, files) | {"videos": shard}
        return [self._find_file(table, fingerprint, names[table]) for table in EXTRACTED]

    def commit(self, files: Sequence[ShardFile | None], *, run_id: str) -> None:
        """Make shards visible, each table in one transaction, in the order in which the tables first appear.

        A path that is already visible stays as it is.
        """
        present = [file for file in files if file is not None]
        for table in dict.fromkeys(file.table for file in present):
            actions: list[AddAction | RemoveAction] = [_add_action(file) for file in present if file.table == table]
            with storage_errors("commit to", self.location(table).url):
                self._open_or_create(table).create_write_transaction(
                    actions,
                    mode="append",
                    schema=SCHEMAS[table],
                    partition_by=["fingerprint"],
                    commit_properties=CommitProperties(
                        custom_metadata={"run_id": run_id, "dfpipe_version": __version__}, max_commit_retries=50
                    ),
                )

    def replace(self, table: Table, data: pa.Table, *, run_id: str) -> None:
        """Replace all rows of an unpartitioned table in one transaction; the earlier version stays readable."""
        location = self.location(table)
        with storage_errors("write", location.url):
            write_deltalake(
                location.url,
                data,
                mode="overwrite",
                storage_options=delta_options(self.url, self.s3),
                commit_properties=CommitProperties(custom_metadata={"run_id": run_id, "dfpipe_version": __version__}),
            )

    def read(
        self,
        table: Table,
        *,
        fingerprint: str | None = None,
        shard: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Read committed rows; a table that was never written has none.

        Parameters
        ----------
        table
            Table to read.
        fingerprint, shard
            Read only this partition, or only this shard of it.
        columns
            Columns wanted; None is all of them.
        """
        schema = SCHEMAS[table]
        names = list(columns or schema.names)
        if shard is not None:
            files = [(f"fingerprint={fingerprint}/{shard}.parquet", fingerprint)]
        else:
            files = [file for file in self._files(table) if fingerprint in (None, file[1])]
        wanted = pa.schema([schema.field(name).with_nullable(True) for name in names])
        with ThreadPoolExecutor(READERS) as pool:
            parts = pool.map(lambda file: self._read_file(table, file[0], file[1], wanted), files)
            return pa.concat_tables([wanted.empty_table(), *parts])

    def shards(self, table: Table, fingerprint: str) -> set[str]:
        """Return the names of the committed shards of one partition."""
        matches = (SHARD_PATH.fullmatch(path) for path, _ in self._files(table))
        return {match["shard"] for match in matches if match and match["fingerprint"] == fingerprint}

    def roll_forward(self, fingerprint: str, *, run_id: str) -> int:
        """Finish the commits of shards whose run died between its tables.

        All files of a shard are put before the first is committed, and the ledger (``videos``) is committed last.
        So a shard seen in another table but not in the ledger has all its files, and needs only the rest of its
        commits.

        Returns
        -------
        int
            Number of shards that were finished.
        """
        *others, ledger = EXTRACTED
        begun = {files.partition("-")[0] for table in others for files in self.shards(table, fingerprint)}
        half = begun - self.shards(ledger, fingerprint)
        for shard in sorted(half):
            self.commit(self._extracted(fingerprint, shard), run_id=run_id)
        return len(half)

    def add_later_columns(self) -> None:
        """Give tables that an earlier dfpipe began the columns that came since; its rows have nulls in them.

        Not for several at the same time: a commit fails when the columns change under it.
        """
        for table, schema in SCHEMAS.items():
            opened = self._open(table)
            if opened is None:
                continue
            known = {field.name for field in opened.schema().fields}
            later = [field.with_nullable(True) for field in schema if field.name not in known]
            if later:
                with storage_errors("write", self.location(table).url):
                    opened.alter.add_columns(DeltaSchema.from_arrow(pa.schema(later)).fields)

    def _find_file(self, table: Table, fingerprint: str, shard: str) -> ShardFile | None:
        location = self.location(table).child(f"fingerprint={fingerprint}/{shard}.parquet")
        with storage_errors("read", location.url):
            if not location.fs.exists(location.path):
                return None
            ids = self._read_file(table, f"fingerprint={fingerprint}/{shard}.parquet", None, VIDEO_IDS)["video_id"]
            size_bytes = int(location.fs.size(location.path))
        span = pc.min_max(ids).as_py()
        return ShardFile(table, fingerprint, shard, size_bytes, len(ids), span["min"], span["max"])

    def _files(self, table: Table) -> list[tuple[str, str | None]]:
        """Return path and fingerprint of every committed file; a table that was never written has none."""
        opened = self._open(table)
        if opened is None:
            return []
        with storage_errors("read", self.location(table).url):
            actions = pa.table(opened.get_add_actions(flatten=True))
        paths = actions["path"].to_pylist()
        if "partition.fingerprint" not in actions.column_names:
            return [(path, None) for path in paths]
        return list(zip(paths, actions["partition.fingerprint"].to_pylist(), strict=True))

    def _read_file(self, table: Table, path: str, fingerprint: str | None, wanted: pa.Schema) -> pa.Table:
        location = self.location(table).child(unquote(path))
        with storage_errors("read", location.url), location.fs.open(location.path, "rb") as file:
            # No threads of Arrow's own: one that still holds a Python file when the interpreter ends aborts it.
            parquet = pq.ParquetFile(file, pre_buffer=False)
            stored = [name for name in wanted.names if name in parquet.schema_arrow.names]
            data = parquet.read(stored, use_threads=False)
        if "fingerprint" in wanted.names and "fingerprint" not in stored:
            data = data.append_column("fingerprint", pa.repeat(fingerprint, data.num_rows))
        for name in set(wanted.names) - set(data.column_names):
            data = data.append_column(name, pa.nulls(data.num_rows, wanted.field(name).type))
        return data.select(wanted.names).cast(wanted)

    def _open(self, table: Table) -> DeltaTable | None:
        location = self.location(table)
        if location.is_local and not location.fs.exists(f"{location.path}/_delta_log"):
            return None
        with storage_errors("open", location.url):
            try:
                return DeltaTable(location.url, storage_options=delta_options(self.url, self.s3))
            except TableNotFoundError:
                return None

    def _open_or_create(self, table: Table) -> DeltaTable:
        opened = self._open(table)
        if opened is not None:
            return opened
        return DeltaTable.create(
            self.location(table).url,
            schema=SCHEMAS[table],
            mode="ignore",
            partition_by=["fingerprint"],
            storage_options=delta_options(self.url, self.s3),
        )


def open_tables(store: str, s3: S3Settings) -> Tables:
    """Open a store's tables and make sure that it can be written to.

    Raises
    ------
    StoreError
        A store that cannot be reached or written.
    """
    tables = Tables(str(open_location(store, s3).url), s3)
    open_location(tables.url, s3).check_writable()
    tables.add_later_columns()
    return tables


def _row_groups(rows: Sequence[Mapping[str, Any]] | pa.Table, schema: pa.Schema) -> Iterator[pa.Table]:
    """Yield the rows sorted by video, frame and person, in tables of about `ROW_GROUP_BYTES`.

    Rows with pictures are turned to Arrow group by group, since all at once would take their memory twice.
    """
    keys = [name for name in ("video_id", "frame_index", "track") if name in schema.names]
    if isinstance(rows, pa.Table):
        data = rows.cast(schema).sort_by([(name, "ascending") for name in keys])
        step = max(1, data.num_rows * ROW_GROUP_BYTES // max(1, data.nbytes))
        yield from (data.slice(start, step) for start in range(0, data.num_rows, step))
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


def _add_action(file: ShardFile) -> AddAction:
    statistics = {
        "numRecords": file.rows,
        "minValues": {"video_id": file.first_video_id},
        "maxValues": {"video_id": file.last_video_id},
        "nullCount": {"video_id": 0},
    }
    return AddAction(
        path=file.path,
        size=file.size_bytes,
        partition_values={"fingerprint": file.fingerprint},
        modification_time=time.time_ns() // 1_000_000,
        data_change=True,
        stats=json.dumps(statistics),
    )
