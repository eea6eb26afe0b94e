"""A training recorded in a real MLflow: a database, a server, an object store."""

import hashlib
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError
from urllib.parse import quote
from urllib.request import urlopen

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from dfpipe.errors import ModelNotFoundError, ServiceError, StoreError
from dfpipe.models import (
    KINDS,
    Candidate,
    ColumnBlock,
    FaceJoins,
    Preprocessing,
    Split,
    TrainingData,
    grouped_folds,
    predict_proba,
    refit_and_evaluate,
    rule_of,
    search,
    split_groups,
)
from dfpipe.settings import (
    BootstrapSettings,
    EvaluationSettings,
    ExtractSettings,
    MlflowSettings,
    PixelsSettings,
    S3Settings,
    SearchSettings,
    SplitSettings,
    TrainSettings,
)
from dfpipe.storage import boto_environment
from dfpipe.tracking import (
    SHEETS,
    Sheet,
    alias_version,
    find_finished,
    find_test_reads,
    find_trainings,
    forgotten_by,
    has_sheets,
    is_leaky,
    load_champion,
    mark_training,
    open_tracking,
    read_predictions,
    record_sheets,
    record_training,
    remove_names,
    test_sha256,
)
from dfpipe.training import evaluate_best

SERVER_SECONDS = 120
BROWSER_MS = 60_000
EVALUATION = EvaluationSettings(bootstrap=BootstrapSettings(samples=100), by=["compression"])
SPLIT = SplitSettings(folds=2, test_fraction=0.3, seed=0)
FOREST = Candidate("forest", (("max_depth", 3), ("n_estimators", 5)), 0)
BOOSTED = Candidate("xgboost", (("max_depth", 2), ("n_estimators", 5)), 0)
LIGHT = Candidate("lightgbm", (("min_child_samples", 3), ("n_estimators", 5)), 0)
LINEAR = Candidate("logistic", (("C", 0.1),), 0)
GAUSSIAN = Candidate("rbf_svm", (("C", 1.0),), 0)
BROKEN = Candidate("forest", (("max_features", "nonsense"),), 0)
READ = {"dfpipe.store": "/store", "dfpipe.version.features": "3"}
EVERYTHING = (FOREST, BOOSTED, BROKEN)


@dataclass
class Training:
    """A small training and the arguments by which it is recorded."""

    data: TrainingData
    arguments: dict[str, Any]

    @property
    def winner(self):
        best = self.arguments["search"].best.candidate
        return next(one for one in self.arguments["evaluations"] if one.candidate == best)

    def record(self, tracking, fingerprint="f" * 16):
        return record_training(tracking, **self.arguments, fingerprint=fingerprint, tags={"dfpipe.run": "r1"} | READ)


def make_training(grid=EVERYTHING, dtype=np.uint8, settings=None):
    rng = np.random.default_rng(0)
    videos, frames, columns = 20, 2, 48
    labels = (np.arange(videos) % 2).astype(np.int8)
    y = np.repeat(labels, frames)
    X = rng.integers(0, 120, (len(y), columns)).astype(dtype)
    X[:, :4] += (90 * y[:, None]).astype(dtype)
    data = TrainingData(
        X=X,
        y=y,
        video=np.repeat(np.arange(videos, dtype=np.int32), frames),
        video_ids=tuple(f"set/method/c23/{number:03d}" for number in range(videos)),
        groups=np.arange(videos, dtype=np.int32) // 2,
        columns=(ColumnBlock("pixels", 0, columns),),
    )
    train, test = split_groups(data.groups, labels, test_fraction=SPLIT.test_fraction, seed=SPLIT.seed)
    folds = grouped_folds(data.groups, labels, folds=SPLIT.folds, seed=SPLIT.seed, videos=train)
    split = Split(
        data.rows_of(train), data.rows_of(test), tuple((data.rows_of(one), data.rows_of(other)) for one, other in folds)
    )
    found = search(data, split.folds, grid, settings=settings)
    return Training(
        data,
        {
            "data": data,
            "split": split,
            "split_settings": SPLIT,
            "search": found,
            "evaluations": [
                refit_and_evaluate(
                    data,
                    split.train_rows,
                    split.test_rows,
                    one.candidate,
                    rule=rule_of(data, one, EVALUATION),
                    settings=EVALUATION,
                    attributes={"compression": ["c23", "c23", "c40", "c40"] * 5},
                )
                for one in found.best_per_model.values()
            ],
            "preprocessing": Preprocessing(
                extract=ExtractSettings(),
                features=(PixelsSettings(size_px=4),),
                columns=data.columns,
                dtype=np.dtype(dtype).name,
                weights_sha256="ab" * 32,
                faces_fingerprint="0123456789abcdef",
                feature_fingerprints=("f",),
                dfpipe_version="1.2.3",
            ),
        },
    )


