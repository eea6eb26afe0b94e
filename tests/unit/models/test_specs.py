import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from xgboost import XGBClassifier

from dfpipe.models import Candidate, build, candidates, fit
from dfpipe.settings import ForestSettings, TrainSettings, XgboostSettings


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


def test_models_are_ordinary_ones():
    forest = build(Candidate("forest", (("n_estimators", 3),), 5))
    assert type(forest) is RandomForestClassifier
    assert (forest.n_estimators, forest.random_state, forest.n_jobs) == (3, 5, 1)
    assert forest.class_weight == "balanced"
    boosted = build(Candidate("xgboost", (("max_depth", 2),), 5))
    assert type(boosted) is XGBClassifier
    assert (boosted.max_depth, boosted.random_state, boosted.n_jobs) == (2, 5, 1)


def test_xgboost_weighs_both_classes_the_same():
    y = np.array([0] * 2 + [1] * 8, np.int8)
    model = fit(Candidate("xgboost", (("n_estimators", 2),), 0), np.zeros((10, 3), np.uint8), y)
    assert model.scale_pos_weight == pytest.approx(0.25)
    # Without any signal the verdict must not follow the majority.
    assert model.predict_proba(np.zeros((1, 3), np.uint8))[0, 1] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("model", ["forest", "xgboost"])
def test_equal_seeds_give_equal_models(data, model):
    candidate = Candidate(model, (("n_estimators", 5),), 3)
    one, other = (fit(candidate, data.X, data.y).predict_proba(data.X) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("max_features", ["sqrt", 0.5])
def test_a_forest_on_bytes_is_the_one_that_scikit_learn_fits(max_features, monkeypatch):
    X = np.random.default_rng(0).integers(0, 256, (80, 12), np.uint8)
    y = (np.arange(80) % 3 == 0).astype(np.int8)
    forest = Candidate("forest", (("max_depth", 4), ("max_features", max_features), ("n_estimators", 5)), 7)
    monkeypatch.setattr("sklearn.ensemble.RandomForestClassifier.fit", lambda *_: pytest.fail("the slow way was taken"))
    found = fit(forest, X, y)
    monkeypatch.undo()
    expected = build(forest).fit(X, y)
    assert found.get_params() == expected.get_params()
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(X))
