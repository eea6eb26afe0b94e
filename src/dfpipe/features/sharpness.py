"""How sharp the crop is, in all and inside against outside, and how blocky.

A face that was put in was made or resampled at another resolution than what surrounds it. Columns:

=======  ==============================================================================================
columns  value
=======  ==============================================================================================
3        log of the Laplacian's variance: whole crop, its middle, its rim
1        log of the Tenengrad, the mean squared gradient
3        gradient: mean, standard deviation, skewness (0 where there is no deviation)
2        share of pixels whose gradient is above ``edge_level``: middle, rim
2        blockiness between columns, between rows of pixels: log ratio of the mean absolute difference across every
         eighth boundary to that across all others
=======  ==============================================================================================

All on the luma in levels; logs are natural, of 1 + x for the first four. The gradient is Sobel's, in levels per pixel
(an ideal ramp of one level a pixel has gradient 1). The middle is the middle half both ways, the rim all else. Stored
crops were resampled, so blockiness tells of the video's codec only where its blocks chance to lie on multiples of 8.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import check_size, describe, float_luma
from dfpipe.features.faces import Faces
from dfpipe.settings import SharpnessSettings

__all__ = ["VERSION", "blockiness", "columns", "compute"]

VERSION = 1
"""Raised whenever the same crop would give other values."""

_BLOCK_PX = 8
# Levels. Differences of less are those of rounding.
_FLOOR = 0.25
_LEAST_DEVIATION = 1e-3


def columns(settings: SharpnessSettings) -> int:  # noqa: ARG001 - what every set has
    """Return how many values a crop becomes."""
    return 11


def compute(faces: Faces, settings: SharpnessSettings) -> NDArray[np.float32]:
    """Return the measures of each crop.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        What counts as an edge.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        Finite; the module tells what stands where.

    Raises
    ------
    SettingsError
        Crops of less than 9 pixels a side, which have no boundary between blocks.
    """

    def one(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        check_size(crop, _BLOCK_PX + 1, "sharpness", "")
        return _measure(float_luma(crop), settings.edge_level)

    return describe(faces.crops, columns(settings), one)


def blockiness(luma: NDArray[np.float32]) -> float:
    """Return how much neighbouring columns differ across every eighth boundary, against all others.

    Parameters
    ----------
    luma
        Shape (height, width), at least 9 pixels wide.

    Returns
    -------
    float
        Log ratio of the mean absolute differences, a quarter of a level added to both; 0 where no boundary stands out.
    """
    differences = np.abs(np.diff(luma, axis=1)).mean(axis=0, dtype=np.float64)
    # The first difference lies behind the first column.
    is_boundary = np.arange(1, len(differences) + 1) % _BLOCK_PX == 0
    across, within = differences[is_boundary].mean(), differences[~is_boundary].mean()
    return float(np.log((across + _FLOOR) / (within + _FLOOR)))


def _measure(luma: NDArray[np.float32], edge_level: float) -> NDArray[np.float64]:
    laplacian = np.asarray(cv2.Laplacian(luma, cv2.CV_32F, ksize=1))
    # Sobel's weights sum to 8 a level per pixel.
    right, down = (np.asarray(cv2.Sobel(luma, cv2.CV_32F, *axis, ksize=3, scale=1 / 8)) for axis in ((1, 0), (0, 1)))
    square = right * right + down * down
    gradient = np.sqrt(square)
    height, width = luma.shape
    middle = np.zeros((height, width), np.bool_)
    middle[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    mean = gradient.mean(dtype=np.float64)
    centred = gradient - np.float32(mean)
    deviation = np.sqrt((centred * centred).mean(dtype=np.float64))
    third = (centred * centred * centred).mean(dtype=np.float64)
    edges = gradient > edge_level
    return np.array(
        [
            *(np.log1p(part.var(dtype=np.float64)) for part in (laplacian, laplacian[middle], laplacian[~middle])),
            np.log1p(square.mean(dtype=np.float64)),
            mean,
            deviation,
            third / deviation**3 if deviation > _LEAST_DEVIATION else 0.0,
            edges[middle].mean(),
            edges[~middle].mean(),
            blockiness(luma),
            blockiness(luma.T),
        ]
    )
