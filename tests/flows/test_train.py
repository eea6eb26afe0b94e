"""The train flow in this process, on committed features, against a real Prefect server and real workers."""

import json
import urllib.request

import numpy as np
import pytest

from dfpipe.errors import ServiceError, StoreError
from dfpipe.extract import extract_fingerprint
from dfpipe.plan import plan_faces, training_fingerprint, usable_videos
from dfpipe.settings import PrefectSettings, SheetSettings, load_settings
from dfpipe.shards import open_tables
from dfpipe.steps import load_catalog
from dfpipe.testing import MlflowServer, as_catalog, finish_faces, make_video, write_catalog, write_features
from dfpipe.tracking import alias_version
from dfpipe.tracking import training as tracking_of_training
from dfpipe.training import connect_tracking, why_train

pytestmark = [pytest.mark.slow, pytest.mark.services]

PEOPLE = 40


@pytest.fixture
def train(prefect_url):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.run_here import last_words
    from flows.train import train

    with temporary_settings({PREFECT_API_URL: prefect_url}), last_words():
        yield train


@pytest.fixture
def settings(tmp_path):
    """A store in which frames of a video look alike and labels say nothing; one video is in no official list."""
    settings = load_settings(
        overrides=[
            f"store={tmp_path}/store",
            f"state={tmp_path}/state",
            "train.features=[{name: pixels, size_px: 4}]",
            "train.forest.n_estimators=[20]",
            "train.xgboost=null",
            "train.split.folds=2",
            "dask.workers=1",
            # Labels say nothing, and no model is better than guessing.
            "gate.min_auc_lower_bound=0",
        ],
        environ={},
    )
    rng = np.random.default_rng(0)
    videos, rows = [], []
    for number, label in enumerate(rng.permutation(np.arange(PEOPLE) % 2)):
        fake = {"label": "fake", "manipulation": "swap"} if label else {}
        side = None if number == 0 else "test" if number < 12 else "train"
        videos.append(make_video(f"{number:02}", f"c{number}", split=side, **fake))
        looks = rng.integers(20, 235, 48)
        rows += [
            (f"{number:02}", f"c{number}", frame, (looks + rng.integers(-5, 6, 48)).tolist()) for frame in range(5)
        ]
    tables = open_tables(settings.store, settings.s3)
    finish_faces(tables, plan_faces(as_catalog(videos), tables, settings))
    write_catalog(tables, videos)
    write_features(tables, settings.train.features[0], rows, faces_fingerprint=extract_fingerprint(settings.extract))
    return settings


def by(settings, **split):
    changed = settings.train.split.model_copy(update=split)
    return settings.model_copy(update={"train": settings.train.model_copy(update={"split": changed})})


def with_sheets(settings):
    evaluation = settings.train.evaluation.model_copy(update={"sheets": SheetSettings()})
    return settings.model_copy(update={"train": settings.train.model_copy(update={"evaluation": evaluation})})


def has_sheets(record, settings):
    files = {file.path for file in connect_tracking(settings).client.list_artifacts(record.run_id)}
    return {"examples_real.png", "examples_fake.png", "sheets.json"} <= files


