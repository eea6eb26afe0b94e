"""Which version is the champion, decided on real trainings in a real MLflow over a real store."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from matplotlib.figure import Figure

from dfpipe import promotion
from dfpipe.dataset import load_training_data
from dfpipe.decisions import append, read_decisions
from dfpipe.errors import ModelNotFoundError, PromotionError, ServiceError, StoreError, TrainingDataError
from dfpipe.lineage import tables_as_they_are
from dfpipe.models import Candidate, predict_proba, refit_and_evaluate, rule_of, search, video_scores
from dfpipe.models.metrics import video_level
from dfpipe.models.splits import Split
from dfpipe.plan import feature_fingerprint, plan_faces
from dfpipe.promotion import decide_promotion, promote, read_history, rollback
from dfpipe.settings import BootstrapSettings, GateSettings, PixelsSettings, S3Settings, Settings, TrainSettings
from dfpipe.shards import Tables, open_tables
from dfpipe.steps import load_catalog
from dfpipe.storage import open_location
from dfpipe.testing import BY, finish_faces, free_port, make_video, write_catalog, write_features
from dfpipe.tracking import alias_version, find_finished, load_champion
from dfpipe.training import connect_tracking, record, split_videos, training_tags

LENIENT = {"auc_tolerance": 1, "log_loss_tolerance": 9, "calibration_tolerance": 1}
"""Rules by which whoever can be compared passes."""
FOREST = Candidate("forest", (("max_depth", 3), ("n_estimators", 10)), 0)
PIXELS = PixelsSettings(size_px=4)
COLUMNS = 48
SERVER_SECONDS = 180


def people(first, last, take=""):
    """Four videos for each pair of people: both of them, and each with the other's face."""
    for pair in range(first, last):
        a, b = f"{pair}a", f"{pair}b"
        for name, more in (
            (a, {}),
            (b, {}),
            (f"{a}_{b}", {"label": "fake", "target": a, "source": b}),
            (f"{b}_{a}", {"label": "fake", "target": b, "source": a}),
        ):
            yield make_video(name, f"content of {name}{take}", **more)


class Workplace:
    """A store with features of invented videos, and trainings of them."""

    def __init__(self, folder: Path, database: Path):
        (folder / "state/mlflow").mkdir(parents=True)
        shutil.copy(database, folder / "state/mlflow")
        self.settings = Settings(
            store=str(folder / "store"),
            state=folder / "state",
            train=TrainSettings(features=[PIXELS]),
            gate=GateSettings(bootstrap=BootstrapSettings(samples=200)),
        )
        self.tables = open_tables(self.settings.store, S3Settings())
        self.tracking = connect_tracking(self.settings)
        self.videos = []

    def add(self, first, last, take=""):
        added = list(people(first, last, take))
        names = {video.video_id for video in added}
        self.videos = [video for video in self.videos if video.video_id not in names] + added
        write_catalog(self.tables, self.videos)
        plan = plan_faces(load_catalog(self.tables), self.tables, self.settings)
        finish_faces(self.tables, plan)
        self.faces = plan.fingerprint
        random = np.random.default_rng([first, len(take)])
        rows = []
        for video in added:
            for frame in range(2):
                values = random.integers(0, 120, COLUMNS)
                values[:8] += 60 * (video.label == "fake")
                rows.append((video.video_id, video.content_id, frame, values.tolist()))
        write_features(self.tables, PIXELS, rows, faces_fingerprint=self.faces)

    def load(self, tables=None):
        tables = tables or self.tables
        rows = self.settings.train.rows
        return load_training_data(load_catalog(tables), tables, [PIXELS], faces_fingerprint=self.faces, rows=rows)

    def train(self, *, noise=0.0, seed=0, split=None):
        """Record a training whose rows to learn from are partly noise; return its version."""
        tables = tables_as_they_are(self.tables)
        videos, data = self.load(tables)
        split = split(data) if split else split_videos(videos, data, self.settings.train.split)
        candidate = replace(FOREST, seed=seed)
        found = search(data, split.folds, [candidate])
        random = np.random.default_rng(seed)
        X = data.X.copy()
        spoilt = split.train_rows[random.random(len(split.train_rows)) < noise]
        X[spoilt] = random.permutation(X[spoilt])
        rule = rule_of(data, found.best, self.settings.train.evaluation)
        fitted = refit_and_evaluate(replace(data, X=X), split.train_rows, split.test_rows, candidate, rule=rule)
        made = record(
            self.tracking,
            settings=self.settings,
            data=data,
            split=split,
            found=found,
            evaluations=[fitted],
            fingerprint=f"{seed}-{noise}",
            faces_fingerprint=self.faces,
            tags=training_tags(tables, BY),
        )
        self.last = fitted
        return made.model_version

    def by(self, **rules):
        return self.settings.model_copy(
            update={"gate": GateSettings(bootstrap=BootstrapSettings(samples=200), **rules)}
        )

    def decide(self, version, **rules):
        return decide_promotion(self.by(**rules), self.tracking, version)

    @property
    def aliases(self):
        return [alias_version(self.tracking, alias) for alias in ("champion", "challenger")]

    def run_of(self, decision):
        return self.tracking.client.get_run(decision.run_id)


