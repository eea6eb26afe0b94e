import json
from dataclasses import replace

import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from dfpipe.errors import StoreError, TrainingDataError
from dfpipe.models import Bundle, Candidate, ColumnBlock, Preprocessing, fit, load_estimator, predict_proba
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
    return skops.io.dumps(estimator) if model == "forest" else bytes(estimator.get_booster().save_raw("ubj"))


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


@pytest.mark.parametrize("model", ["forest", "xgboost"])
def test_a_model_comes_back_the_same(data, preprocessing, model):
    fitted = fit(Candidate(model, (("n_estimators", 5),), 0), data.X, data.y)
    bundle = Bundle(model, load_estimator(model, dumped(model, fitted)), preprocessing, "name", "1")
    assert type(bundle.estimator) is type(fitted)
    proba = predict_proba(bundle, data.X)
    assert proba.dtype == np.float64
    assert np.array_equal(proba, fitted.predict_proba(data.X)[:, 1])


def test_rows_of_another_kind_are_refused(data, preprocessing):
    bundle = Bundle("forest", None, preprocessing, "name", "4")
    for X in (data.X[:, :-1], data.X.astype(np.uint8), data.X[0]):
        with pytest.raises(TrainingDataError, match=r"name version 4 was trained on float32, shape \(n, 12\)"):
            predict_proba(bundle, X)


def test_rows_that_were_made_in_another_way_are_refused(data, preprocessing):
    fitted = fit(Candidate("forest", (("n_estimators", 2),), 0), data.X, data.y)
    bundle = Bundle("forest", fitted, preprocessing, "name", "4")
    assert len(predict_proba(bundle, data.X, feature_fingerprints=["f"])) == len(data.X)
    # Of the same type and width, but for instance of crops of another size.
    for made_by in (["g"], ["f", "f"], []):
        with pytest.raises(TrainingDataError, match=r"name version 4 was trained on f, made by dfpipe 1\.2\.3"):
            predict_proba(bundle, data.X, feature_fingerprints=made_by)


@pytest.mark.parametrize("model", ["forest", "xgboost"])
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
def test_a_tree_that_points_outside_itself_is_refused(data, field, value):
    forest = fit(Candidate("forest", (("n_estimators", 3),), 0), data.X, data.y)
    tree = forest.estimators_[1].tree_
    state = tree.__getstate__()
    state["nodes"] = state["nodes"].copy()
    state["nodes"][field][0] = value
    tree.__setstate__(state)
    with pytest.raises(StoreError, match="tree 1 of the model file points outside itself"):
        load_estimator("forest", skops.io.dumps(forest))


def test_bundles_are_values(preprocessing):
    bundle = Bundle("forest", None, preprocessing, "name", "4")
    assert replace(bundle, version="5").version == "5"