@pytest.fixture(scope="module")
def training():
    return make_training(settings=SearchSettings(method="halving", factor=2))


@pytest.fixture
def state(empty_database, tmp_path):
    """A state folder with a database of its own."""
    return copy_database(empty_database, tmp_path / "state")


def copy_database(database, state):
    (state / "mlflow").mkdir(parents=True)
    shutil.copy(database, state / "mlflow/mlflow.db")
    return state


@pytest.fixture(scope="module")
def recorded(training, empty_database, tmp_path_factory):
    """The training in a database with a local artifact root: (tracking, record, root)."""
    folder = tmp_path_factory.mktemp("recorded")
    copy_database(empty_database, folder / "state")
    tracking = open_tracking(MlflowSettings(), state=folder / "state", artifact_root=str(folder / "store/mlflow"))
    return tracking, training.record(tracking), folder


def children_of(tracking, record):
    runs = tracking.client.search_runs([record.experiment_id], f"tags.`mlflow.parentRunId` = '{record.run_id}'")
    return {run.info.run_name: run for run in runs}


def test_the_parent_run_tells_the_whole_story(recorded, training):
    tracking, record, _ = recorded
    run = tracking.client.get_run(record.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["dfpipe.fingerprint"] == "f" * 16
    assert run.data.tags["dfpipe.run"] == "r1"
    assert run.data.params["best"] == training.winner.candidate.name == record.candidate
    assert run.data.params["test.real_videos"] == "3"
    assert run.data.params["split.test_fraction"] == "0.3"
    assert run.data.params["scoring"] == "video_auc"
    assert run.data.metrics["test_video_auc"] == training.winner.video.auc
    assert run.data.metrics["test_frame_accuracy"] == training.winner.frame.accuracy
    assert run.data.metrics["val_video_auc"] == training.arguments["search"].best.mean["video_auc"]
    assert dict(run.data.metrics) == record.metrics
    low, high = training.winner.video_intervals["auc"]
    assert (run.data.metrics["test_video_auc_low"], run.data.metrics["test_video_auc_high"]) == (low, high)
    note = run.data.tags["mlflow.note.content"]
    assert f"video AUC **{training.winner.video.auc:.3f} ({low:.3f} to {high:.3f})**" in note
    assert f"**{record.candidate}**, the best of 3 candidates by validation video_auc; 1 failed" in note
    assert "Leaky" not in note
    assert "Prefect" not in note
    assert run.info.run_name == f"train {training.winner.candidate.model} ffffffff"
    assert record.url is None


def test_every_candidate_is_a_child_and_a_failed_one_says_so(recorded, training):
    tracking, record, _ = recorded
    children = children_of(tracking, record)
    assert set(children) == {candidate.name for candidate in EVERYTHING}
    assert not [name for one in children.values() for name in one.data.metrics if name.endswith(("_low", "_high"))]
    failed = children[BROKEN.name]
    assert failed.info.status == "FAILED"
    assert "max_features" in failed.data.tags["dfpipe.error"]
    assert "val_video_auc" not in failed.data.metrics
    assert (failed.data.params["round"], failed.data.params["share"]) == ("0", "0.5")
    for candidate in (FOREST, BOOSTED):
        child = children[candidate.name]
        result = next(one for one in training.arguments["search"].ranking if one.candidate == candidate)
        assert child.info.status == "FINISHED"
        assert child.data.params["model"] == candidate.model
        assert child.data.params["max_depth"] == str(dict(candidate.params)["max_depth"])
        assert child.data.params["balance"] == "weights"
        assert (child.data.params["round"], child.data.params["share"]) == ("1", "1.0")
        assert child.data.metrics["val_video_auc"] == result.mean["video_auc"]
        assert child.data.metrics["val_video_auc_std"] == result.std["video_auc"]
        history = tracking.client.get_metric_history(child.info.run_id, "fold_video_auc")
        assert [entry.value for entry in sorted(history, key=lambda entry: entry.step)] == [
            fold.metrics["video_auc"] for fold in result.folds
        ]


def test_artifacts_are_in_the_store(recorded, training):
    tracking, record, folder = recorded
    artifacts = Path(tracking.client.get_run(record.run_id).info.artifact_uri)
    assert artifacts.is_relative_to(folder / "store/mlflow")
    assert {path.name for path in artifacts.iterdir()} == {
        "classification_report.txt",
        "confusion_matrix.png",
        "figures_by.parquet",
        "figures_by.png",
        "importance.png",
        "model_card.md",
        "pr.png",
        "predictions.parquet",
        "reliability.png",
        "roc.png",
        "scores.png",
        "split.json",
        "verdict_rule.json",
    }
    assert "f1-score" in (artifacts / "classification_report.txt").read_text()
    split = json.loads((artifacts / "split.json").read_text())
    assert len(split["train"]) == 14
    groups = [{video["group"] for video in split[side].values()} for side in ("train", "test")]
    assert not groups[0] & groups[1]
    assert {video["fold"] for video in split["train"].values()} == {0, 1}
    sha256 = hashlib.sha256((artifacts / "split.json").read_bytes()).hexdigest()
    assert tracking.client.get_run(record.run_id).data.tags["dfpipe.split_sha256"] == sha256
    rows = pq.read_table(artifacts / "predictions.parquet").to_pylist()
    assert {row["video_id"] for row in rows} == set(split["test"])
    assert rows[0]["score"] == training.winner.predictions[0].score
    assert [row["probability"] for row in rows] == training.winner.proba_video.tolist()
    assert [row["group"] for row in rows] == training.winner.groups_video.tolist()
    assert {row["threshold"] for row in rows} == {training.winner.rule.threshold}
    assert {row["compression"] for row in rows} == {"c23", "c40"}
    by = pq.read_table(artifacts / "figures_by.parquet").to_pylist()
    auc = {row["value"]: row for row in by if row["figure"] == "auc"}
    assert auc.keys() == {"", "c23", "c40"}
    assert auc[""]["estimate"] == training.winner.video.auc
    (c40,) = (part for part in training.winner.subsets if part.value == "c40")
    assert (auc["c40"]["low"], auc["c40"]["high"]) == c40.intervals["auc"]
    assert (auc["c40"]["real_videos"], auc["c40"]["fake_videos"]) == (c40.real_videos, c40.fake_videos)
    card = (artifacts / "model_card.md").read_text()
    assert split_hash(artifacts) in card
    assert not [video_id for video_id in training.data.video_ids if video_id in card]
    for name, child in children_of(tracking, record).items():
        # Where a run has no file at all, MLflow's page that compares runs breaks.
        assert Path(child.info.artifact_uri, "folds.png").is_file()
        evaluated = Path(child.info.artifact_uri, "confusion_matrix.png").is_file()
        assert evaluated == (name != BROKEN.name)


def test_a_leaky_training_is_marked(training, state, tmp_path):
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "mlflow"))
    data, honest = training.data, training.arguments["evaluations"]
    leaky = replace(training.arguments["split"], protocol="seed", left_out={3: "in no official list"})
    arguments = training.arguments | {"split": leaky, "grouped": honest}
    tags = {"prefect.flow_run_url": "http://prefect/run"}
    record = record_training(tracking, **arguments, fingerprint="1" * 16, tags=tags)
    assert (record.leaky, record.protocol, record.left_out) == (True, "seed", 1)
    assert record.metrics["grouped_test_video_auc"] == training.winner.video.auc
    assert find_finished(tracking, "1" * 16) == record
    assert record.metrics["grouped_test_video_auc_low"] == training.winner.video_intervals["auc"].low
    run = tracking.client.get_run(record.run_id)
    assert run.info.run_name.endswith(" (leaky)")
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("**Leaky: ")
    assert f"Divided by identity, video AUC: **{training.winner.video.auc:.3f} (" in note
    assert "[flow run in Prefect](http://prefect/run)" in note
    children = children_of(tracking, record)
    assert {one.data.tags["dfpipe.leaky"] for one in (run, *children.values())} == {"true"}
    for evaluation in honest:
        metrics = children[evaluation.candidate.name].data.metrics
        assert metrics["grouped_test_frame_accuracy"] == evaluation.frame.accuracy
    split = json.loads(Path(run.info.artifact_uri, "split.json").read_text())
    assert split["left_out"] == {data.video_ids[3]: {"group": 1, "reason": "in no official list"}}
    assert is_leaky(tracking, record.run_id)
    assert load_champion(tracking, name="dfpipe", alias_or_version=record.model_version).version == "1"

    second = training.record(tracking)
    assert (second.leaky, is_leaky(tracking, second.run_id)) == (False, False)
    assert {one.data.tags["dfpipe.leaky"] for one in children_of(tracking, second).values()} == {"false"}
    # Which one is the champion is for the gate to say.
    for alias in ("champion", "challenger"):
        assert alias_version(tracking, alias) is None


