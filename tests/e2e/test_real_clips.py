"""Real people on real clips, with pseudo-fakes made of them, from the folder to the registered model."""

import shutil

import pytest
from deltalake import DeltaTable

pytestmark = [pytest.mark.slow, pytest.mark.services]

SETTINGS = [
    "--set=train.features=[{name: pixels, size_px: 16}, {name: residual}]",
    "--set=train.split.folds=2",
    "--set=train.split.test_fraction=0.4",
    "--set=train.forest.n_estimators=[50]",
    "--set=train.xgboost.n_estimators=[20]",
    "--set=train.xgboost.max_depth=[3]",
    "--set=source=videos",
    "--set=store=store",
]


@pytest.fixture(scope="module")
def dfpipe(command_line, tmp_path_factory, clips):
    dfpipe = command_line(tmp_path_factory.mktemp("real"))
    dfpipe("synth", "videos", "--from", str(clips / "asl"), "--seed", "1")
    dfpipe("run", *SETTINGS)
    return dfpipe


def read(dfpipe, table):
    return DeltaTable(dfpipe.folder / "store" / "tables" / table).to_pyarrow_table().to_pylist()


def test_every_real_video_has_faces(dfpipe):
    labels = {row["video_id"]: row["label"] for row in read(dfpipe, "catalog")}
    ledger = {row["video_id"]: row for row in read(dfpipe, "videos")}
    real = [ledger[video] for video, label in labels.items() if label == "real"]
    assert (len(real), sum(row["faces_kept"] > 0 for row in real)) == (20, 20)


def test_every_video_is_in_the_ledger_once(dfpipe):
    catalog = [row["video_id"] for row in read(dfpipe, "catalog")]
    assert len(catalog) == 40
    assert sorted(row["video_id"] for row in read(dfpipe, "videos")) == sorted(catalog)


def test_held_out_people_never_appear_in_training(dfpipe):
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{dfpipe.folder}/.dfpipe/mlflow/mlflow.db")
    version = mlflow.MlflowClient().get_model_version("dfpipe", "1")
    split = mlflow.artifacts.load_dict(f"runs:/{version.run_id}/split.json")
    people = {row["video_id"]: {row["target"], row["source"]} - {None} for row in read(dfpipe, "catalog")}
    train, test = (set().union(*(people[video] for video in split[side])) for side in ("train", "test"))
    assert len(train | test) == 5
    assert train
    assert test
    assert not train & test


def test_people_seen_from_behind_are_no_face_and_no_error(command_line, tmp_path, clips):
    dfpipe = command_line(tmp_path)
    (tmp_path / "videos").mkdir()
    shutil.copy(clips / "noface" / "one-by-one-person-detection.mp4", tmp_path / "videos")
    (tmp_path / "videos" / "metadata.csv").write_text("video,label\none-by-one-person-detection.mp4,real\n")
    ran = dfpipe("run", "--json", "--until=faces", *SETTINGS).json
    assert ran["statuses"] == {"no_face": 1}
