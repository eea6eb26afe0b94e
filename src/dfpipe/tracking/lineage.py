"""What trainings read, as MLflow knows it: the versions of the tables, and which videos they learned from."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.errors import ModelNotFoundError
from dfpipe.shards.schemas import SCHEMAS, Table
from dfpipe.tracking.artifacts import PREDICTIONS_FILE, SPLIT_FILE, artifact_copy, artifact_names
from dfpipe.tracking.connection import Tracking, tracking_errors
from dfpipe.tracking.registry import artifact_errors
from dfpipe.tracking.sheets import remove_sheets

__all__ = [
    "FORGOTTEN_TAG",
    "LEAKY_TAG",
    "READ_BY_TRAINING",
    "AffectedTraining",
    "find_trainings",
    "forgotten_by",
    "is_leaky",
    "mark_training",
    "remove_names",
    "versions_in_use",
    "versions_of",
    "versions_tags",
]

FORGOTTEN_TAG = "dfpipe.forgotten"
LEAKY_TAG = "dfpipe.leaky"
"""Of a training whose figures come out too good, as something of the test may be known from training: ``true``."""

READ_BY_TRAINING: tuple[Table, ...] = ("catalog", "videos", "features")
"""Tables that a training reads."""

VERSION_TAG = "dfpipe.version."
STORE_TAG = "dfpipe.store"
SIDES = ("train", "val", "test")
RUNS_PER_REQUEST = 1000


@dataclass(frozen=True, slots=True)
class AffectedTraining:
    """A training whose split names some of the videos that are asked for."""

    run_id: str
    """Its run."""
    videos: int
    """How many of them."""
    model_name: str | None
    """Registered model that it made; None where it broke off before."""
    model_version: str | None
    """Version of it."""


def versions_tags(versions: Mapping[Table, int]) -> dict[str, str]:
    """Return the versions of tables as a run's tags."""
    return {f"{VERSION_TAG}{table}": str(version) for table, version in versions.items()}


def versions_of(tracking: Tracking, run_id: str, *, store: str) -> dict[Table, int]:
    """Return the versions of the tables that a training read.

    Parameters
    ----------
    tracking
        Open connection.
    run_id
        The training's run, as `dfpipe run` and MLflow show it.
    store
        URL of the store in which the versions are looked for.

    Raises
    ------
    ModelNotFoundError
        No such run, or one that is no training of this store, or that recorded no versions.
    ServiceError
        MLflow cannot be reached.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    with tracking_errors("read a run from", tracking.uri):
        try:
            tags = tracking.client.get_run(run_id).data.tags
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            raise ModelNotFoundError(
                f"MLflow at {tracking.shown_uri} has no run {run_id!r}; expected the id of a training's run, which "
                "`dfpipe run` prints beside the model"
            ) from error
    versions = _versions(tags)
    if not versions.keys() >= set(READ_BY_TRAINING):
        raise ModelNotFoundError(
            f"run {run_id} recorded no versions of the tables: it is no training, or one of an earlier dfpipe; name "
            "another run, or leave out --at to train on what is there"
        )
    if tags.get(STORE_TAG) != store:
        raise ModelNotFoundError(
            f"run {run_id} read from {tags.get(STORE_TAG)}, and the settings' store is {store}; set store to the former"
        )
    return versions


def versions_in_use(tracking: Tracking) -> dict[Table, list[int]]:
    """Return the versions that trainings on record read, by table, rising; a vacuum should keep these readable.

    Trainings that failed or were deleted count no more.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    used: dict[Table, set[int]] = {}
    with tracking_errors("search", tracking.uri):
        for run in _runs(tracking, "attributes.status != 'FAILED'"):
            for table, version in _versions(run.data.tags).items():
                used.setdefault(table, set()).add(version)
    return {table: sorted(versions) for table, versions in used.items()}


def is_leaky(tracking: Tracking, run_id: str) -> bool:
    """Whether a training was judged on what it may have known; such a model is never champion nor challenger.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or has no such run.
    """
    with tracking_errors("read a run from", tracking.uri):
        return bool(tracking.client.get_run(run_id).data.tags.get(LEAKY_TAG) == "true")


def find_trainings(tracking: Tracking, is_meant: Callable[[str], bool]) -> list[AffectedTraining]:
    """Return the trainings that learned from, or were judged on, videos that are meant.

    Parameters
    ----------
    tracking
        Open connection.
    is_meant
        Says of a video_id whether it is.

    Raises
    ------
    ServiceError, StoreError
        MLflow or its artifacts cannot be read.
    """
    found = []
    with tracking_errors("search", tracking.uri):
        for run in _trainings(tracking):
            with artifact_copy(tracking, run.info.run_id, SPLIT_FILE) as file:
                split = json.loads(file.read_bytes()) if file is not None else {}
            # By random rows a video stands on several sides.
            videos = sum(map(is_meant, {video_id for side in SIDES for video_id in split.get(side, {})}))
            if videos:
                tags = run.data.tags
                name, version = (tags.get(f"dfpipe.model_{what}") for what in ("name", "version"))
                found.append(AffectedTraining(run.info.run_id, videos, name, version))
    return found