def test_who_is_left_out_of_a_split_can_be_forgotten_too(training, state, tmp_path):
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "mlflow"))
    split = replace(training.arguments["split"], protocol="seed", left_out={3: "in no official list"})
    record = record_training(tracking, **training.arguments | {"split": split}, fingerprint="1" * 16, tags={})
    remove_names(tracking, {training.data.video_ids[3]}.__contains__)
    text = Path(tracking.client.get_run(record.run_id).info.artifact_uri, "split.json").read_text()
    assert training.data.video_ids[3] not in text
    assert json.loads(text)["left_out_forgotten"] == 1


def test_a_training_that_was_deleted_stops_nobody_from_being_forgotten(training, state, tmp_path):
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "mlflow"))
    record = training.record(tracking)
    tracking.client.delete_run(record.run_id)
    is_meant = {training.data.video_ids[3]}.__contains__
    (found,) = find_trainings(tracking, is_meant)
    mark_training(tracking, found, receipt_id="r1")
    assert forgotten_by(tracking, record.model_name, record.model_version) == "r1"
    assert remove_names(tracking, is_meant)
    assert find_trainings(tracking, is_meant) == []


def sheets_of(**shown):
    return {f"{name}.png": Sheet(Figure(figsize=(1, 1)), video_ids) for name, video_ids in shown.items()}


