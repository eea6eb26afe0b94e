"""From committed features to a registered model, step by step."""

import logging
import os
import resource
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dfpipe import __version__, progress
from dfpipe.catalog import Video, part_of
from dfpipe.engine import Engine, usable_memory_bytes
from dfpipe.errors import TooLargeError, TrainingDataError
from dfpipe.extract import extract_fingerprint
from dfpipe.faces import open_detector
from dfpipe.models import (
    Candidate,
    CandidateResult,
    Evaluation,
    Preprocessing,
    RunTasks,
    SearchResult,
    Split,
    TrainingData,
    VerdictRule,
    candidates,
    refit_and_evaluate,
    rule_of,
    search,
)
from dfpipe.models.memory import as_text, fit_bytes
from dfpipe.plan import feature_fingerprint, training_fingerprint, training_settings_hash, usable_videos
from dfpipe.provenance import Provenance
from dfpipe.settings import Settings, TrainSettings
from dfpipe.shards import Tables
from dfpipe.sheets import sheets_stand
from dfpipe.splitting import split_by_identity, split_videos
from dfpipe.spool import kept_file
from dfpipe.steps import load_catalog
from dfpipe.storage import boto_environment, open_location
from dfpipe.tracking import (
    SETTINGS_TAG,
    Tracking,
    TrainingRecord,
    find_finished,
    find_tracking,
    latest_settings,
    note_test_read,
    open_tracking,
    record_training,
    test_sha256,
    versions_tags,
)

__all__ = [
    "artifact_root",
    "connect_tracking",
    "evaluate_best",
    "evaluate_by_identity",
    "find_standing_training",
    "find_store_tracking",
    "on_workers",
    "record",
    "search_grid",
    "split_videos",
    "training_tags",
    "why_train",
]

_log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")


def search_grid(
    engine: Engine,
    data: TrainingData,
    split: Split,
    settings: TrainSettings,
    *,
    grid: Sequence[Candidate] | None = None,
) -> SearchResult:
    """Try candidates on every fold, spread over the workers; what does not fit a worker's memory is not tried.

    Parameters
    ----------
    engine
        The workers.
    data
        All rows.
    split
        The folds.
    settings
        The grids, and how they are searched.
    grid
        Candidates; None is all of the settings'.
    """
    return search(
        data,
        split.folds,
        candidates(settings) if grid is None else grid,
        settings=settings.search,
        memory_bytes=engine.room_bytes(data.X.nbytes),
        run_tasks=on_workers(engine, "train"),
    )


def on_workers(engine: Engine, stage: str) -> RunTasks:
    """Return a way to call a function on many items on the workers, which tells the stage's progress."""
    expected = 0

    def run_tasks(
        function: Callable[[Any, T], R], items: Sequence[T], *, shared: Any, lost: Callable[[T], R]
    ) -> Iterator[R]:
        # Successive halving comes here once a round.
        nonlocal expected
        expected += len(items)
        progress.expect(stage, expected)
        for result in engine.run(function, items, shared=shared, lost=lost):
            progress.advance(stage)
            yield result

    return run_tasks


