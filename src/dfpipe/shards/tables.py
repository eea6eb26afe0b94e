"""The store's Delta tables: what was done is settled once, committed once, and read by whoever asks.

Work is settled in two steps. Its files are put as objects that no reader sees, all under one name. Then its videos are
claimed for that name in the table ``claims``, by compare-and-swap: what another has claimed is left to that one. So a
video's rows count under exactly one name, and what is claimed has all its files.

After that the name is committed to one table after another, the ledger last. Each commit is remembered under the name
for ever, so that it can be repeated by whoever does not know whether it went through, by another run, or after the
files were merged with others.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake import Schema as DeltaSchema

from dfpipe.errors import StoreError
from dfpipe.fingerprint import fingerprint as digest
from dfpipe.provenance import Provenance
from dfpipe.settings import S3Settings
from dfpipe.shards.files import (
    REST,
    Rows,
    ShardFile,
    encode_shard,
    find_file,
    shard_name,
    shard_path,
    without_fingerprint,
)
from dfpipe.shards.log import Change, TableLog, VisibleFile
from dfpipe.shards.schemas import EXTRACTED, SCHEMAS, Table
from dfpipe.storage import Location, arrow_file_system, delta_options, open_location, storage_errors

__all__ = ["ROW_TABLES", "SettledWork", "Tables", "VideoKey", "open_tables"]

READERS = 8
"""Files read at once: requests to a store are mostly waiting."""

BY_CHANCE = frozenset({"run_id", "finished_at", "cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds"})
"""Columns of the ledger in which two attempts differ although they found the same."""

STAGE_TABLES: tuple[tuple[Table, ...], ...] = (EXTRACTED, ("features",))
"""Tables of each stage, in the order of their commits."""

ROW_TABLES: tuple[Table, ...] = ("claims", *(table for stage in STAGE_TABLES for table in stage))
"""All tables but the catalog: their rows are of a video and its content, under a fingerprint."""

VideoKey = tuple[str, str, int]
"""video_id, content_id and attempt: what is done once under one fingerprint."""


@dataclass(frozen=True, slots=True)
class SettledWork:
    """A name under which all files are put and videos are claimed."""

    fingerprint: str
    """Partition."""
    name: str
    """Name of the files."""
    files: tuple[ShardFile, ...]
    """The files, in the order in which they are to be committed."""
    replaces: tuple[VideoKey, ...] = ()
    """Those of its videos that were done before; the rows of then make room."""

    @property
    def commit_id(self) -> str:
        """What the log remembers its commits by."""
        return f"{self.fingerprint}/{self.name}"


@dataclass(frozen=True, slots=True)
class Tables:
    """The Delta tables of one store; cheap to make, safe to send to a worker."""

    url: str
    """URL of the store."""
    s3: S3Settings
    """How to reach it."""
    versions: Mapping[Table, int] | None = None
    """Versions to read instead of the newest, of the tables named."""

    def location(self, table: Table) -> Location:
        """Return the folder of a table."""
        return open_location(self.url, self.s3).child("tables", table)

    def log(self, table: Table) -> TableLog:
        """Return the log of a table."""
        return TableLog(table, self.location(table), self.s3)

    def at(self, versions: Mapping[Table, int]) -> "Tables":
        """Return the same tables as they were, for reading."""
        return replace(self, versions=versions)

    def version(self, table: Table) -> int | None:
        """Return the version that a reader sees now; None where the table was never written."""
        opened = self._open(table)
        return None if opened is None else int(opened.version())

    def write_shard(self, table: Table, rows: Rows, *, fingerprint: str, name: str) -> ShardFile | None:
        """Put rows into the store as one Parquet file that no reader sees before `commit`.

        Parameters
        ----------
        table
            Table whose schema the rows have, without the ``fingerprint`` column.
        rows
            In any order; stored sorted by video and frame.
        fingerprint, name
            Partition and name; the same pair always means the same rows.

        Returns
        -------
        ShardFile or None
            None where there are no rows, as then there is nothing to commit. What an earlier attempt has put under
            the same name stays, and is returned: its size and statistics may stand in the table's log already.
        """
        if len(rows) == 0:
            return None
        data, statistics = encode_shard(rows, without_fingerprint(table))
        if self.location(table).child(shard_path(fingerprint, name)).create_bytes(data):
            return ShardFile(table, fingerprint, name, len(data), statistics)
        return find_file(self.location(table), table, fingerprint, name)

    def settle(
        self,
        rows: Mapping[Table, Rows],
        videos: Sequence[VideoKey],
        *,
        fingerprint: str,
        shard: str,
        by: Provenance,
    ) -> list[SettledWork]:
        """Put all that a stage found of some videos into the store, and claim them.

        Two attempts may end differently, as a video that is done in time by one may not be by the other. So the files
        carry the ending in their name, and those of an attempt that came too late are never committed.

        Parameters
        ----------
        rows
            Rows by table; those of ``videos``, the ledger, without ``shard``.
        videos
            Every video that was worked on, also those without rows.
        fingerprint, shard
            Partition, and the first half of the files' name.
        by
            Whose work it is.

        Returns
        -------
        list of SettledWork
            What is to be committed for these videos: one's own work, and that of others who claimed some of them first
            and have not committed it.
        """
        settled: dict[str, SettledWork] = {}
        left = set(videos)
        used_up = 0
        while left:
            own = dict(rows) if len(left) == len(videos) else {table: _of(rows[table], left) for table in rows}
            ledger: Any = own.get("videos", ())
            ending = [{column: row[column] for column in row if column not in BY_CHANCE} for row in ledger]
            name = f"{shard}-{digest(sorted(left), ending, *range(used_up))}"
            own |= {"videos": [{**row, "shard": name} for row in ledger]} if ledger else {}
            put = [self.write_shard(table, some, fingerprint=fingerprint, name=name) for table, some in own.items()]
            files = tuple(file for file in put if file is not None)
            owners = self._claim(left, files, fingerprint=fingerprint, name=name, by=by)
            if owners is None:
                used_up += 1
                continue
            if not owners:
                settled[name] = SettledWork(fingerprint, name, files, _replacing(left))
                break
            # It was all for nothing, but for those that nobody else has.
            for owner in self.unfinished(fingerprint, names=set(owners.values())):
                settled[owner] = self.find_work(fingerprint, owner)
            left -= owners.keys()
        return list(settled.values())

    def _claim(
        self, videos: Collection[VideoKey], files: Sequence[ShardFile], *, fingerprint: str, name: str, by: Provenance
    ) -> dict[VideoKey, str] | None:
        """Claim videos for a name, all or none.

        Returns
        -------
        dict
            The owners of those that others have, for this attempt or a later one; empty where the claim stands.
        None
            The name is used up: it was claimed and then dropped, so that its commits are remembered as made; or its
            files were left by an attempt of long ago, and a vacuum may be deleting them.
        """
        columns = {
            "video_id": [video_id for video_id, _, _ in videos],
            "content_id": [content_id for _, content_id, _ in videos],
            "attempt": [attempt for _, _, attempt in videos],
            "shard": [name] * len(videos),
        }
        data = pa.table(columns, schema=without_fingerprint("claims"))
        file = self.write_shard("claims", data, fingerprint=fingerprint, name=name)
        assert file is not None  # noqa: S101 - nobody claims nothing
        log, commit_id = self.log("claims"), f"{fingerprint}/{name}"
        ids = pa.array({video_id for video_id, _, _ in videos})
        keys = {key[:2]: key for key in videos}
        owners: dict[VideoKey, str] = {}
        looked_at: set[str] = set()
        is_used_up = False

        def decide(opened: DeltaTable) -> Change:
            nonlocal is_used_up
            for candidate in self._candidates("claims", opened, fingerprint, ids):
                if candidate.path in looked_at:
                    continue
                looked_at.add(candidate.path)
                claimed = self.read_file("claims", candidate, without_fingerprint("claims"), ids)
                for *pair, attempt, owner in zip(*(claimed[column].to_pylist() for column in columns), strict=True):
                    key = keys.get((pair[0], pair[1]))
                    # One that comes after a later attempt would stand beside it for ever.
                    if key is not None and (attempt == key[2] or (attempt > key[2] and key not in owners)):
                        owners[key] = owner
            if owners:
                return Change()
            is_used_up = log.is_committed(opened, commit_id) or any(one.is_old for one in (*files, file))
            return Change() if is_used_up else Change(add=[file], commit_ids=[commit_id])

        log.transact(decide, by=by)
        if is_used_up:
            return None
        return {} if owners == dict.fromkeys(videos, name) else owners

    def owners(self, videos: Iterable[VideoKey], *, fingerprint: str) -> dict[VideoKey, str]:
        """Return those of the videos that are claimed, with the names that have them."""
        wanted = set(videos)
        claims = self.read(
            "claims",
            fingerprint=fingerprint,
            videos={video_id for video_id, _, _ in wanted},
            columns=["video_id", "content_id", "attempt", "shard"],
        )
        rows = zip(*(column.to_pylist() for column in claims.columns), strict=True)
        return {row[:3]: row[3] for row in rows if row[:3] in wanted}

    def commit(self, works: Iterable[SettledWork], *, by: Provenance) -> None:
        """Make settled work visible: table by table, one transaction each, the stage's last table last.

        What is visible already, or was and has been merged, moved or replaced since, stays as it is.
        """
        by_fingerprint: dict[str, list[SettledWork]] = {}
        for work in works:
            # One of which all files are gone was committed, replaced by a later attempt, and vacuumed.
            if work.files:
                by_fingerprint.setdefault(work.fingerprint, []).append(work)
        for fingerprint, some in by_fingerprint.items():
            (tables,) = (tables for tables in STAGE_TABLES if some[0].files[-1].table in tables)
            self._expect_last_files(tables[-1], some)
            self.roll_forward(fingerprint, by=by, names=self._earlier(fingerprint, some))
            for table in tables:
                self._commit_to(table, fingerprint, some, by)

    def _expect_last_files(self, table: Table, works: Sequence[SettledWork]) -> None:
        """Refuse work whose file of the stage's last table is gone: that commit would be missing for ever."""
        log = self.log(table)
        for work in works:
            if work.files[-1].table != table and not log.is_committed(log.open(), work.commit_id):
                raise StoreError(
                    f"{log.location.url} has lost {work.name}.parquet, which was put there before its videos were "
                    "claimed; something else changed the table: restore it, or give up what these settings made with "
                    f"`dfpipe vacuum --drop {work.fingerprint}` and run again"
                )

    def _commit_to(self, table: Table, fingerprint: str, works: Sequence[SettledWork], by: Provenance) -> None:
        log = self.log(table)

        def decide(opened: DeltaTable) -> Change:
            todo = [work for work in works if not log.is_committed(opened, work.commit_id)]
            add = [file for work in todo for file in work.files if file.table == table]
            # Also where a work has no rows here: an earlier attempt at its videos may have.
            again = {key[:2] for work in todo for key in work.replaces}
            remove, rest = self._without(table, opened, fingerprint, again) if again else ([], [])
            if not add and not remove:
                return Change()
            return Change([*rest, *add], remove, [work.commit_id for work in todo])

        log.transact(decide, by=by)

    def _earlier(self, fingerprint: str, works: Sequence[SettledWork]) -> set[str]:
        """Return the names of earlier attempts at videos that are done again: what replaces them has to come after."""
        attempts = {key[:2]: key[2] for work in works for key in work.replaces}
        keys = [(*pair, earlier) for pair, attempt in attempts.items() for earlier in range(1, attempt)]
        return set(self.owners(keys, fingerprint=fingerprint).values()) if keys else set()

    def delete_videos(self, table: Table, videos: Collection[tuple[str, str]], *, by: Provenance) -> list[str]:
        """Delete the rows of these (video_id, content_id) under every fingerprint.

        Returns
        -------
        list of str
            Paths below the table's folder of the files that held them. They are part of the table no more; their bytes
            stay until a vacuum.
        """
        gone: set[str] = set()
        log = self.log(table)
        for fingerprint in self.fingerprints(table):

            def decide(opened: DeltaTable, fingerprint: str = fingerprint) -> Change:
                remove, rest = self._without(table, opened, fingerprint, videos)
                gone.update(file.path for file in remove)
                return Change(rest, remove)

            log.transact(decide, by=by)
        return sorted(gone)

    def _without(
        self, table: Table, opened: DeltaTable, fingerprint: str, videos: Collection[tuple[str, str]]
    ) -> tuple[list[VisibleFile], list[ShardFile]]:
        """Return which files hold rows of these videos, and put files with the rest of their rows."""
        ids = pa.array({video_id for video_id, _ in videos})
        keys = pa.schema([SCHEMAS[table].field("video_id"), SCHEMAS[table].field("content_id")])
        remove: list[VisibleFile] = []
        rest: list[ShardFile] = []
        for candidate in self._candidates(table, opened, fingerprint, ids):
            found = self.read_file(table, candidate, keys, ids)
            if set(zip(*(found[name].to_pylist() for name in keys.names), strict=True)).isdisjoint(videos):
                continue
            remove.append(candidate)
            kept = _without_videos(self.read_file(table, candidate, without_fingerprint(table)), videos)
            # A name of its own: what an attempt of long ago left under it a vacuum may be deleting.
            name = f"{REST}{uuid4().hex[:16]}"
            file = self.write_shard(table, kept, fingerprint=fingerprint, name=name)
            rest += [file] if file is not None else []
        return remove, rest

    def roll_forward(self, fingerprint: str, *, by: Provenance, names: Collection[str] | None = None) -> int:
        """Finish the commits of what was claimed by runs that died before the last of them.

        Parameters
        ----------
        fingerprint
            Partition.
        by
            Whose commits they are then.
        names
            Claimed names to look at; None is all.

        Returns
        -------
        int
            Number of names that were finished.
        """
        unfinished = sorted(self.unfinished(fingerprint, names=names))
        for name in unfinished:
            self.commit([self.find_work(fingerprint, name)], by=by)
        return len(unfinished)

    def unfinished(self, fingerprint: str, *, names: Collection[str] | None = None) -> set[str]:
        """Return the claimed names, or those of the names given, whose last commit was not made."""
        claimed = self.names("claims", fingerprint) if names is None else set(names)
        if not claimed:
            return set()
        last = [self.log(tables[-1]) for tables in STAGE_TABLES]
        left = claimed - {name for log in last for name in self.names(log.table, fingerprint)}
        opened = [(log, log.open()) for log in last] if left else []
        # Their files may also have been merged with others, or replaced by now.
        return {name for name in left if not any(log.is_committed(one, f"{fingerprint}/{name}") for log, one in opened)}

    def claimed_by(self, names: Iterable[str], *, fingerprint: str) -> list[VideoKey]:
        """Return the videos that are claimed for names which nobody has merged with others."""
        return [key for name in names for key in self._claimed_by(fingerprint, name)]

    def find_work(self, fingerprint: str, name: str) -> SettledWork:
        """Find what somebody has settled under a name."""
        tables = [table for stage in STAGE_TABLES for table in stage]
        files = (find_file(self.location(table), table, fingerprint, name) for table in tables)
        found = tuple(file for file in files if file is not None)
        return SettledWork(fingerprint, name, found, _replacing(self._claimed_by(fingerprint, name)))

    def _claimed_by(self, fingerprint: str, name: str) -> list[VideoKey]:
        path = shard_path(fingerprint, name)
        claims = self.read_file("claims", VisibleFile(path, 0, fingerprint, None, None), without_fingerprint("claims"))
        columns = (claims[column].to_pylist() for column in ("video_id", "content_id", "attempt"))
        return list(zip(*columns, strict=True))

    def replace(self, table: Table, data: pa.Table, *, by: Provenance) -> None:
        """Replace all rows of an unpartitioned table in one transaction; the earlier version stays readable."""
        location = self.location(table)
        with storage_errors("write", location.url):
            write_deltalake(
                location.url,
                data,
                mode="overwrite",
                storage_options=delta_options(self.url, self.s3),
                commit_properties=CommitProperties(custom_metadata=by.as_metadata()),
            )

    def read(
        self,
        table: Table,
        *,
        fingerprint: str | None = None,
        videos: Collection[str] | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.Table:
        """Read committed rows; a table that was never written has none.

        Parameters
        ----------
        table
            Table to read.
        fingerprint
            Read only this partition.
        videos
            Read only rows of these video_ids; files and row groups that cannot hold any are not opened.
        columns
            Columns wanted; None is all of them.
        """
        wanted = _wanted(table, columns)
        with ThreadPoolExecutor(READERS) as pool:
            parts = pool.map(lambda read: read(), self._reads(table, fingerprint, videos, wanted))
            return pa.concat_tables([wanted.empty_table(), *parts])

    def read_batches(
        self, table: Table, *, fingerprint: str | None = None, columns: Sequence[str] | None = None
    ) -> pa.RecordBatchReader:
        """Stream committed rows file by file, for those who need not hold them all."""
        wanted = _wanted(table, columns)
        reads = self._reads(table, fingerprint, None, wanted)
        return pa.RecordBatchReader.from_batches(wanted, _ahead(reads))

    def _reads(
        self, table: Table, fingerprint: str | None, videos: Collection[str] | None, wanted: pa.Schema
    ) -> list[Callable[[], pa.Table]]:
        opened = self._open(table)
        ids = None if videos is None else pa.array(set(videos), pa.string())
        files = self._candidates(table, opened, fingerprint, ids)
        return [partial(self.read_file, table, file, wanted, ids) for file in files]

    def fingerprints(self, table: Table) -> list[str]:
        """Return the partitions that have rows."""
        files = self.log(table).files(self._open(table))
        return sorted({file.fingerprint for file in files if file.fingerprint is not None})

    def add_later_columns(self) -> None:
        """Give tables that an earlier dfpipe began the columns that came since; its rows have nulls in them."""
        for table, schema in SCHEMAS.items():
            opened = self._open(table)
            if opened is None:
                continue
            known = {field.name for field in opened.schema().fields}
            later = [field.with_nullable(True) for field in schema if field.name not in known]
            if later:
                self._add_columns(table, opened, later)

    def _add_columns(self, table: Table, opened: DeltaTable, later: Sequence[pa.Field]) -> None:
        try:
            with storage_errors("write", self.location(table).url):
                opened.alter.add_columns(
                    DeltaSchema.from_arrow(pa.schema(later)).fields,
                    commit_properties=CommitProperties(custom_metadata=Provenance("add columns").as_metadata()),
                )
        except StoreError:
            # Another run may have started at the same moment and done the same.
            again = self._open(table)
            if again is None or {field.name for field in later} - {field.name for field in again.schema().fields}:
                raise

    def _candidates(
        self, table: Table, opened: DeltaTable | None, fingerprint: str | None, ids: pa.Array | None
    ) -> list[VisibleFile]:
        """Return the visible files that may hold rows of these videos; None is all."""
        files = [file for file in self.log(table).files(opened) if fingerprint in (None, file.fingerprint)]
        if ids is None:
            return files
        wanted = sorted(ids.to_pylist())

        def may_hold(file: VisibleFile) -> bool:
            if file.first_video_id is None or file.last_video_id is None:
                return True
            return _any_between(wanted, file.first_video_id, file.last_video_id)

        return [file for file in files if wanted and may_hold(file)]

    def read_file(self, table: Table, visible: VisibleFile, wanted: pa.Schema, ids: pa.Array | None = None) -> pa.Table:
        """Read one file of a table: the columns wanted, nulls where it lacks them, and only rows of these videos."""
        location = self.location(table).child(unquote(visible.path))
        with storage_errors("read", location.url), self._open_for_arrow(location) as file:
            parquet = pq.ParquetFile(file, pre_buffer=not location.is_local)
            present = parquet.schema_arrow.names
            stored = [name for name in wanted.names if name in present]
            if ids is None:
                data = parquet.read(stored)
            else:
                groups = _row_groups_with(parquet, ids)
                columns = list(dict.fromkeys([*stored, "video_id"]))
                data = parquet.read_row_groups(groups, columns)
                asked_for = pc.is_in(data["video_id"], value_set=ids)
                # All of them is the common case, and a filter copies every picture.
                data = data if pc.all(asked_for).as_py() else data.filter(asked_for)
        if "fingerprint" in wanted.names and "fingerprint" not in stored:
            data = data.append_column("fingerprint", pa.repeat(visible.fingerprint, data.num_rows))
        for name in set(wanted.names) - set(data.column_names):
            data = data.append_column(name, pa.nulls(data.num_rows, wanted.field(name).type))
        return data.select(wanted.names).cast(wanted)

    def _open_for_arrow(self, location: Location) -> pa.NativeFile:
        # A thread of Arrow that holds a Python file when the interpreter ends aborts it.
        if location.is_local:
            return pa.OSFile(location.path)
        return arrow_file_system(self.s3).open_input_file(location.path)

    def _open(self, table: Table) -> DeltaTable | None:
        return self.log(table).open(version=(self.versions or {}).get(table))

    def names(self, table: Table, fingerprint: str) -> set[str]:
        """Return the names under which visible files were settled; those merged from several have none."""
        files = self.log(table).files(self._open(table))
        names = (shard_name(file.path) for file in files if file.fingerprint == fingerprint)
        return {name for name in names if name is not None}


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


def _wanted(table: Table, columns: Sequence[str] | None) -> pa.Schema:
    """Return the schema of what is read; rows of an earlier dfpipe lack what came since."""
    return pa.schema([SCHEMAS[table].field(name).with_nullable(True) for name in columns or SCHEMAS[table].names])


def _row_groups_with(parquet: pq.ParquetFile, ids: pa.Array) -> list[int]:
    """Return the row groups that may have rows of these videos, by what the footer says."""
    wanted = sorted(ids.to_pylist())
    column = parquet.schema_arrow.get_field_index("video_id")
    groups = range(parquet.num_row_groups)
    bounds = [parquet.metadata.row_group(group).column(column).statistics for group in groups]
    return [
        group
        for group, known in zip(groups, bounds, strict=True)
        if known is None or not known.has_min_max or _any_between(wanted, known.min, known.max)
    ]


def _any_between(wanted: Sequence[str], first: str, last: str) -> bool:
    """Tell whether one of these, which are sorted, lies in a range."""
    place = bisect_left(wanted, first)
    return place < len(wanted) and wanted[place] <= last


def _ahead(reads: Iterable[Callable[[], pa.Table]]) -> Iterator[pa.RecordBatch]:
    """Yield what the calls return, in their order, while the next few are under way."""
    with ThreadPoolExecutor(READERS) as pool:
        under_way: deque[Future[pa.Table]] = deque()
        for read in reads:
            under_way.append(pool.submit(read))
            if len(under_way) > READERS:
                yield from under_way.popleft().result().to_batches()
        while under_way:
            yield from under_way.popleft().result().to_batches()


def _of(rows: Rows, videos: Collection[VideoKey]) -> Rows:
    """Return the rows of these videos."""
    keys = {key[:2] for key in videos}
    if isinstance(rows, pa.Table):
        return rows.filter(pa.array(_belongs(rows, keys), pa.bool_()))
    return [row for row in rows if (row["video_id"], row["content_id"]) in keys]


def _without_videos(rows: pa.Table, videos: Collection[tuple[str, str]]) -> pa.Table:
    """Return the rows of all other videos."""
    return rows.filter(pc.invert(pa.array(_belongs(rows, set(videos)), pa.bool_())))


def _belongs(rows: pa.Table, keys: Collection[tuple[str, str]]) -> list[bool]:
    pairs = zip(rows["video_id"].to_pylist(), rows["content_id"].to_pylist(), strict=True)
    return [pair in keys for pair in pairs]


def _replacing(videos: Iterable[VideoKey]) -> tuple[VideoKey, ...]:
    return tuple(sorted(key for key in videos if key[2] > 1))
