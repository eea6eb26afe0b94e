"""Which frames of a video are looked at: pure functions of its timestamps."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dfpipe.settings import (
    EverySampling,
    FpsSampling,
    KeyframeSampling,
    SamplingSettings,
    UniformSampling,
    WindowSampling,
)

__all__ = ["Sample", "choose_frames", "every"]

ROUNDING_SECONDS = 1e-3
"""By so much may a timestamp be off: Matroska rounds to milliseconds."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The frames that a strategy takes of one video."""

    indices: tuple[int, ...]
    """Positions in presentation order, rising, each once, all of them in the video."""
    asked: int | None
    """How many it takes of a video that is long enough; None where the strategy names no number."""
    missing: int
    """How many it names by position that lie beyond the video's end."""


def choose_frames(settings: SamplingSettings, *, pts_seconds: Sequence[float], keyframes: Sequence[int]) -> Sample:
    """Apply a sampling strategy to one video.

    Parameters
    ----------
    settings
        The strategy.
    pts_seconds
        Presentation time of every frame, rising; the first need not be 0 and the distances need not be equal.
    keyframes
        Positions of the key frames, rising.

    Examples
    --------
    >>> choose_frames(WindowSampling(first_frame=1, num_frames=3), pts_seconds=[0.0, 0.5, 1.0], keyframes=[0])
    Sample(indices=(1, 2), asked=3, missing=1)
    """
    num_frames = len(pts_seconds)
    match settings:
        case EverySampling(every_frames=step, max_frames=most):
            return Sample(every(num_frames, every_frames=step, max_frames=most), most, 0)
        case UniformSampling(num_frames=number):
            return Sample(_uniform(num_frames, number), number, 0)
        case WindowSampling(first_frame=first, num_frames=number):
            # The window may be far larger than any video, so it is counted and not walked through.
            window = range(first, min(first + number, num_frames))
            return Sample(tuple(window), number, number - len(window))
        case FpsSampling(frames_per_second=rate, max_frames=most):
            return Sample(_at_rate(pts_seconds, rate)[:most], most, 0)
        case KeyframeSampling(max_frames=most):
            return Sample(tuple(keyframes)[:most], most, 0)
        case _:
            asked = set(settings.indices)
            there = sorted(position for position in asked if position < num_frames)
            return Sample(tuple(there), len(asked), len(asked) - len(there))


def every(num_frames: int, *, every_frames: int, max_frames: int | None) -> tuple[int, ...]:
    """Take the first frame and then one in so many.

    Parameters
    ----------
    num_frames
        Frames that the video has.
    every_frames
        Distance between two frames taken, at least 1.
    max_frames
        Take at most this many; None sets no bound.

    Returns
    -------
    tuple of int
        Rising indices below ``num_frames``; fewer than ``max_frames`` when the video is short.

    Examples
    --------
    >>> every(100, every_frames=30, max_frames=3)
    (0, 30, 60)
    >>> every(50, every_frames=30, max_frames=7)
    (0, 30)
    >>> every(100, every_frames=30, max_frames=None)
    (0, 30, 60, 90)
    """
    return tuple(range(0, num_frames, every_frames)[:max_frames])


def _uniform(num_frames: int, number: int) -> tuple[int, ...]:
    """Cut the video into so many equal parts and take the frame in the middle of each."""
    if num_frames <= number:
        return tuple(range(num_frames))
    return tuple((2 * part + 1) * num_frames // (2 * number) for part in range(number))


def _at_rate(pts_seconds: Sequence[float], rate: float) -> tuple[int, ...]:
    """Take the frames that are seen by somebody who looks at the video so many times a second.

    The first look falls on the first frame. A frame that is seen twice is taken once.
    """
    if not pts_seconds:
        return ()
    first, last = pts_seconds[0], pts_seconds[-1]
    # The last frame is shown as long as the others are on average.
    mean_seconds = (last - first) / max(1, len(pts_seconds) - 1)
    ends = [*pts_seconds[1:], last + max(mean_seconds, 2 * ROUNDING_SECONDS)]
    taken = []
    for index, (start, end) in enumerate(zip(pts_seconds, ends, strict=True)):
        look = max(0, math.ceil((start - first - ROUNDING_SECONDS) * rate))
        if look / rate < end - first - ROUNDING_SECONDS:
            taken.append(index)
    return tuple(taken)
