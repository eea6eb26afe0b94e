"""Box mathematics in plain NumPy.

A box is ``x1, y1, x2, y2`` in pixels, x to the right, y down; ``n`` boxes are an array of shape (n, 4).
Coordinates are edges, not pixel centres: the whole of a picture is ``0, 0, width, height``.
"""

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Boxes", "add_margin", "clip", "iou", "nms", "regress", "square", "whole_pixels"]

# Boxes compared with each other at once: bounds the memory, which would grow with the square of their number.
NMS_BLOCK = 256

Boxes = NDArray[np.floating[Any]]
Overlap = Literal["union", "smaller"]


def iou(first: Boxes, second: Boxes, *, over: Overlap = "union") -> Boxes:
    """Return how much each box of one set overlaps each of another.

    Parameters
    ----------
    first, second
        Shapes (n, 4) and (m, 4).
    over
        Divide the common area by the area of the union, or by that of the smaller box.

    Returns
    -------
    ndarray
        Shape (n, m), 0 to 1; 0 where a box has no area.

    Examples
    --------
    >>> iou(np.array([[0.0, 0, 10, 10]]), np.array([[0.0, 0, 10, 5], [20, 20, 30, 30]])).tolist()
    [[0.5, 0.0]]
    """
    # Edge by edge: arrays of shape (n, m, 2) take three times as long.
    widths = np.minimum(first[:, 2, None], second[:, 2]) - np.maximum(first[:, 0, None], second[:, 0])
    heights = np.minimum(first[:, 3, None], second[:, 3]) - np.maximum(first[:, 1, None], second[:, 1])
    common: Boxes = np.maximum(widths, 0) * np.maximum(heights, 0)
    areas_first = _areas(first)[:, None]
    areas_second = _areas(second)[None, :]
    whole = areas_first + areas_second - common if over == "union" else np.minimum(areas_first, areas_second)
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def nms(boxes: Boxes, scores: Boxes, *, threshold: float, over: Overlap = "union") -> NDArray[np.intp]:
    """Keep the best of boxes that overlap (non-maximum suppression).

    Goes through the boxes from the highest score down (of equals, the first given) and drops every later one that
    overlaps a kept one by more than the threshold.

    Parameters
    ----------
    boxes
        Shape (n, 4).
    scores
        Shape (n,).
    threshold
        Largest overlap of two boxes that are both kept.
    over
        As in `iou`.

    Returns
    -------
    ndarray of intp
        Indices of the kept boxes, highest score first.

    Examples
    --------
    >>> boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10]])
    >>> nms(boxes, np.array([0.8, 0.9, 0.7]), threshold=0.5).tolist()
    [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    kept = np.empty(0, np.intp)
    for start in range(0, len(order), NMS_BLOCK):
        block = order[start : start + NMS_BLOCK]
        if len(kept):
            block = block[~(iou(boxes[block], boxes[kept], over=over) > threshold).any(axis=1)]
        clash = iou(boxes[block], boxes[block], over=over) > threshold
        alive = np.ones(len(block), dtype=np.bool_)
        for rank in range(len(block)):
            if alive[rank]:
                alive[rank + 1 :] &= ~clash[rank, rank + 1 :]
        kept = np.concatenate([kept, block[alive]])
    return kept


def regress(boxes: Boxes, offsets: Boxes) -> Boxes:
    """Move each edge by a share of the box's width or height.

    Parameters
    ----------
    boxes
        Shape (n, 4).
    offsets
        Shape (n, 4): dx1, dy1, dx2, dy2, as shares of width, height, width, height.

    Examples
    --------
    >>> regress(np.array([[0.0, 0, 10, 20]]), np.array([[0.1, 0.1, -0.1, 0.0]])).tolist()
    [[1.0, 2.0, 9.0, 20.0]]
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    return boxes + offsets * np.hstack([sides, sides])


def square(boxes: Boxes) -> Boxes:
    """Grow the shorter side of each box to the longer, about the same centre.

    Examples
    --------
    >>> square(np.array([[0.0, 0, 10, 20]])).tolist()
    [[-5.0, 0.0, 15.0, 20.0]]
    """
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    halves = np.max(boxes[:, 2:] - boxes[:, :2], axis=1, keepdims=True) / 2
    return np.hstack([centres - halves, centres + halves])


def add_margin(boxes: Boxes, fraction: float) -> Boxes:
    """Grow each box on every side by a share of its width and height.

    Examples
    --------
    >>> add_margin(np.array([[0.0, 0, 10, 20]]), 0.1).tolist()
    [[-1.0, -2.0, 11.0, 22.0]]
    """
    return regress(boxes, np.array([[-fraction, -fraction, fraction, fraction]], dtype=boxes.dtype))


def clip(boxes: Boxes, *, width_px: int, height_px: int) -> Boxes:
    """Cut each box off at the edges of a picture; one that lies outside is left without area.

    Examples
    --------
    >>> clip(np.array([[-5.0, 2, 50, 9]]), width_px=20, height_px=10).tolist()
    [[0.0, 2.0, 20.0, 9.0]]
    """
    return np.clip(boxes, 0, np.array([width_px, height_px, width_px, height_px], dtype=boxes.dtype))


def whole_pixels(boxes: Boxes, *, width_px: int, height_px: int) -> NDArray[np.intp]:
    """Return the pixels of a picture that each box covers: cut off at the picture's edges, then to the nearest pixel.

    Returns
    -------
    ndarray of intp
        Shape (n, 4): first column, first row, and one past the last of each; where a box covers no pixel, the first
        is not below the last.

    Examples
    --------
    >>> whole_pixels(np.array([[-5.0, 2.4, 50, 9.6]]), width_px=20, height_px=10).tolist()
    [[0, 2, 20, 10]]
    """
    return np.rint(clip(boxes, width_px=width_px, height_px=height_px)).astype(np.intp)


def _areas(boxes: Boxes) -> Boxes:
    areas: Boxes = np.maximum(boxes[:, 2] - boxes[:, 0], 0) * np.maximum(boxes[:, 3] - boxes[:, 1], 0)
    return areas
