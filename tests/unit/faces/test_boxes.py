import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dfpipe.faces import boxes
from dfpipe.faces.boxes import add_margin, clip, iou, nms, regress, square, whole_pixels

NONE = np.empty((0, 4))


def boxes_of(*rows):
    return np.array(rows, dtype=float).reshape(-1, 4)


@st.composite
def some_boxes(draw, max_size=12):
    count = draw(st.integers(0, max_size))
    corners = draw(hnp.arrays(np.float64, (count, 2), elements=st.integers(-50, 50)))
    sides = draw(hnp.arrays(np.float64, (count, 2), elements=st.integers(1, 60)))
    return np.hstack([corners, corners + sides])


@pytest.mark.parametrize(
    ("first", "second", "over", "expected"),
    [
        (NONE, NONE, "union", np.empty((0, 0))),
        (NONE, boxes_of([0, 0, 1, 1]), "union", np.empty((0, 1))),
        (boxes_of([0, 0, 10, 10]), boxes_of([0, 0, 10, 10]), "union", [[1]]),
        (boxes_of([0, 0, 10, 10]), boxes_of([10, 0, 20, 10]), "union", [[0]]),
        (boxes_of([0, 0, 10, 10]), boxes_of([5, 0, 15, 10]), "union", [[1 / 3]]),
        (boxes_of([0, 0, 10, 10]), boxes_of([0, 0, 5, 10]), "smaller", [[1]]),
        (boxes_of([0, 0, 10, 10]), boxes_of([3, 3, 3, 3], [9, 9, 2, 2]), "smaller", [[0, 0]]),
        (boxes_of([0, 0, 0, 0]), boxes_of([0, 0, 0, 0]), "union", [[0]]),
    ],
)
def test_iou(first, second, over, expected):
    np.testing.assert_allclose(iou(first, second, over=over), expected)


@given(some_boxes(), some_boxes(), st.sampled_from(["union", "smaller"]))
def test_iou_is_symmetric_bounded_and_one_with_itself(first, second, over):
    overlap = iou(first, second, over=over)
    np.testing.assert_array_equal(overlap, iou(second, first, over=over).T)
    assert np.all((overlap >= 0) & (overlap <= 1))
    np.testing.assert_allclose(np.diag(iou(first, first, over=over)), 1)
    np.testing.assert_allclose(iou(first * 4 + 8, second * 4 + 8, over=over), overlap)


@pytest.mark.parametrize(
    ("boxes", "scores", "expected"),
    [
        (NONE, [], []),
        (boxes_of([0, 0, 9, 9]), [0.1], [0]),
        (boxes_of([0, 0, 10, 10], [1, 0, 11, 10]), [0.5, 0.6], [1]),
        (boxes_of([0, 0, 10, 10], [0, 0, 10, 10]), [0.5, 0.5], [0]),
        (boxes_of([0, 0, 10, 10], [50, 0, 60, 10]), [0.5, 0.6], [1, 0]),
        # The middle one goes, and takes nobody with it.
        (boxes_of([0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]), [0.9, 0.8, 0.7], [0, 2]),
    ],
)
def test_nms(boxes, scores, expected):
    assert nms(boxes, np.array(scores), threshold=0.5).tolist() == expected


def naive_nms(boxes, scores, threshold, over):
    kept = []
    for candidate in sorted(range(len(boxes)), key=lambda index: (-scores[index], index)):
        x1, y1, x2, y2 = boxes[candidate]
        for other in kept:
            ox1, oy1, ox2, oy2 = boxes[other]
            common = max(0, min(x2, ox2) - max(x1, ox1)) * max(0, min(y2, oy2) - max(y1, oy1))
            mine, theirs = (x2 - x1) * (y2 - y1), (ox2 - ox1) * (oy2 - oy1)
            if common / (mine + theirs - common if over == "union" else min(mine, theirs)) > threshold:
                break
        else:
            kept.append(candidate)
    return kept


@given(st.data(), some_boxes(), st.sampled_from([0.0, 0.3, 0.5, 0.7, 1.0]), st.sampled_from(["union", "smaller"]))
def test_nms_is_the_naive_one(data, boxes, threshold, over):
    scores = data.draw(hnp.arrays(np.float64, len(boxes), elements=st.integers(0, 5)))
    assert nms(boxes, scores, threshold=threshold, over=over).tolist() == naive_nms(boxes, scores, threshold, over)


