from dataclasses import fields, replace

import numpy as np
import pytest

from dfpipe.errors import TrainingDataError
from dfpipe.models import ColumnBlock, TrainingData


def test_video_labels_and_rows(data):
    assert data.video_labels.tolist() == [0, 1] * 12
    assert data.rows_of(np.array([2, 0])).tolist() == [0, 1, 2, 6, 7, 8]
    assert data.rows_of(np.array([], np.intp)).tolist() == []


def test_uint8_rows_are_taken(data):
    pixels = np.zeros(data.X.shape, np.uint8)
    assert replace(data, X=pixels).X.dtype == np.uint8


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_value_that_is_no_number_is_named(data, value):
    X = data.X.copy()
    X[7, 6] = value
    with pytest.raises(TrainingDataError, match=r"feature residual is (nan|inf) in row 7 \(video set/method/c23/002\)"):
        replace(data, X=X)


def with_label(data, row, label):
    y = data.y.copy()
    y[row] = label
    return y


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("X", lambda data: data.X.astype(np.float64), "float64"),
        ("X", lambda data: data.X[:, 0], "shape"),
        ("y", lambda data: data.y[:-1], "72 rows"),
        ("video", lambda data: data.video[:-1], "72 rows"),
        ("groups", lambda data: data.groups[:-1], "24 videos came with groups"),
        ("y", lambda data: with_label(data, 5, 2), "row 5 has label 2"),
        ("y", lambda data: with_label(data, 5, 0), "video set/method/c23/001 has rows labelled real and rows"),
        ("video", lambda data: data.video + 1, "videos 1 to 24, but there are 24"),
        ("video", lambda data: np.minimum(data.video, 22), "video set/method/c23/023 has no rows"),
        ("columns", lambda data: (ColumnBlock("pixels", 0, 5), ColumnBlock("residual", 6, 12)), "without gaps"),
        ("columns", lambda data: (ColumnBlock("pixels", 0, 6),), "cover 0:12"),
        ("columns", lambda data: (), "none"),
    ],
)
def test_what_does_not_fit_is_refused(data, field, change, message):
    values = {one.name: getattr(data, one.name) for one in fields(TrainingData)}
    with pytest.raises(TrainingDataError, match=message):
        TrainingData(**{**values, field: change(data)})


def test_a_video_without_rows_is_refused(data):
    with pytest.raises(TrainingDataError, match="video extra has no rows"):
        replace(data, video_ids=(*data.video_ids, "extra"), groups=np.append(data.groups, np.int32(99)))
