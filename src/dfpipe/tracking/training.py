"""A training as MLflow shows it: one parent run, a child run for every candidate, and the best model registered."""

import hashlib
import json
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from dfpipe.models.bundle import Preprocessing
from dfpipe.models.card import model_card
from dfpipe.models.data import TrainingData
from dfpipe.models.evaluate import Evaluation
from dfpipe.models.figures import folds_figure, grid_figure, pr_figure, roc_figure
from dfpipe.models.metrics import Interval
from dfpipe.models.search import CandidateResult, SearchResult
from dfpipe.models.split_record import split_record
from dfpipe.models.splits import Split
from dfpipe.settings import SplitSettings
from dfpipe.tracking.artifacts import SPLIT_FILE
from dfpipe.tracking.connection import Tracking, expect_answer, tracking_errors
from dfpipe.tracking.evaluation import write_evaluation, write_figure
from dfpipe.tracking.lineage import LEAKY_TAG, STORE_TAG, VERSION_TAG
from dfpipe.tracking.note import run_note
from dfpipe.tracking.reads import find_test_reads, test_sha256
from dfpipe.tracking.registry import artifact_errors, model_exists, register_model
from dfpipe.tracking.runs import end_broken_off, open_run

__all__ = ["SETTINGS_TAG", "TrainingRecord", "find_finished", "latest_settings", "record_training", "rows_sha256"]

SETTINGS_TAG = "dfpipe.training_settings"
"""Tag of a training with what it depends on beside its rows."""

FINGERPRINT_TAG = "dfpipe.fingerprint"
"""Tag of a training with everything that it depends on."""

METRICS_PER_REQUEST = 500
WITH_SPREAD = ("frame_accuracy", "frame_auc", "video_accuracy", "video_auc")
"""Figures whose standard deviation over the folds is recorded too; of all of them it would drown the table."""

CALIBRATED = ("log_loss", "brier", "ece")
"""Figures that calibration changes; recorded before it too."""


@dataclass(frozen=True, slots=True)
class TrainingRecord:
    """A training that is on record in MLflow, whole."""

    run_id: str
    """The parent run."""
    experiment_id: str
    """Its experiment."""
    candidate: str
    """Name of the candidate that won."""
    model_name: str
    """Registered model."""
    model_version: str
    """Its version."""
    metrics: Mapping[str, float]
    """Figures of the winner: ``test_video_auc``, ``test_frame_accuracy``, ``val_video_auc`` and so on."""
    url: str | None
    """Page of the run; None where MLflow runs without a server."""
    protocol: str = "identity"
    """How the videos were divided."""
    leaky: bool = False
    """Whether something of the test may be known from training; such a model is never champion nor challenger."""
    left_out: int = 0
    """Videos on no side of the division."""