def later_people(data):
    """People whom the first training had to learn from, as it did; later ones to be judged on."""
    first = np.array([int(name.split("_")[0][:-1]) < 16 for name in data.video_ids])
    train, test = data.rows_of(np.flatnonzero(first)), data.rows_of(np.flatnonzero(~first))
    half = len(train) // 2
    return Split(train, test, ((train[:half], train[half:]),))


@pytest.fixture(scope="module", autouse=True)
def no_pictures():
    """Drawing takes longer than training here; what a run's pictures show is tested where trainings are recorded."""
    with pytest.MonkeyPatch.context() as patch:
        drawn = {
            "evaluation": ("confusion", "importance", "reliability", "scores", "subsets"),
            "training": ("grid", "pr", "roc"),
        }
        for module, names in drawn.items():
            for name in names:
                patch.setattr(f"dfpipe.tracking.{module}.{name}_figure", lambda *_: Figure((1, 1)))
        yield


@pytest.fixture(scope="module")
def begun(empty_database, tmp_path_factory):
    """A store with one training that nobody has decided on."""
    place = Workplace(tmp_path_factory.mktemp("begun"), empty_database)
    place.add(0, 16)
    return place, place.train()


@pytest.fixture
def place(empty_database, tmp_path):
    made = Workplace(tmp_path, empty_database)
    made.add(0, 16)
    return made


def test_a_history_of_one_model(place):
    first = place.decide(place.train())
    assert (first.promoted, first.champion_before, first.refusals) == (True, None, ())
    assert [check.name for check in first.checks] == ["auc"]
    assert first.checks[0].value == place.last.video.auc
    assert place.aliases == ["1", None]
    run = place.run_of(first)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["gate.auc_low"] == first.checks[0].low
    assert run.data.metrics["gate.passed"] == 1
    assert run.data.tags["dfpipe.gate"] == "passed"
    artifact = Path(run.info.artifact_uri, "gate.json")
    assert json.loads(artifact.read_text()) == json.loads(first.model_dump_json())

    # One that learned from noise.
    worse = place.decide(place.train(noise=1.0, seed=1))
    assert (worse.passed, worse.promoted, worse.champion_after) == (False, False, "1")
    assert place.aliases == ["1", "2"]
    assert worse.compared_videos == worse.videos == len(place.last.predictions)
    assert place.run_of(worse).data.tags["dfpipe.gate"].startswith("refused: video ")
    assert place.run_of(worse).data.tags["dfpipe.gate_champion"] == "1"
    assert place.tracking.client.get_model_version("dfpipe", "2").tags["dfpipe.gate"].startswith("refused: ")

    # As good as the champion, by rules that know how few videos there are.
    lenient = {"auc_tolerance": 0.5, "log_loss_tolerance": 0.5, "calibration_tolerance": 0.5}
    as_good = place.decide(place.train(seed=2), **lenient)
    assert as_good.promoted
    assert place.aliases == ["3", "2"]
    differences = {check.name: check.value for check in as_good.checks}
    assert differences["auc_difference"] == pytest.approx(differences["auc"] - first.checks[0].value)

    # Nothing is decided twice, and what people did since is not undone.
    assert place.decide("3") == as_good
    back = rollback(place.settings, reason="it was too slow")
    assert (back.champion_after, back.reason, place.aliases[0]) == ("1", "it was too slow", "1")
    assert place.decide("3") == as_good
    assert place.aliases == ["1", "2"]
    with pytest.raises(PromotionError, match="no champion of dfpipe before 1"):
        rollback(place.settings)

    forced = promote(place.settings, None, force=True, reason="to try it")
    assert (forced.version, forced.forced, forced.passed, forced.promoted) == ("2", True, False, True)
    assert place.aliases == ["2", None]
    run = place.run_of(forced)
    assert run.data.tags["dfpipe.gate"].startswith("forced: ")
    # Whoever is named in a reason is looked for in the history alone.
    assert json.loads(Path(run.info.artifact_uri, "gate.json").read_text())["reason"] == ""
    with pytest.raises(PromotionError, match="version 2 of dfpipe is the champion already"):
        promote(place.settings, "2")
    assert rollback(place.settings).champion_after == "1"

    history = read_history(place.settings)
    assert [one.number for one in history] == [1, 2, 3, 4, 5, 6]
    assert [one.action for one in history] == ["train", "train", "train", "rollback", "promote", "rollback"]
    assert [one.champion_after for one in history] == ["1", "1", "3", "1", "2", "1"]
    assert (
        read_history(
            place.settings.model_copy(
                update={"mlflow": place.settings.mlflow.model_copy(update={"registered_model": "other"})}
            )
        )
        == []
    )
    # The run that made the champion is still the one that stands for its rows.
    assert find_finished(place.tracking, "0-0.0").model_version == "1"


