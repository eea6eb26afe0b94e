from dataclasses import replace

import numpy as np
import pytest
from lightgbm import LGBMClassifier
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.svm import SVC, LinearSVC
from xgboost import XGBClassifier

from dfpipe.errors import TrainingDataError
from dfpipe.models import KINDS, Candidate, build, candidates, fit, upsampled
from dfpipe.settings import ForestSettings, LightgbmSettings, TrainSettings, XgboostSettings


def test_the_grid_is_every_combination():
    grid = candidates(
        TrainSettings(
            forest=ForestSettings(n_estimators=[10, 20], max_depth=[None, 4], max_features=["sqrt"]),
            xgboost=XgboostSettings(n_estimators=[5], max_depth=[2, 3], learning_rate=[0.1]),
            seed=7,
        )
    )
    assert len(grid) == len(set(grid)) == 6
    assert grid[0] == Candidate("forest", (("max_depth", None), ("max_features", "sqrt"), ("n_estimators", 10)), 7)
    assert grid[0].name == "forest max_depth=None max_features=sqrt n_estimators=10"
    assert [candidate.model for candidate in grid] == ["forest"] * 4 + ["xgboost"] * 2


def test_a_model_can_be_left_out():
    assert {one.model for one in candidates(TrainSettings(forest=None))} == {"xgboost"}
    assert {one.model for one in candidates(TrainSettings(xgboost=None))} == {"forest"}


SMALL = {"forest": 5, "extra_trees": 5, "xgboost": 5, "lightgbm": 5}


def small(model, **params):
    """A candidate that is fitted in no time."""
    chosen = {"n_estimators": SMALL[model]} if model in SMALL else {}
    return Candidate(model, tuple(sorted((chosen | params).items())), 3)


def every_row(data):
    return np.arange(len(data.y))


def test_what_is_null_is_left_to_the_library():
    (one,) = candidates(TrainSettings(forest=None, xgboost=None, lightgbm=LightgbmSettings(min_child_samples=[5])))
    assert one.name == "lightgbm learning_rate=0.1 min_child_samples=5 n_estimators=200 num_leaves=31"


def test_the_kinds_are_those_of_the_settings():
    everything = TrainSettings(**{model: {} for model in KINDS})
    assert list(dict.fromkeys(one.model for one in candidates(everything))) == list(KINDS)
    for one in candidates(everything):
        build(one)  # libraries refuse names that they do not know


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("forest", RandomForestClassifier),
        ("extra_trees", ExtraTreesClassifier),
        ("xgboost", XGBClassifier),
        ("lightgbm", LGBMClassifier),
        ("logistic", LogisticRegression),
        ("linear_svm", LinearSVC),
        ("rbf_svm", SVC),
    ],
)
def test_models_are_ordinary_ones(model, expected):
    estimator = build(Candidate(model, (), 5))
    assert type(estimator) is expected
    assert estimator.random_state == 5
    assert getattr(estimator, "n_jobs", 1) in (1, None)


@pytest.mark.parametrize("rows", ["data", "pixels"])
@pytest.mark.parametrize("model", KINDS)
def test_every_kind_learns_from_its_rows_alone(model, rows, request):
    data = request.getfixturevalue(rows)
    learnt = np.flatnonzero(data.video < 16)
    candidate = small(model, **({"min_child_samples": 3} if model == "lightgbm" else {}))
    proba = fit(candidate, data, learnt).predict_proba(data.X)
    assert proba.shape == (len(data.y), 2)
    unseen = data.video >= 16
    assert roc_auc_score(data.y[unseen], proba[unseen, 1]) > 0.8
    # Equal seeds give equal models, and rows that were not to be learnt from change nothing.
    changed = replace(data, X=np.where(unseen[:, None], 0, data.X).astype(data.X.dtype))
    assert np.array_equal(fit(candidate, changed, learnt).predict_proba(data.X), proba)


def rare_fakes(data):
    """Indices of all real rows and those of one fake video in four."""
    fake_videos = np.unique(data.video[data.y == 1])
    return np.flatnonzero((data.y == 0) | np.isin(data.video, fake_videos[::4]))