def evaluate_best(
    tracking: Tracking,
    videos: Sequence[Video],
    data: TrainingData,
    split: Split,
    found: SearchResult,
    settings: TrainSettings,
    *,
    fingerprint: str,
    judged: bool = True,
) -> list[Evaluation]:
    """Refit the best candidate of each kind of model on all training videos and score it on the held-out people.

    Calibration and threshold come from its validation scores. That the held-out videos are looked at is put on record
    first, for every model. All this is done in this process, where no worker's limit holds: a kind of model that is
    predicted to need more than there is is left out with a warning, unless it is the best.

    Parameters
    ----------
    tracking
        Where it is put on record.
    videos
        As in ``data.video_ids``.
    data, split
        All rows, and which stand on which side.
    found
        Every candidate.
    settings
        Calibration, threshold, intervals, and columns or attributes for each value of which figures are wanted.
    fingerprint
        Of the training.
    judged
        Whether calibration and threshold are wanted. Otherwise scores are taken as they are, fake from one half on.

    Raises
    ------
    ServiceError
        MLflow cannot be reached; then no held-out video was looked at.
    TooLargeError
        The best candidate is predicted to need more memory than there is; then none was looked at either.
    """
    fitting = _fitting_here(found, data, len(split.train_rows))
    attributes = {name: [part_of(video, name) for video in videos] for name in settings.evaluation.by}
    held_out = test_sha256(data, split.test_rows)
    evaluations = []
    for result in fitting:
        rule = rule_of(data, result, settings.evaluation) if judged else VerdictRule()
        note_test_read(tracking, held_out, result.candidate, fingerprint=fingerprint)
        evaluations.append(
            refit_and_evaluate(
                data,
                split.train_rows,
                split.test_rows,
                result.candidate,
                rule=rule,
                settings=settings.evaluation,
                attributes=attributes,
            )
        )
    return evaluations


def evaluate_by_identity(
    tracking: Tracking,
    videos: Sequence[Video],
    data: TrainingData,
    found: SearchResult,
    settings: TrainSettings,
    *,
    fingerprint: str,
) -> list[Evaluation]:
    """Fit and score the same candidates again, divided along groups of people: what a leaky training's figures hide.

    Parameters
    ----------
    tracking, videos, data, found, settings, fingerprint
        As of `evaluate_best`.

    Returns
    -------
    list of Evaluation
        In the order of `evaluate_best`; empty, with a warning, where the people cannot be divided, or the best
        candidate does not fit into memory.

    Raises
    ------
    ServiceError
        MLflow cannot be reached; then no held-out video was looked at.
    """
    try:
        split = split_by_identity(videos, data, settings.split)
        # People held out here stood among the validation videos of the leaky search.
        return evaluate_best(tracking, videos, data, split, found, settings, fingerprint=fingerprint, judged=False)
    except (TooLargeError, TrainingDataError) as error:
        _log.warning("no figures by identity stand beside the leaky ones: %s", error)
        return []


def _fitting_here(found: SearchResult, data: TrainingData, rows: int) -> list[CandidateResult]:
    """Return the best candidate of each kind that can be fitted to so many rows in this process, best kind first."""
    room = max(0, usable_memory_bytes() - _resident_bytes())
    fitting = []
    for result in found.best_per_model.values():
        needed = fit_bytes(result.candidate, data, rows)
        if needed <= room:
            fitting.append(result)
            continue
        why = (
            f"fitting {result.candidate.name} to all {rows} rows of {data.X.shape[1]} columns for learning needs "
            f"{as_text(needed)} beside the rows, and this process has {as_text(room)}; give its machine or container "
            "more memory, or ask for fewer columns"
        )
        if result is found.best:
            raise TooLargeError(why)
        _log.warning("the held-out people are not shown to %s: %s", result.candidate.name, why)
    return fitting


