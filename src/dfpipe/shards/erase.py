"""Taking videos out of a store for good: their rows, the bytes of the files that held them, and what logs tell of them.

Deleting rows is not enough. The files that held them stay readable in older versions, files of attempts that were
never committed are in no version at all, and every commit that ever added a file says which video is its first and
which its last.
"""

import io
import json
import re
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable

from dfpipe.provenance import Provenance
from dfpipe.shards.files import shard_name
from dfpipe.shards.log import Change, TableLog, VisibleFile
from dfpipe.shards.schemas import SCHEMAS, Table
from dfpipe.shards.tables import READERS, ROW_TABLES, STAGE_TABLES, Tables
from dfpipe.storage import Location, storage_errors

__all__ = ["Erased", "Pair", "count_rows", "erase", "find_pairs"]

Pair = tuple[str, str]
"""video_id and content_id."""

LOG_ENTRY = re.compile(r"(\d{20})(?:\.checkpoint(?:\.[\w-]+)*)?\.(json|parquet)")
"""Names of commits and checkpoints in a table's log; the version first."""


@dataclass(frozen=True, slots=True)
class Erased:
    """What was taken out of one table."""

    table: Table
    """Which."""
    rows: int
    """Rows that a reader saw before."""
    files: int
    """Files whose bytes are gone."""
    size_bytes: int
    """Bytes of those files."""
    log_entries: int
    """Commits and checkpoints that told of files that are no part of the table any more, and now do not."""

    def __bool__(self) -> bool:
        """Tell whether anything was there."""
        return bool(self.rows or self.files or self.log_entries)


def find_pairs(tables: Tables, is_meant: Callable[[pa.Table], pa.Array]) -> set[Pair]:
    """Return the pairs of video and content that readers of the store see and that are meant.

    Claims and ledger are asked: whatever has rows in another table has rows in these.

    Parameters
    ----------
    tables
        The store.
    is_meant
        Says of each row of a table with ``video_id`` and ``content_id`` whether it is.
    """
    found: set[Pair] = set()
    for table in ("claims", "videos"):
        for batch in tables.read_batches(table, columns=["video_id", "content_id"]):
            found |= _pairs(_meant(pa.Table.from_batches([batch]), is_meant))
    return found


def erase(tables: Tables, is_meant: Callable[[pa.Table], pa.Array], *, by: Provenance) -> list[Erased]:
    """Take videos out of every table but the catalog's rows, and out of every file below the tables' folders.

    Rows of other videos in the same files are put into new files first, so these stay what they were. Older versions of
    the tables cannot be read any more where they need a file that is gone.

    It may be done while runs go on. What they commit afterwards is found when it is done again.

    Parameters
    ----------
    tables
        The store.
    is_meant
        Says of each row of a table with ``video_id`` and ``content_id`` whether it has to go.
    by
        Whose commits they are.

    Returns
    -------
    list of Erased
        One for each table that exists; of the catalog, only files and log entries.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    rows: dict[Table, int] = dict.fromkeys(SCHEMAS, 0)
    while True:
        pairs = find_pairs(tables, is_meant)
        for table in ROW_TABLES if pairs else ():
            rows[table] += count_rows(tables, table, pairs)
            tables.delete_videos(table, pairs, by=by)
        hidden = {table: _hidden_files(tables, table, is_meant) for table in SCHEMAS}
        names = {
            (file.fingerprint, name)
            for table in ROW_TABLES
            for file in hidden[table]
            if file.fingerprint is not None and (name := shard_name(file.path)) is not None
        }
        if not _lay_to_rest(tables, names, by):
            break
    erased = []
    for table, files in hidden.items():
        if tables.version(table) is None and not files:
            continue
        location = tables.location(table)
        for file in files:
            _remove(location.child(file.path))
        for leftover in _leftovers(location):
            _remove(leftover)
        size_bytes = sum(file.size_bytes for file in files)
        erased.append(Erased(table, rows[table], len(files), size_bytes, _scrub(tables.log(table))))
    return erased


def count_rows(tables: Tables, table: Table, pairs: Collection[Pair]) -> int:
    """Return how many rows of these videos and contents a reader of a table sees."""
    ids = {video_id for video_id, _ in pairs}
    keys = tables.read(table, videos=ids, columns=["video_id", "content_id"])
    return sum(pair in pairs for pair in zip(*(column.to_pylist() for column in keys.columns), strict=True))


def _hidden_files(tables: Tables, table: Table, is_meant: Callable[[pa.Table], pa.Array]) -> list[VisibleFile]:
    """Return the files below a table's folder that no reader sees and that hold rows which are meant."""
    log, location = tables.log(table), tables.location(table)
    # The folder first: a file that is put and committed in between is then not even looked at.
    listed = _find(location)
    visible = {unquote(file.path) for file in log.files(log.open())}
    keys = pa.schema([SCHEMAS[table].field(name) for name in ("video_id", "content_id")])
    candidates = [
        VisibleFile(path, size_bytes, _partition(path), None, None)
        for path, size_bytes in listed.items()
        if path.endswith(".parquet") and path not in visible and not path.startswith("_delta_log/")
    ]

    def holds(file: VisibleFile) -> bool:
        return len(_meant(tables.read_file(table, file, keys), is_meant)) > 0

    with ThreadPoolExecutor(READERS) as pool:
        return [file for file, held in zip(candidates, pool.map(holds, candidates), strict=True) if held]