def record_training(
    tracking: Tracking,
    *,
    data: TrainingData,
    split: Split,
    split_settings: SplitSettings,
    search: SearchResult,
    evaluations: Sequence[Evaluation],
    grouped: Sequence[Evaluation] = (),
    preprocessing: Preprocessing,
    fingerprint: str,
    tags: Mapping[str, str],
) -> TrainingRecord:
    """Record a search and its evaluation, and register the best model; which is the champion is not decided here.

    Whatever earlier tries to record the same training have left open is ended as FAILED first.

    Parameters
    ----------
    tracking
        Open connection.
    data
        All rows.
    split
        Which rows stand on which side.
    split_settings
        How they were divided.
    search
        Every candidate, failed ones included; each becomes a child run.
    evaluations
        Figures on the held-out videos, of the search's best candidate and of any others.
    grouped
        The same candidates divided by identity, beside those of a leaky split; their figures start with ``grouped_``.
    preprocessing
        How videos became rows; stored with the model.
    fingerprint
        Of everything that decides the outcome; `find_finished` looks for it.
    tags
        Further tags of the parent run.

    Returns
    -------
    TrainingRecord
        The parent run ends as FINISHED only when the model is registered.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses.
    StoreError
        Pictures or the model cannot be written.
    """
    winner = next(one for one in evaluations if one.candidate == search.best.candidate)
    expect_answer(tracking)
    with tracking_errors("end what broke off in", tracking.uri):
        end_broken_off(tracking, FINGERPRINT_TAG, fingerprint)
    with (
        tracking_errors("record the training in", tracking.uri),
        open_run(
            tracking,
            _run_name(winner, split, fingerprint),
            tags={
                **tags,
                FINGERPRINT_TAG: fingerprint,
                "dfpipe.candidate": winner.candidate.name,
                **_split_tags(split),
                **_face_tags(data),
            },
        ) as run_id,
        TemporaryDirectory(prefix="dfpipe-") as scratch,
    ):
        split_json = split_record(data, split, split_settings)
        split_sha256 = hashlib.sha256(split_json.encode()).hexdigest()
        rows_read = rows_sha256(data)
        inputs = _inputs(data, split, f"{rows_read}{split_sha256}", tags)
        tracking.client.log_inputs(run_id, inputs)
        evaluated = {evaluation.candidate: evaluation for evaluation in evaluations}
        beside = {one.candidate: _prefixed("grouped_", _test_metrics(one)) for one in grouped}
        for rank, result in enumerate(search.ranking, start=1):
            candidate = result.candidate
            _record_candidate(
                tracking,
                run_id,
                rank,
                result,
                evaluated.get(candidate),
                split,
                beside.get(candidate, {}),
                preprocessing,
                inputs,
            )
        held_out = test_sha256(data, split.test_rows)
        reads = find_test_reads(tracking, held_out)
        _log(
            tracking,
            run_id,
            params={
                **_data_params(data, split),
                **{f"split.{name}": value for name, value in split_settings.model_dump().items()},
                "candidates": len(search.ranking),
                "best": winner.candidate.name,
                "scoring": search.scoring,
            },
            tags={
                "dfpipe.split_sha256": split_sha256,
                "dfpipe.rows_sha256": rows_read,
                "dfpipe.test_sha256": held_out,
                "dfpipe.test_reads": str(len(reads)),
            },
        )
        metrics = {
            **_test_metrics(winner),
            **_ends(winner),
            **next((_prefixed("grouped_", _ends(one)) for one in grouped if one.candidate == winner.candidate), {}),
            **beside.get(winner.candidate, {}),
            **_prefixed("val_", search.best.mean),
        }
        metrics = dict(sorted(metrics.items(), key=_as_read))
        folder = Path(scratch, "run")
        write_evaluation(folder, winner, preprocessing)
        write_figure(folder / "roc.png", roc_figure(evaluations))
        write_figure(folder / "pr.png", pr_figure(evaluations))
        write_figure(folder / "grid.png", grid_figure(search))
        card = model_card(
            winner,
            data={**_data_params(data, split), "split": split_sha256, "rows": rows_read},
            test_reads=len(reads),
            trainings=len({read.fingerprint for read in reads}),
            leaky=split.leaky,
        )
        Path(folder, "model_card.md").write_text(card, encoding="utf-8")
        Path(folder, SPLIT_FILE).write_text(split_json, encoding="utf-8")
        _upload(tracking, run_id, folder)
        version = register_model(
            tracking,
            run_id=run_id,
            evaluation=winner,
            # An example of the shape: a row of the data would put somebody's face into the model.
            X=np.zeros_like(data.X[:1]),
            preprocessing=preprocessing,
            fingerprint=fingerprint,
            metrics=metrics,
            scratch=Path(scratch, "model"),
        )
        note = run_note(winner, search, split, metrics=metrics, flow_run_url=tags.get("prefect.flow_run_url"))
        model = {"dfpipe.model_name": version.name, "dfpipe.model_version": str(version.version)}
        _log(tracking, run_id, tags={**model, "mlflow.note.content": note})
    return _record(tracking, tracking.client.get_run(run_id))


def find_finished(tracking: Tracking, fingerprint: str) -> TrainingRecord | None:
    """Return the newest training with this fingerprint that ended well and whose model is registered as asked.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses.
    """
    with tracking_errors("search", tracking.uri):
        runs = tracking.client.search_runs(
            [tracking.experiment_id],
            f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}' AND attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
        )
        for run in runs:
            record = _record(tracking, run)
            named_so = record.model_name == tracking.settings.registered_model
            # A store that was emptied took the model's files with it; the database does not know.
            stands = named_so and tracking.client.list_artifacts(record.run_id)
            if stands and model_exists(tracking, record.model_name, record.model_version):
                return record
    return None


