"""Features to a registered model."""

from dataclasses import dataclass

from prefect import flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact
from prefect.runtime import deployment, flow_run

from dfpipe.decisions import Decision
from dfpipe.engine import open_engine
from dfpipe.extract import extract_fingerprint
from dfpipe.lineage import tables_as_of, tables_as_they_are
from dfpipe.plan import training_fingerprint, usable_videos
from dfpipe.provenance import make_provenance
from dfpipe.settings import Settings
from dfpipe.shards import open_tables
from dfpipe.spool import drop_search, telling_of_kept_search
from dfpipe.steps import load_catalog
from dfpipe.summary import training_markdown
from dfpipe.tracking import TrainingRecord, find_finished
from dfpipe.training import connect_tracking, training_tags
from flows._moving import moving_progress
from flows._observed import logged, measured
from tasks.train import (
    decide_promotion,
    draw_sheets,
    evaluate,
    evaluate_by_identity,
    find_kept_search,
    load_rows,
    record_models,
    search_grid,
    split_videos,
)

__all__ = ["Trained", "train"]


@dataclass(frozen=True, slots=True)
class Trained:
    """A training, made now or earlier."""

    record: TrainingRecord
    """Where it stands in MLflow."""
    now: bool
    """Whether this run made it; False where an earlier training of the same rows and settings stands."""
    videos: int
    """Videos in the catalog that it read."""
    decision: Decision | None
    """What the gate said of its model when it was asked; None where it never was."""


@flow(name="train", flow_run_name="train {settings.mlflow.registered_model}", persist_result=False)
@logged
@measured("train")
def train(settings: Settings, at: str | None = None) -> Trained:
    """When it ends, MLflow has the grid search over all committed features, and the gate has decided on its best model.

    With the run of an earlier training, over the features that this one read. What was searched before and is not on
    record yet is not searched again. Sheets of faces that the settings want are drawn beside the figures, of a training
    that stands too.

    Args:
        settings: All settings of the run; `dfpipe config` prints them with their defaults.
        at: MLflow run of an earlier training: train on the rows that it read, and do nothing else.
    """
    tracking = connect_tracking(settings)
    tables = open_tables(settings.store, settings.s3)
    tables = tables_as_they_are(tables) if at is None else tables_as_of(tables, tracking, at, settings)
    catalog = load_catalog(tables)
    faces_fingerprint = extract_fingerprint(settings.extract)
    usable = usable_videos(catalog, tables, faces_fingerprint=faces_fingerprint)
    fingerprint = training_fingerprint(usable, settings.train, faces_fingerprint=faces_fingerprint)
    finished = find_finished(tracking, fingerprint)
    if finished is not None:
        # Its run may have been killed before this.
        drop_search(settings.state, fingerprint)
        get_run_logger().info("nothing to train: run %s stands for these rows and settings", finished.run_id)
        # Whoever made it may have died before the gate was asked.
        decision = decide_promotion(tracking, settings, finished.model_version)
        told = tell(Trained(finished, now=False, videos=len(catalog), decision=decision))
        draw_sheets(tracking, finished.run_id, tables, usable, settings, faces_fingerprint)
        return told

    videos, data = load_rows(catalog, tables, settings, faces_fingerprint)
    split = split_videos(videos, data, settings)
    dashboard_url = None
    found = find_kept_search(data, split, settings, fingerprint)
    if found is not None:
        get_run_logger().info("an earlier run searched %s candidates; they wait to be recorded", len(found.ranking))
    else:
        with open_engine(settings.dask) as engine, moving_progress():
            dashboard_url = engine.dashboard_url
            if dashboard_url is not None:
                create_link_artifact(dashboard_url, "Dask dashboard", key="dask-dashboard")
            found = search_grid(engine, data, split, settings, fingerprint)
    with telling_of_kept_search(settings.state, fingerprint):
        evaluations = evaluate(tracking, videos, data, split, found, settings, fingerprint)
        grouped = evaluate_by_identity(tracking, videos, data, found, settings, fingerprint) if split.leaky else []
        lasting = settings.prefect.api_url or deployment.id
        provenance = make_provenance(settings, run_id=str(flow_run.id))
        tags = training_tags(tables, provenance, flow_run_url=flow_run.ui_url if lasting else None)
        record = record_models(
            tracking, settings, data, split, found, evaluations, grouped, fingerprint, faces_fingerprint, tags
        )
    get_run_logger().info("%s is %s version %s", record.candidate, record.model_name, record.model_version)
    # Before the pictures, on which no model depends: those that cannot be drawn keep none from being the champion.
    decision = decide_promotion(tracking, settings, record.model_version)
    told = tell(Trained(record, now=True, videos=len(catalog), decision=decision), dashboard_url)
    draw_sheets(tracking, record.run_id, tables, usable, settings, faces_fingerprint)
    return told


def tell(trained: Trained, dashboard_url: str | None = None) -> Trained:
    """Put the figures and the gate's decision into the run's page, and return them."""
    create_markdown_artifact(
        training_markdown(trained.record, now=trained.now, decision=trained.decision, dashboard_url=dashboard_url),
        key="training-summary",
        description="The model that was found, how good it is, and what the gate decided",
    )
    return trained