def test_people_who_came_later_are_shown_to_the_champion(place):
    place.decide(place.train())
    champion = load_champion(place.tracking, name="dfpipe", alias_or_version="champion")
    place.add(16, 24)

    decision = place.decide(place.train(split=later_people), **LENIENT)
    assert decision.refusals == ()
    assert (decision.compared_videos, decision.compared_groups) == (32, 8)
    _, data = place.load()
    rows = later_people(data).test_rows
    proba = predict_proba(champion, data.X[rows])
    own = video_level(data.y[rows], proba, data.video[rows]).auc
    by_name = {check.name: check.value for check in decision.checks}
    assert by_name["auc_difference"] == pytest.approx(place.last.video.auc - own)
    assert by_name["auc"] == pytest.approx(place.last.video.auc)

    # As `dfpipe forget` leaves the store: nobody can read the catalogs of then, and today's tells enough.
    assert rollback(place.settings).champion_after == "1"
    current = {Path(name).name for name in place.tables.log("catalog").open().file_uris()}
    for file in Path(place.settings.store, "tables/catalog").glob("*.parquet"):
        if file.name not in current:
            file.unlink()
    with pytest.raises(StoreError):
        place.tables.at({"catalog": 0}).read("catalog")
    again = promote(place.by(**LENIENT), "2")
    assert again.promoted
    assert (again.compared_videos, again.checks) == (32, decision.checks)


@pytest.mark.parametrize("rows", ["face", "video"])
def test_videos_whose_bytes_changed_are_shown_to_the_champion_again(place, rows):
    place.settings = place.settings.model_copy(update={"train": place.settings.train.model_copy(update={"rows": rows})})
    place.decide(place.train())
    before = {one.video_id: one.probability for one in place.last.predictions}
    champion = load_champion(place.tracking, name="dfpipe", alias_or_version="champion")
    place.add(0, 16, take=", second take")
    decision = place.decide(place.train(), **LENIENT)
    assert {one.video_id for one in place.last.predictions} == set(before)
    assert decision.compared_videos == len(before)
    _, data = place.load()
    scores = champion.rule.apply(video_scores(predict_proba(champion, data.X), data.video, len(data.video_ids)))
    index = [data.video_ids.index(video) for video in before]
    assert scores[index].tolist() != list(before.values())
    own = video_level(data.video_labels[index], scores[index], np.arange(len(index))).log_loss
    by_name = {check.name: check.value for check in decision.checks}
    assert by_name["log_loss_difference"] == pytest.approx(place.last.video.log_loss - own)