def stored(tracking, run_id):
    folder = Path(tracking.client.get_run(run_id).info.artifact_uri)
    return {file.name for file in folder.iterdir()} & {*SHEETS, "sheets.json"}, folder / "sheets.json"


def test_sheets_take_the_place_of_earlier_ones_and_whom_they_show_is_on_record(recorded):
    tracking, record, _ = recorded
    run_id = record.run_id
    assert not has_sheets(tracking, run_id, drawn_by="a")
    record_sheets(tracking, run_id, sheets_of(examples_real=["r", "q", "r"], mistakes=["m"]), drawn_by="a")
    names, file = stored(tracking, run_id)
    assert names == {"examples_real.png", "mistakes.png", "sheets.json"}
    assert json.loads(file.read_text())["sheets"] == {"examples_real.png": ["q", "r"], "mistakes.png": ["m"]}
    assert [has_sheets(tracking, run_id, drawn_by=one) for one in "ab"] == [True, False]
    record_sheets(tracking, run_id, sheets_of(examples_fake=["f"]), drawn_by="b")
    assert stored(tracking, run_id)[0] == {"examples_fake.png", "sheets.json"}
    assert [has_sheets(tracking, run_id, drawn_by=one) for one in "ab"] == [False, True]
    # Broken off between the list and the pictures: the next run draws them.
    (file.parent / "examples_fake.png").unlink()
    assert not has_sheets(tracking, run_id, drawn_by="b")
    assert set(read_predictions(tracking, run_id).column_names) >= {"video_id", "probability", "threshold", "group"}


def test_no_picture_is_there_before_the_list_of_whom_it_shows(recorded, monkeypatch):
    tracking, record, _ = recorded
    upload, seen = tracking.client.log_artifacts, []
    spy = lambda run_id, folder: seen.append(stored(tracking, run_id)[0]) or upload(run_id, folder)  # noqa: E731
    monkeypatch.setattr(tracking.client, "log_artifacts", spy)
    for drawn_by in "cd":
        record_sheets(tracking, record.run_id, sheets_of(mistakes=["m"]), drawn_by=drawn_by)
    assert seen == [{"sheets.json"}, {"sheets.json"}]


@pytest.fixture
def shown(state, tmp_path):
    """A run with two sheets, one of them of somebody to forget: (tracking, run_id)."""
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "mlflow"))
    run_id = tracking.client.create_run(tracking.experiment_id).info.run_id
    record_sheets(tracking, run_id, sheets_of(examples_real=["r"], mistakes=["her", "m"]), drawn_by="a")
    return tracking, run_id


@pytest.mark.parametrize("deleted", [False, True])
def test_a_sheet_that_shows_somebody_forgotten_is_deleted_and_the_others_stay(shown, deleted):
    tracking, run_id = shown
    if deleted:
        tracking.client.delete_run(run_id)
    assert remove_names(tracking, {"nobody"}.__contains__) == 0
    assert remove_names(tracking, {"her"}.__contains__) == 2
    names, file = stored(tracking, run_id)
    assert names == {"examples_real.png", "sheets.json"}
    assert json.loads(file.read_text()) == {"drawn_by": "", "sheets": {"examples_real.png": ["r"]}}
    assert not has_sheets(tracking, run_id, drawn_by="a"), "the next run draws the missing one without her"
    assert remove_names(tracking, {"her"}.__contains__) == 0
    file.unlink()
    assert remove_names(tracking, {"nobody"}.__contains__) == 2, "nothing says whom it shows"
    assert stored(tracking, run_id)[0] == {"sheets.json"}


def test_a_sheet_that_cannot_be_deleted_is_an_error_and_keeps_her_name_for_the_next_time(shown, monkeypatch):
    """A bucket answers well, and says within the answer that it deleted nothing."""
    tracking, _ = shown
    with monkeypatch.context() as refusing:
        refusing.setattr(LocalArtifactRepository, "delete_artifacts", lambda *_: None)
        with pytest.raises(StoreError, match=r"cannot delete mistakes\.png of run"):
            remove_names(tracking, {"her"}.__contains__)
    assert remove_names(tracking, {"her"}.__contains__) == 2


