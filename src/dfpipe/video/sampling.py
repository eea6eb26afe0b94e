"""Which frames of a video are looked at."""

__all__ = ["every"]


def every(num_frames: int, *, every_frames: int, max_frames: int) -> tuple[int, ...]:
    """Take the first frame and then one in so many.

    Parameters
    ----------
    num_frames
        Frames that the video has.
    every_frames
        Distance between two frames taken, at least 1.
    max_frames
        Take at most this many.

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
    """
    return tuple(range(0, num_frames, every_frames)[:max_frames])
