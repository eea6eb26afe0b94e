"""From a folder of videos to a registered model, and again for only what changed."""

import json
import math
import shutil

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.services]

QUICK = [
    "--set=videos_per_shard=5",
    "--set=extract.sampling.every_frames=10",
    "--set=extract.sampling.max_frames=2",
    "--set=train.features=[{name: pixels, size_px: 12}, {name: residual, grid: 4}]",
    "--set=train.split.folds=2",
    "--set=train.forest.n_estimators=[20]",
    "--set=train.xgboost.n_estimators=[10]",
    "--set=train.xgboost.max_depth=[3]",
    # Enough people held out for the gate to judge by, and no more asked of a model that learned from so few.
    "--set=train.split.test_fraction=0.4",
    "--set=gate.min_auc_lower_bound=0",
    "--set=train.evaluation.by=[manipulation, skin_tone]",
    "--set=source=videos",
    "--set=store=store",
]
"""Settings under which everything runs, quickly."""


@pytest.fixture(scope="module")
def dfpipe(command_line, tmp_path_factory):
    """A folder with 12 made people, and the command line in it. The tests below follow one another."""
    from dfpipe.synth import write_dataset

    folder = tmp_path_factory.mktemp("pipeline")
    write_dataset(folder / "videos", num_identities=12, num_frames=(24, 30), heights=(360,), seed=3, jobs=2)
    return command_line(folder)


def read(dfpipe, table, columns):
    from deltalake import DeltaTable

    return DeltaTable(dfpipe.folder / "store" / "tables" / table).to_pyarrow_table(columns=columns).to_pylist()


@pytest.fixture(scope="module")
def first_run(dfpipe):
    planned = dfpipe("plan", "--json", *QUICK).json
    return planned, dfpipe("run", "--json", *QUICK).json


def test_plan_says_what_the_run_then_does(first_run):
    planned, ran = first_run
    assert {stage["stage"]: (stage["todo"], stage["kept"]) for stage in planned} == {
        "catalog": (24, 0),
        "faces": (24, 0),
        # Two sets of every video.
        "features": (48, 0),
        "train": (1, 0),
    }
    assert planned[1]["reasons"] == {"new": 24}
    assert (ran["videos"], ran["extracted"], ran["kept"], ran["trained"]) == (24, 24, 0, True)


def test_every_video_is_in_the_ledger_once(first_run, dfpipe):
    counts = ["frames_wanted", "frames_decoded", "frames_with_face", "faces_found", "faces_kept"]
    ledger = read(dfpipe, "videos", ["video_id", "status", *counts])
    assert len({row["video_id"] for row in ledger}) == len(ledger) == 24
    for row in ledger:
        assert row["frames_wanted"] == row["frames_decoded"] == 2
        assert row["status"] == ("ok" if row["faces_kept"] else "no_face")
    faces = read(dfpipe, "faces", ["video_id", "frame_index"])
    assert len(faces) == sum(row["faces_kept"] for row in ledger) == first_run[1]["faces"]
    assert len(read(dfpipe, "detections", ["video_id"])) == sum(row["faces_found"] for row in ledger)
    assert len(read(dfpipe, "frames", ["video_id"])) == 48
    assert len(read(dfpipe, "features", ["video_id"])) == 2 * len(faces)


def test_models_stand_in_mlflow(first_run, dfpipe):
    from mlflow import MlflowClient
    from mlflow.sklearn import load_model as load_forest
    from mlflow.xgboost import load_model as load_xgboost

    record = first_run[1]["training"]
    uri = f"sqlite:///{dfpipe.folder}/.dfpipe/mlflow/mlflow.db"
    client = MlflowClient(uri)
    runs = client.search_runs([record["experiment_id"]])
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == record["run_id"]]
    assert len(children) == 2
    assert len(runs) == 3
    assert {run.info.status for run in runs} == {"FINISHED"}
    version = client.get_model_version_by_alias("dfpipe", "champion")
    assert str(version.version) == record["model_version"]
    import mlflow

    mlflow.set_tracking_uri(uri)
    load = load_forest if record["candidate"].startswith("forest") else load_xgboost
    assert load("models:/dfpipe@champion").n_features_in_ > 0


def test_held_out_people_never_appear_in_training(first_run, dfpipe):
    import mlflow

    uri = f"sqlite:///{dfpipe.folder}/.dfpipe/mlflow/mlflow.db"
    mlflow.set_tracking_uri(uri)
    split = mlflow.artifacts.load_dict(f"runs:/{first_run[1]['training']['run_id']}/split.json")
    people = {
        row["video_id"]: {row["target"], row["source"]} - {None}
        for row in read(dfpipe, "catalog", ["video_id", "target", "source"])
    }
    sides = [set().union(*(people[video] for video in split[side])) for side in ("train", "test")]
    assert sides[0]
    assert sides[1]
    assert not sides[0] & sides[1]


