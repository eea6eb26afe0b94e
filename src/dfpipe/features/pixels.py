"""The seed study's feature: what the crop looks like, pixel by pixel."""

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.features.faces import Faces
from dfpipe.settings import PixelsSettings

__all__ = ["VERSION", "columns", "compute"]

VERSION = 2
"""Raised whenever the same crop would give other values."""

_PLACE = {"red": 0, "green": 1, "blue": 2}


def columns(settings: PixelsSettings) -> int:
    """Return how many values a crop becomes."""
    return settings.size_px**2 * (3 if settings.channels == "rgb" else 1)


def compute(faces: Faces, settings: PixelsSettings) -> NDArray[np.uint8]:
    """Resize each crop by area averaging and flatten the channels asked.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        Side after resizing, and the channels.

    Returns
    -------
    ndarray of uint8, shape (n, columns(settings))
        Row by row, pixel by pixel, R then G then B where all three are asked.

    Examples
    --------
    >>> crop = np.zeros((4, 4, 3), np.uint8)
    >>> crop[:, 2:] = 200
    >>> compute(Faces.of_crops([crop]), PixelsSettings(size_px=4)).reshape(4, 4, 3)[0, :, 0]
    array([  0,   0, 200, 200], dtype=uint8)
    """
    rows = np.empty((len(faces.crops), columns(settings)), np.uint8)
    for row, crop in zip(rows, faces.crops, strict=True):
        small = cv2.resize(crop, (settings.size_px, settings.size_px), interpolation=cv2.INTER_AREA)
        if settings.channels == "luma":
            small = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY)
        elif settings.channels != "rgb":
            small = small[:, :, _PLACE[settings.channels]]
        row[:] = small.reshape(-1)
    return rows
