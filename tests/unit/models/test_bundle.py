import json
import re
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from dfpipe.errors import StoreError, TrainingDataError
from dfpipe.models import KINDS, Bundle, Candidate, ColumnBlock, Preprocessing, fit, load_estimator, predict_proba
from dfpipe.settings import CropSettings, ExtractSettings, PixelsSettings, ResidualSettings


@pytest.fixture
def preprocessing(data):
    return Preprocessing(
        extract=ExtractSettings(crop=CropSettings(size_px=224)),
        features=(PixelsSettings(size_px=8), ResidualSettings(grid=2)),
        columns=data.columns,
        dtype="float32",
        weights_sha256="ab" * 32,
        faces_fingerprint="0123456789abcdef",
        feature_fingerprints=("f",),
        dfpipe_version="1.2.3",
    )


def dumped(model, estimator):
    if model == "xgboost":
        return bytes(estimator.get_booster().save_raw("ubj"))
    if model == "lightgbm":
        return estimator.booster_.model_to_string().encode()
    return skops.io.dumps(estimator)


def fitted(data, model, **params):
    if KINDS[model].grows:
        params = {"n_estimators": 5} | params
    return fit(Candidate(model, tuple(sorted(params.items())), 0), data, np.arange(len(data.y)))


def test_preprocessing_comes_back_the_same(preprocessing):
    again = Preprocessing.from_json(preprocessing.to_json())
    assert again == preprocessing
    assert again.columns[1] == ColumnBlock("residual", 6, 12)
    assert again.columns[1].stop == 12


def test_preprocessing_from_before_there_was_a_choice_reads_as_what_it_was(preprocessing):
    older = json.loads(preprocessing.to_json())
    del older["rows"], older["features"][0]["channels"]
    assert Preprocessing.from_json(json.dumps(older)) == preprocessing


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{", "", "first byte"),
        ('"size_px": 224', '"sice_px": 224', "extract.crop.sice_px"),
        ("float32", "float64", "dtype"),
    ],
)
def test_preprocessing_that_cannot_be_read_says_where(preprocessing, old, new, message):
    with pytest.raises(StoreError, match=message):
        Preprocessing.from_json(preprocessing.to_json().replace(old, new, 1))


@pytest.mark.parametrize("rows", ["data", "pixels"])
@pytest.mark.parametrize("model", KINDS)
def test_a_model_comes_back_the_same(preprocessing, model, rows, request):
    data = request.getfixturevalue(rows)
    before = fitted(data, model)
    estimator = load_estimator(model, dumped(model, before))
    bundle = Bundle(model, estimator, replace_dtype(preprocessing, data.X.dtype.name), "name", "1")
    proba = predict_proba(bundle, data.X)
    assert proba.dtype == np.float64
    assert np.array_equal(proba, before.predict_proba(data.X)[:, 1])
    assert np.ptp(proba) > 0.1 or model == "lightgbm"


def replace_dtype(preprocessing, dtype):
    return preprocessing.model_copy(update={"dtype": dtype})


@pytest.mark.parametrize("model", ["xgboost", "lightgbm"])
def test_a_model_that_stopped_early_comes_back_as_it_stopped(data, model):
    noise = replace(data, X=np.random.default_rng(0).normal(size=data.X.shape).astype(np.float32))
    before = fitted(noise, model, n_estimators=60, early_stopping_rounds=5)
    after = load_estimator(model, dumped(model, before))
    assert np.array_equal(after.predict_proba(noise.X), before.predict_proba(noise.X))


def test_rows_of_another_kind_are_refused(data, preprocessing):
    bundle = Bundle("forest", None, preprocessing, "name", "4")
    for X in (data.X[:, :-1], data.X.astype(np.uint8), data.X[0]):
        with pytest.raises(TrainingDataError, match=r"name version 4 was trained on float32, shape \(n, 12\)"):
            predict_proba(bundle, X)


def test_rows_that_were_made_in_another_way_are_refused(data, preprocessing):
    fitted = fit(Candidate("forest", (("n_estimators", 2),), 0), data, np.arange(len(data.X)))
    bundle = Bundle("forest", fitted, preprocessing, "name", "4")
    assert len(predict_proba(bundle, data.X, feature_fingerprints=["f"])) == len(data.X)
    # Of the same type and width, but for instance of crops of another size.
    for made_by in (["g"], ["f", "f"], []):
        with pytest.raises(TrainingDataError, match=r"name version 4 was trained on f, made by dfpipe 1\.2\.3"):
            predict_proba(bundle, data.X, feature_fingerprints=made_by)


@pytest.mark.parametrize("model", KINDS)
@pytest.mark.parametrize("content", [b"", b"not a model"])
def test_bytes_that_are_no_model_are_refused(model, content):
    with pytest.raises(StoreError, match=f"the {model} model file cannot be read"):
        load_estimator(model, content)


class Evil:
    pass


