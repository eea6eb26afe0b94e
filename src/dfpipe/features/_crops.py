"""What the feature sets that look at crops share."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import SettingsError

__all__ = ["check_size", "describe", "float_luma", "luma"]

Crop = NDArray[np.uint8]


def describe(crops: Sequence[Crop], columns: int, one: Callable[[Crop], NDArray[np.floating]]) -> NDArray[np.float32]:
    """Return one row of float32 for each crop, shape (n, columns)."""
    rows = np.empty((len(crops), columns), np.float32)
    for row, crop in zip(rows, crops, strict=True):
        row[:] = one(crop)
    return rows


def luma(crop: Crop) -> NDArray[np.uint8]:
    """Return the crop's luma (ITU-R BT.601), rounded: uint8, shape (height, width)."""
    return np.asarray(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), np.uint8)


def float_luma(crop: Crop) -> NDArray[np.float32]:
    """Return the same without rounding: float32, shape (height, width), 0 to 255."""
    return np.asarray(cv2.cvtColor(crop.astype(np.float32), cv2.COLOR_RGB2GRAY), np.float32)


def check_size(crop: Crop, least_px: int, what: str, remedy: str) -> None:
    """Refuse a crop that is too small.

    Raises
    ------
    SettingsError
        Fewer pixels than this along either side.
    """
    height, width = crop.shape[:2]
    if min(height, width) < least_px:
        raise SettingsError(
            f"got crops of {width} x {height} pixels for {what}, expected at least {least_px} a side; "
            f"{remedy}raise extract.crop.size_px"
        )
