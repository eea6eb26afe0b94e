"""Shares with their 95 % intervals; pure arithmetic."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Difference", "Share", "difference", "share_of_frames", "share_of_videos"]

Z = 1.959963984540054
"""Half of a 95 % interval in standard deviations."""


@dataclass(frozen=True, slots=True)
class Share:
    """A part of a whole, with Wilson's 95 % interval."""

    part: int
    """How many of them."""
    whole: int
    """Of how many."""
    value: float | None
    """Their quotient; None where there are none to speak of."""
    low: float
    """Lower end of the interval; 0 where nothing is known."""
    high: float
    """Upper end of the interval; 1 where nothing is known."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One share less another, with a 95 % interval."""

    value: float
    """The difference, -1 to 1."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""

    @property
    def may_be_chance(self) -> bool:
        """Whether the interval holds zero."""
        return self.low <= 0 <= self.high


def share_of_videos(part: int, whole: int) -> Share:
    """Return a share of videos, each of which counts for itself.

    Examples
    --------
    >>> share = share_of_videos(1, 10)
    >>> f"{share.value} from {share.low:.3f} to {share.high:.3f}"
    '0.1 from 0.018 to 0.404'
    """
    return _wilson(part, whole, float(whole))


def share_of_frames(parts: NDArray[Any], wholes: NDArray[Any]) -> Share:
    """Return a share of frames, of which those of one video are alike.

    A hundred frames of one video say less than a hundred videos. So the interval is that of as many independent frames
    as would scatter like these videos do (the design effect of cluster samples); where all are lost or none is,
    nothing scatters, and a video counts as one frame.

    Parameters
    ----------
    parts, wholes
        Frames concerned, and all frames, of each video; integers of shape (videos,).

    Examples
    --------
    Four videos of 100 frames, lost whole or not at all, say as little as three independent frames.

    >>> share = share_of_frames(np.array([100, 0, 0, 0]), np.full(4, 100))
    >>> f"{share.value} from {share.low:.2f} to {share.high:.2f}"
    '0.25 from 0.04 to 0.74'
    """
    videos = int(np.count_nonzero(wholes))
    part, whole = int(parts.sum()), int(wholes.sum())
    size = float(videos)
    if 0 < part < whole and videos > 1:
        value = part / whole
        scatter = float(np.square(parts - value * wholes).sum())
        variance = videos / (videos - 1) * scatter / whole**2
        size = min(value * (1 - value) / variance, float(whole)) if variance > 0 else float(whole)
    return _wilson(part, whole, size)


def difference(first: Share, second: Share) -> Difference | None:
    """Return the first share less the second with Newcombe's interval; None where one of them is unknown."""
    if first.value is None or second.value is None:
        return None
    value = first.value - second.value
    return Difference(
        value,
        value - math.hypot(first.value - first.low, second.high - second.value),
        value + math.hypot(first.high - first.value, second.value - second.low),
    )


def _wilson(part: int, whole: int, size: float) -> Share:
    if whole == 0:
        return Share(part, whole, None, 0.0, 1.0)
    value = part / whole
    centre = (value + Z**2 / (2 * size)) / (1 + Z**2 / size)
    half = Z / (1 + Z**2 / size) * math.sqrt(value * (1 - value) / size + Z**2 / (4 * size**2))
    # Rounding must not push an end past the value itself.
    return Share(part, whole, value, min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half)))
