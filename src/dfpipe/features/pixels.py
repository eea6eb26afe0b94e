"""The seed study's feature: what the crop looks like, pixel by pixel."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

__all__ = ["VERSION", "columns", "pixels"]

VERSION = 2
"""Raised whenever the same crop would give other values."""


def columns(size_px: int) -> int:
    """Return how many values a crop becomes."""
    return size_px * size_px * 3


def pixels(crops: Sequence[NDArray[np.uint8]], *, size_px: int) -> NDArray[np.uint8]:
    """Resize each crop by area averaging and flatten it.

    Parameters
    ----------
    crops : sequence of ndarray of uint8, shape (height, width, 3), RGB
        Faces.
    size_px
        Side after resizing.

    Returns
    -------
    ndarray of uint8, shape (n, size_px * size_px * 3)
        Row by row, pixel by pixel, R then G then B.

    Examples
    --------
    >>> crop = np.zeros((4, 4, 3), np.uint8)
    >>> crop[:, 2:] = 200
    >>> pixels([crop], size_px=2).reshape(2, 2, 3)[0, :, 0]
    array([  0, 200], dtype=uint8)
    """
    rows = np.empty((len(crops), columns(size_px)), np.uint8)
    for row, crop in zip(rows, crops, strict=True):
        row[:] = cv2.resize(crop, (size_px, size_px), interpolation=cv2.INTER_AREA).reshape(-1)
    return rows
