"""Keeping a store in shape: what the commands `dfpipe compact` and `dfpipe vacuum` and a scheduled run both do."""

from dfpipe.provenance import Provenance
from dfpipe.settings import Settings
from dfpipe.shards import Tables, open_tables, upkeep
from dfpipe.shards.upkeep import Compacted, Vacuumed
from dfpipe.storage import open_location
from dfpipe.tracking import versions_in_use
from dfpipe.training import find_store_tracking

__all__ = ["compact_store", "is_empty", "store_tables", "vacuum_store"]


def store_tables(settings: Settings) -> Tables:
    """Return the store's tables, for reading: what is not there is not made."""
    return Tables(str(open_location(settings.store, settings.s3).url), settings.s3)


def is_empty(settings: Settings) -> bool:
    """Say whether no run has written to the store yet."""
    return not store_tables(settings).fingerprints("claims")


def compact_store(settings: Settings, *, target_bytes: int | None = None, by: Provenance) -> list[Compacted]:
    """Merge small files of every table. Safe while runs go on.

    Parameters
    ----------
    settings
        Where the store is.
    target_bytes
        Size of a good file; None is the setting ``shard_bytes``.
    by
        Whose commits they are.

    Returns
    -------
    list of Compacted
        What became of each table; empty where no run has written yet.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    if is_empty(settings):
        return []
    tables = open_tables(settings.store, settings.s3)
    return upkeep.compact(tables, target_bytes=target_bytes or settings.shard_bytes, by=by)


def vacuum_store(
    settings: Settings, *, retention_hours: int = upkeep.RETENTION_HOURS, dry_run: bool = False, by: Provenance
) -> list[Vacuumed]:
    """Delete files that no table speaks of any more, but for those that a training has read. Safe while runs go on.

    Parameters
    ----------
    settings
        Where the store and MLflow are.
    retention_hours
        Files stay for so long after they ceased to be part of their table.
    dry_run
        Only count.
    by
        Whose commits they are.

    Returns
    -------
    list of Vacuumed
        What went from each table that is there.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    ServiceError
        MLflow, which knows what trainings have read, cannot be reached.
    """
    # What trainings have read can be read again with `dfpipe run --at`.
    tracking = find_store_tracking(settings)
    return upkeep.vacuum(
        store_tables(settings) if dry_run else open_tables(settings.store, settings.s3),
        retention_hours=retention_hours,
        keep_versions=versions_in_use(tracking) if tracking is not None else {},
        by=by,
        dry_run=dry_run,
    )
