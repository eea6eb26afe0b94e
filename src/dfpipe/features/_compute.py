"""From crops to the rows that models see, for whichever feature set the settings name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.features import pixels, residual
from dfpipe.settings import FeatureSettings

__all__ = ["columns", "compute", "feature_version"]


def compute(crops: Sequence[NDArray[np.uint8]], settings: FeatureSettings) -> NDArray[Any]:
    """Turn each crop into one row of values.

    Parameters
    ----------
    crops : sequence of ndarray of uint8, shape (height, width, 3), RGB
        Faces.
    settings
        Feature set and its options.

    Returns
    -------
    ndarray of uint8 (pixels) or float32 (residual), shape (n, columns(settings))

    Raises
    ------
    SettingsError
        Options that do not fit the size of the crops.
    """
    match settings.name:
        case "pixels":
            return pixels.pixels(crops, size_px=settings.size_px)
        case "residual":
            return residual.residual(crops, sigma_px=settings.sigma_px, grid=settings.grid)


def columns(settings: FeatureSettings) -> int:
    """Return how many values a crop becomes."""
    match settings.name:
        case "pixels":
            return pixels.columns(settings.size_px)
        case "residual":
            return residual.columns(settings.grid)


def feature_version(settings: FeatureSettings) -> int:
    """Return the version of the feature set's code, which is part of the fingerprint of what it computed."""
    match settings.name:
        case "pixels":
            return pixels.VERSION
        case "residual":
            return residual.VERSION