def test_another_type_is_not_built(data):
    with pytest.raises(StoreError, match="Evil"):
        load_estimator("forest", skops.io.dumps(Evil()))
    with pytest.raises(StoreError, match="holds a LogisticRegression, expected a RandomForestClassifier"):
        load_estimator("forest", skops.io.dumps(LogisticRegression()))
    with pytest.raises(StoreError, match="holds a LogisticRegression, expected a Pipeline"):
        load_estimator("logistic", skops.io.dumps(LogisticRegression()))
    with pytest.raises(StoreError, match="holds a Pipeline, expected a RandomForestClassifier"):
        load_estimator("forest", dumped("logistic", fitted(data, "logistic")))
    with pytest.raises(StoreError, match="holds a LogisticRegression, expected a CalibratedClassifierCV"):
        load_estimator("rbf_svm", dumped("logistic", fitted(data, "logistic")))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("left_child", 10_000),
        ("right_child", 10_000),
        ("left_child", -7),
        ("left_child", 0),
        ("feature", 12),
        ("feature", -3),
    ],
)
@pytest.mark.parametrize("model", ["forest", "extra_trees"])
def test_a_tree_that_points_outside_itself_is_refused(data, model, field, value):
    forest = fitted(data, model, n_estimators=3)
    tree = forest.estimators_[1].tree_
    state = tree.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"][field][0] = value
    tree.__setstate__(state)
    with pytest.raises(StoreError, match="tree 1 of the model file points outside itself"):
        load_estimator(model, skops.io.dumps(forest))


def test_bundles_are_values(preprocessing):
    bundle = Bundle("forest", None, preprocessing, "name", "4")
    assert replace(bundle, version="5").version == "5"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("_n_support", np.array([9, 10_000], np.int32)),
        ("_n_support", np.array([-1, 10], np.int32)),
        ("_n_support", np.array([1], np.int32)),
        ("support_", np.zeros(1, np.int32)),
        ("_dual_coef_", np.zeros((1, 1))),
        ("_intercept_", np.zeros(0)),
        ("support_vectors_", np.zeros((1, 12))),
        ("support_vectors_", np.zeros((1, 1))),
        ("shape_fit_", (3, 7)),
        ("kernel", "precomputed"),
        ("_sparse", True),
    ],
)
def test_support_vectors_that_do_not_fit_together_are_refused(data, name, value):
    pipeline = fitted(data, "rbf_svm")
    setattr(pipeline[-1].calibrated_classifiers_[0].estimator, name, value)
    with pytest.raises(StoreError, match="the support vectors of the model file do not fit together"):
        load_estimator("rbf_svm", skops.io.dumps(pipeline))


@pytest.fixture(scope="module")
def boosted_text(data):
    return dumped("lightgbm", fitted(data, "lightgbm", min_child_samples=2, n_estimators=3)).decode()


def changed(text, name, number, value):
    """Return the text with one of the numbers of the second tree's line replaced, and the sizes mended."""
    head, *trees = re.split(r"^(?=Tree=)", text, flags=re.MULTILINE)
    line = re.search(rf"^{name}=.*$", trees[1], re.MULTILINE)[0]
    numbers = line.partition("=")[2].split(" ")
    numbers[number : number + 1] = [value] if value else []
    trees[1] = trees[1].replace(line, f"{name}={' '.join(numbers)}")
    sizes = [len(tree.partition("end of trees")[0]) for tree in trees]
    head = re.sub(r"tree_sizes=.*", f"tree_sizes={' '.join(map(str, sizes))}", head)
    return head + "".join(trees)


def test_a_text_with_mended_sizes_is_read(boosted_text, data):
    text = changed(boosted_text, "leaf_value", 0, "0.25")
    assert text != boosted_text
    load_estimator("lightgbm", text.encode()).predict_proba(data.X)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("left_child", "10000"),
        ("left_child", "-10000"),
        ("left_child", "0"),
        ("right_child", "10000"),
        ("right_child", ""),
        ("split_feature", "12"),
        ("split_feature", "-1"),
        ("decision_type", "1"),
        ("threshold", ""),
        ("leaf_value", ""),
        ("num_leaves", "2000000"),
        ("num_leaves", "0"),
        ("num_cat", "1"),
        ("is_linear", "1"),
    ],
)
def test_a_boosted_tree_that_points_outside_itself_is_refused(boosted_text, name, value):
    with pytest.raises(StoreError, match="tree 1 of the model file points outside itself"):
        load_estimator("lightgbm", changed(boosted_text, name, 0, value).encode())


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tree_sizes=", "tree_sizes=9", "not as many or as long"),
        ("max_feature_idx=11", "max_feature_idx=11000", "not as many or as long"),
        ("num_class=1", "num_class=3", "no text of a classifier of two"),
        ("objective=binary sigmoid:1", "objective=regression", "no text of a classifier of two"),
        ("end of trees", "end", "have no end"),
        ("num_leaves", "mum_leaves", "cannot be read"),
    ],
)
def test_a_boosted_text_that_does_not_fit_together_is_refused(boosted_text, old, new, message):
    with pytest.raises(StoreError, match=message):
        load_estimator("lightgbm", boosted_text.replace(old, new, 1).encode())


@given(st.data())
def test_a_cut_boosted_text_never_ends_the_process(boosted_text, draw):
    """Any one line may be missing, or the text may end anywhere."""
    lines = boosted_text.splitlines(keepends=True)
    if draw.draw(st.booleans()):
        text = boosted_text[: draw.draw(st.integers(0, boosted_text.index("end of trees")))]
    else:
        number = draw.draw(st.integers(0, boosted_text.count("\n", 0, boosted_text.index("end of trees"))))
        text = "".join(lines[:number] + lines[number + 1 :])
    with suppress(StoreError):
        # A line that nobody needs may be missing.
        load_estimator("lightgbm", text.encode()).predict_proba(np.zeros((2, 12)))
