"""`dfpipe cross` on a store with features: workers, the matrix, and its run in MLflow."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from dfpipe import cli, crossing
from dfpipe.extract import extract_fingerprint
from dfpipe.plan import plan_faces
from dfpipe.settings import load_settings
from dfpipe.shards import open_tables
from dfpipe.testing import MlflowServer, as_catalog, finish_faces, make_video, write_catalog, write_features
from dfpipe.tracking import cross as tracking_of_cross
from dfpipe.training import connect_tracking

PAIRS, METHODS = 24, ("Deepfakes", "FaceSwap")


@pytest.fixture
def store(tmp_path):
    """Fakes of each method give themselves away in a column of their own."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(
        f"store: {tmp_path}/store\nstate: {tmp_path}/state\ndask: {{workers: 1}}\n"
        "train:\n  features: [{name: pixels, size_px: 4}]\n  forest: {n_estimators: [5, 20]}\n"
        "  xgboost: {n_estimators: [5], max_depth: [2]}\n  split: {folds: 2}\n"
    )
    rng, videos, rows = np.random.default_rng(0), [], []
    for pair in range(PAIRS):
        for method in ("original", *METHODS):
            name, content = f"ffpp/{method}/c23/{pair:03}", f"c{method}{pair}"
            fake = {"label": "fake", "manipulation": method} if method != "original" else {}
            videos.append(make_video(name, content, dataset="ffpp", compression="c23", target=f"p{pair}", **fake))
            for frame in range(2):
                values = rng.integers(0, 100, 48)
                if fake:
                    values[METHODS.index(method) * 8 :][:8] += 120
                rows.append((name, content, frame, values.tolist()))
    loaded = load_settings(settings, environ={})
    tables = open_tables(loaded.store, loaded.s3)
    finish_faces(tables, plan_faces(as_catalog(videos), tables, loaded))
    write_catalog(tables, videos)
    write_features(tables, loaded.train.features[0], rows, faces_fingerprint=extract_fingerprint(loaded.extract))
    return settings, loaded


def dfpipe(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["dfpipe", *arguments])
    code = 0
    try:
        cli.main()
    except SystemExit as ended:
        code = ended.code or 0
    out, err = capsys.readouterr()
    return code, out, err


def test_one_command_gives_the_matrix_and_its_run(store, monkeypatch, capsys):
    config, settings = store
    code, out, err = dfpipe(
        monkeypatch, capsys, "cross", "--by", "method", "--model", "forest", "--json", "-c", str(config)
    )
    assert code == 0, err
    crossed = json.loads(out)
    cells = {(cell["train"], cell["test"]): cell for cell in crossed["matrix"]["cells"]}
    assert set(cells) == {(one, other) for one in METHODS for other in METHODS}
    assert min(cells[one, one]["auc"] for one in METHODS) > 0.95
    # A tree may by chance have cut through a column that gives the other method away; both directions are rarely lucky.
    assert cells["Deepfakes", "FaceSwap"]["auc"] + cells["FaceSwap", "Deepfakes"]["auc"] < 1.7
    assert {cell["videos"] for cell in cells.values()} == {12}
    assert crossed["matrix"]["candidate"]["model"] == "forest"

    tracking = connect_tracking(settings)
    run = tracking.client.get_run(crossed["run_id"])
    assert run.info.status == "FINISHED"
    for (one, other), cell in cells.items():
        assert run.data.metrics[f"auc.{one}.{other}"] == cell["auc"]
        assert run.data.metrics[f"auc_low.{one}.{other}"] == cell["low"] <= cell["auc"]
    assert run.data.tags["dfpipe.cross"] == "method"
    assert (run.data.params["model"], run.data.params["balance"]) == ("forest", "weights")
    assert {"dfpipe.split_sha256", "dfpipe.version.features"} <= set(run.data.tags)
    folder = Path(run.info.artifact_uri)
    assert {path.name for path in folder.iterdir()} == {"cross.json", "cross.png", "split.json"}
    split = json.loads((folder / "split.json").read_text())
    assert not {one["group"] for one in split["train"].values()} & {one["group"] for one in split["test"].values()}
    assert json.loads((folder / "cross.json").read_text())["cells"] == crossed["matrix"]["cells"]

    other = (
        "train.forest=null",
        "train.rbf_svm={C: [1, 10]}",
        "train.xgboost=null",
        "train.search={method: halving, factor: 2}",
    )
    overrides = [word for one in other for word in ("--set", one)]
    code, out, err = dfpipe(monkeypatch, capsys, "cross", "--by", "method", "-c", str(config), *overrides)
    assert code == 0, err
    assert "learned from \\ judged on" in out
    assert "rbf_svm C=" in out
    assert "1.000 (1.000 to 1.000)" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--by", "compression"],
            "got 1 kinds by compression with both classes in training and test (c23), expected 2",
        ),
        (
            ["--by", "method", "--model", "oracle"],
            "got model 'oracle', expected one that the settings' grid has: forest, x",
        ),
    ],
)
def test_what_cannot_be_crossed_is_told_in_a_line(store, monkeypatch, capsys, options, message):
    code, _, err = dfpipe(monkeypatch, capsys, "cross", *options, "-c", str(store[0]))
    assert code == 2
    assert message in err


@pytest.fixture
def mlflow_server(tmp_path):
    (tmp_path / "server").mkdir()
    server = MlflowServer(tmp_path / "server", tmp_path / "store/mlflow")
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
@pytest.mark.services
def test_a_server_that_goes_away_costs_no_matrix(store, mlflow_server, monkeypatch, capsys, tmp_path):
    """Gone in the midst of the recording; the second call records what the first has computed."""
    config, settings = store
    # MLflow's client would try for minutes.
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    call = ("cross", "--by", "method", "--model", "xgboost", "--json", "-c", str(config))
    call = (*call, "--set", f"mlflow.tracking_uri={mlflow_server.uri}")
    computed = []

    def compute(*args, **options):
        computed.append(cross_evaluate(*args, **options))
        return computed[-1]

    def lose_the_server(matrix):
        mlflow_server.stop()
        return cross_figure(matrix)

    cross_evaluate, cross_figure = crossing.cross_evaluate, tracking_of_cross.cross_figure
    monkeypatch.setattr(crossing, "cross_evaluate", compute)
    with monkeypatch.context() as broken:
        broken.setattr(tracking_of_cross, "cross_figure", lose_the_server)
        code, _, err = dfpipe(broken, capsys, *call)
    assert code == 2
    (kept,) = (tmp_path / "state/crosses").iterdir()
    assert f"the matrix is kept in {kept}: mend this, and the same command records it" in err
    # The person's files name who stands where; what waits is figures alone.
    assert b"ffpp/" not in kept.read_bytes()

    mlflow_server.start()
    code, out, err = dfpipe(monkeypatch, capsys, *call)
    assert code == 0, err
    assert len(computed) == 1, "the first call's"
    crossed = json.loads(out)
    assert crossed["matrix"] == json.loads(json.dumps(asdict(computed[0])))
    there = settings.mlflow.model_copy(update={"tracking_uri": mlflow_server.uri})
    client = connect_tracking(settings.model_copy(update={"mlflow": there})).client
    first = client.get_run(crossed["run_id"])
    runs = client.search_runs([first.info.experiment_id])
    assert sorted(run.info.status for run in runs) == ["FAILED", "FINISHED"]
    assert first.info.status == "FINISHED"
    assert {file.path for file in client.list_artifacts(first.info.run_id)} == {"cross.json", "cross.png", "split.json"}
    assert list((tmp_path / "state/crosses").iterdir()) == []