def test_what_cannot_be_compared_does_not_pass(place):
    def swapped(data):
        videos = sorted(place.videos, key=lambda video: video.video_id)
        split = split_videos(videos, data, place.settings.train.split)
        half = len(split.test_rows) // 2
        folds = ((split.test_rows[:half], split.test_rows[half:]),)
        return Split(split.test_rows, split.train_rows, folds)

    first = place.decide(place.train())
    # The champion has learned from everybody whom the other one is judged on.
    decision = place.decide(place.train(split=swapped))
    assert (decision.promoted, place.aliases) == (False, ["1", "2"])
    assert decision.compared_videos == 0
    assert "neither of them learned from there are 0 real and 0 fake videos in 0 groups" in decision.refusals[-1]

    Path(place.run_of(first).info.artifact_uri, "split.json").unlink()
    decision = promote(place.by(**LENIENT), "2")
    assert (decision.promoted, decision.champion_after) == (False, "1")
    assert decision.refusals[-1].startswith("it cannot be compared with the champion: run ")
    assert "has no split.json" in decision.refusals[-1]


def test_videos_that_have_left_the_catalog_are_not_compared_where_it_is_not_as_it_was(place, monkeypatch):
    place.decide(place.train())
    version = place.train(seed=1)
    gone = {place.last.predictions[0].video_id}
    write_catalog(place.tables, [video for video in place.videos if video.video_id not in gone])

    real = Tables.at

    def unreadable(self, versions):
        if versions.keys() == {"catalog"}:
            raise StoreError("files of this version were deleted")
        return real(self, versions)

    monkeypatch.setattr(Tables, "at", unreadable)
    decision = place.decide(version, **LENIENT)
    assert decision.refusals == ()
    assert (decision.videos, decision.compared_videos) == (len(place.last.predictions), decision.videos - len(gone))


def test_a_model_that_knows_the_people_it_is_judged_on_is_no_champion(place):
    def every_other(data, **how):
        rows = np.arange(len(data.X))
        half = len(rows) // 2
        return Split(rows[::2], rows[1::2], ((rows[:half:2], rows[half::2]),), **how)

    # Even where nothing says that its split leaks.
    decision = place.decide(place.train(split=every_other))
    assert (decision.promoted, decision.champion_after, place.aliases) == (False, None, [None, "1"])
    assert decision.refusals[0].startswith("it cannot be judged: of people that it never saw there are 0 real")
    assert promote(place.settings, "1", force=True, reason="a study").promoted

    leaky = place.train(split=partial(every_other, protocol="seed"))
    decided = read_history(place.settings)
    assert place.decide(leaky, **LENIENT) is None
    for options in ({}, {"force": True, "reason": "a study of leaks"}):
        with pytest.raises(PromotionError, match="version 2 of dfpipe was trained on a split that leaks"):
            promote(place.by(**LENIENT), leaky, **options)
    assert (read_history(place.settings), place.aliases) == (decided, ["1", None])

    # One that was given the alias by hand is not gone back to.
    place.tracking.client.set_registered_model_alias("dfpipe", "champion", leaky)
    assert promote(place.settings, "1", force=True, reason="a study").champion_before == leaky
    with pytest.raises(PromotionError, match="no champion of dfpipe before 1"):
        rollback(place.settings)


def test_who_died_between_history_and_alias_is_finished_by_the_next(place, monkeypatch):
    version = place.train()

    def die(*_):
        raise ServiceError("gone")

    with monkeypatch.context() as patch:
        patch.setattr(promotion, "carry_out", die)
        with pytest.raises(ServiceError):
            place.decide(version)
    assert place.aliases == [None, None]
    assert len(read_history(place.settings)) == 1
    decision = place.decide(version)
    assert place.aliases == ["1", None]
    assert place.run_of(decision).data.tags["dfpipe.decision"] == "1"
    assert len(read_history(place.settings)) == 1
    # What is moved by hand afterwards stays so.
    place.tracking.client.delete_registered_model_alias("dfpipe", "champion")
    place.decide(version)
    assert place.aliases == [None, None]


def test_of_two_who_decide_at_once_one_decides_again(place, monkeypatch):
    first = place.decide(place.train())
    second = place.train(seed=1)
    registry = open_location(place.settings.store, S3Settings()).child("registry")
    tries = []

    def late(where, decision):
        tries.append(decision.champion_before)
        if len(tries) == 1:
            other = decision.model_copy(update={"model": "other"})
            assert append(where, other)
        return append(where, decision)

    monkeypatch.setattr(promotion, "append", late)
    decision = place.decide(second, **LENIENT)
    assert tries == ["1", "1"]
    assert decision.number == 3
    assert [one.number for one in read_decisions(registry)] == [1, 2, 3]
    assert read_history(place.settings) == [first, decision]


