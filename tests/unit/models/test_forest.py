"""The uint8 forest is scikit-learn's, node by node, and needs nobody but scikit-learn afterwards."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier

from dfpipe.errors import TrainingDataError
from dfpipe.models.bundle import load_estimator
from dfpipe.models.forest import fit_uint8_forest, forest_proba
from dfpipe.models.kinds import KINDS

FIELDS = ["left_child", "right_child", "feature", "threshold", "impurity", "n_node_samples", "weighted_n_node_samples"]

PARAMETERS = [
    {},
    {"max_features": None},
    {"max_features": 0.3},
    {"max_features": 5},
    {"max_features": "log2"},
    {"bootstrap": False},
    {"max_samples": 0.4},
    {"max_samples": 50},
    {"min_samples_leaf": 3},
    {"min_samples_leaf": 0.05},
    {"min_samples_split": 10},
    {"min_samples_split": 0.1},
    {"min_weight_fraction_leaf": 0.1},
    {"min_impurity_decrease": 0.01},
    {"max_depth": 3},
    {"max_leaf_nodes": 2},
    {"max_leaf_nodes": 12},
    {"max_leaf_nodes": 30, "min_samples_leaf": 2, "max_depth": 6},
    {"class_weight": "balanced"},
    {"class_weight": {0: 3, 1: 1}},
    {"class_weight": {0: 3, 1: 1}, "bootstrap": False},
    {"class_weight": {0: 0, 1: 1}, "bootstrap": False},
]


def make_data(num_rows=250, num_columns=60, values=256, seed=0):
    """Columns of noise with a little signal, some of them constant; few values make many equal splits."""
    rng = np.random.default_rng(seed)
    y = np.arange(num_rows) % 5 // 3
    X = rng.integers(0, values, (num_rows, num_columns), np.uint8)
    X[:, 3:8] = np.minimum(X[:, 3:8] + y[:, None] * values // 8, values - 1)
    X[:, :3] = 7
    return X, y.astype(np.int8)


def nodes_of(forest):
    return [estimator.tree_.__getstate__() for estimator in forest.estimators_]


def assert_same_trees(forest, other):
    for one, another in zip(nodes_of(forest), nodes_of(other), strict=True):
        for field in FIELDS:
            np.testing.assert_array_equal(one["nodes"][field], another["nodes"][field], field)
        inner = one["nodes"]["left_child"] >= 0
        for state in (one, another):
            state["nodes"]["missing_go_to_left"][~inner] = 0
        np.testing.assert_array_equal(one["nodes"]["missing_go_to_left"], another["nodes"]["missing_go_to_left"])
        np.testing.assert_array_equal(one["values"], another["values"])
        assert one["max_depth"] == another["max_depth"]


@pytest.mark.parametrize("values", [2, 5, 256], ids="of {} values".format)
@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_the_same_seed_gives_scikit_learn_s_trees(parameters, values):
    X, y = make_data(values=values)
    forest = fit_uint8_forest(X, y, n_estimators=4, random_state=3, **parameters)
    other = RandomForestClassifier(n_estimators=4, random_state=3, **parameters).fit(X, y)
    assert_same_trees(forest, other)
    np.testing.assert_array_equal(forest.predict_proba(X), other.predict_proba(X))
    np.testing.assert_array_equal(forest.feature_importances_, other.feature_importances_)


@settings(max_examples=60, deadline=None)
@given(
    num_rows=st.integers(2, 450),
    num_columns=st.integers(1, 20),
    values=st.integers(1, 256),
    seed=st.integers(0, 2**31 - 1),
    parameters=st.sampled_from(PARAMETERS),
)
def test_whatever_the_data(num_rows, num_columns, values, seed, parameters):
    rng = np.random.default_rng(seed)
    X = rng.integers(0, values, (num_rows, num_columns), np.uint8)
    y = rng.permutation(np.arange(num_rows) % 2)
    parameters = {name: min(value, num_rows) if name == "max_samples" else value for name, value in parameters.items()}
    if parameters.get("max_features") == 5:
        parameters["max_features"] = min(5, num_columns)
    if isinstance(parameters.get("max_samples"), float):
        # A share of few rows is a warning.
        parameters["max_samples"] = max(1, num_rows // 3)
    forest = fit_uint8_forest(X, y, n_estimators=2, random_state=seed, **parameters)
    assert_same_trees(forest, RandomForestClassifier(n_estimators=2, random_state=seed, **parameters).fit(X, y))


def test_weights_that_are_no_whole_numbers():
    """Where sums are not exact, equal splits may be chosen otherwise; the forest is as good."""
    X, y = make_data(2000, 30, seed=1)
    test, truth = make_data(2000, 30, seed=2)
    accuracies = {
        fit: np.mean([np.mean(fit(seed).predict(test) == truth) for seed in range(10)])
        for fit in (
            lambda seed: fit_uint8_forest(
                X, y, n_estimators=20, max_depth=6, random_state=seed, class_weight="balanced_subsample"
            ),
            lambda seed: RandomForestClassifier(
                20, max_depth=6, random_state=seed, class_weight="balanced_subsample"
            ).fit(X, y),
        )
    }
    ours, theirs = accuracies.values()
    assert ours == pytest.approx(theirs, abs=0.01)


@pytest.mark.parametrize("layout", ["C", "F"])
@pytest.mark.parametrize("n_jobs", [1, 3, -1])
def test_neither_threads_nor_layout_matter(n_jobs, layout):
    X, y = make_data()
    forest = fit_uint8_forest(np.asarray(X, order=layout), y, n_estimators=9, random_state=0, n_jobs=n_jobs)
    assert_same_trees(forest, fit_uint8_forest(X, y, n_estimators=9, random_state=0))
    assert [tree.random_state for tree in forest.estimators_] == [
        tree.random_state for tree in RandomForestClassifier(9, random_state=0).fit(X, y).estimators_
    ]


def test_some_rows_of_an_array_are_enough():
    X, y = make_data()
    rows = np.random.default_rng(0).permutation(len(y))[:120]
    forest = fit_uint8_forest(X, y, rows=rows, n_estimators=3, random_state=1)
    assert_same_trees(forest, RandomForestClassifier(3, random_state=1).fit(X[rows], y[rows]))
    rest = np.setdiff1d(np.arange(len(y)), rows)
    np.testing.assert_array_equal(forest_proba(forest, X, rest)[3], forest.predict_proba(X[rest]))


def test_every_number_of_trees_is_answered_by_the_largest_forest():
    X, y = make_data()
    train, test = np.arange(200), np.arange(200, 250)
    at = [1, 3, 8]
    whole = fit_uint8_forest(X, y, rows=train, n_estimators=8, random_state=5, max_depth=4)
    answered = forest_proba(whole, X, test, at=at)
    for number in at:
        alone = RandomForestClassifier(number, random_state=5, max_depth=4).fit(X[train], y[train])
        np.testing.assert_array_equal(answered[number], alone.predict_proba(X[test]))


def test_what_scikit_learn_offers_beyond_predictions_works():
    X, y = make_data()
    forest = fit_uint8_forest(X, y, n_estimators=5, random_state=0, class_weight="balanced")
    other = RandomForestClassifier(5, random_state=0, class_weight="balanced", n_jobs=1).fit(X, y)
    assert forest.get_params() == other.get_params()
    np.testing.assert_array_equal(forest.apply(X), other.apply(X))
    np.testing.assert_array_equal(forest.decision_path(X)[1], other.decision_path(X)[1])
    for drawn, also in zip(forest.estimators_samples_, other.estimators_samples_, strict=True):
        np.testing.assert_array_equal(drawn, also)
    np.testing.assert_array_equal(clone(forest).fit(X, y).predict(X), forest.predict(X))
    assert forest.score(X, y) == other.score(X, y)


def test_labels_of_any_kind():
    X, y = make_data()
    names = np.array(["real", "fake"])[y]
    forest = fit_uint8_forest(X, names, n_estimators=2, random_state=0)
    assert forest.classes_.tolist() == ["fake", "real"]
    np.testing.assert_array_equal(forest.predict(X), RandomForestClassifier(2, random_state=0).fit(X, names).predict(X))


def test_it_is_loaded_where_there_is_no_dfpipe(tmp_path):
    X, y = make_data()
    forest = fit_uint8_forest(X, y, n_estimators=3, random_state=0)
    (tmp_path / "forest.pickle").write_bytes(pickle.dumps(forest))
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "proba.npy", forest.predict_proba(X))
    script = (
        "import sys, pickle, numpy as np\n"
        "sys.modules['dfpipe'] = sys.modules['numba'] = None\n"
        "forest = pickle.load(open('forest.pickle', 'rb'))\n"
        "assert (forest.predict_proba(np.load('X.npy')) == np.load('proba.npy')).all()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True, timeout=120)


def test_it_is_kept_without_pickle():
    import skops.io

    X, y = make_data()
    forest = fit_uint8_forest(X, y, n_estimators=3, random_state=0)
    data = skops.io.dumps(forest)
    assert set(skops.io.get_untrusted_types(data=data)) <= set(KINDS["forest"].trusted)
    np.testing.assert_array_equal(load_estimator("forest", data).predict_proba(X), forest.predict_proba(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X, y: (X.astype(np.float32), y), "got features of float32"),
        (lambda X, y: (X[:, 0], y), r"got features of uint8, shape \(250,\)"),
        (lambda X, y: (X, y[:10]), "expected one a row"),
        (lambda X, y: (X, np.zeros_like(y)), "labels of 1 classes, expected two"),
        (lambda X, y: (X, np.arange(len(y))), "labels of 250 classes, expected two"),
        (lambda X, y: (X[:0], y[:0]), "got 0 rows"),
    ],
)
def test_data_that_do_not_fit(change, message):
    with pytest.raises(TrainingDataError, match=message):
        fit_uint8_forest(*change(*make_data()), n_estimators=1)


def test_rows_that_are_named_twice():
    X, y = make_data()
    with pytest.raises(TrainingDataError, match="each once"):
        fit_uint8_forest(X, y, rows=np.array([0, 1, 4, 4]))


@pytest.mark.parametrize(
    "parameters", [{"max_depth": 0}, {"max_features": "all"}, {"bootstrap": False, "max_samples": 3}]
)
def test_parameters_that_scikit_learn_refuses(parameters):
    X, y = make_data()
    with pytest.raises(ValueError, match=r"max_"):
        fit_uint8_forest(X, y, **parameters)


@pytest.mark.parametrize("rows", [[0, 1, 250], [-1, 0, 1], [0, 2**32]])
def test_rows_that_are_not_there(rows):
    """Compiled code would read beyond the array."""
    X, y = make_data()
    message = r"of an array of 250, expected 0 to 249"
    with pytest.raises(TrainingDataError, match=message):
        fit_uint8_forest(X, y, rows=np.array(rows), n_estimators=1)
    with pytest.raises(TrainingDataError, match=message):
        forest_proba(fit_uint8_forest(X, y, n_estimators=1), X, np.array(rows))


def test_a_forest_of_three_classes_cannot_be_asked():
    X, _ = make_data()
    forest = RandomForestClassifier(2, random_state=0).fit(X, np.arange(len(X)) % 3)
    with pytest.raises(TrainingDataError, match="3 classes, expected two"):
        forest_proba(forest, X)


def test_fewer_trees_than_asked_for():
    X, y = make_data()
    with pytest.raises(TrainingDataError, match="fewer than 3 trees"):
        forest_proba(fit_uint8_forest(X, y, n_estimators=2), X, at=[1, 3])


def test_columns_that_the_forest_does_not_know():
    X, y = make_data()
    with pytest.raises(TrainingDataError, match="got 59 columns, expected 60"):
        forest_proba(fit_uint8_forest(X, y, n_estimators=2), X[:, 1:])


def test_no_place_to_keep_compiled_code_is_no_error(tmp_path):
    """Without the second try numba ends the import: cannot cache function, no locator available."""
    script = (
        "import numba.core.caching as caching\n"
        "caching.CacheImpl._locator_classes = []\n"
        "import dfpipe.models._forest_kernel\n"
    )
    ended = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