def test_figures_stand_by_skin_tone_with_their_intervals(first_run, dfpipe):
    import mlflow
    import pyarrow.parquet as pq

    mlflow.set_tracking_uri(f"sqlite:///{dfpipe.folder}/.dfpipe/mlflow/mlflow.db")
    run = f"runs:/{first_run[1]['training']['run_id']}"
    figures = pq.read_table(mlflow.artifacts.download_artifacts(f"{run}/figures_by.parquet")).to_pylist()
    predictions = pq.read_table(mlflow.artifacts.download_artifacts(f"{run}/predictions.parquet")).to_pylist()
    tones = {row["video_id"]: json.loads(row["attributes"]) for row in read(dfpipe, "catalog", None)}
    assert {row["video_id"]: {"skin_tone": row["skin_tone"]} for row in predictions}.items() <= tones.items()
    held_out = {row["skin_tone"] for row in predictions}
    assert len(held_out) > 1
    accuracy = [row for row in figures if (row["column"], row["figure"]) == ("skin_tone", "accuracy")]
    assert {row["value"] for row in accuracy} == held_out
    for row in accuracy:
        own = [one for one in predictions if one["skin_tone"] == row["value"]]
        right = [(one["probability"] >= one["threshold"]) == (one["label"] == "fake") for one in own]
        assert row["estimate"] == pytest.approx(sum(right) / len(right))
        assert row["real_videos"] + row["fake_videos"] == len(own)
        # As of every part of the videos: a single group has no interval.
        assert math.isnan(row["low"]) == (len({one["group"] for one in own}) == 1)


def test_an_attribute_that_changes_extracts_nothing(first_run, dfpipe):
    file = dfpipe.folder / "videos" / "attributes.csv"
    before = file.read_text()
    first, second, *others = before.splitlines(keepends=True)
    file.write_text(first + second.replace(second.rpartition(",")[2], "green\n") + "".join(others))
    try:
        stages = {one["stage"]: one["reasons"] for one in dfpipe("plan", "--json", *QUICK).json}
    finally:
        file.write_text(before)
    assert stages == {
        "catalog": {"attributes changed": 1},
        "faces": {},
        "features": {},
        "train": {"rows changed": 1},
    }


def test_a_second_run_redoes_nothing(first_run, dfpipe):
    again = dfpipe("run", "--json", *QUICK).json
    assert (again["extracted"], again["feature_rows"], again["trained"]) == (0, 0, False)
    assert again["training"]["run_id"] == first_run[1]["training"]["run_id"]
    assert all(stage["todo"] == 0 for stage in dfpipe("plan", "--json", *QUICK).json)
    assert "nothing had to be redone" in dfpipe("run", *QUICK).out


def test_other_training_settings_redo_the_training_only(first_run, dfpipe):
    other = dfpipe("run", "--json", *QUICK, "--set=train.seed=7").json
    assert (other["extracted"], other["feature_rows"], other["trained"]) == (0, 0, True)


def test_going_back_to_earlier_settings_moves_no_alias(first_run, dfpipe):
    """Each model was judged once, after its training; from then on it is for people to promote it or not."""
    decided = dfpipe("models", "history", "--json", *QUICK).json
    assert [one["action"] for one in decided] == ["train", "train"]
    again = dfpipe("run", "--json", *QUICK).json
    assert again["trained"] is False
    assert dfpipe("models", "history", "--json", *QUICK).json == decided
    video = str(min((dfpipe.folder / "videos").rglob("*.mp4")))
    (verdict,) = dfpipe("predict", "--json", video, *QUICK).json
    assert verdict["model"] == f"dfpipe version {decided[-1]['champion_after']}"


def test_another_name_for_the_model_is_another_model(first_run, dfpipe):
    other = [*QUICK, "--set=mlflow.registered_model=other"]
    assert dfpipe("run", "--json", *other).json["trained"] is True
    video = str(min((dfpipe.folder / "videos").rglob("*.mp4")))
    (verdict,) = dfpipe("predict", "--json", video, *other).json
    assert verdict["model"] == "other version 1"


def test_verdicts(first_run, dfpipe):
    video = min((dfpipe.folder / "videos").rglob("*.mp4"))
    (dfpipe.folder / "notes.txt").write_text("not a video")
    good, bad = dfpipe("predict", "--json", str(video), "notes.txt", *QUICK).json
    assert good["verdict"] in ("real", "fake")
    assert 0 <= good["score"] <= 1
    assert len(good["frame_scores"]) == good["faces"] > 0
    assert (bad["verdict"], bad["status"], bad["score"]) == ("unknown", "unsupported", None)


def test_only_what_changed_is_redone(first_run, dfpipe):
    """Runs last: it changes the source."""
    folder = dfpipe.folder / "videos" / "original_sequences" / "youtube" / "c23" / "videos"
    touched, changed, broken = sorted(folder.glob("*.mp4"))[:3]
    touched.touch()
    with changed.open("ab") as file:
        file.write(b"\0\0\0\x08free")
    broken.write_bytes(broken.read_bytes()[:2000])
    shutil.copy(touched, folder / "099.mp4")
    ran = dfpipe("run", "--json", "--until", "faces", *QUICK).json
    assert (ran["videos"], ran["extracted"], ran["kept"]) == (25, 3, 22)
    status = dfpipe("status", "--json", "--failures", *QUICK).json
    assert [(row["video_id"], row["status"]) for row in status["failures"]] == [
        (f"ffpp/original/c23/{broken.stem}", "corrupt")
    ]
    assert sum(row["videos"] for row in status["statuses"]) == 25
