"""Local binary patterns: the texture of the crop, whatever its brightness.

Each pixel gets eight bits, one for each neighbour that is not darker than it. Patterns with at most two changes between
0 and 1 around the circle are uniform: there are 58 of them, each with a bin of its own, and the 59th takes all others
(Ojala, Pietikäinen, Mäenpää: Multiresolution gray-scale and rotation invariant texture classification with local binary
patterns, IEEE TPAMI 24, 2002; operator LBP u2 with 8 neighbours). The neighbours lie on the square of pixels at the
radius, not interpolated onto a circle, so that any strictly rising change of grey values leaves the patterns alone.

The crop, less a rim of the radius, is cut into grid x grid cells. Columns are the shares of the 59 bins in each cell,
cells row by row; uniform patterns in rising order of their number, whose bits go clockwise from the top left neighbour,
lowest first.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import check_size, describe, luma
from dfpipe.features.faces import Faces
from dfpipe.settings import LbpSettings

__all__ = ["BINS", "VERSION", "columns", "compute", "patterns"]

VERSION = 1
"""Raised whenever the same crop would give other values."""

BINS = 59
"""Bins of a histogram: 58 uniform patterns and all others."""

_CLOCKWISE = ((-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1))
"""Neighbours as (row, column), in radii."""


def _bins() -> NDArray[np.uint8]:
    """Return the bin of each of the 256 patterns."""
    patterns = np.arange(256)
    bits = patterns[:, None] >> np.arange(8) & 1
    uniform = (bits != np.roll(bits, 1, axis=1)).sum(axis=1) <= 2
    bins = np.full(256, BINS - 1, np.uint8)
    bins[uniform] = np.arange(uniform.sum())
    return bins


_BIN_OF = _bins()


def columns(settings: LbpSettings) -> int:
    """Return how many values a crop becomes."""
    return BINS * settings.grid**2


def compute(faces: Faces, settings: LbpSettings) -> NDArray[np.float32]:
    """Return the histograms of each crop.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        Distance of the neighbours, and how the crop is cut into cells.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        0 to 1, sum 1 in each cell; the module tells what stands where.

    Raises
    ------
    SettingsError
        Crops with less than one pixel a cell, beside the rim.
    """
    radius, grid = settings.radius_px, settings.grid

    def one(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        check_size(crop, grid + 2 * radius, f"an lbp grid of {grid} at radius {radius}", "lower the grid or ")
        found = patterns(luma(crop), radius_px=radius)
        first, pixels = _cells(*found.shape, grid)
        counts = np.bincount((first + _BIN_OF[found]).reshape(-1), minlength=columns(settings))
        shares: NDArray[np.float64] = counts / pixels
        return shares

    return describe(faces.crops, columns(settings), one)


def patterns(grey: NDArray[np.uint8], *, radius_px: int) -> NDArray[np.uint8]:
    """Return the pattern of each pixel that has all its neighbours.

    Parameters
    ----------
    grey
        Shape (height, width).
    radius_px
        Distance of the neighbours.

    Returns
    -------
    ndarray of uint8, shape (height - 2 * radius_px, width - 2 * radius_px)
    """
    height, width = grey.shape[0] - 2 * radius_px, grey.shape[1] - 2 * radius_px
    centre = grey[radius_px : radius_px + height, radius_px : radius_px + width]
    found = np.zeros((height, width), np.uint8)
    for bit, (down, right) in enumerate(_CLOCKWISE):
        top, left = (1 + down) * radius_px, (1 + right) * radius_px
        found |= (grey[top : top + height, left : left + width] >= centre).view(np.uint8) << np.uint8(bit)
    return found


@lru_cache(maxsize=8)
def _cells(height: int, width: int, grid: int) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the first column of each pixel's cell, and the number of pixels behind each column."""
    down, across = (np.arange(side) * grid // side for side in (height, width))
    first = ((down[:, None] * grid + across) * BINS).astype(np.int32)
    pixels = np.outer(np.bincount(down, minlength=grid), np.bincount(across, minlength=grid))
    return first, np.repeat(pixels.reshape(-1), BINS)
