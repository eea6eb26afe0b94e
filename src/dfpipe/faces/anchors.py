"""From what a single-shot detector's heads say in every cell to boxes, in plain NumPy.

Such a network looks at the picture in cells of a few strides. Each cell has anchors, squares of known sizes about a
known point, and the heads say for each how likely it holds a face, and how the face's box and landmarks differ from it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfpipe.faces.boxes import nms

__all__ = ["Candidates", "Level", "best_of", "decode"]

Floats = NDArray[np.float32]

# More than any picture has faces; without a bound, a low score would compare every anchor with every other.
MOST_CANDIDATES = 1000
MOST_OVERLAP = 0.4


@dataclass(frozen=True, slots=True)
class Level:
    """Cells of one stride."""

    stride_px: int
    """Width and height of a cell."""
    centre_px: float
    """Where the anchors' common centre lies in its cell, from the left and from the top."""
    sizes_px: tuple[float, ...]
    """Sides of the anchors, in the order of the heads' channels."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """What may be faces."""

    boxes: Floats
    """Shape (n, 4): x1, y1, x2, y2 in pixels."""
    scores: Floats
    """Shape (n,)."""
    landmarks: Floats
    """Shape (n, 5, 2): x, y in pixels."""


def decode(
    level: Level,
    scores: Floats,
    boxes: Floats,
    landmarks: Floats,
    *,
    min_score: float,
    centre_scale: float = 1.0,
    size_scale: float = 1.0,
) -> Candidates:
    """Return the anchors of one level whose score is above a bound, with their boxes and landmarks.

    Parameters
    ----------
    scores
        Shape (rows, columns, anchors), 0 to 1.
    boxes
        Shape (rows, columns, anchors * 4): how far the centre lies off, x and y, in sides of the anchor, and the
        logarithm of width and height in the same measure.
    landmarks
        Shape (rows, columns, anchors * 10): x, y of five points from the anchor's centre, in its sides.
    centre_scale, size_scale
        The heads' numbers for places and for logarithms are multiplied by these first.

    Examples
    --------
    One cell with one anchor of 16 pixels about 4, 4; the face lies half a side to the right and is twice as wide.

    >>> found = decode(
    ...     Level(8, 4.0, (16.0,)),
    ...     np.array([[[0.9]]], np.float32),
    ...     np.array([[[0.5, 0, np.log(2), 0]]], np.float32),
    ...     np.zeros((1, 1, 10), np.float32),
    ...     min_score=0.5,
    ... )
    >>> found.boxes.tolist(), found.landmarks[0, 0].tolist()
    ([[-4.0, -4.0, 28.0, 12.0]], [4.0, 4.0])
    """
    rows, columns, anchors = np.nonzero(scores > min_score)
    picked = (rows, columns, anchors)
    cells = np.stack([columns, rows], axis=1).astype(np.float32)
    middles = cells * level.stride_px + np.float32(level.centre_px)
    sides = np.array(level.sizes_px, np.float32)[anchors, None]
    shape = scores.shape
    deltas = boxes.reshape(*shape, 4)[picked]
    centres = middles + deltas[:, :2] * centre_scale * sides
    halves = np.exp(deltas[:, 2:] * size_scale) * sides / 2
    points = landmarks.reshape(*shape, 5, 2)[picked] * centre_scale * sides[:, None] + middles[:, None]
    return Candidates(np.hstack([centres - halves, centres + halves]), scores[picked], points)


def best_of(levels: Sequence[Candidates]) -> Candidates:
    """Return one candidate for each face, the most confident first: of those that overlap, the better."""
    scores = np.concatenate([level.scores for level in levels])
    likely = np.argsort(-scores, kind="stable")[:MOST_CANDIDATES]
    boxes = np.concatenate([level.boxes for level in levels])[likely]
    landmarks = np.concatenate([level.landmarks for level in levels])[likely]
    kept = nms(boxes, scores[likely], threshold=MOST_OVERLAP)
    return Candidates(boxes[kept], scores[likely][kept], landmarks[kept])