def test_who_looks_like_somebody_can_be_forgotten_too(training, state, tmp_path):
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "mlflow"))
    joins = FaceJoins(np.array([[0, 3], [2, 3]], np.int32), training.data.groups)
    data = replace(training.data, face_joins=joins)
    record = record_training(tracking, **training.arguments | {"data": data}, fingerprint="1" * 16, tags={})
    run = tracking.client.get_run(record.run_id)
    assert run.data.tags["dfpipe.face_duplicates"] == "2"
    file = Path(run.info.artifact_uri, "split.json")
    names = data.video_ids
    assert file.read_text().count(f'"{names[3]}"') == 3
    remove_names(tracking, {names[3]}.__contains__)
    assert names[3] not in file.read_text()
    assert "looks_like" in file.read_text()


def split_hash(artifacts):
    return hashlib.sha256((artifacts / "split.json").read_bytes()).hexdigest()


def test_what_was_read_stands_as_the_inputs_of_every_run(recorded, training):
    tracking, record, *_ = recorded
    data, split = (training.arguments[name] for name in ("data", "split"))
    digests = []
    for run in (tracking.client.get_run(record.run_id), *children_of(tracking, record).values()):
        inputs = {one.dataset.name: one for one in run.inputs.dataset_inputs}
        assert {name: one.tags[0].value for name, one in inputs.items()} == {"train": "training", "test": "testing"}
        for name, rows in (("train", split.train_rows), ("test", split.test_rows)):
            profile = json.loads(inputs[name].dataset.profile)
            videos = len(np.unique(data.video[rows]))
            assert profile == {"num_rows": len(rows), "videos": videos, "columns": data.X.shape[1]}
            source = json.loads(inputs[name].dataset.source)
            assert source == {"uri": "/store", "dfpipe.version.features": "3"}
        digests.append([one.dataset.digest for one in inputs.values()])
    assert all(one == digests[0] for one in digests)
    assert len(set(digests[0])) == 2


def test_every_figure_stands_with_its_interval(recorded, training):
    metrics = recorded[0].client.get_run(recorded[1].run_id).data.metrics
    winner = training.winner
    for unit, scores, intervals in (
        ("frame", winner.frame, winner.frame_intervals),
        ("video", winner.video, winner.video_intervals),
    ):
        for name, value in scores.named("").items():
            assert metrics[f"test_{unit}_{name}"] == value
            ends = metrics[f"test_{unit}_{name}_low"], metrics[f"test_{unit}_{name}_high"]
            assert ends == intervals[name]
    assert metrics["test_video_threshold"] == winner.rule.threshold
    assert metrics["test_video_brier_uncalibrated"] == winner.video_uncalibrated.brier


def test_the_page_about_metrics_tells_every_name_and_no_other(recorded):
    """What comes before a figure, the figure and what comes behind it stand in first columns of its tables."""
    tracking, record, _ = recorded
    runs = [tracking.client.get_run(record.run_id), *children_of(tracking, record).values()]
    names = {name for run in runs for name in run.data.metrics}
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8").partition("## Intervals")[0]
    told = {word for row in re.findall(r"^\| (`.+?) \|", page, re.MULTILINE) for word in re.findall(r"`(\w+)`", row)}
    told |= {first + label for first in ("precision_", "recall_", "f1_") for label in ("real", "fake")}
    used = {"precision_", "recall_", "f1_", "real", "fake", "grouped_test_"}
    for name in names:
        parts = re.fullmatch(r"(test_|val_|fold_)(?:frame_|video_)(.+?)(_low|_high|_std|_uncalibrated)?", name)
        words = {part for part in parts.groups() if part} if parts else {name}
        assert words <= told, name
        used |= words
    assert used == told


def test_every_reading_of_the_test_is_on_record_before_it_happens(training, state, tmp_path, monkeypatch):
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "store"))
    data, split, found = (training.arguments[name] for name in ("data", "split", "search"))
    videos = [SimpleNamespace(compression="c23")] * len(data.video_ids)
    held_out = test_sha256(data, split.test_rows)
    seen = []

    def scored(*args, **options):
        seen.append([read.candidate for read in find_test_reads(tracking, held_out)])
        return refit_and_evaluate(*args, **options)

    monkeypatch.setattr("dfpipe.training.refit_and_evaluate", scored)
    settings = TrainSettings(evaluation=EVALUATION)
    for fingerprint in ("a" * 16, "b" * 16):
        evaluations = evaluate_best(tracking, videos, data, split, found, settings, fingerprint=fingerprint)
        assert [one.rule for one in evaluations] == [
            rule_of(data, one, EVALUATION) for one in found.best_per_model.values()
        ]
    # Each candidate that validation chose, once a training, and each before it was shown a video.
    names = [one.candidate.name for one in evaluations]
    assert seen == [(names * 2)[: number + 1] for number in range(4)]
    reads = find_test_reads(tracking, held_out)
    assert [read.fingerprint for read in reads] == ["a" * 16] * 2 + ["b" * 16] * 2
    assert find_test_reads(tracking, test_sha256(data, split.train_rows)) == []

    record = training.record(tracking)
    tags = tracking.client.get_run(record.run_id).data.tags
    assert (tags["dfpipe.test_sha256"], tags["dfpipe.test_reads"]) == (held_out, "4")
    card = Path(tracking.client.get_run(record.run_id).info.artifact_uri, "model_card.md").read_text()
    assert "| times these videos were scored | 4, by 2 trainings |" in card
    # What was read was read, whatever becomes of the runs.
    tracking.client.delete_run(record.run_id)
    assert find_test_reads(tracking, held_out) == reads