def pages(prefect_url):
    """What training runs say of themselves in Prefect."""
    request = urllib.request.Request(
        f"{prefect_url}/artifacts/filter",
        data=json.dumps({"artifacts": {"key": {"any_": ["training-summary"]}}}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return [one["data"] for one in json.load(answer)]


def test_each_protocol_trains_and_only_honest_models_may_be_champions(train, settings, prefect_url):
    tracking, names = connect_tracking(settings), settings.mlflow
    first = train(by(settings, protocol="seed"))
    seed = first.record
    assert (seed.leaky, first.decision) == (True, None)
    assert seed.metrics["test_frame_auc"] > 0.9 > 0.75 > seed.metrics["grouped_test_frame_auc"]
    for alias in (names.alias, names.challenger_alias):
        assert alias_version(tracking, alias) is None

    lasting = settings.model_copy(update={"prefect": PrefectSettings(api_url=prefect_url)})
    judged = train(by(lasting, protocol="official"))
    official = judged.record
    assert judged.decision.promoted
    assert judged.decision.videos == 11
    seed_tags, tags = (tracking.client.get_run(record.run_id).data.tags for record in (seed, official))
    assert tags["prefect.flow_run_url"] == (
        f"{prefect_url.removesuffix('/api')}/flow-runs/flow-run/{tags['prefect.flow_run_id']}"
    )
    assert "prefect.flow_run_url" not in seed_tags, "that server may be gone tomorrow"
    assert (official.leaky, official.protocol, official.left_out) == (False, "official", 1)
    assert "grouped_test_frame_auc" not in official.metrics
    again = train(by(settings, protocol="seed"))
    assert (again.now, again.record.run_id) == (False, seed.run_id)
    assert again.decision is None
    told = pages(prefect_url)
    assert [f"| gate | {judged.decision.line()} |" in one for one in told if official.run_id in one] == [True]
    assert {"made now" in one for one in told if seed.run_id in one} == {True, False}
    assert "[The Dask dashboard](" in next(one for one in told if official.run_id in one)
    # Faces that are asked for later are shown without training again.
    assert not has_sheets(seed, settings)
    shown = train(with_sheets(by(settings, protocol="seed")))
    assert (shown.now, shown.record.run_id) == (False, seed.run_id)
    assert has_sheets(seed, settings)
    assert alias_version(tracking, names.alias) == official.model_version
    assert alias_version(tracking, names.challenger_alias) is None


def test_pictures_that_cannot_be_drawn_keep_no_model_from_being_the_champion(train, settings, monkeypatch):
    def fail(*_):
        raise StoreError("no crops can be read")

    monkeypatch.setattr("flows.train.draw_sheets", fail)
    with pytest.raises(StoreError, match="no crops"):
        train(with_sheets(settings))
    assert alias_version(connect_tracking(settings), settings.mlflow.alias) == "1"


@pytest.fixture
def mlflow_server(tmp_path):
    (tmp_path / "server").mkdir()
    server = MlflowServer(tmp_path / "server", tmp_path / "store/mlflow")
    server.start()
    yield server
    server.stop()


def why(settings):
    tables, faces = open_tables(settings.store, settings.s3), extract_fingerprint(settings.extract)
    usable = usable_videos(load_catalog(tables), tables, faces_fingerprint=faces)
    return why_train(
        settings, training_fingerprint(usable, settings.train, faces_fingerprint=faces), faces_fingerprint=faces
    )


def test_a_server_that_goes_away_costs_no_search(train, settings, mlflow_server, monkeypatch, tmp_path):
    """Gone after the search, then gone in the midst of the recording; the third run makes it whole."""
    import tasks.train
    from dfpipe import training

    undisturbed = train(settings).record
    # MLflow's client would try for minutes, and Prefect twice more.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for task in (tasks.train.evaluate, tasks.train.record_models):
        monkeypatch.setattr(task, "retries", 0)
    there = {"mlflow": settings.mlflow.model_copy(update={"tracking_uri": mlflow_server.uri})}
    settings = settings.model_copy(update={**there, "state": tmp_path / "other"})
    searches = []

    def search_and_lose_the_server(*args, **options):
        searches.append(1)
        found = search(*args, **options)
        mlflow_server.stop()
        return found

    def lose_the_server(*_args, **_options):
        mlflow_server.stop()
        return register(*_args, **_options)

    search, register = training.search, tracking_of_training.register_model
    monkeypatch.setattr(training, "search", search_and_lose_the_server)
    with pytest.raises(ServiceError, match=r"no MLflow server answers at .*; the search is kept in .*/other/searches"):
        train(settings)
    mlflow_server.start()
    assert why(settings) == "searched, waits to be recorded"

    with monkeypatch.context() as broken:
        broken.setattr(tracking_of_training, "register_model", lose_the_server)
        with pytest.raises(ServiceError, match=r"cannot record the training in MLflow .*; the search is kept in"):
            train(settings)
    mlflow_server.start()
    assert why(settings) == "searched, waits to be recorded"

    trained = train(settings)
    assert trained.now
    assert searches == [1], "searched once, in the first of three runs"
    assert without_time(trained.record.metrics) == without_time(undisturbed.metrics)
    assert trained.record.candidate == undisturbed.candidate
    assert trained.decision.promoted
    client = connect_tracking(settings).client
    runs = client.search_runs([trained.record.experiment_id])
    parents = {run.info.run_id: run.info.status for run in runs if "dfpipe.fingerprint" in run.data.tags}
    assert sorted(parents.values()) == ["FAILED", "FINISHED"]
    assert parents[trained.record.run_id] == "FINISHED"
    assert not [run for run in runs if run.info.status == "RUNNING"]
    assert why(settings) is None
    assert list((tmp_path / "other/searches").iterdir()) == []


def without_time(metrics):
    return {name: value for name, value in metrics.items() if "seconds" not in name}
