"""Videos to faces and features."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from prefect import flow, get_run_logger
from prefect.futures import wait
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from dfpipe import progress
from dfpipe.engine import open_engine
from dfpipe.plan import plan_faces, plan_features
from dfpipe.settings import Settings, Stage
from dfpipe.shards import open_tables
from tasks.preprocess import compute_features, extract_faces, finish_commits, read_catalog

__all__ = ["Preprocessed", "preprocess"]

SHARDS_AT_ONCE = 4
"""Enough that workers never wait for a commit; few enough that a million videos are not submitted at once."""


@dataclass
class Preprocessed:
    """What a preprocessing run found and did."""

    videos: int = 0
    """Videos in the catalog."""
    extracted: int = 0
    """Videos extracted by this run."""
    kept: int = 0
    """Videos whose work stood."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Videos extracted by this run, by status."""
    faces: int = 0
    """Face crops written by this run."""
    feature_rows: int = 0
    """Feature rows written by this run."""


RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=SHARDS_AT_ONCE)


@flow(name="preprocess", flow_run_name="preprocess {settings.source}", task_runner=RUNNER, persist_result=False)
def preprocess(settings: Settings, until: Stage = "features") -> Preprocessed:
    """When it ends, every video of the source has one ledger row, and its faces and features are committed."""
    run_id = str(flow_run.id)
    tables = open_tables(settings.store, settings.s3)
    catalog = read_catalog(settings, tables, run_id)
    done = Preprocessed(videos=len(catalog))
    if until == "catalog":
        return done

    plan = plan_faces(catalog, tables, settings.extract, videos_per_shard=settings.videos_per_shard)
    if finish_commits(tables, plan.fingerprint, run_id):
        plan = plan_faces(catalog, tables, settings.extract, videos_per_shard=settings.videos_per_shard)
    done.kept, done.extracted = plan.kept, len(catalog) - plan.kept
    say = get_run_logger().info
    say("%d videos: %d kept, to extract %s", len(catalog), plan.kept, dict(plan.reasons) or "none")
    feature_sets = settings.train.features if until != "faces" else []
    features = plan_features(tables, feature_sets, faces_fingerprint=plan.fingerprint)
    if not plan.shards and not any(feature.shards for feature in features):
        return done

    with open_engine(settings.dask) as engine:
        say("%d workers; Dask dashboard at %s", engine.workers, engine.dashboard_url)
        progress.expect("faces", done.extracted)
        extracted = [
            extract_faces.submit(engine, tables, shard, plan.fingerprint, settings, run_id) for shard in plan.shards
        ]
        # A shard that fails fails alone: all others are committed before its error is raised.
        wait(extracted)
        for shard in (future.result() for future in extracted):
            done.statuses.update(shard.statuses)
            done.faces += shard.faces

        features = plan_features(tables, feature_sets, faces_fingerprint=plan.fingerprint)
        progress.expect("features", sum(len(feature.shards) for feature in features))
        computed = [compute_features.submit(engine, tables, feature, run_id) for feature in features if feature.shards]
        wait(computed)
        done.feature_rows = sum(future.result() for future in computed)
    return done
