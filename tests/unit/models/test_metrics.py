import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.models import frame_level, video_level, video_scores


def test_frame_level_by_hand():
    y = np.array([0, 0, 0, 1, 1], np.int8)
    scores = frame_level(y, np.array([0.1, 0.5, 0.2, 0.9, 0.4]))
    assert scores.confusion.tolist() == [[2, 1], [1, 1]]
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.auc == pytest.approx(5 / 6)
    assert scores.precision_real == pytest.approx(2 / 3)
    assert scores.recall_real == pytest.approx(2 / 3)
    assert scores.precision_fake == pytest.approx(1 / 2)
    assert scores.recall_fake == pytest.approx(1 / 2)
    assert scores.f1_fake == pytest.approx(1 / 2)
    assert scores.log_loss == pytest.approx(-np.log([0.9, 0.5, 0.8, 0.9, 0.4]).mean())


def test_one_class_has_no_auc():
    scores = frame_level(np.ones(3, np.int8), np.array([0.9, 0.8, 0.1]))
    assert math.isnan(scores.auc)
    assert scores.balanced_accuracy == pytest.approx(2 / 3)
    assert scores.confusion.tolist() == [[0, 0], [1, 2]]


def test_names_carry_the_prefix_and_no_counts():
    named = frame_level(np.array([0, 1], np.int8), np.array([0.0, 1.0])).named("video_")
    assert named["video_auc"] == 1
    assert len(named) == 10
    assert all(name.startswith("video_") for name in named)


@pytest.mark.parametrize(
    ("proba", "video", "n", "expected"),
    [
        ([], [], 0, []),
        ([], [], 1, [np.nan]),
        ([0.25, 0.75, 1.0], [0, 0, 2], 3, [0.5, np.nan, 1.0]),
    ],
)
def test_video_scores(proba, video, n, expected):
    scores = video_scores(np.array(proba, np.float64), np.array(video, np.int32), n)
    np.testing.assert_allclose(scores, expected)


def test_video_level_takes_means_not_votes():
    y = np.array([1, 1, 1, 0], np.int8)
    scores = video_level(y, np.array([0.45, 0.45, 0.95, 0.1]), np.array([5, 5, 5, 9]))
    assert scores.accuracy == 1
    assert scores.confusion.sum() == 2


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.randoms())
def test_video_level_with_one_face_each_is_frame_level_in_any_order(rows, random):
    y = np.array([label for label, _ in rows], np.int8)
    proba = np.array([score for _, score in rows])
    order = list(range(len(rows)))
    random.shuffle(order)
    frame, video = frame_level(y, proba), video_level(y[order], proba[order], np.array(order))
    np.testing.assert_equal(video.named(""), pytest.approx(frame.named(""), nan_ok=True))
    assert video.confusion.tolist() == frame.confusion.tolist()