def test_no_test_is_read_that_cannot_be_put_on_record(training, monkeypatch):
    def fail(*_args, **_options):
        raise ServiceError("no server answers")

    monkeypatch.setattr("dfpipe.training.note_test_read", fail)
    monkeypatch.setattr("dfpipe.training.refit_and_evaluate", lambda *_, **__: pytest.fail("the test was read"))
    videos = [SimpleNamespace(compression="c23")] * len(training.data.video_ids)
    arguments = [training.arguments[name] for name in ("data", "split", "search")]
    with pytest.raises(ServiceError):
        evaluate_best(None, videos, *arguments, TrainSettings(evaluation=EVALUATION), fingerprint="f")


def test_the_hash_of_a_test_side_is_of_its_videos_alone(training):
    data, rows = training.data, training.arguments["split"].test_rows
    assert test_sha256(data, rows) == test_sha256(replace(data, X=data.X // 2), rows[::-1])
    assert test_sha256(data, rows) != test_sha256(data, rows[2:])


def test_a_finished_training_is_found_again(recorded):
    tracking, record, folder = recorded
    assert find_finished(tracking, "f" * 16) == record
    assert find_finished(tracking, "0" * 16) is None
    again = open_tracking(MlflowSettings(), state=folder / "state", artifact_root=str(folder / "store/mlflow"))
    assert find_finished(again, "f" * 16) == record


def test_the_model_comes_back_with_its_preprocessing(recorded, training):
    tracking, record, _ = recorded
    tracking.client.set_registered_model_alias("dfpipe", "chosen", record.model_version)
    for alias_or_version in ("chosen", record.model_version):
        bundle = load_champion(tracking, name="dfpipe", alias_or_version=alias_or_version)
        assert bundle.version == record.model_version
        assert bundle.preprocessing == training.arguments["preprocessing"]
        assert bundle.rule == training.winner.rule
        assert bundle.rule.calibration.name == "sigmoid"
        expected = training.winner.model.predict_proba(training.data.X)[:, 1]
        assert np.array_equal(predict_proba(bundle, training.data.X), expected)


@pytest.mark.parametrize("name", ["dfpipe", "other"])
def test_a_model_that_is_not_there_is_not_found(recorded, name):
    for alias_or_version in ("nobody", "99"):
        with pytest.raises(
            ModelNotFoundError, match=rf"'{name}' has no version or alias '{alias_or_version}'.*dfpipe run"
        ):
            load_champion(recorded[0], name=name, alias_or_version=alias_or_version)


def test_a_model_that_somebody_else_registered_is_not_trusted(recorded):
    tracking, record, _ = recorded
    source = tracking.client.get_model_version("dfpipe", record.model_version).source
    tracking.client.create_registered_model("foreign")
    tracking.client.create_model_version("foreign", source, await_creation_for=None)
    with pytest.raises(ModelNotFoundError, match="carries no hash"):
        load_champion(tracking, name="foreign", alias_or_version="1")


@pytest.mark.filterwarnings("ignore")  # MLflow's own, as its user would see them
@pytest.mark.parametrize("kind", [FOREST, BOOSTED, LIGHT, LINEAR, GAUSSIAN], ids=lambda kind: kind.model)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_anyone_can_load_the_model_and_nobody_can_change_it(state, tmp_path, kind, dtype):
    small = make_training((kind,), dtype)
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "store"))
    record = small.record(tracking)
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking.uri)
    try:
        flavour = {"xgboost": mlflow.xgboost, "lightgbm": mlflow.lightgbm}.get(kind.model, mlflow.sklearn)
        loaded = flavour.load_model("models:/dfpipe/1")
        expected = small.winner.model.predict_proba(small.data.X)
        generic = mlflow.pyfunc.load_model("models:/dfpipe/1")
        assert generic.metadata.signature.inputs.inputs[0].shape == (-1, 48)
        assert generic.metadata.signature.inputs.inputs[0].type == dtype
        if kind is LIGHT:
            # The text holds LightGBM's booster, which says probabilities and no classes.
            assert np.array_equal(loaded.predict(small.data.X), expected[:, 1])
            assert np.array_equal(generic.predict(small.data.X), expected[:, 1])
        else:
            assert type(loaded) is type(small.winner.model)
            assert np.array_equal(loaded.predict_proba(small.data.X), expected)
            assert np.array_equal(generic.predict(small.data.X), small.winner.model.predict(small.data.X))
    finally:
        mlflow.set_tracking_uri(before)

    folder = Path(tracking.client.get_model_version("dfpipe", record.model_version).source)
    model = folder / KINDS[kind.model].file
    for file in (model, folder / "extra_files/preprocessing.json", folder / "extra_files/verdict_rule.json"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
        with pytest.raises(StoreError, match=rf"{file.name} of version 1 .* was changed since"):
            load_champion(tracking, name="dfpipe", alias_or_version="1")
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    load_champion(tracking, name="dfpipe", alias_or_version="1")
    model.unlink()
    with pytest.raises(StoreError, match=f"{model.name}"):
        load_champion(tracking, name="dfpipe", alias_or_version="1")


def test_a_training_whose_model_is_gone_or_that_broke_off_is_not_finished(training, state, tmp_path, monkeypatch):
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "store"))
    first = training.record(tracking)
    second = training.record(tracking)
    assert (first.model_version, second.model_version) == ("1", "2")
    assert find_finished(tracking, "f" * 16) == second
    tracking.client.delete_model_version("dfpipe", "2")
    assert find_finished(tracking, "f" * 16) == first
    tracking.client.delete_registered_model("dfpipe")
    assert find_finished(tracking, "f" * 16) is None

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlflow.MlflowClient.log_model_artifacts", full)
    with pytest.raises(StoreError, match="no space left"):
        training.record(tracking, "b" * 16)
    assert find_finished(tracking, "b" * 16) is None
    (run,) = tracking.client.search_runs([tracking.experiment_id], f"tags.`dfpipe.fingerprint` = '{'b' * 16}'")
    assert run.info.status == "FAILED"


