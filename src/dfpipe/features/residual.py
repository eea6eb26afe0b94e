"""Noise residual: what is left of a crop when its Gaussian blur is taken away, block by block.

A camera spreads the same noise over the whole picture. A face that was put in was resampled and blended, and has less
of it than the rim of the crop. How much noise there is at all depends on camera, light, codec and the face's size, so
every block is compared with the crop's median block: the logarithm of their ratio. Only luma is looked at, since
codecs keep colour at half the resolution and hardly any of its noise.

Columns, for a grid of g x g blocks, blocks row by row from the top left:

=======  ==============================================================================================
columns  value
=======  ==============================================================================================
g * g    standard deviation of the block's residual, as log ratio to the median block
g * g    mean absolute value of the block's residual, as log ratio to the median block
2        mean over the inner blocks minus mean over the outer ones, of each of the two above
=======  ==============================================================================================

Inner blocks have their middle in the middle half of the crop, both ways; where a grid has no blocks of both kinds the
difference is 0. A crop of one colour gives zeros.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import check_size, describe, float_luma
from dfpipe.features.faces import Faces
from dfpipe.settings import ResidualSettings

__all__ = ["VERSION", "block_statistics", "columns", "compute"]

VERSION = 2
"""Raised whenever the same crop would give other values."""

# Levels. Rounding to whole levels alone leaves a residual of about a quarter, so ratios of less mean nothing.
_FLOOR = 0.25


def columns(settings: ResidualSettings) -> int:
    """Return how many values a crop becomes."""
    return 2 * settings.grid**2 + 2


def compute(faces: Faces, settings: ResidualSettings) -> NDArray[np.float32]:
    """Describe the noise in the blocks of each crop, relative to the crop's median block.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        Standard deviation of the Gaussian, and how the crop is cut into blocks.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        Finite; the module tells what stands where.

    Raises
    ------
    SettingsError
        Blocks of less than 2 x 2 pixels.
    """
    grid = settings.grid
    middle = np.abs((np.arange(grid) + 0.5) / grid - 0.5) < 0.25
    inner = np.outer(middle, middle).reshape(-1)
    both = bool(inner.any() and not inner.all())

    def one(crop: NDArray[np.uint8]) -> NDArray[np.float32]:
        logs = np.log(block_statistics(crop, sigma_px=settings.sigma_px, grid=grid) + _FLOOR)
        relative = logs - np.median(logs, axis=1, keepdims=True)
        gap = relative[:, inner].mean(axis=1) - relative[:, ~inner].mean(axis=1) if both else np.zeros(2, np.float32)
        return np.concatenate([relative.reshape(-1), gap])

    return describe(faces.crops, columns(settings), one)


def block_statistics(crop: NDArray[np.uint8], *, sigma_px: float, grid: int) -> NDArray[np.float32]:
    """Measure the luma residual of each block.

    Parameters
    ----------
    crop : ndarray of uint8, shape (height, width, 3), RGB
        Face.
    sigma_px
        Standard deviation of the Gaussian in crop pixels.
    grid
        The crop is cut into grid x grid blocks.

    Returns
    -------
    ndarray of float32, shape (2, grid * grid)
        Standard deviation and mean absolute value in levels of 0 to 255, blocks row by row.

    Raises
    ------
    SettingsError
        Blocks of less than 2 x 2 pixels.
    """
    check_size(crop, 2 * grid, f"a residual grid of {grid}", "lower the grid or ")
    luma = float_luma(crop)
    left = luma - cv2.GaussianBlur(luma, (0, 0), sigma_px)
    # Area averaging is the mean of each block, and shares a pixel out where blocks are not whole pixels.
    mean, square, size = (
        cv2.resize(values, (grid, grid), interpolation=cv2.INTER_AREA) for values in (left, left * left, np.abs(left))
    )
    deviation = np.sqrt(np.maximum(square - mean * mean, 0))
    return np.asarray([deviation.reshape(-1), size.reshape(-1)], np.float32)
