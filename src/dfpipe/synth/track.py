"""Following the face through a filmed video, by looking at every few frames."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.faces import Detector
from dfpipe.video import VideoFile

__all__ = ["between", "track_face"]

_EVERY_FRAMES = 5
_FARTHEST_MOVE = 1.0
"""A face that moved by more than this many eye distances from one look to the next is taken for another one."""


def track_face(video: VideoFile, detector: Detector) -> NDArray[np.float32]:
    """Return the landmarks of the most confident face in every frame.

    Returns
    -------
    ndarray of float32, shape (num_frames, 5, 2)
        Pixels; not a number where no face was found before or after the frame.
    """
    num_frames = video.info.num_frames
    looks = sorted({*range(0, num_frames, _EVERY_FRAMES), num_frames - 1})
    found = np.full((len(looks), 5, 2), np.nan, np.float32)
    places = {index: place for place, index in enumerate(looks)}
    for frame in video.frames(looks):
        faces = detector.detect([frame.image])[0]
        if faces:
            found[places[frame.index]] = faces[0].landmarks
    return between(np.array(looks), found)


def between(looks: NDArray[np.integer[Any]], found: NDArray[np.float32]) -> NDArray[np.float32]:
    """Fill the frames between looks on a straight line, where both ends show the same face.

    Parameters
    ----------
    looks
        Frames that were looked at, rising, the first being 0, shape (n,).
    found
        Landmarks there, not a number where there was no face, shape (n, 5, 2).
    """
    filled = np.full((int(looks[-1]) + 1, 5, 2), np.nan, np.float32)
    filled[looks] = found
    for first, last, start, end in zip(looks[:-1], looks[1:], found[:-1], found[1:], strict=True):
        eye_distance = np.hypot(*(start[1] - start[0]))
        # Not a number, where there was no face, is not within reach either.
        if not np.hypot(*(end - start).T).max() <= _FARTHEST_MOVE * eye_distance:
            continue
        share = (np.arange(first, last) - first) / (last - first)
        filled[first:last] = start + (end - start) * share[:, None, None]
    return filled