@pytest.mark.parametrize("balance", ["weights", "upsample"])
@pytest.mark.parametrize("model", KINDS)
def test_without_signal_no_kind_follows_the_majority(data, model, balance):
    blind = replace(data, X=np.zeros_like(data.X), groups=np.arange(24, dtype=np.int32))
    rows = rare_fakes(blind)
    told = fit(replace(small(model), balance=balance), blind, rows)
    assert told.predict_proba(blind.X[:1])[0, 1] == pytest.approx(0.5, abs=0.15)
    untold = fit(replace(small(model), balance="none"), blind, rows)
    assert untold.predict_proba(blind.X[:1])[0, 1] < 0.35


def test_upsampling_repeats_rows_of_the_rarer_class_alone(data):
    rows = rare_fakes(data)[2:]
    real, fake = rows[data.y[rows] == 0], rows[data.y[rows] == 1]
    drawn = upsampled(data, rows, seed=0)
    times = np.bincount(drawn, minlength=len(data.y))
    assert (times[real] == 1).all()
    assert times[fake].sum() == len(real)
    assert set(times[fake]) <= {len(real) // len(fake), len(real) // len(fake) + 1}
    assert set(drawn) == set(rows)
    assert np.array_equal(drawn, upsampled(data, rows, seed=0))
    assert not np.array_equal(drawn, upsampled(data, rows[:-3], seed=1))


@pytest.mark.parametrize("model", ["xgboost", "lightgbm"])
def test_boosting_stops_by_people_that_it_does_not_learn_from(data, model, monkeypatch):
    from dfpipe.models import specs

    parts = []

    def looked_at(*args):
        parts.append(args)
        return specs_part(*args)

    specs_part = specs._stopping_part
    monkeypatch.setattr(specs, "_stopping_part", looked_at)
    rows = every_row(data)[6:]
    noise = replace(data, X=np.random.default_rng(0).normal(size=data.X.shape).astype(np.float32))
    stopped = fit(small(model, n_estimators=200, early_stopping_rounds=3), noise, rows)
    best = stopped.best_iteration + 1 if model == "xgboost" else stopped.best_iteration_
    assert best < 50
    ((_, given, seed),) = parts
    learnt, judged = specs_part(noise, given, seed)
    assert np.array_equal(np.union1d(learnt, judged), rows)
    assert not set(data.groups[data.video[learnt]]) & set(data.groups[data.video[judged]])
    # What judges is not learnt from: other labels there change when it stops, and nothing of the trees before.
    plain = fit(small(model, n_estimators=1), noise, learnt)
    stump = fit(small(model, n_estimators=1, early_stopping_rounds=3), noise, rows)
    assert np.array_equal(plain.predict_proba(noise.X), stump.predict_proba(noise.X))


@pytest.mark.parametrize(
    ("model", "params", "message"),
    [
        ("xgboost", {"early_stopping_rounds": 2}, "early_stopping_rounds holds people of the training side out: got 1"),
        ("rbf_svm", {}, "an SVM's probabilities come from 3 parts of its training side: got 1 groups"),
    ],
)
def test_too_few_people_to_hold_some_out(data, model, params, message):
    with pytest.raises(TrainingDataError, match=message):
        fit(small(model, **params), data, np.flatnonzero(data.groups[data.video] == 0))


@pytest.mark.parametrize("balance", ["weights", "none", "upsample"])
@pytest.mark.parametrize(
    "params", [{}, {"max_depth": 3, "max_features": 0.5}, {"max_leaf_nodes": 5}, {"min_samples_leaf": 4}]
)
def test_a_forest_on_bytes_is_scikit_learns_own(pixels, params, balance, monkeypatch):
    rows = np.flatnonzero(pixels.video < 15)
    candidate = replace(small("forest", **params), balance=balance)
    monkeypatch.setattr("sklearn.ensemble.RandomForestClassifier.fit", lambda *_: pytest.fail("the slow way was taken"))
    forest = fit(candidate, pixels, rows)
    monkeypatch.undo()
    learnt = upsampled(pixels, rows, seed=3) if balance == "upsample" else rows
    own = build(candidate).set_params(class_weight="balanced" if balance == "weights" else None)
    own.fit(pixels.X[learnt], pixels.y[learnt])
    assert type(forest) is RandomForestClassifier
    assert forest.get_params() == own.get_params()
    assert np.array_equal(forest.predict_proba(pixels.X), own.predict_proba(pixels.X))