def _lay_to_rest(tables: Tables, names: Collection[tuple[str, str]], by: Provenance) -> bool:
    """See to it that no name is committed any more once its files are gone; tell whether any was finished for that.

    A file that is not committed may be that of a run which is about to commit it: if its bytes went, the table would
    speak of a file that is not there. So each such name is put on record as committed, without its files. The run
    then takes its work for done, and its other videos are found missing by the next one.
    """
    unclaimed: list[tuple[str, str]] = []
    claims = tables.log("claims")

    def decide(opened: DeltaTable) -> Change:
        unclaimed[:] = [name for name in names if not claims.is_committed(opened, "/".join(name))]
        return Change(commit_ids=["/".join(name) for name in unclaimed])

    if not names:
        return False
    claims.transact(decide, by=by)
    for log in (tables.log(table) for stage in STAGE_TABLES for table in stage):

        def decide_too(opened: DeltaTable, log: TableLog = log) -> Change:
            ids = ("/".join(name) for name in unclaimed)
            return Change(commit_ids=[one for one in ids if not log.is_committed(opened, one)])

        if log.open() is not None or unclaimed:
            log.transact(decide_too, by=by)
    last = [tables.log(stage[-1]) for stage in STAGE_TABLES]
    finished = False
    for name in set(names) - set(unclaimed):
        # Its claim is gone, and its run may be dead: nobody else would finish it for its other videos.
        if not any(log.is_committed(log.open(), "/".join(name)) for log in last):
            tables.commit([tables.find_work(*name)], by=by)
            finished = True
    return finished


def _scrub(log: TableLog) -> int:
    """Take the statistics of files that are no part of the table any more out of its log; return the entries changed.

    The entries themselves stay. If one were missing, a run that opened the table before could write its own commit
    under that number, below the checkpoint, where nobody ever reads it.
    """
    opened = log.open()
    if opened is None:
        return 0
    visible = {file.path for file in log.files(opened)}
    folder = log.location.child("_delta_log")
    entries = [
        folder.child(path)
        for path in _find(folder)
        if (named := LOG_ENTRY.fullmatch(path)) and int(named[1]) <= opened.version()
    ]

    def scrub(entry: Location) -> bool:
        data = entry.read_bytes()
        clean = _scrub_commit(data, visible) if entry.path.endswith(".json") else _scrub_checkpoint(data, visible)
        if clean is None:
            return False
        entry.write_bytes(clean)
        return True

    with ThreadPoolExecutor(READERS) as pool:
        return sum(pool.map(scrub, entries))


def _scrub_commit(data: bytes, visible: Collection[str]) -> bytes | None:
    """Return a commit without the statistics of files that are gone; None where there are none."""
    changed = False
    actions = [json.loads(line) for line in data.splitlines() if line.strip()]
    for action in actions:
        for kind in ("add", "remove"):
            file = action.get(kind)
            if file and file.get("stats") and file["path"] not in visible:
                file["stats"] = None
                changed = True
    return b"".join(json.dumps(action).encode() + b"\n" for action in actions) if changed else None


def _scrub_checkpoint(data: bytes, visible: Collection[str]) -> bytes | None:
    """Return a checkpoint without the statistics of files that are gone; None where there are none."""
    table = pq.read_table(io.BytesIO(data))
    changed = False
    for kind in ("add", "remove"):
        if kind not in table.column_names:
            continue
        column: Any = table[kind].combine_chunks()
        fields = list(column.type)
        children = [column.field(index) for index in range(len(fields))]
        gone = pc.invert(
            pc.is_in(children[column.type.get_field_index("path")], value_set=pa.array(visible, pa.string()))
        )
        for index, field in enumerate(fields):
            if not field.name.startswith("stats"):
                continue
            told = pc.and_(gone, pc.is_valid(children[index]))
            if pc.any(pc.and_(told, column.is_valid())).as_py():
                children[index] = pc.if_else(told, pa.scalar(None, field.type), children[index])
                changed = True
        new = pa.StructArray.from_arrays(children, fields=fields, mask=column.is_null())
        table = table.set_column(table.schema.get_field_index(kind), table.schema.field(kind), new)
    if not changed:
        return None
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def _leftovers(location: Location) -> Iterator[Location]:
    """Yield what was put half below a table's folder: whoever is putting it now puts it again."""
    for path in _find(location):
        folder, _, name = path.rpartition("/")
        known = LOG_ENTRY.fullmatch(name) or name == "_last_checkpoint" if folder == "_delta_log" else False
        if not known and not path.endswith(".parquet"):
            yield location.child(path)


def _find(location: Location) -> dict[str, int]:
    """Return all files below a folder with their sizes, by their path below it."""
    with storage_errors("list", location.url):
        found = location.fs.find(location.path, detail=True)
    return {path.removeprefix(f"{location.path}/"): int(entry["size"]) for path, entry in found.items()}


def _remove(location: Location) -> None:
    with storage_errors("remove", location.url):
        try:
            location.fs.rm_file(location.path)
        except FileNotFoundError:
            # Somebody else forgets the same.
            return


def _partition(path: str) -> str | None:
    folder = path.partition("/")[0]
    return folder.removeprefix("fingerprint=") if folder.startswith("fingerprint=") else None


def _meant(rows: pa.Table, is_meant: Callable[[pa.Table], pa.Array]) -> pa.Table:
    return rows.filter(is_meant(rows))


def _pairs(rows: pa.Table) -> set[Pair]:
    return set(zip(rows["video_id"].to_pylist(), rows["content_id"].to_pylist(), strict=True))
