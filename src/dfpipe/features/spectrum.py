"""Azimuthally averaged power spectrum: how much of the crop's luma lies at which spatial frequency.

Upsampling in a generator and resampling of a pasted face leave too little or too much at high frequencies; the profile
over the frequency alone tells so (Durall, Keuper, Keuper: Watch your Up-Convolution, CVPR 2020).

Column k is the natural logarithm of the mean power at frequencies above k / bins and up to (k + 1) / bins of 0.5 cycles
per pixel, relative to the mean over all bins. The power is that of the Fourier transform over the energy of the window,
so that white noise has its variance at every frequency, whatever the crop's size. Frequencies are counted in pixels of
the crop as it is stored, which is not resized here; those beyond 0.5 cycles per pixel, along the diagonals, are left
out. A crop of one colour gives zeros.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dfpipe.features._crops import check_size, describe, float_luma
from dfpipe.features.faces import Faces
from dfpipe.settings import SpectrumSettings

__all__ = ["VERSION", "columns", "compute", "radial_power"]

VERSION = 1
"""Raised whenever the same crop would give other values."""

_ROUNDING = 1 / 12
"""Power, in squared levels, that rounding to whole levels alone makes; ratios of less mean nothing."""


def columns(settings: SpectrumSettings) -> int:
    """Return how many values a crop becomes."""
    return settings.bins


def compute(faces: Faces, settings: SpectrumSettings) -> NDArray[np.float32]:
    """Return the profile of each crop.

    Parameters
    ----------
    faces
        Of which the crops are looked at.
    settings
        Bins and window.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        Finite; the module tells what stands where.

    Raises
    ------
    SettingsError
        Crops of fewer than two pixels a bin.
    """

    def one(crop: NDArray[np.uint8]) -> NDArray[np.float64]:
        check_size(crop, 2 * settings.bins, f"a spectrum of {settings.bins} bins", "lower train.features bins or ")
        power = radial_power(float_luma(crop), bins=settings.bins, hann=settings.window == "hann") + _ROUNDING
        profile: NDArray[np.float64] = np.log(power / power.mean())
        return profile

    return describe(faces.crops, columns(settings), one)


def radial_power(luma: NDArray[np.float32], *, bins: int, hann: bool) -> NDArray[np.float64]:
    """Return the mean power in each bin.

    Parameters
    ----------
    luma
        Shape (height, width), at least 2 * bins pixels a side.
    bins
        Equal bins of frequency from 0 to 0.5 cycles per pixel.
    hann
        Multiply by Hann's window.

    Returns
    -------
    ndarray of float64, shape (bins,)
        In squared levels, 0 or more.
    """
    window, place, weight, total = _plan(*luma.shape, bins, hann)
    # Of what the window leaves, so that a constant has no power at all.
    centred = luma - float((luma * window).sum(dtype=np.float64) / window.sum(dtype=np.float64))
    half = np.fft.rfft2(centred * window)
    power = (half.real**2 + half.imag**2) * weight
    sums = np.bincount(place.reshape(-1), power.reshape(-1), bins + 1)[:bins]
    return np.asarray(sums / total, np.float64)


@lru_cache(maxsize=8)
def _plan(
    height: int, width: int, bins: int, hann: bool
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.float32], NDArray[np.float64]]:
    """Return the window, the bin and the weight of each frequency of the half plane, and the weight in each bin."""
    window = np.outer(_line(height, hann), _line(width, hann)).astype(np.float32)
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
    # A frequency on the edge of two bins belongs to the lower one, whatever the last digit says.
    place = np.ceil(radius * 2 * bins - 1e-9).astype(np.intp) - 1
    # Frequency 0 and what lies beyond 0.5 go to a bin that is thrown away.
    place[(place < 0) | (place >= bins)] = bins
    # Each column of the half plane stands for its mirror too, but for the first, and the last of an even width.
    weight = np.full(radius.shape, 2, np.float32)
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    energy = float((window.astype(np.float64) ** 2).sum())
    total = np.bincount(place.reshape(-1), weight.reshape(-1), bins + 1)[:bins] * energy
    return window, place, weight, np.asarray(total, np.float64)


def _line(pixels: int, hann: bool) -> NDArray[np.float64]:
    if not hann:
        return np.ones(pixels)
    # Without its zeros at both ends.
    line: NDArray[np.float64] = np.hanning(pixels + 2)[1:-1]
    return line