def runs_of(tracking, fingerprint):
    """Status of every try to record a training, with those of its children, oldest first."""
    tries = tracking.client.search_runs(
        [tracking.experiment_id], f"tags.`dfpipe.fingerprint` = '{fingerprint}'", order_by=["attributes.start_time ASC"]
    )
    children = [
        tracking.client.search_runs([tracking.experiment_id], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
        for run in tries
    ]
    return [
        (run.info.status, sorted(one.info.status for one in of_run))
        for run, of_run in zip(tries, children, strict=True)
    ]


def test_a_try_that_was_killed_is_ended_by_the_next(training, state, tmp_path, monkeypatch):
    """The database refuses in a child run, and its end cannot be told either; other trainings are left alone."""
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "store"))
    other = tracking.client.create_run(tracking.experiment_id, tags={"dfpipe.fingerprint": "c" * 16})
    calls = []

    def locked(*_args, **_options):
        calls.append(1)
        raise MlflowException("database is locked")

    with monkeypatch.context() as broken:
        broken.setattr("mlflow.MlflowClient.log_artifacts", locked)
        broken.setattr("mlflow.MlflowClient.set_terminated", lambda *_, **__: locked())
        with pytest.raises(ServiceError, match=r"cannot record the training in MLflow.*database is locked"):
            training.record(tracking)
    assert len(calls) == 3, "the upload, the child's end, the parent's end"
    assert runs_of(tracking, "f" * 16) == [("RUNNING", ["RUNNING"])]
    assert find_finished(tracking, "f" * 16) is None
    record = training.record(tracking)
    assert find_finished(tracking, "f" * 16) == record
    whole = ("FINISHED", ["FAILED", "FINISHED", "FINISHED"])
    assert runs_of(tracking, "f" * 16) == [("FAILED", ["FAILED"]), whole]
    training.record(tracking)
    assert runs_of(tracking, "f" * 16) == [("FAILED", ["FAILED"]), whole, whole], "what stands is left alone"
    assert tracking.client.get_run(other.info.run_id).info.status == "RUNNING"


def test_nothing_is_printed_or_left_in_the_working_folder(training, state, tmp_path, monkeypatch, capfd, caplog):
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    with caplog.at_level(logging.INFO):
        tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / "store"))
        training.record(tracking)
        load_champion(tracking, name="dfpipe", alias_or_version="1")
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert [record.getMessage() for record in caplog.records] == []
    assert list(Path().iterdir()) == []


def test_another_store_gets_another_experiment(state, tmp_path):
    opened = [
        open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path / root))
        for root in ("one", "two", "one", "two")
    ]
    ids = [tracking.experiment_id for tracking in opened]
    assert ids[0] != ids[1]
    assert ids[:2] == ids[2:]
    second = opened[1].client.get_experiment(ids[1])
    assert second.name == f"dfpipe ({tmp_path / 'two'})"
    assert second.artifact_location == str(tmp_path / "two")