def _resident_bytes() -> int:
    """Return what this process holds in memory."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


def record(
    tracking: Tracking,
    *,
    settings: Settings,
    data: TrainingData,
    split: Split,
    found: SearchResult,
    evaluations: Sequence[Evaluation],
    grouped: Sequence[Evaluation] = (),
    fingerprint: str,
    faces_fingerprint: str,
    tags: Mapping[str, str],
) -> TrainingRecord:
    """Write the training to MLflow and register its best model."""
    preprocessing = Preprocessing(
        extract=settings.extract.without_places(),
        features=tuple(settings.train.features),
        rows=settings.train.rows,
        columns=data.columns,
        dtype="uint8" if data.X.dtype == np.uint8 else "float32",
        weights_sha256=open_detector(settings.extract.detector).weights_sha256,
        faces_fingerprint=faces_fingerprint,
        feature_fingerprints=tuple(
            feature_fingerprint(feature, faces_fingerprint) for feature in settings.train.features
        ),
        dfpipe_version=__version__,
    )
    return record_training(
        tracking,
        data=data,
        split=split,
        split_settings=settings.train.split,
        search=found,
        evaluations=evaluations,
        grouped=grouped,
        preprocessing=preprocessing,
        fingerprint=fingerprint,
        tags={**tags, SETTINGS_TAG: training_settings_hash(settings.train, faces_fingerprint=faces_fingerprint)},
    )


def training_tags(tables: Tables, by: Provenance, *, flow_run_url: str | None = None) -> dict[str, str]:
    """Return what a training's run says of where its rows came from, and by what code, settings and flow run.

    Parameters
    ----------
    tables
        As they were read.
    by
        Code, settings and flow run.
    flow_run_url
        Page of the flow run; None where it ends with the run, as that of a server for the time of the run does.
    """
    code = {name: value for name, value in by.as_metadata().items() if name != "run_id"}
    return {
        **({"prefect.flow_run_id": by.run_id} if by.run_id else {}),
        **({"prefect.flow_run_url": flow_run_url} if flow_run_url else {}),
        "dfpipe.store": tables.url,
        **versions_tags(tables.versions or {}),
        **{f"dfpipe.{name}": value for name, value in code.items()},
        # The tag by which MLflow's pages show a commit.
        **({"mlflow.source.git.commit": by.git_revision.partition("+")[0]} if by.git_revision else {}),
    }


def connect_tracking(settings: Settings) -> Tracking:
    """Open MLflow with its artifacts in the store.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    _show_mlflow_the_store(settings)
    return open_tracking(settings.mlflow, state=settings.state, artifact_root=artifact_root(settings))


def why_train(settings: Settings, fingerprint: str, *, faces_fingerprint: str) -> str | None:
    """Say why a training with this fingerprint would be made, or drawn sheets of; None where one stands with all of it.

    Nothing is made to find out.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    tracking = find_store_tracking(settings)
    if tracking is not None and (finished := find_finished(tracking, fingerprint)) is not None:
        sheets = settings.train.evaluation.sheets
        stands = sheets is None or sheets_stand(tracking, finished.run_id, sheets)
        return None if stands else "only its sheets of faces"
    if kept_file(settings.state, fingerprint).exists():
        return "searched, waits to be recorded"
    latest = None if tracking is None else latest_settings(tracking)
    if latest is None:
        return "never trained"
    same = latest == training_settings_hash(settings.train, faces_fingerprint=faces_fingerprint)
    return "rows changed" if same else "grid or settings changed"


def find_standing_training(settings: Settings) -> TrainingRecord | None:
    """Return the training that stands for the store's rows and these settings; None where there is none.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    StoreError
        The store cannot be read.
    """
    tracking = find_store_tracking(settings)
    if tracking is None:
        return None
    tables = Tables(open_location(settings.store, settings.s3).url, settings.s3)
    faces_fingerprint = extract_fingerprint(settings.extract)
    usable = usable_videos(load_catalog(tables), tables, faces_fingerprint=faces_fingerprint)
    return find_finished(tracking, training_fingerprint(usable, settings.train, faces_fingerprint=faces_fingerprint))


def find_store_tracking(settings: Settings) -> Tracking | None:
    """Open the MLflow in which runs record this store's trainings; None where no run has made one yet.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    _show_mlflow_the_store(settings)
    return find_tracking(settings.mlflow, state=settings.state, artifact_root=artifact_root(settings))


def artifact_root(settings: Settings) -> str:
    """Return the URL in the store under which MLflow keeps pictures and models."""
    return open_location(settings.store, settings.s3).child("mlflow").url


def _show_mlflow_the_store(settings: Settings) -> None:
    if not open_location(settings.store, settings.s3).is_local:
        # MLflow's own S3 client takes no options, only the environment.
        os.environ.update(boto_environment(settings.s3))
