"""Colour statistics: how the crop's pixels are spread in YCbCr and in HSV.

Generators and blending match colours only so far, and a face that was put in differs from its surroundings in how the
channels hang together. Columns:

=======  ==============================================================================================
columns  value
=======  ==============================================================================================
6        mean of Y, Cb, Cr, H, S, V
6        standard deviation of each
6        skewness of each (third moment over the cube of the deviation); 0 where there is no deviation
3        correlation of Y with Cb, Y with Cr, Cb with Cr; 0 where one of the two has no deviation
3        the same of H with S, H with V, S with V
=======  ==============================================================================================

Y, Cb and Cr are those of JFIF in levels, 0 to 255 and 128 for no colour. Hue is in degrees from -180 to 180 with red at
0, so that skin does not lie on both sides of the jump; grey has hue 0. S and V are 0 to 1.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import describe
from dfpipe.features.faces import Faces
from dfpipe.settings import ColourSettings

__all__ = ["VERSION", "columns", "compute", "statistics"]

VERSION = 1
"""Raised whenever the same crop would give other values."""

_SCALE = np.array([255, 255, 255, 360, 1, 1], np.float32)
_LEAST = 1e-4
"""Deviation, as a share of the scale, below which float rounding would decide."""


def columns(settings: ColourSettings) -> int:  # noqa: ARG001 - what every set has
    """Return how many values a crop becomes."""
    return 24


def compute(faces: Faces, settings: ColourSettings) -> NDArray[np.float32]:
    """Return the statistics of each crop.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        Without options.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        Finite; the module tells what stands where.
    """
    return describe(faces.crops, columns(settings), statistics)


def statistics(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the statistics of one crop, shape (24,).

    Parameters
    ----------
    crop
        Shape (height, width, 3), RGB.
    """
    planes = _planes(crop)
    pixels = planes.shape[1]
    mean = planes.mean(axis=1)
    centred = planes - mean[:, None]
    covariance = (centred @ centred.T).astype(np.float64) / pixels
    deviation = np.sqrt(np.diagonal(covariance))
    varies = deviation > _LEAST * _SCALE
    third = np.einsum("ij,ij->i", centred * centred, centred).astype(np.float64) / pixels
    skewness = np.divide(third, deviation**3, out=np.zeros(6), where=varies)
    both_vary = np.outer(varies, varies)
    correlations = np.divide(covariance, np.outer(deviation, deviation), out=np.zeros((6, 6)), where=both_vary)
    # Within a space; rounding must not make more than a whole.
    pairs = ((0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5))
    correlation = np.clip([correlations[pair] for pair in pairs], -1, 1)
    return np.concatenate([mean, np.where(varies, deviation, 0), skewness, correlation])


def _planes(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return Y, Cb, Cr, H, S, V, shape (6, pixels)."""
    share = crop * np.float32(1 / 255)
    y, cr, cb = cv2.split(cv2.cvtColor(share, cv2.COLOR_RGB2YCrCb))
    hue, saturation, value = cv2.split(cv2.cvtColor(share, cv2.COLOR_RGB2HSV))
    hue = hue - np.float32(360) * (hue > 180)
    return np.stack([y * 255, cb * 255, cr * 255, hue, saturation, value]).reshape(6, -1)