def test_a_deleted_experiment_is_one_line(state, tmp_path):
    tracking = open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path))
    tracking.client.delete_experiment(tracking.experiment_id)
    with pytest.raises(ServiceError, match=r"'dfpipe' is deleted; restore it, or set mlflow\.experiment"):
        open_tracking(MlflowSettings(), state=state, artifact_root=str(tmp_path))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Address of a real MLflow server on a free port."""
    tmp_path = tmp_path_factory.mktemp("server")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{tmp_path}/server.db", "--default-artifact-root", str(tmp_path)]
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, cwd=tmp_path, env=environment, start_new_session=True
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_healthy(url, process, tmp_path / "server.log")
            yield url
        finally:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)


def wait_until_healthy(url, process, log):
    deadline = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            with urlopen(f"{url}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(f"no server after {SERVER_SECONDS} s: {log.read_text()}")


@pytest.mark.slow
@pytest.mark.services
def test_a_server_serves_as_well_as_a_database(training, server, tmp_path, capfd):
    settings = MlflowSettings(tracking_uri=server)
    tracking = open_tracking(settings, state=tmp_path, artifact_root=str(tmp_path / "store/mlflow"))
    capfd.readouterr()
    record = training.record(tracking)
    assert capfd.readouterr() == ("", "")
    assert record.url == f"{server}/#/experiments/{record.experiment_id}/runs/{record.run_id}"
    assert find_finished(tracking, "f" * 16) == record
    assert len(children_of(tracking, record)) == 3
    bundle = load_champion(tracking, name="dfpipe", alias_or_version="1")
    expected = training.winner.model.predict_proba(training.data.X)[:, 1]
    assert np.array_equal(predict_proba(bundle, training.data.X), expected)
    assert any((tmp_path / "store/mlflow/models").rglob("preprocessing.json"))
    with pytest.raises(ModelNotFoundError):
        load_champion(tracking, name="dfpipe", alias_or_version="nobody")


@pytest.mark.slow
@pytest.mark.services
def test_the_comparison_page_shows_every_child_its_figures_and_a_picture(training, server, tmp_path, chromium):
    tracking = open_tracking(MlflowSettings(tracking_uri=server), state=tmp_path, artifact_root=str(tmp_path / "store"))
    record = training.record(tracking, "c" * 16)
    children = children_of(tracking, record)
    runs, experiments = (
        quote(json.dumps(ids)) for ids in ([one.info.run_id for one in children.values()], [record.experiment_id])
    )
    # High enough for all parts of the page, as it makes only those that are in sight.
    page = chromium.new_page(viewport={"width": 1600, "height": 2400})
    page.set_default_timeout(BROWSER_MS)
    page.goto(f"{server}/#/compare-runs?runs={runs}&experiments={experiments}")
    page.get_by_text(f"Comparing {len(EVERYTHING)} Runs from 1 Experiment").wait_for()
    for candidate in EVERYTHING:
        page.get_by_role("row").filter(has_text="Run Name:").get_by_text(candidate.name, exact=True).wait_for()
    page.get_by_text("fold_frame_auc", exact=True).wait_for()
    for candidate in (FOREST, BOOSTED):
        value = children[candidate.name].data.metrics["fold_frame_auc"]
        # MLflow shows three decimals, and no zeros at their end.
        page.get_by_text(f"{value:.3f}".rstrip("0").rstrip("."), exact=True).first.wait_for()
    # The one file that every child has; where one has none, this part of the page breaks.
    page.get_by_text("folds.png", exact=True).dispatch_event("click")
    drawn = """count => new Set(
        [...document.images].filter(picture => picture.naturalWidth > 300).map(picture => picture.src)
    ).size == count"""
    page.wait_for_function(drawn, arg=len(EVERYTHING))

    page.goto(record.url)
    page.get_by_text("the best of 3 candidates by validation video_auc; 1 failed").wait_for()
    page.goto(f"{record.url}/artifacts")
    page.get_by_text("roc.png", exact=True).dispatch_event("click")
    page.wait_for_function(drawn, arg=1)


@pytest.mark.services
def test_artifacts_can_lie_in_a_bucket(training, state, tmp_path, monkeypatch):
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    try:
        host, port = moto.get_host_and_port()
        s3 = S3Settings(endpoint_url=f"http://{host}:{port}", access_key_id="key", secret_access_key="secret")
        for name, value in boto_environment(s3).items():
            monkeypatch.setenv(name, value)
        boto3.client("s3", endpoint_url=s3.endpoint_url).create_bucket(Bucket="trainings")
        tracking = open_tracking(MlflowSettings(), state=state, artifact_root="s3://trainings/store/mlflow")
        record = training.record(tracking)
        assert find_finished(tracking, "f" * 16) == record
        bundle = load_champion(tracking, name="dfpipe", alias_or_version="1")
        assert bundle.preprocessing == training.arguments["preprocessing"]
        assert not (tmp_path / "store").exists()
        gone = open_tracking(MlflowSettings(), state=state, artifact_root="s3://missing/mlflow")
        with pytest.raises(StoreError, match="there is no such bucket"):
            training.record(gone)
    finally:
        moto.stop()
