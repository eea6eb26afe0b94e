"""Noise residual as a map: what is left of the resized crop when its Gaussian blur is taken away.

Columns, for a side of s pixels:

=======  ==============================================================================================
columns  value
=======  ==============================================================================================
s * s    crop minus blur, mean over the three channels, in levels; signed; row by row
1        mean of the absolute values of these: one number a frame
=======  ==============================================================================================

The crop is resized first, as a network that takes the map would have it; a side equal to the crop's own leaves its
noise as it is. `stack_maps` makes one array a video of the rows, for networks that look at sequences.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import describe
from dfpipe.features.faces import Faces
from dfpipe.settings import ResidualMapSettings

__all__ = ["VERSION", "columns", "compute", "stack_maps"]

VERSION = 1
"""Raised whenever the same crop would give other values."""


def columns(settings: ResidualMapSettings) -> int:
    """Return how many values a crop becomes."""
    return settings.size_px**2 + 1


def compute(faces: Faces, settings: ResidualMapSettings) -> NDArray[np.float32]:
    """Return the residual map of each crop.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        Side of the map, and the standard deviation of the Gaussian.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        Finite; the module tells what stands where.
    """
    size, sigma = settings.size_px, settings.sigma_px

    def one(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        small = cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32)
        # Blurring and averaging the channels are both linear, so one channel need be blurred and not three.
        grey = small.mean(axis=2)
        left = grey - cv2.GaussianBlur(grey, (0, 0), sigma)
        return np.append(left.reshape(-1), np.abs(left).mean())

    return describe(faces.crops, columns(settings), one)


def stack_maps(rows: NDArray[np.float32], *, frames: int = 20) -> NDArray[np.float32]:
    """Make one array of a video's maps, with as many frames whatever the video had.

    Parameters
    ----------
    rows
        Rows of this feature set for one person of one video, in the order of the frames, shape (n, size * size + 1).
    frames
        Frames wanted: later ones are cut off, missing ones are zeros at the end.

    Returns
    -------
    ndarray of float32, shape (frames, size, size)

    Raises
    ------
    ValueError
        Rows that are not those of a square map.

    Examples
    --------
    >>> rows = np.ones((7, 100 * 100 + 1), np.float32)
    >>> stack = stack_maps(rows)
    >>> stack.shape, stack.any(axis=(1, 2)).sum().item()
    ((20, 100, 100), 7)
    """
    size = math.isqrt(max(0, rows.shape[-1] - 1))
    if rows.ndim != 2 or size == 0 or size * size + 1 != rows.shape[1]:
        raise ValueError(f"got rows of shape {rows.shape}, expected (n, size * size + 1) as residual_map writes them")
    stack = np.zeros((frames, size, size), np.float32)
    kept = rows[:frames, :-1]
    stack[: len(kept)] = kept.reshape(-1, size, size)
    return stack
