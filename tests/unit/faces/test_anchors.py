import numpy as np
import pytest

from dfpipe.faces.anchors import MOST_CANDIDATES, Candidates, Level, best_of, decode

LEVEL = Level(16, 8.0, (64.0, 128.0))


def heads(rows, columns):
    """Scores, boxes and landmarks of a level where nothing is a face and every anchor is where it is."""
    return [np.zeros((rows, columns, channels), np.float32) for channels in (2, 8, 20)]


def test_nothing_above_the_bound():
    scores, boxes, landmarks = heads(3, 4)
    scores[1, 2, 0] = 0.5
    found = decode(LEVEL, scores, boxes, landmarks, min_score=0.5)
    assert (found.boxes.shape, found.scores.shape, found.landmarks.shape) == ((0, 4), (0,), (0, 5, 2))


@pytest.mark.parametrize(
    ("anchor", "deltas", "scales", "expected"),
    [
        (0, [0, 0, 0, 0], {}, [8, -8, 72, 56]),
        (1, [0, 0, 0, 0], {}, [-24, -40, 104, 88]),
        (0, [0.5, -0.25, 0, 0], {}, [40, -24, 104, 40]),
        (0, [0, 0, np.log(2), np.log(0.5)], {}, [-24, 8, 104, 40]),
        (0, [5, -2.5, 5 * np.log(2), 0], {"centre_scale": 0.1, "size_scale": 0.2}, [8, -24, 136, 40]),
    ],
    ids=["first anchor", "second anchor", "moved", "resized", "scaled"],
)
def test_boxes_of_the_cell_in_row_1_and_column_2(anchor, deltas, scales, expected):
    scores, boxes, landmarks = heads(3, 4)
    scores[1, 2, anchor] = 0.9
    boxes[1, 2, 4 * anchor : 4 * anchor + 4] = deltas
    found = decode(LEVEL, scores, boxes, landmarks, min_score=0.5, **scales)
    np.testing.assert_allclose(found.boxes, [expected], rtol=1e-6)
    assert found.scores.tolist() == [np.float32(0.9)]


def test_landmarks_are_points_from_the_anchor():
    scores, boxes, landmarks = heads(2, 2)
    scores[0, 1, 1] = 0.9
    landmarks[0, 1, 10:] = np.arange(10)
    found = decode(LEVEL, scores, boxes, landmarks, min_score=0.5, centre_scale=0.1)
    expected = np.array([24, 8]) + 0.1 * 128 * np.arange(10).reshape(5, 2)
    np.testing.assert_allclose(found.landmarks, [expected], rtol=1e-6)


def candidates(boxes, scores):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    marks = np.repeat(np.array(scores, np.float32), 10).reshape(-1, 5, 2)
    return Candidates(boxes, np.array(scores, np.float32), marks)


def test_the_best_of_all_levels_comes_first_with_its_own_landmarks():
    found = best_of(
        [
            candidates([[0, 0, 10, 10], [50, 0, 60, 10]], [0.6, 0.7]),
            candidates([], []),
            candidates([[0, 1, 10, 11], [5, 0, 15, 10]], [0.9, 0.8]),
        ]
    )
    np.testing.assert_allclose(found.scores, [0.9, 0.8, 0.7])  # the first overlaps by nine tenths, the last by a third
    np.testing.assert_array_equal(found.boxes, [[0, 1, 10, 11], [5, 0, 15, 10], [50, 0, 60, 10]])
    np.testing.assert_array_equal(found.landmarks[:, 0, 0], found.scores)


def test_no_candidates():
    assert best_of([candidates([], []), candidates([], [])]).boxes.shape == (0, 4)


def test_a_bound_on_what_is_compared():
    """The best stay, however many there are."""
    count = MOST_CANDIDATES + 500
    apart = np.arange(count, dtype=np.float32)[:, None] * 20 + np.array([0, 0, 10, 10], np.float32)
    found = best_of([candidates(apart, np.linspace(0, 1, count))])
    assert len(found.scores) == MOST_CANDIDATES
    np.testing.assert_array_equal(found.boxes[0], apart[-1])
