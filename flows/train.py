"""Features to a registered model."""

from dataclasses import dataclass

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from dfpipe.engine import open_engine
from dfpipe.extract import extract_fingerprint
from dfpipe.plan import training_fingerprint, usable_videos
from dfpipe.settings import Settings
from dfpipe.shards import open_tables
from dfpipe.steps import load_catalog
from dfpipe.tracking import TrainingRecord, find_finished, point_alias
from dfpipe.training import connect_tracking
from tasks.train import evaluate, load_rows, record_models, search_grid, split_videos

__all__ = ["Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A training, made now or earlier."""

    record: TrainingRecord
    """Where it stands in MLflow."""
    now: bool
    """Whether this run made it; False where an earlier training of the same rows and settings stands."""


@flow(name="train", flow_run_name="train {settings.mlflow.registered_model}", persist_result=False)
def train(settings: Settings) -> Trained:
    """When it ends, MLflow has the grid search over all committed features, and the best model is registered."""
    tables = open_tables(settings.store, settings.s3)
    catalog = load_catalog(tables)
    faces_fingerprint = extract_fingerprint(settings.extract)
    usable = usable_videos(catalog, tables, faces_fingerprint=faces_fingerprint)
    fingerprint = training_fingerprint(usable, settings.train, faces_fingerprint=faces_fingerprint)
    tracking = connect_tracking(settings)
    finished = find_finished(tracking, fingerprint)
    if finished is not None:
        # Another training may have taken the alias in the meantime.
        point_alias(tracking, finished.model_version)
        get_run_logger().info("nothing to train: run %s stands for these rows and settings", finished.run_id)
        return Trained(finished, now=False)

    videos, data = load_rows(catalog, tables, settings, faces_fingerprint)
    split = split_videos(videos, data, settings)
    with open_engine(settings.dask) as engine:
        found = search_grid(engine, data, split, settings)
    evaluations = evaluate(data, split, found)
    tags = {"prefect.flow_run_id": str(flow_run.id), "dfpipe.store": tables.url}
    record = record_models(tracking, settings, data, split, found, evaluations, fingerprint, faces_fingerprint, tags)
    get_run_logger().info("%s is %s version %s", record.candidate, record.model_name, record.model_version)
    return Trained(record, now=True)
