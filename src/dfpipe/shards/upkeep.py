"""Keeping a store in shape: small files merged, and bytes that no table speaks of any more given back."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from dfpipe.fingerprint import fingerprint as digest
from dfpipe.provenance import Provenance
from dfpipe.shards.files import MERGED, shard_name, without_fingerprint
from dfpipe.shards.log import Change, TableLog, VisibleFile
from dfpipe.shards.schemas import SCHEMAS, Table
from dfpipe.shards.tables import STAGE_TABLES, Tables
from dfpipe.storage import storage_errors

__all__ = ["Compacted", "Vacuumed", "compact", "drop", "vacuum"]

ALL: tuple[Table, ...] = ("claims", *(table for stage in STAGE_TABLES for table in stage))
"""Tables that are written in files of one's own, in the order in which they are merged."""


@dataclass(frozen=True, slots=True)
class Compacted:
    """What merging did to one table."""

    table: Table
    """Which."""
    files_before: int
    """Visible files before."""
    files_after: int
    """Visible files after."""
    bytes_merged: int
    """Bytes of the files that were merged; they stay until a vacuum."""


@dataclass(frozen=True, slots=True)
class Vacuumed:
    """What a vacuum found in one table."""

    table: Table
    """Which."""
    files: int
    """Files that no reader needs."""


def compact(tables: Tables, *, target_bytes: int, by: Provenance) -> list[Compacted]:
    """Merge small files of a partition until they are near a size; rows stay as they are, sorted.

    A file is small when it has less than half of the target. Merging is safe while runs go on: what they change under
    it is left for the next time.

    Parameters
    ----------
    tables
        The store.
    target_bytes
        Size of a good file. A merge holds about four times as much in memory.
    by
        Whose commits they are.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    for fingerprint in tables.fingerprints("claims"):
        tables.roll_forward(fingerprint, by=by)
    # Claims first, and only those whose last commit stands under its own name still: their files are how a run that
    # died is found out.
    finished = {
        (fingerprint, name)
        for stage in STAGE_TABLES
        for fingerprint in tables.fingerprints(stage[-1])
        for name in tables.names(stage[-1], fingerprint)
    }
    return [_compact_table(tables, table, target_bytes, finished, by) for table in ALL]


def vacuum(
    tables: Tables,
    *,
    retention_hours: int,
    keep_versions: Mapping[Table, Sequence[int]],
    by: Provenance,
    dry_run: bool = False,
) -> list[Vacuumed]:
    """Delete files that no table speaks of: merged, replaced, or put by attempts that came too late.

    Parameters
    ----------
    tables
        The store.
    retention_hours
        Files younger than this stay: a run may be about to commit them, a reader may still read them.
    keep_versions
        Versions that stay readable whatever their age, by table.
    by
        Whose commits they are.
    dry_run
        Only count.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    # What is claimed but not committed is wanted.
    for fingerprint in tables.fingerprints("claims"):
        tables.roll_forward(fingerprint, by=by)
    found = []
    for table in SCHEMAS:
        opened = tables.log(table).open()
        if opened is None:
            continue
        with storage_errors("vacuum", tables.location(table).url):
            files = opened.vacuum(
                retention_hours,
                dry_run=dry_run,
                # The default refuses less than a week, whatever the user says.
                enforce_retention_duration=False,
                full=True,
                keep_versions=sorted(keep_versions.get(table, ())) or None,
                commit_properties=CommitProperties(custom_metadata=by.as_metadata()),
            )
        found.append(Vacuumed(table, len(files)))
    return found


def drop(tables: Tables, fingerprint: str, *, by: Provenance) -> int:
    """Take everything that was written under one fingerprint out of every table; return the number of files.

    Their bytes stay until a vacuum.
    """
    files = 0
    for table in ALL:
        log = tables.log(table)

        def decide(opened: DeltaTable, log: TableLog = log) -> Change:
            return Change((), [file for file in log.files(opened) if file.fingerprint == fingerprint])

        gone = sum(file.fingerprint == fingerprint for file in log.files(log.open()))
        if gone:
            log.transact(decide, by=by)
        files += gone
    return files


def _compact_table(
    tables: Tables, table: Table, target_bytes: int, finished: set[tuple[str, str]], by: Provenance
) -> Compacted:
    log = tables.log(table)
    before = log.files(log.open())
    small = [file for file in before if file.fingerprint is not None and file.size_bytes < target_bytes / 2]
    if table == "claims":
        small = [file for file in small if _is_finished(file, finished)]
    # Neighbours in video_id, so that readers of a few videos open few files.
    small.sort(key=lambda file: (file.fingerprint, file.first_video_id or ""))
    merged = [group for group in _groups(small, target_bytes) if _merge(tables, log, group, by)]
    opened = log.open()
    if opened is not None and merged:
        with storage_errors("write", log.location.url):
            opened.create_checkpoint()
    return Compacted(
        table, len(before), len(log.files(opened)), sum(file.size_bytes for group in merged for file in group)
    )


def _is_finished(file: VisibleFile, finished: set[tuple[str, str]]) -> bool:
    name = shard_name(file.path)
    return name is None or (file.fingerprint, name) in finished


def _groups(files: Sequence[VisibleFile], target_bytes: int) -> Iterator[list[VisibleFile]]:
    """Yield files of one partition that come to about the target together."""
    group: list[VisibleFile] = []
    for file in files:
        full = sum(one.size_bytes for one in group) + file.size_bytes > target_bytes
        if group and (full or group[0].fingerprint != file.fingerprint):
            yield group
            group = []
        group.append(file)
    yield group


def _merge(tables: Tables, log: TableLog, group: Sequence[VisibleFile], by: Provenance) -> bool:
    """Put one file in place of several; tell whether it was done."""
    if len(group) < 2 or group[0].fingerprint is None:
        return False
    schema = without_fingerprint(log.table)
    rows = pa.concat_tables(tables.read_file(log.table, file, schema) for file in group)
    name = f"{MERGED}{digest([file.path for file in group])}"
    merged = tables.write_shard(log.table, rows, fingerprint=group[0].fingerprint, name=name)
    done = False

    def decide(opened: DeltaTable) -> Change:
        nonlocal done
        # Rows of a file that somebody else has replaced meanwhile must not come back.
        done = set(group) <= set(log.files(opened))
        return Change([merged] if merged else [], group, moves_rows=True) if done else Change()

    log.transact(decide, by=by)
    return done
