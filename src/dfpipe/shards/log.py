"""The tables' logs: opening a table, and changing it in one transaction that nobody else's comes between."""

import random
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from dfpipe.errors import StoreError
from dfpipe.provenance import Provenance
from dfpipe.settings import S3Settings
from dfpipe.shards.files import ShardFile
from dfpipe.shards.schemas import FILTERED_BY, SCHEMAS, Table
from dfpipe.storage import Location, delta_options, storage_errors

__all__ = ["Change", "TableLog", "VisibleFile"]

CONFLICTS = 100
"""Times that others may come first before it is taken for a defect of the store."""

ATTEMPTS = 3
"""Times that a table is tried which cannot be read or written: its client does not repeat a commit that broke off."""

LONGEST_WAIT_SECONDS = 2.0

CONFIGURATION = {
    # Whoever opens a table reads its log since the last checkpoint, object by object, some of it twice.
    "delta.checkpointInterval": "10",
    # Trainings refer to versions by number; a month later these would be gone.
    "delta.enableExpiredLogCleanup": "false",
}

# Threads of one process would only collide with each other.
_locks: defaultdict[str, Lock] = defaultdict(Lock)


@dataclass(frozen=True, slots=True)
class VisibleFile:
    """A file whose rows are part of a table."""

    path: str
    """Path below the table's folder, as the log has it."""
    size_bytes: int
    """Size of the file."""
    fingerprint: str | None
    """Partition; None in a table that has none."""
    first_video_id: str | None
    """Smallest video_id in it; None where whoever wrote it does not say."""
    last_video_id: str | None
    """Largest video_id in it."""
    rows: int | None = None
    """Rows in it; None where whoever wrote it does not say."""


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction does to a table."""

    add: Sequence[ShardFile] = ()
    """Files that become visible."""
    remove: Sequence[VisibleFile] = ()
    """Files that are no longer part of the table; their bytes stay until a vacuum."""
    commit_ids: Sequence[str] = ()
    """Names under which the log remembers the transaction for ever."""
    moves_rows: bool = False
    """The rows that come are those that go, in other files."""

    def __bool__(self) -> bool:
        """Tell whether there is anything to do."""
        return bool(self.add or self.remove or self.commit_ids)

    def actions(self) -> list[AddAction | RemoveAction]:
        """Return it as Delta's log has it."""
        now, new_rows = time.time_ns() // 1_000_000, not self.moves_rows
        gone = [
            RemoveAction(file.path, new_rows, now, file.size_bytes, {"fingerprint": file.fingerprint})
            for file in self.remove
        ]
        came = [
            AddAction(file.path, file.size_bytes, {"fingerprint": file.fingerprint}, now, new_rows, file.statistics)
            for file in self.add
        ]
        return [*gone, *came]


@dataclass(frozen=True, slots=True)
class TableLog:
    """The log of one table."""

    table: Table
    """Which."""
    location: Location
    """Folder of the table."""
    s3: S3Settings
    """How to reach it."""

    def open(self, *, version: int | None = None) -> DeltaTable | None:
        """Open the table as it is now, or as it was in a version; None where it was never written.

        Raises
        ------
        StoreError
            It cannot be opened, or not in this version.
        """
        if self.location.is_local and not self.location.fs.exists(f"{self.location.path}/_delta_log"):
            return None
        with storage_errors("open", self.location.url):
            try:
                return DeltaTable(
                    self.location.url, version=version, storage_options=delta_options(self.location.url, self.s3)
                )
            except TableNotFoundError as error:
                if version is None:
                    return None
                raise StoreError(
                    f"{self.location.url} has no version {version} any more; its log was cut off or the table replaced"
                ) from error

    def files(self, opened: DeltaTable | None) -> list[VisibleFile]:
        """Return the visible files of a table as it was opened."""
        if opened is None:
            return []
        with storage_errors("read", self.location.url):
            actions = pa.table(opened.get_add_actions(flatten=True))
        nothing = [None] * actions.num_rows
        columns = (
            actions[name].to_pylist() if name in actions.column_names else nothing
            for name in ("path", "size_bytes", "partition.fingerprint", "min.video_id", "max.video_id", "num_records")
        )
        return [VisibleFile(*row) for row in zip(*columns, strict=True)]

    def is_committed(self, opened: DeltaTable | None, commit_id: str) -> bool:
        """Tell whether a transaction with this id was ever made, whatever became of its files since."""
        if opened is None:
            return False
        with storage_errors("read", self.location.url):
            return opened.transaction_version(commit_id) is not None

    def transact(self, decide: Callable[[DeltaTable], Change], *, by: Provenance) -> None:
        """Change the table by compare-and-swap; a table that is not there is created.

        Parameters
        ----------
        decide
            Gets the table as it is and says what is to change. If another's commit comes between, it is asked again
            with that one in view.
        by
            Whose commit it is.

        Raises
        ------
        StoreError
            The table cannot be read or written.
        """
        failures = 0
        for conflicts in range(CONFLICTS):
            try:
                # Others of this process wait at the lock; those elsewhere are found out by the version.
                with _locks[self.location.url]:
                    opened = self.open() or self._create(by)
                    change = decide(opened)
                    if not change:
                        return
                    try:
                        self._commit(opened, change, by)
                        return
                    except StoreError as error:
                        if not isinstance(error.__cause__, CommitFailedError) or self._version() <= opened.version():
                            raise
            except StoreError:
                # A commit that was not answered may have been made: to decide again is to look.
                failures += 1
                if failures == ATTEMPTS:
                    raise
            time.sleep(random.uniform(0, min(LONGEST_WAIT_SECONDS, 0.02 * 2**conflicts)))  # noqa: S311 - no secret
        raise StoreError(
            f"cannot commit to {self.location.url}: {CONFLICTS} others came first; run it again when it is quiet"
        )

    def _commit(self, opened: DeltaTable, change: Change, by: Provenance) -> None:
        properties: Any = CommitProperties(
            custom_metadata=by.as_metadata(),
            # Trying again is ours: what was decided holds for this version of the table and no other.
            max_commit_retries=0,
            app_transactions=[Transaction(one, 1) for one in change.commit_ids],
        )
        with storage_errors("commit to", self.location.url):
            opened.create_write_transaction(
                change.actions(),
                mode="append",
                schema=SCHEMAS[self.table],
                partition_by=["fingerprint"],
                commit_properties=properties,
            )

    def _create(self, by: Provenance) -> DeltaTable:
        # Those and no others: deltalake takes a column that should have statistics and has none for one of nothing but
        # nulls, and whoever filters by it would find no rows.
        columns = [field.name for field in SCHEMAS[self.table] if field.name in FILTERED_BY]
        with storage_errors("write", self.location.url):
            return DeltaTable.create(
                self.location.url,
                schema=SCHEMAS[self.table],
                mode="ignore",
                partition_by=["fingerprint"],
                configuration=CONFIGURATION | {"delta.dataSkippingStatsColumns": ",".join(columns)},
                storage_options=delta_options(self.location.url, self.s3),
                commit_properties=CommitProperties(custom_metadata=by.as_metadata()),
            )

    def _version(self) -> int:
        opened = self.open()
        return -1 if opened is None else int(opened.version())