def latest_settings(tracking: Tracking) -> str | None:
    """Return the hash of settings (tag `SETTINGS_TAG`) of the newest training that ended well, empty where it has none.

    Returns
    -------
    str or None
        None where no training ended well.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses.
    """
    with tracking_errors("search", tracking.uri):
        runs = tracking.client.search_runs(
            [tracking.experiment_id],
            f"tags.`{FINGERPRINT_TAG}` LIKE '%' AND attributes.status = 'FINISHED'",
            order_by=["attributes.start_time DESC"],
            max_results=1,
        )
        return runs[0].data.tags.get(SETTINGS_TAG, "") if runs else None


def rows_sha256(data: TrainingData) -> str:
    """Hash the rows that a training reads: their values, labels, videos and groups of people, in their order."""
    hashed = hashlib.sha256(json.dumps([*data.video_ids, str(data.X.dtype), *data.X.shape]).encode())
    for array in (data.X, data.y, data.video, data.groups):
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def _record(tracking: Tracking, run: Any) -> TrainingRecord:
    tags = run.data.tags
    return TrainingRecord(
        run_id=run.info.run_id,
        experiment_id=run.info.experiment_id,
        candidate=tags["dfpipe.candidate"],
        model_name=tags["dfpipe.model_name"],
        model_version=tags["dfpipe.model_version"],
        metrics=dict(run.data.metrics),
        url=tracking.run_url(run.info.run_id),
        protocol=tags.get("dfpipe.split_protocol", "identity"),
        leaky=tags.get(LEAKY_TAG) == "true",
        left_out=int(tags.get("dfpipe.split_left_out", 0)),
    )


def _split_tags(split: Split) -> dict[str, str]:
    return {
        LEAKY_TAG: "true" if split.leaky else "false",
        "dfpipe.split_protocol": split.protocol,
        "dfpipe.split_left_out": str(len(split.left_out)),
    }


def _face_tags(data: TrainingData) -> dict[str, str]:
    """Return how many pairs of videos were joined by their faces; nothing where these were not compared."""
    return {} if data.face_joins is None else {"dfpipe.face_duplicates": str(len(data.face_joins.pairs))}


def _record_candidate(
    tracking: Tracking,
    parent_id: str,
    rank: int,
    result: CandidateResult,
    evaluation: Evaluation | None,
    split: Split,
    grouped: Mapping[str, float],
    preprocessing: Preprocessing,
    inputs: Sequence[Any],
) -> None:
    tags = {"mlflow.parentRunId": parent_id, "dfpipe.rank": str(rank), **_split_tags(split)}
    if result.error is not None:
        tags |= {"dfpipe.error": result.error[:5000]}
    candidate = result.candidate
    with open_run(
        tracking, candidate.name, tags=tags, seconds=result.seconds, failed=result.error is not None
    ) as run_id:
        means = {**_prefixed("val_", result.mean), "fit_seconds": result.seconds}
        spread = {f"val_{name}_std": result.std[name] for name in WITH_SPREAD if name in result.std}
        tested = _test_metrics(evaluation) if evaluation is not None else {}
        _log(
            tracking,
            run_id,
            params={
                "model": candidate.model,
                **dict(candidate.params),
                "seed": candidate.seed,
                "balance": candidate.balance,
                "round": result.round,
                "share": result.share,
            },
            metrics=[
                *_at_step(0, dict(sorted({**means, **spread, **tested, **grouped}.items(), key=_as_read))),
                *(entry for fold in result.folds for entry in _at_step(fold.fold, _prefixed("fold_", fold.metrics))),
            ],
        )
        tracking.client.log_inputs(run_id, inputs)
        with TemporaryDirectory(prefix="dfpipe-") as scratch:
            # MLflow's page that compares runs shows files that all have, and breaks where one has none.
            write_figure(Path(scratch, "folds.png"), folds_figure(result))
            if evaluation is not None:
                write_evaluation(Path(scratch), evaluation, preprocessing)
            _upload(tracking, run_id, Path(scratch))


