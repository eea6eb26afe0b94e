"""Keeping a store in shape: small files merged, settings dropped that nobody needs, and their bytes given back."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from statistics import median
from uuid import uuid4

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from dfpipe import progress
from dfpipe.errors import StoreError
from dfpipe.provenance import Provenance
from dfpipe.shards.files import LEFT_OVER_AFTER, MERGED, shard_name, without_fingerprint
from dfpipe.shards.log import Change, TableLog, VisibleFile
from dfpipe.shards.schemas import SCHEMAS, Table
from dfpipe.shards.tables import READERS, ROW_TABLES, Tables
from dfpipe.storage import storage_errors

__all__ = [
    "RETENTION_HOURS",
    "UNCLAIMED_HOURS",
    "Compacted",
    "Dropped",
    "PartitionFacts",
    "TableFacts",
    "Vacuumed",
    "compact",
    "describe_tables",
    "drop",
    "merge_records",
    "vacuum",
]

RECORDS: tuple[Table, ...] = ("claims", "videos")
"""Tables of which a run reads every row to know what there is to do."""

MOST_RECORD_FILES = 256
"""Small files of one of these that are left alone: reading so many takes about half a second."""

MOST_ROWS = 2**18
"""Rows in a merged file, as files on disk do not tell what a merge holds in memory: ledger rows shrink tenfold."""

RETENTION_HOURS = 7 * 24
"""How long files that are no longer part of a table stay, if nobody says otherwise: whoever reads an earlier version,
or began to read before a merge, still needs them."""

UNCLAIMED_HOURS = 2 * int(LEFT_OVER_AFTER.total_seconds() / 3600)
"""How long files stay that no table ever spoke of, whatever the retention: a run may be about to claim them. It has
half of this from its first file of a shard to the claim, since it relies on no file that is older than the other half.
"""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What merging did to one table."""

    table: Table
    """Which."""
    files_before: int
    """Visible files before."""
    files_after: int
    """Visible files after."""
    bytes_before: int
    """Bytes of the visible files before."""
    bytes_after: int
    """Bytes of the visible files after."""
    bytes_merged: int
    """Bytes of the files that were merged; they stay until a vacuum."""


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a vacuum found in one table."""

    table: Table
    """Which."""
    files: int
    """Files that no reader needs."""
    size_bytes: int
    """Bytes of them."""
    files_before: int
    """Files below the table's folder before, those of its log not counted."""
    bytes_before: int
    """Bytes of all of them."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """What was taken out of one table."""

    table: Table
    """Which."""
    files: int
    """Files that are no longer part of it; their bytes stay until a vacuum."""
    size_bytes: int
    """Bytes of them."""


@dataclass(frozen=True, slots=True)
class PartitionFacts:
    """What one table holds under one fingerprint."""

    fingerprint: str | None
    """Which settings; None in a table that does not depend on any."""
    rows: int | None
    """Rows; None where whoever wrote them did not count."""
    files: int
    """Files."""
    small_files: int
    """Of those, files that `compact` would merge with others."""
    size_bytes: int
    """Bytes of them."""
    median_file_bytes: int
    """Size of the file in the middle."""


@dataclass(frozen=True, slots=True)
class TableFacts:
    """What one table holds."""

    table: Table
    """Which."""
    version: int
    """Newest version."""
    versions: int
    """Versions in its log; those whose files were vacuumed among them cannot be read any more."""
    oldest_commit: datetime
    """When the oldest of them was committed."""
    newest_commit: datetime
    """When the newest was."""
    partitions: tuple[PartitionFacts, ...] = field(default=())
    """By fingerprint."""


def describe_tables(tables: Tables, *, target_bytes: int) -> list[TableFacts]:
    """Tell how many rows and files each table has, from the logs alone.

    Parameters
    ----------
    tables
        The store.
    target_bytes
        Size of a good file.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    facts = []
    for table in SCHEMAS:
        log = tables.log(table)
        opened = log.open()
        if opened is None:
            continue
        with storage_errors("read", log.location.url):
            commits = opened.history()
        times = [datetime.fromtimestamp(commit["timestamp"] / 1000, UTC) for commit in commits if "timestamp" in commit]
        partitions: defaultdict[str | None, list[VisibleFile]] = defaultdict(list)
        for file in log.files(opened):
            partitions[file.fingerprint].append(file)
        facts.append(
            TableFacts(
                table,
                version=int(opened.version()),
                versions=len(commits),
                oldest_commit=min(times),
                newest_commit=max(times),
                partitions=tuple(
                    _partition_facts(fingerprint, files, target_bytes)
                    for fingerprint, files in sorted(partitions.items(), key=lambda item: item[0] or "")
                ),
            )
        )
    return facts


