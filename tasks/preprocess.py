"""From a source of videos to committed faces and features."""

from collections.abc import Sequence

import pyarrow as pa
from prefect import task

from dfpipe import report, steps
from dfpipe.engine import Engine
from dfpipe.plan import FeaturesPlan, Shard
from dfpipe.provenance import Provenance
from dfpipe.settings import Settings
from dfpipe.shards import Tables, upkeep
from dfpipe.tracking import TrainingRecord
from tasks._options import TASK_OPTIONS

__all__ = ["compute_features", "extract_faces", "finish_commits", "merge_records", "read_catalog", "write_report"]


@task(name="read catalog", **TASK_OPTIONS)
def read_catalog(settings: Settings, tables: Tables, by: Provenance) -> pa.Table:
    """List the source and store the catalog."""
    return steps.refresh_catalog(settings, tables, by=by)


@task(name="finish commits", **TASK_OPTIONS)
def finish_commits(tables: Tables, fingerprints: Sequence[str], by: Provenance) -> int:
    """Finish what runs that died had claimed but not committed to every table; return how many shards."""
    return sum(tables.roll_forward(fingerprint, by=by) for fingerprint in fingerprints)


@task(
    name="extract faces",
    task_run_name="extract faces of {shard.title}",
    **TASK_OPTIONS,
)
def extract_faces(
    engine: Engine, tables: Tables, shard: Shard, fingerprint: str, settings: Settings, by: Provenance
) -> steps.ShardResult:
    """Extract and commit one shard of videos."""
    return steps.extract_shard(
        engine,
        tables,
        shard,
        fingerprint=fingerprint,
        settings=settings.extract,
        limits=settings.limits,
        shard_bytes=settings.shard_bytes,
        by=by,
    )


@task(
    name="compute features",
    task_run_name="compute {plan.settings.name} features of {plan.todo.num_rows} videos",
    **TASK_OPTIONS,
)
def compute_features(engine: Engine, tables: Tables, plan: FeaturesPlan, by: Provenance) -> int:
    """Compute and commit one feature set for the shards that lack it."""
    return steps.compute_features(engine, tables, plan, by=by)


@task(name="merge records", **TASK_OPTIONS)
def merge_records(settings: Settings, tables: Tables, by: Provenance) -> None:
    """Merge the small files of ledger and claims once they are many: every run reads all of them."""
    upkeep.merge_records(tables, target_bytes=settings.shard_bytes, by=by)


@task(name="write report", **TASK_OPTIONS)
def write_report(
    settings: Settings, tables: Tables, run_id: str, training: TrainingRecord | None = None
) -> report.Report:
    """Account for the store's videos and for those of this run, beside the tables; with a training, for it too.

    What was forgotten in the meantime is not written again, as all of it is read anew.
    """
    made = report.make_report(settings, run_id=run_id)
    faces = report.example_faces(settings)
    report.write_report(made, report.report_folder(tables, run_id), training=training, faces=faces)
    return made
