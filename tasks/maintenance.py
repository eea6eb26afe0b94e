"""Keeping a store in shape."""

from prefect import task

from dfpipe import maintenance
from dfpipe.provenance import Provenance
from dfpipe.settings import Settings
from dfpipe.shards.upkeep import Compacted, Vacuumed
from tasks._options import TASK_OPTIONS

__all__ = ["compact", "vacuum"]


@task(name="compact", **TASK_OPTIONS)
def compact(settings: Settings, by: Provenance) -> list[Compacted]:
    """Merge the small files that short runs leave."""
    return maintenance.compact_store(settings, by=by)


@task(name="vacuum", **TASK_OPTIONS)
def vacuum(settings: Settings, retention_hours: int, by: Provenance) -> list[Vacuumed]:
    """Delete files that no table speaks of any more."""
    return maintenance.vacuum_store(settings, retention_hours=retention_hours, by=by)