def test_the_slower_of_two_does_not_move_the_alias_back(place, monkeypatch):
    place.decide(place.train())
    second, third = place.train(seed=1), place.train(seed=2)
    real = promotion.carry_out
    meanwhile = []

    def slow(tracking, decision):
        if not meanwhile:
            meanwhile.append(decision)
            # Another process finishes this one, and promotes the next.
            assert place.decide(third, **LENIENT).promoted
            assert place.aliases[0] == third
        real(tracking, decision)

    monkeypatch.setattr(promotion, "carry_out", slow)
    assert place.decide(second, **LENIENT).promoted
    assert meanwhile[0].version == second
    assert [one.champion_after for one in read_history(place.settings)] == ["1", second, third]
    assert place.aliases[0] == third


@pytest.mark.parametrize("what", ["run", "version"])
def test_what_was_deleted_before_it_was_carried_out_stops_nobody(place, monkeypatch, what):
    first, second = place.train(), place.train(seed=1)
    with monkeypatch.context() as patch:
        patch.setattr(promotion, "carry_out", lambda *_: None)
        run_id = place.decide(first).run_id
    if what == "run":
        place.tracking.client.delete_run(run_id)
    else:
        place.tracking.client.delete_model_version("dfpipe", first)
    assert place.decide(second, **LENIENT).promoted
    assert place.aliases == [second, None]


def test_an_mlflow_that_begins_anew_counts_its_own_versions(place, empty_database, tmp_path):
    for seed in range(3):
        assert place.decide(place.train(seed=seed), **LENIENT).promoted
    assert place.aliases == ["3", None]

    (tmp_path / "anew/mlflow").mkdir(parents=True)
    shutil.copy(empty_database, tmp_path / "anew/mlflow")
    place.settings = place.settings.model_copy(update={"state": tmp_path / "anew"})
    place.tracking = connect_tracking(place.settings)
    first = place.decide(place.train(seed=3))
    assert (first.number, first.version, first.promoted, place.aliases) == (4, "1", True, ["1", None])
    assert not place.decide(place.train(noise=1.0, seed=4)).promoted
    assert place.decide(place.train(seed=5), **LENIENT).promoted
    assert place.aliases == ["3", "2"]
    # The former version 2 was the champion once; this one never was.
    assert rollback(place.settings).champion_after == "1"
    with pytest.raises(PromotionError, match="no champion of dfpipe before 1"):
        rollback(place.settings)


def test_what_is_not_there_is_told(begun, tmp_path):
    place, _ = begun
    for version in ("7", "nobody", None):
        with pytest.raises(ModelNotFoundError, match="has no version or alias"):
            promote(place.settings, version)
    elsewhere = place.settings.model_copy(update={"state": tmp_path, "store": str(tmp_path / "store")})
    with pytest.raises(ModelNotFoundError, match="no training of this store"):
        rollback(elsewhere)


@pytest.fixture
def serving(begun, tmp_path):
    """Address at which MLflow's own server serves the registered version, and its log."""
    place, version = begun
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", f"models:/dfpipe/{version}"]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    environment = {
        **os.environ,
        # The server is started by name, and no dfpipe is needed to serve.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "MLFLOW_TRACKING_URI": place.tracking.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = tmp_path / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=output, cwd=tmp_path, env=environment, start_new_session=True
        )
        try:
            deadline = time.monotonic() + SERVER_SECONDS
            while not answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=30)


def answers(url):
    try:
        with urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def post(url, rows):
    request = Request(url, json.dumps({"inputs": rows}).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


@pytest.mark.slow
@pytest.mark.services
def test_mlflow_serves_the_registered_model(begun, serving):
    place, version = begun
    _, data = place.load()
    bundle = load_champion(place.tracking, name="dfpipe", alias_or_version=version)
    fingerprints = [feature_fingerprint(PIXELS, place.faces)]
    expected = predict_proba(bundle, data.X, feature_fingerprints=fingerprints) > 0.5
    assert 0 < expected.sum() < len(expected)
    assert post(serving, data.X.tolist()) == expected.astype(int).tolist()
    with pytest.raises(HTTPError) as refused:
        post(serving, data.X[:, 1:].tolist())
    assert refused.value.code == 400
    refused.value.close()
    with pytest.raises(TrainingDataError, match="with other settings, code or weights"):
        predict_proba(bundle, data.X, feature_fingerprints=[feature_fingerprint(PIXELS, "of other crops")])