def mark_training(tracking: Tracking, training: AffectedTraining, *, receipt_id: str) -> None:
    """Say of a training and of its model, wherever they are shown, that what it learned from was forgotten since.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    client = tracking.client
    line = f"Trained on videos that were forgotten since (receipt {receipt_id}): retrain, then delete this version."
    with tracking_errors("mark a training in", tracking.uri):
        run = client.get_run(training.run_id)
        # One that somebody has deleted takes no tags; its model may be there still.
        if run.info.lifecycle_stage != "deleted":
            note = run.data.tags.get("mlflow.note.content", "")
            client.set_tag(training.run_id, "mlflow.note.content", _added(note, line))
            client.set_tag(training.run_id, FORGOTTEN_TAG, receipt_id)
        if training.model_name is None or training.model_version is None:
            return
        try:
            version = client.get_model_version(training.model_name, training.model_version)
            client.update_model_version(version.name, version.version, _added(version.description or "", line))
            client.set_model_version_tag(version.name, version.version, FORGOTTEN_TAG, receipt_id)
        except MlflowException as error:
            # Somebody has deleted the model already.
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise


def forgotten_by(tracking: Tracking, name: str, version: str) -> str | None:
    """Return the receipt by which videos were forgotten that a model was trained on; None where none were.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    with tracking_errors("read a model from", tracking.uri):
        mark: str | None = tracking.client.get_model_version(name, version).tags.get(FORGOTTEN_TAG)
    return mark


def remove_names(tracking: Tracking, is_meant: Callable[[str], bool]) -> int:
    """Take videos out of all that trainings left; return the number of files changed.

    Splits and predictions are rewritten, sheets that show one are taken away. The hash of the split stays on record as
    it was.

    Raises
    ------
    ServiceError, StoreError
        MLflow or its artifacts cannot be read or written.
    """
    changed = 0
    with tracking_errors("rewrite artifacts in", tracking.uri):
        for run in _runs(tracking, ""):
            run_id = run.info.run_id
            names = artifact_names(tracking, run_id)
            # Pictures first: only the list beside them tells whom they show.
            changed += remove_sheets(tracking, run_id, names, is_meant)
            for name, rewrite in ((SPLIT_FILE, _without_in_split), (PREDICTIONS_FILE, _without_in_predictions)):
                if name not in names:
                    continue
                with artifact_copy(tracking, run_id, name) as file:
                    if file is not None and rewrite(file, is_meant):
                        with artifact_errors("write", f"{name} of run {run_id}"):
                            tracking.client.log_artifact(run_id, str(file))
                        changed += 1
    return changed


def _without_in_split(file: Path, is_meant: Callable[[str], bool]) -> bool:
    split = json.loads(file.read_bytes())
    changed = False
    for side in (*SIDES, "left_out"):
        kept = {video_id: about for video_id, about in split.get(side, {}).items() if not is_meant(video_id)}
        gone = len(split.get(side, {})) - len(kept)
        if gone:
            split |= {side: kept, f"{side}_forgotten": split.get(f"{side}_forgotten", 0) + gone}
            changed = True
        for about in kept.values():
            alike = [video_id for video_id in about.get("looks_like", []) if not is_meant(video_id)]
            if len(alike) < len(about.get("looks_like", [])):
                about["looks_like"] = alike
                changed = True
    if changed:
        file.write_text(json.dumps(split, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return changed


def _without_in_predictions(file: Path, is_meant: Callable[[str], bool]) -> bool:
    rows = pq.read_table(file)
    kept = rows.filter(pa.array([not is_meant(video_id) for video_id in rows["video_id"].to_pylist()], pa.bool_()))
    changed = len(kept) < len(rows)
    if changed:
        pq.write_table(kept, file)
    return changed


def _trainings(tracking: Tracking) -> Iterator[Any]:
    return (run for run in _runs(tracking, "") if "dfpipe.fingerprint" in run.data.tags)


def _runs(tracking: Tracking, condition: str) -> Iterator[Any]:
    from mlflow.entities import ViewType  # noqa: PLC0415 - slow to import

    token: str | None = None
    # Whoever looks for names looks in what was deleted too: it can be restored.
    view = ViewType.ACTIVE_ONLY if condition else ViewType.ALL
    while True:
        page = tracking.client.search_runs(
            [tracking.experiment_id], condition, view, max_results=RUNS_PER_REQUEST, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _versions(tags: Mapping[str, str]) -> dict[Table, int]:
    known = ((table, tags.get(f"{VERSION_TAG}{table}")) for table in SCHEMAS)
    return {table: int(version) for table, version in known if version is not None}


def _added(text: str, line: str) -> str:
    return text if line in text else f"{text}\n\n{line}".strip()
