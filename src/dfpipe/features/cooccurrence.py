"""Co-occurrences of noise residuals: which small differences follow on one another between neighbouring pixels.

The residual is the difference of two neighbours, quantised and truncated; several neighbouring residuals together make
a pattern, and the columns are the shares of the patterns. Along rows and along columns of pixels alike, and a pattern
counts the same forwards and backwards and with all signs changed: what is left of the (2 T + 1)^order patterns is 169
for T = 2 and order 4. This is the first-order submodel, co-occurrences along the residual's direction, of the spatial
rich model (Fridrich, Kodovský: Rich Models for Steganalysis of Digital Images, IEEE TIFS 7, 2012), on the luma.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import check_size, describe, luma
from dfpipe.features.faces import Faces
from dfpipe.settings import CooccurrenceSettings

__all__ = ["VERSION", "columns", "compute", "patterns"]

VERSION = 1
"""Raised whenever the same crop would give other values."""


def columns(settings: CooccurrenceSettings) -> int:
    """Return how many values a crop becomes."""
    return int(_classes(settings.truncate, settings.order).max()) + 1


def compute(faces: Faces, settings: CooccurrenceSettings) -> NDArray[np.float32]:
    """Return the shares of the patterns in each crop.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        Quantisation, truncation, and how many residuals make a pattern.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        0 to 1, sum 1. Classes of equal patterns stand in the order of their smallest member, see `patterns`.

    Raises
    ------
    SettingsError
        Crops of no more pixels a side than a pattern has residuals.
    """
    classes = _classes(settings.truncate, settings.order)
    steps = _steps(settings.quantum, settings.truncate)
    number = columns(settings)

    def one(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        check_size(crop, settings.order + 1, f"cooccurrence of order {settings.order}", "lower the order or ")
        levels = luma(crop).astype(np.int16)
        # Of a row of 320 pixels and of its column alike: the second is the first of the transposed picture.
        counts = sum(
            np.bincount(_numbers(picture, steps, settings).reshape(-1), minlength=len(classes))
            for picture in (levels, np.ascontiguousarray(levels.T))
        )
        shares: NDArray[np.float64] = np.bincount(classes, counts, number) / np.sum(counts)
        return shares

    return describe(faces.crops, number, one)


def patterns(truncate: int, order: int) -> NDArray[np.int64]:
    """Return every pattern, shape ((2 * truncate + 1) ** order, order), steps from -truncate up, the last fastest."""
    values = np.arange(-truncate, truncate + 1)
    return np.stack(np.meshgrid(*[values] * order, indexing="ij"), axis=-1).reshape(-1, order)


def _numbers(levels: NDArray[np.int16], steps: NDArray[np.int16], settings: CooccurrenceSettings) -> NDArray[np.int16]:
    """Return which of `patterns` begins at each pixel and goes on to its right."""
    quantised = steps[levels[:, 1:] - levels[:, :-1] + 255]
    length = quantised.shape[1] - settings.order + 1
    base = 2 * settings.truncate + 1
    numbers: NDArray[np.int16] = quantised[:, :length].copy()
    for place in range(1, settings.order):
        numbers *= base
        numbers += quantised[:, place : place + length]
    return numbers


@lru_cache(maxsize=8)
def _steps(quantum: float, truncate: int) -> NDArray[np.int16]:
    """Return the step of each difference from -255 up, counted from the lowest."""
    steps = np.clip(np.rint(np.arange(-255, 256) / quantum), -truncate, truncate)
    return steps.astype(np.int16) + np.int16(truncate)


@lru_cache(maxsize=8)
def _classes(truncate: int, order: int) -> NDArray[np.intp]:
    """Return the class of each pattern: what is the same backwards or with all signs changed is one."""
    every = patterns(truncate, order)
    digits = (2 * truncate + 1) ** np.arange(order)[::-1]
    alike = [(side + truncate) @ digits for side in (every, -every, every[:, ::-1], -every[:, ::-1])]
    _, classes = np.unique(np.min(alike, axis=0), return_inverse=True)
    return np.asarray(classes, np.intp)
