"""From committed features to a registered model."""

from collections.abc import Mapping, Sequence

import pyarrow as pa
from prefect import task

from dfpipe import dataset, promotion, sheets, spool, training
from dfpipe.catalog import Video
from dfpipe.decisions import Decision
from dfpipe.engine import Engine
from dfpipe.models import Evaluation, SearchResult, Split, TrainingData
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.tracking import Tracking, TrainingRecord
from tasks._options import TASK_OPTIONS

__all__ = [
    "decide_promotion",
    "draw_sheets",
    "evaluate",
    "evaluate_by_identity",
    "find_kept_search",
    "load_rows",
    "record_models",
    "search_grid",
    "split_videos",
]


@task(name="load rows", **TASK_OPTIONS)
def load_rows(
    catalog: pa.Table, tables: Tables, settings: Settings, faces_fingerprint: str
) -> tuple[list[Video], TrainingData]:
    """Read the committed feature rows with their labels and people, one a face or one a video."""
    return dataset.load_training_data(
        catalog,
        tables,
        settings.train.features,
        faces_fingerprint=faces_fingerprint,
        rows=settings.train.rows,
        face_duplicates=settings.train.split.face_duplicates,
    )


@task(name="split", **TASK_OPTIONS)
def split_videos(videos: Sequence[Video], data: TrainingData, settings: Settings) -> Split:
    """Divide the videos by the protocol in the settings, and refuse one that leaks."""
    lists = settings.official_lists or settings.source
    return training.split_videos(videos, data, settings.train.split, lists=lists)


@task(name="find kept search", **TASK_OPTIONS)
def find_kept_search(data: TrainingData, split: Split, settings: Settings, fingerprint: str) -> SearchResult | None:
    """Look for the search of an earlier run that broke off before its training was on record."""
    return spool.find_search(settings.state, fingerprint, data, split)


@task(name="search grid", **TASK_OPTIONS)
def search_grid(engine: Engine, data: TrainingData, split: Split, settings: Settings, fingerprint: str) -> SearchResult:
    """Try every candidate on every fold, and keep what came out until it is on record."""
    found = training.search_grid(engine, data, split, settings.train)
    spool.keep_search(settings.state, fingerprint, data, split, found)
    return found


@task(name="evaluate on held-out people", **TASK_OPTIONS)
def evaluate(
    tracking: Tracking,
    videos: Sequence[Video],
    data: TrainingData,
    split: Split,
    found: SearchResult,
    settings: Settings,
    fingerprint: str,
) -> list[Evaluation]:
    """Refit the best of each kind of model and score it on people that it has never seen, with this on record."""
    return training.evaluate_best(tracking, videos, data, split, found, settings.train, fingerprint=fingerprint)


@task(name="evaluate by identity", **TASK_OPTIONS)
def evaluate_by_identity(
    tracking: Tracking,
    videos: Sequence[Video],
    data: TrainingData,
    found: SearchResult,
    settings: Settings,
    fingerprint: str,
) -> list[Evaluation]:
    """Score the same candidates on people that they have never seen, to stand beside figures that leak."""
    return training.evaluate_by_identity(tracking, videos, data, found, settings.train, fingerprint=fingerprint)


@task(name="record in MLflow", **TASK_OPTIONS)
def record_models(
    tracking: Tracking,
    settings: Settings,
    data: TrainingData,
    split: Split,
    found: SearchResult,
    evaluations: Sequence[Evaluation],
    grouped: Sequence[Evaluation],
    fingerprint: str,
    faces_fingerprint: str,
    tags: Mapping[str, str],
) -> TrainingRecord:
    """Write the search, the figures and the best model to MLflow; only then is the search kept no longer."""
    record = training.record(
        tracking,
        settings=settings,
        data=data,
        split=split,
        found=found,
        evaluations=evaluations,
        grouped=grouped,
        fingerprint=fingerprint,
        faces_fingerprint=faces_fingerprint,
        tags=tags,
    )
    spool.drop_search(settings.state, fingerprint)
    return record


@task(name="decide promotion", **TASK_OPTIONS)
def decide_promotion(tracking: Tracking, settings: Settings, version: str) -> Decision | None:
    """Ask the gate whether the model takes the champion's place, unless it was asked before."""
    return promotion.decide_promotion(settings, tracking, version)


@task(name="draw sheets of faces", **TASK_OPTIONS)
def draw_sheets(
    tracking: Tracking, run_id: str, tables: Tables, catalog: pa.Table, settings: Settings, faces_fingerprint: str
) -> int:
    """Put sheets of faces beside the figures of a training, if the settings want any that it lacks."""
    return sheets.draw_sheets(
        tracking, run_id, tables, catalog, settings.train.evaluation.sheets, faces_fingerprint=faces_fingerprint
    )
