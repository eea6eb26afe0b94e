"""A store whose files are few and large, and that holds nothing which no table speaks of."""

from dataclasses import dataclass
from typing import Annotated

from prefect import flow
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from pydantic import Field

from dfpipe.provenance import make_provenance
from dfpipe.settings import Settings
from dfpipe.shards.upkeep import RETENTION_HOURS
from flows._observed import logged
from tasks.maintenance import compact, vacuum

__all__ = ["Maintained", "maintenance"]


@dataclass(frozen=True, slots=True)
class Maintained:
    """What one round of upkeep did."""

    bytes_merged: int
    """Bytes of small files that were merged; they stay until a later vacuum."""
    files_deleted: int
    """Files that no table spoke of."""
    bytes_deleted: int
    """Bytes of them."""


@flow(name="maintenance", flow_run_name="maintenance {settings.store}", persist_result=False)
@logged
def maintenance(settings: Settings, retention_hours: Annotated[int, Field(ge=0)] = RETENTION_HOURS) -> Maintained:
    """When it ends, small files are merged and what no table needs is deleted. Runs may go on meanwhile.

    Args:
        settings: All settings of the run; `dfpipe config` prints them with their defaults.
        retention_hours: Files stay for so long after they ceased to be part of their table, for readers of it.
    """
    by = make_provenance(settings, run_id=str(flow_run.id))
    compacted = compact(settings, by)
    vacuumed = vacuum(settings, retention_hours, by)
    merged = {one.table: one for one in compacted}
    create_table_artifact(
        [
            {
                "table": one.table,
                "files": merged[one.table].files_after if one.table in merged else one.files_before - one.files,
                "MB merged": round(merged[one.table].bytes_merged / 1e6, 1) if one.table in merged else 0.0,
                "files deleted": one.files,
                "MB deleted": round(one.size_bytes / 1e6, 1),
            }
            for one in vacuumed
        ],
        key="maintenance",
        description="Files that count after merging, and what was deleted",
    )
    return Maintained(
        bytes_merged=sum(one.bytes_merged for one in compacted),
        files_deleted=sum(one.files for one in vacuumed),
        bytes_deleted=sum(one.size_bytes for one in vacuumed),
    )