@pytest.mark.parametrize(
    ("boxes", "offsets", "expected"),
    [
        (NONE, NONE, NONE),
        (boxes_of([0, 0, 10, 20]), boxes_of([0, 0, 0, 0]), boxes_of([0, 0, 10, 20])),
        (boxes_of([0, 0, 10, 20]), boxes_of([0.1, 0.1, -0.1, 0.2]), boxes_of([1, 2, 9, 24])),
    ],
)
def test_regress(boxes, offsets, expected):
    np.testing.assert_allclose(regress(boxes, offsets), expected)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (NONE, NONE),
        (boxes_of([0, 0, 10, 20]), boxes_of([-5, 0, 15, 20])),
        (boxes_of([0, 0, 30, 10]), boxes_of([0, -10, 30, 20])),
    ],
)
def test_square(boxes, expected):
    np.testing.assert_allclose(square(boxes), expected)


@given(some_boxes())
def test_square_keeps_centre_and_longer_side(boxes):
    squares = square(boxes)
    sides = squares[:, 2:] - squares[:, :2]
    np.testing.assert_allclose(sides, np.repeat(np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True), 2, axis=1))
    np.testing.assert_allclose(squares[:, :2] + squares[:, 2:], boxes[:, :2] + boxes[:, 2:])


@pytest.mark.parametrize(
    ("boxes", "fraction", "expected"),
    [
        (NONE, 0.5, NONE),
        (boxes_of([0, 0, 10, 20]), 0.0, boxes_of([0, 0, 10, 20])),
        (boxes_of([0, 0, 10, 20]), 0.5, boxes_of([-5, -10, 15, 30])),
    ],
)
def test_add_margin(boxes, fraction, expected):
    np.testing.assert_allclose(add_margin(boxes, fraction), expected)


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (NONE, NONE),
        (boxes_of([2, 3, 9, 9]), boxes_of([2, 3, 9, 9])),
        (boxes_of([-5, -5, 99, 99]), boxes_of([0, 0, 20, 10])),
        (boxes_of([-9, 2, -3, 4]), boxes_of([0, 2, 0, 4])),
    ],
)
def test_clip(boxes, expected):
    np.testing.assert_allclose(clip(boxes, width_px=20, height_px=10), expected)


@given(some_boxes())
def test_clip_twice_is_clip_once(boxes):
    once = clip(boxes, width_px=30, height_px=20)
    np.testing.assert_array_equal(clip(once, width_px=30, height_px=20), once)
    assert np.all((once >= 0) & (once <= [30, 20, 30, 20]))


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (NONE, np.empty((0, 4))),
        (boxes_of([2, 3, 9, 9]), [[2, 3, 9, 9]]),
        (boxes_of([2.4, 2.6, 9.4, 8.6]), [[2, 3, 9, 9]]),
        (boxes_of([-5, -5, 99, 99]), [[0, 0, 20, 10]]),
        # No pixel: the first is not below the last.
        (boxes_of([-9, 2, -3, 4]), [[0, 2, 0, 4]]),
        (boxes_of([2.6, 3, 3.4, 9]), [[3, 3, 3, 9]]),
    ],
)
def test_whole_pixels(boxes, expected):
    pixels = whole_pixels(boxes, width_px=20, height_px=10)
    assert pixels.dtype == np.intp
    np.testing.assert_array_equal(pixels, expected)


def test_float32_stays_float32():
    boxes = boxes_of([0, 0, 10, 20]).astype(np.float32)
    for result in (square(boxes), add_margin(boxes, 0.1), clip(boxes, width_px=5, height_px=5), iou(boxes, boxes)):
        assert result.dtype == np.float32


@pytest.mark.parametrize("over", ["union", "smaller"])
def test_nms_of_more_boxes_than_are_compared_at_once(over):
    rng = np.random.default_rng(8)
    corners = rng.uniform(0, 500, (3 * boxes.NMS_BLOCK + 7, 2))
    many = np.hstack([corners, corners + rng.uniform(5, 40, corners.shape)])
    scores = rng.permutation(len(many)) / len(many)
    expected = []
    overlap = iou(many, many, over=over)
    for one in np.argsort(-scores):
        if not any(overlap[one, better] > 0.3 for better in expected):
            expected.append(one)
    # So many are kept that each block meets some of the blocks before it.
    assert len(expected) > boxes.NMS_BLOCK
    assert nms(many, scores, threshold=0.3, over=over).tolist() == expected