def _log(
    tracking: Tracking,
    run_id: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Sequence[Any] = (),
    tags: Mapping[str, str] | None = None,
) -> None:
    from mlflow.entities import Param, RunTag  # noqa: PLC0415 - slow to import

    for start in range(0, max(len(metrics), 1), METRICS_PER_REQUEST):
        tracking.client.log_batch(run_id, metrics=metrics[start : start + METRICS_PER_REQUEST])
    tracking.client.log_batch(
        run_id,
        params=[Param(name, str(value)) for name, value in (params or {}).items()],
        tags=[RunTag(name, value) for name, value in (tags or {}).items()],
    )


def _at_step(step: int, metrics: Mapping[str, float]) -> Iterable[Any]:
    from mlflow.entities import Metric  # noqa: PLC0415 - slow to import

    now = int(time.time() * 1000)
    return [Metric(name, value, now, step) for name, value in metrics.items() if not math.isnan(value)]


def _prefixed(prefix: str, metrics: Mapping[str, float]) -> dict[str, float]:
    return {prefix + name: value for name, value in metrics.items()}


def _test_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Return the figures on the test side.

    MLflow's database takes no nan; what is not defined is not recorded.
    """
    named = {
        **evaluation.frame.named("test_frame_"),
        **evaluation.video.named("test_video_"),
        **{f"test_video_{name}_uncalibrated": getattr(evaluation.video_uncalibrated, name) for name in CALIBRATED},
        "test_video_threshold": evaluation.rule.threshold,
    }
    return {name: value for name, value in named.items() if not math.isnan(value)}


def _ends(evaluation: Evaluation) -> dict[str, float]:
    """Return the ends of the intervals of these figures; on every child run they would drown the table."""
    named = {
        f"test_{unit}_{name}_{end}": getattr(interval, end)
        for unit, intervals in (("frame", evaluation.frame_intervals), ("video", evaluation.video_intervals))
        for name, interval in intervals.items()
        for end in Interval._fields
    }
    return {name: value for name, value in named.items() if not math.isnan(value)}


def _as_read(metric: tuple[str, float]) -> tuple[bool, bool, bool]:
    """Sort figures as they are looked at: AUC by video, by video, by face; ends of intervals last.

    MLflow lists them in the order in which they came, and draws the first.
    """
    name, _ = metric
    return (name.endswith(("_low", "_high")) and "_auc_" not in name, "_video_" not in name, "_video_auc" not in name)


def _run_name(winner: Evaluation, split: Split, fingerprint: str) -> str:
    return f"train {winner.candidate.model} {fingerprint[:8]}{' (leaky)' if split.leaky else ''}"


def _data_params(data: TrainingData, split: Split) -> dict[str, str | int]:
    labels = data.video_labels
    params: dict[str, str | int] = {
        "features": "+".join(block.feature for block in data.columns),
        "columns": data.X.shape[1],
        "dtype": str(data.X.dtype),
    }
    for side, rows in (("train", split.train_rows), ("test", split.test_rows)):
        videos = np.unique(data.video[rows])
        params |= {
            f"{side}.real_videos": int((labels[videos] == 0).sum()),
            f"{side}.fake_videos": int((labels[videos] == 1).sum()),
            f"{side}.faces": len(rows),
            f"{side}.groups": len(np.unique(data.groups[videos])),
        }
    return params


def _inputs(data: TrainingData, split: Split, learnt_from: str, tags: Mapping[str, str]) -> list[Any]:
    """Return the sides of a split as MLflow's pages show what a run read."""
    from mlflow.entities import Dataset, DatasetInput, InputTag  # noqa: PLC0415 - slow to import

    read = {
        "uri": tags.get(STORE_TAG, ""),
        **{name: tags[name] for name in sorted(tags) if name.startswith(VERSION_TAG)},
    }
    inputs = []
    for side, context, rows in (("train", "training", split.train_rows), ("test", "testing", split.test_rows)):
        counts = {"num_rows": len(rows), "videos": len(np.unique(data.video[rows])), "columns": data.X.shape[1]}
        dataset = Dataset(
            name=side,
            # MLflow takes 36 characters.
            digest=hashlib.sha256(f"{learnt_from}{side}".encode()).hexdigest()[:32],
            source_type="delta",
            source=json.dumps(read),
            profile=json.dumps(counts),
        )
        inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    return inputs


def _upload(tracking: Tracking, run_id: str, folder: Path) -> None:
    with artifact_errors("write", f"artifacts of run {run_id}"):
        tracking.client.log_artifacts(run_id, str(folder))