def _partition_facts(fingerprint: str | None, files: Sequence[VisibleFile], target_bytes: int) -> PartitionFacts:
    counts = [file.rows for file in files]
    groups = _groups([file for file in files if _is_small(file, target_bytes)], target_bytes)
    return PartitionFacts(
        fingerprint,
        rows=None if None in counts else sum(count or 0 for count in counts),
        files=len(files),
        small_files=sum(len(group) for group in groups),
        size_bytes=sum(file.size_bytes for file in files),
        median_file_bytes=int(median(file.size_bytes for file in files)),
    )


def merge_records(tables: Tables, *, target_bytes: int, by: Provenance) -> list[Compacted]:
    """Merge the small files of ledger and claims once they are many, as every plan reads them all.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    logs = [tables.log(table) for table in RECORDS]
    small = [sum(_is_small(file, target_bytes) for file in log.files(log.open())) for log in logs]
    if max(small) <= MOST_RECORD_FILES:
        return []
    return compact(tables, target_bytes=target_bytes, by=by, only=RECORDS)


def compact(
    tables: Tables, *, target_bytes: int, by: Provenance, only: Collection[Table] = ROW_TABLES
) -> list[Compacted]:
    """Merge small files of a partition until they are near a size; rows stay as they are, sorted.

    A file is small when it has less than half of the target, and less than half of `MOST_ROWS`. Merging is safe while
    runs go on: what they change under it is left for the next time.

    Parameters
    ----------
    tables
        The store.
    target_bytes
        Size of a good file. A merge holds about three times as much in memory.
    by
        Whose commits they are.
    only
        Tables to look at.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    for fingerprint in tables.fingerprints("claims"):
        tables.roll_forward(fingerprint, by=by)
    # Before any ledger is merged, while the names of its files still tell most of what is finished.
    unfinished = {(one, name) for one in tables.fingerprints("claims") for name in tables.unfinished(one)}
    before = {table: tables.log(table).files(tables.log(table).open()) for table in ROW_TABLES if table in only}
    todo: dict[Table, list[list[VisibleFile]]] = {}
    for table, files in before.items():
        small = [file for file in files if _is_small(file, target_bytes)]
        if table == "claims":
            # The files of the others are how a run that died is found out.
            small = [file for file in small if (file.fingerprint, shard_name(file.path)) not in unfinished]
        todo[table] = list(_groups(small, target_bytes))
    progress.expect("merging", sum(len(groups) for groups in todo.values()))
    return [_compact_table(tables, table, before[table], todo[table], by) for table in before]


def vacuum(
    tables: Tables,
    *,
    retention_hours: int = RETENTION_HOURS,
    keep_versions: Mapping[Table, Sequence[int]],
    by: Provenance,
    dry_run: bool = False,
) -> list[Vacuumed]:
    """Delete files that no table speaks of: merged, replaced, dropped, or put by attempts that came too late.

    No run is harmed by it, whatever the retention: what it has claimed is committed first, and what it has not claimed
    yet stays for `UNCLAIMED_HOURS`. Who reads at that moment, or reads earlier versions, needs the retention.

    Parameters
    ----------
    tables
        The store.
    retention_hours
        Files stay for so long after they ceased to be part of their table.
    keep_versions
        Versions that stay readable whatever their age, by table.
    by
        Whose commits they are.
    dry_run
        Only count; nothing is written. What a dead run has claimed and not committed is counted too once it is old; it
        would be committed and stay.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    if not dry_run:
        # What is claimed but not committed is wanted, however old its files are.
        for fingerprint in tables.fingerprints("claims"):
            tables.roll_forward(fingerprint, by=by)
    found = []
    existing = [(table, opened) for table in SCHEMAS if (opened := tables.log(table).open()) is not None]
    progress.expect("vacuuming", len(existing))
    for table, opened in existing:
        location = tables.location(table)
        with storage_errors("vacuum", location.url):
            sizes = {
                path.removeprefix(f"{location.path}/"): int(told["size"])
                for path, told in location.fs.find(location.path, detail=True).items()
                if path.endswith(".parquet") and "/_delta_log/" not in path
            }
            gone: set[str] = set()
            # First what the log says was removed, then what it never spoke of.
            for full, hours in ((False, retention_hours), (True, max(retention_hours, UNCLAIMED_HOURS))):
                gone |= set(
                    opened.vacuum(
                        hours,
                        dry_run=dry_run,
                        # The default refuses less than a week, whatever the user says.
                        enforce_retention_duration=False,
                        full=full,
                        keep_versions=sorted(keep_versions.get(table, ())) or None,
                        commit_properties=CommitProperties(custom_metadata=by.as_metadata()),
                    )
                )
        # The log also names what an earlier vacuum has deleted.
        gone &= sizes.keys()
        gone_bytes = sum(sizes[path] for path in gone)
        found.append(Vacuumed(table, len(gone), gone_bytes, len(sizes), sum(sizes.values())))
        progress.advance("vacuuming")
    return found


def drop(tables: Tables, fingerprints: Collection[str], *, by: Provenance) -> list[Dropped]:
    """Take everything that was written under some fingerprints out of every table.

    Not for what a run is writing at the moment. One that is cut short is finished by calling it again.

    Parameters
    ----------
    tables
        The store.
    fingerprints
        Partitions to drop; those that a table does not have are passed over.
    by
        Whose commits they are.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    dropped = []
    # The ledger first, so that nobody takes for done what is half gone; the claims last, so that nobody does again what
    # is still there in part.
    for table in reversed(ROW_TABLES):
        log = tables.log(table)
        gone: list[VisibleFile] = []

        def decide(opened: DeltaTable, log: TableLog = log, gone: list[VisibleFile] = gone) -> Change:
            gone[:] = [file for file in log.files(opened) if file.fingerprint in fingerprints]
            return Change((), gone)

        if log.open() is not None:
            log.transact(decide, by=by)
            dropped.append(Dropped(table, len(gone), sum(file.size_bytes for file in gone)))
    return dropped


