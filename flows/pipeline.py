"""The whole way: a bucket of videos to a registered model, and again for only what changed."""

import time

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from dfpipe.plan import EVERYTHING
from dfpipe.settings import Selection, Settings, Stage
from dfpipe.shards import open_tables
from dfpipe.summary import RunSummary, work_of
from flows._observed import logged, measured
from flows.preprocess import Preprocessed, preprocess
from flows.train import train
from tasks.preprocess import write_report

__all__ = ["pipeline"]


@flow(name="pipeline", flow_run_name="pipeline {settings.source}", persist_result=False)
@logged
@measured("pipeline")
def pipeline(
    settings: Settings, until: Stage = "train", selection: Selection = EVERYTHING, at: str | None = None
) -> RunSummary:
    """When it ends, faces, features and models stand for every video of the source that is selected.

    With the run of an earlier training, only a model stands, of the rows that this one read.

    Args:
        settings: All settings of the run; `dfpipe config` prints them with their defaults.
        until: Last stage.
        selection: Narrows the run to some of the videos, or does some of them again.
        at: MLflow run of an earlier training: train on the rows that it read, and do nothing else.
    """
    started = time.monotonic()
    if at is None:
        videos = preprocess(settings, until, selection)
        models = train(settings) if until == "train" else None
        if models is not None and videos.report is not None and videos.report.run_id is not None:
            write_report(settings, open_tables(settings.store, settings.s3), videos.report.run_id, models.record)
    else:
        models = train(settings, at)
        videos = Preprocessed(videos=models.videos, kept=models.videos)
    summary = RunSummary(
        videos=videos.videos,
        extracted=videos.extracted,
        kept=videos.kept,
        statuses=dict(videos.statuses),
        faces=videos.faces,
        losses=videos.losses,
        feature_rows=videos.feature_rows,
        trained=models is not None and models.now,
        training=models.record if models is not None else None,
        decision=models.decision if models is not None else None,
        seconds=time.monotonic() - started,
        work=work_of(videos.report) if videos.report is not None else None,
        dashboard_url=videos.dashboard_url,
    )
    create_markdown_artifact(summary.to_markdown(), key="run-summary", description="What this run found and did")
    return summary
