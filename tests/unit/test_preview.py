"""A plan says what a run would do, and leaves no trace of having looked."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from dfpipe.errors import CatalogError
from dfpipe.plan import plan_faces, plan_features, training_settings_hash
from dfpipe.preview import make_plan
from dfpipe.settings import Selection, load_settings
from dfpipe.shards import open_tables
from dfpipe.steps import list_source, load_catalog
from dfpipe.testing import BY, finish_faces, finish_features
from dfpipe.tracking import SETTINGS_TAG


@pytest.fixture
def source(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "metadata.csv").write_text("video,label,identity\na.mp4,real,A\nb.mp4,fake,B\n")
    for name in "ab":
        (videos / f"{name}.mp4").write_bytes(name.encode())
    return videos


@pytest.fixture
def places(source, tmp_path):
    return {"source": source, "store": tmp_path / "store", "state": tmp_path / "state"}


def settings_of(places, **more):
    return load_settings(overrides=[f"{key}={value}" for key, value in (places | more).items()], environ={})


@pytest.fixture
def settings(places):
    return settings_of(places)


def numbers(stages):
    return {stage.stage: (stage.todo, stage.kept) for stage in stages}


def do_faces(settings, status="ok", **columns):
    tables = open_tables(settings.store, settings.s3)
    plan = plan_faces(list_source(settings, load_catalog(tables)), tables, settings)
    finish_faces(tables, plan, status=status, columns=dict.fromkeys(plan.todo["video_id"].to_pylist(), columns))
    return tables, plan


def do_features(settings, tables, faces):
    for plan in plan_features(
        tables, settings.train.features, faces_fingerprint=faces.fingerprint, videos_per_shard=settings.videos_per_shard
    ):
        finish_features(tables, plan)


def test_everything_is_to_do_at_first_and_nothing_is_written(settings, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    stages = make_plan(settings)
    assert numbers(stages) == {"catalog": (2, 0), "faces": (2, 0), "features": (4, 0), "train": (1, 0)}
    assert stages[1].reasons == {"new": 2}
    assert sorted(tmp_path.rglob("*")) == before


def test_it_stops_where_the_run_would(settings):
    assert list(numbers(make_plan(settings, until="faces"))) == ["catalog", "faces"]


def test_what_is_done_is_kept_and_no_database_is_made_to_find_out(settings, tmp_path):
    do_faces(settings, status="no_face")
    stages = make_plan(settings)
    assert numbers(stages)["faces"] == (0, 2)
    assert stages[1].stays == {"no_face": 2}
    assert numbers(stages)["train"] == (1, 0)
    assert stages[3].reasons == {"never trained": 1}
    assert not (tmp_path / "state").exists()


def test_what_a_run_would_take_is_told_from_what_the_ledger_says_of_others(settings, places, source):
    told = make_plan(settings_of(places, **{"dask.workers": 2}), until="faces")[1].estimate
    assert dataclasses.astuple(told) == (2, None, None, 2, None)
    do_faces(settings, cpu_seconds=3.0, stored_bytes=500)
    (source / "metadata.csv").write_text("video,label,identity\na.mp4,real,A\nb.mp4,fake,B\nc.mp4,fake,B\n")
    (source / "c.mp4").write_bytes(b"cccc")
    told = make_plan(settings_of(places, **{"dask.workers": 2}), until="faces")[1].estimate
    assert dataclasses.astuple(told) == (4, 500, 3.0, 2, 1.5)
    # Only the scheduler knows how many share the work.
    told = make_plan(settings_of(places, **{"dask.scheduler": "tcp://10.0.0.1:8786"}), until="faces")[1].estimate
    assert (told.cpu_seconds, told.workers, told.seconds) == (3.0, None, None)


def test_what_left_the_source_is_told_and_not_deleted(settings, source):
    do_faces(settings)
    (source / "metadata.csv").write_text("video,label,identity\na.mp4,real,A\n")
    (source / "b.mp4").unlink()
    faces = make_plan(settings, until="faces")[1]
    assert (faces.todo, faces.kept, faces.gone) == (0, 1, 1)


def test_it_is_narrowed_as_the_run_is(settings):
    faces = make_plan(settings, until="faces", selection=Selection(videos=["*/a"]))[1]
    assert (faces.reasons, faces.stays) == ({"new": 1}, {"left out by the selection": 1})
    with pytest.raises(CatalogError, match=r"matches b\*; .*the data sets are videos"):
        make_plan(settings, selection=Selection(videos=["b*"]))


def test_features_wait_for_faces_and_training_for_features(settings):
    tables, faces = do_faces(settings)
    stages = make_plan(settings)
    assert stages[2].reasons == {"without pixels": 2, "without residual": 2}
    assert stages[3].reasons == {"rows will change": 1}
    do_features(settings, tables, faces)
    stages = make_plan(settings)
    assert numbers(stages)["features"] == (0, 4)
    assert stages[3].reasons == {"never trained": 1}


def test_looking_makes_no_experiment_where_the_settings_name_a_database(places, tmp_path):
    """Fails when the plan opens MLflow as a run does: the database then has the experiment."""
    from mlflow import MlflowClient

    address = f"sqlite:///{tmp_path}/runs.db"
    settings = settings_of(places, **{"mlflow.tracking_uri": address})
    do_faces(settings, status="no_face")
    make_plan(settings)
    assert not (tmp_path / "runs.db").exists()
    MlflowClient(address).create_experiment("somebody else's")
    assert make_plan(settings)[3].reasons == {"never trained": 1}
    assert MlflowClient(address).get_experiment_by_name("dfpipe") is None


def test_the_whole_plan_goes_into_json(settings):
    do_faces(settings, status="timeout")
    told = json.loads(json.dumps([dataclasses.asdict(stage) for stage in make_plan(settings)]))
    assert told[1]["stays"] == {"timeout": 2}


def test_training_is_told_by_what_it_was_trained_with_last(places, tmp_path):
    from mlflow import MlflowClient

    address = f"sqlite:///{tmp_path}/runs.db"
    settings = settings_of(places, **{"mlflow.tracking_uri": address})
    tables, faces = do_faces(settings)
    do_features(settings, tables, faces)
    client = MlflowClient(address)
    experiment = client.create_experiment("dfpipe", artifact_location=str(tmp_path))
    assert make_plan(settings)[3].reasons == {"never trained": 1}
    tags = {
        "dfpipe.fingerprint": "of other rows",
        SETTINGS_TAG: training_settings_hash(settings.train, faces_fingerprint=faces.fingerprint),
    }
    client.set_terminated(client.create_run(experiment, tags=tags).info.run_id, "FINISHED")
    assert make_plan(settings)[3].reasons == {"rows changed": 1}
    other = settings_of(places, **{"mlflow.tracking_uri": address, "train.split.folds": 2})
    stage = make_plan(other)[3]
    assert (stage.todo, stage.kept, stage.reasons) == (1, 0, {"grid or settings changed": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfpipe.training.find_finished", lambda _tracking, _fingerprint: SimpleNamespace(run_id="a run"))
        stage = make_plan(settings)[3]
        assert (stage.todo, stage.kept, stage.reasons) == (0, 1, {})
        with_sheets = settings_of(places, **{"mlflow.tracking_uri": address, "train.evaluation.sheets": {}})
        for stands, reasons in ((False, {"only its sheets of faces": 1}), (True, {})):
            patch.setattr("dfpipe.training.sheets_stand", lambda *_, stands=stands: stands)
            assert make_plan(with_sheets)[3].reasons == reasons


def test_features_of_what_was_settled_and_not_committed_are_to_do(settings, monkeypatch):
    """The run commits it first and then computes them; fails where only the faces that are to do are counted."""
    tables = open_tables(settings.store, settings.s3)
    tables.replace("catalog", list_source(settings, load_catalog(tables)), by=BY)
    with monkeypatch.context() as dying:
        dying.setattr(type(tables), "commit", lambda *_, **__: None)
        do_faces(settings)
    stages = make_plan(settings)
    sets = 2 * len(settings.train.features)
    assert numbers(stages) == {"catalog": (0, 2), "faces": (0, 2), "features": (sets, 0), "train": (1, 0)}