def _is_small(file: VisibleFile, target_bytes: int) -> bool:
    few_rows = file.rows is None or file.rows < MOST_ROWS / 2
    return file.fingerprint is not None and file.size_bytes < target_bytes / 2 and few_rows


def _compact_table(
    tables: Tables, table: Table, before: Sequence[VisibleFile], groups: Sequence[Sequence[VisibleFile]], by: Provenance
) -> Compacted:
    log = tables.log(table)
    merged = []
    for group in groups:
        merged += [group] if _merge(tables, log, group, by) else []
        progress.advance("merging")
    opened = log.open()
    if opened is not None and merged:
        with storage_errors("write", log.location.url):
            opened.create_checkpoint()
    after = log.files(opened)
    return Compacted(
        table,
        files_before=len(before),
        files_after=len(after),
        bytes_before=sum(file.size_bytes for file in before),
        bytes_after=sum(file.size_bytes for file in after),
        bytes_merged=sum(file.size_bytes for group in merged for file in group),
    )


def _groups(small: Sequence[VisibleFile], target_bytes: int) -> Iterator[list[VisibleFile]]:
    """Yield two files or more of one partition that come to about the target together."""
    group: list[VisibleFile] = []
    size_bytes = rows = 0
    # Neighbours in video_id, so that readers of a few videos open few files.
    for file in sorted(small, key=lambda file: (file.fingerprint or "", file.first_video_id or "", file.path)):
        is_full = size_bytes + file.size_bytes > target_bytes or rows + (file.rows or 0) > MOST_ROWS
        if group and (is_full or group[0].fingerprint != file.fingerprint):
            if len(group) > 1:
                yield group
            group, size_bytes, rows = [], 0, 0
        group.append(file)
        size_bytes += file.size_bytes
        rows += file.rows or 0
    if len(group) > 1:
        yield group


def _merge(tables: Tables, log: TableLog, group: Sequence[VisibleFile], by: Provenance) -> bool:
    """Put one file in place of several; tell whether it was done."""
    schema = without_fingerprint(log.table)
    try:
        with ThreadPoolExecutor(READERS) as pool:
            rows = pa.concat_tables(pool.map(partial(tables.read_file, log.table, wanted=schema), group))
    except StoreError:
        # Whoever forgets somebody takes files away as soon as they are replaced.
        if set(group) <= set(log.files(log.open())):
            raise
        return False
    # A name of its own: what a merge of long ago left under it a vacuum may be deleting.
    name = f"{MERGED}{uuid4().hex[:16]}"
    merged = tables.write_shard(log.table, rows, fingerprint=group[0].fingerprint or "", name=name)
    done = False

    def decide(opened: DeltaTable) -> Change:
        nonlocal done
        # Rows of a file that somebody else has replaced meanwhile must not come back.
        done = set(group) <= set(log.files(opened))
        return Change([merged] if merged else [], group, moves_rows=True) if done else Change()

    log.transact(decide, by=by)
    return done
