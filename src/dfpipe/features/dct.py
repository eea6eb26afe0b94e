"""Energies of the block DCT: how much detail of which fineness the crop's blocks of 8 x 8 pixels hold.

The transform is that of JPEG (ITU-T T.81, orthonormal DCT-II) on the luma in whole blocks from the top left; pixels at
the right and the bottom that make up no whole block are left out. A coefficient's energy is its mean square over the
blocks; of the first, which is the block's brightness, it is the variance, so that brightness itself does not count.

Columns are natural logarithms of the energy, either for the 15 diagonals of the zigzag order (mean over the
coefficients with the same sum of row and column) or for the 64 coefficients row by row.

Stored crops were resampled, so their blocks are not those of the video's own codec.
"""

import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import check_size, describe, float_luma
from dfpipe.features.faces import Faces
from dfpipe.settings import DctSettings

__all__ = ["VERSION", "coefficient_energies", "columns", "compute"]

VERSION = 1
"""Raised whenever the same crop would give other values."""

_SIDE = 8
_ROUNDING = 1 / 12
"""Energy, in squared levels, that rounding to whole levels alone gives every coefficient."""

_STEPS = np.arange(_SIDE)
_BASIS = np.sqrt(2 / _SIDE) * np.cos(np.pi * (2 * _STEPS + 1) * _STEPS[:, None] / (2 * _SIDE))
_BASIS[0] /= np.sqrt(2)
_BASIS32 = _BASIS.astype(np.float32)
_DIAGONAL = np.add.outer(_STEPS, _STEPS).reshape(-1)


def columns(settings: DctSettings) -> int:
    """Return how many values a crop becomes."""
    return 2 * _SIDE - 1 if settings.bands == "diagonal" else _SIDE**2


def compute(faces: Faces, settings: DctSettings) -> NDArray[np.float32]:
    """Return the log energies of each crop.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        What makes a band.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        Finite; the module tells what stands where.

    Raises
    ------
    SettingsError
        Crops of less than one block.
    """

    def one(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        check_size(crop, _SIDE, "dct", "")
        energies = coefficient_energies(float_luma(crop)).reshape(-1)
        if settings.bands == "diagonal":
            energies = np.bincount(_DIAGONAL, energies) / np.bincount(_DIAGONAL)
        logs: NDArray[np.float64] = np.log(energies + _ROUNDING)
        return logs

    return describe(faces.crops, columns(settings), one)


def coefficient_energies(luma: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the energy of each DCT coefficient over all whole blocks.

    Parameters
    ----------
    luma
        Shape (height, width), at least 8 pixels a side.

    Returns
    -------
    ndarray of float64, shape (8, 8)
        In squared levels, row (vertical frequency) by column.
    """
    down, across = luma.shape[0] // _SIDE, luma.shape[1] // _SIDE
    blocks = luma[: down * _SIDE, : across * _SIDE].reshape(down, _SIDE, across, _SIDE).swapaxes(1, 2)
    coefficients = (_BASIS32 @ blocks @ _BASIS32.T).reshape(-1, _SIDE, _SIDE)
    coefficients[:, 0, 0] -= coefficients[:, 0, 0].mean(dtype=np.float64)
    energies: NDArray[np.float64] = np.square(coefficients).mean(axis=0, dtype=np.float64)
    return energies
