"""Changes over time: how much another feature set differs between the sampled frames of one person.

The faces of a track are put in the order of their frames, and the absolute differences between each and the next are
taken, column by column. All faces of a track get the same row. Columns, where the other set has c:

=======  ==============================================================================================
columns  value
=======  ==============================================================================================
c        mean of the differences over the track
c        standard deviation of the differences over the track
1        1 where the track has one face only, and there is nothing to compare; its differences are 0
=======  ==============================================================================================

Frames in which the face is missing are passed over, so a difference may span more time than the next one.
"""

import numpy as np
from numpy.typing import NDArray

from dfpipe.features.faces import Faces

__all__ = ["VERSION", "changes", "columns"]

VERSION = 1
"""Raised whenever the same rows of the other set would give other values."""


def columns(of: int) -> int:
    """Return how many values a face becomes where the other set has so many."""
    return 2 * of + 1


def changes(values: NDArray[np.uint8] | NDArray[np.float32], faces: Faces) -> NDArray[np.float32]:
    """Compare each track's faces with one another.

    Parameters
    ----------
    values
        The other set's rows, shape (n, c).
    faces
        Whose they are; of which videos, tracks and frames are looked at.

    Returns
    -------
    ndarray of float32, shape (n, columns(c))
        Finite; the module tells what stands where.
    """
    n, width = values.shape
    rows = np.zeros((n, columns(width)), np.float32)
    if n == 0:
        return rows
    order = np.lexsort((faces.frame_index, faces.track, faces.video))
    video, track = faces.video[order], faces.track[order]
    starts = np.flatnonzero((np.diff(video) != 0) | (np.diff(track) != 0)) + 1
    for members in np.split(order, starts):
        if len(members) == 1:
            rows[members, -1] = 1
            continue
        differences = np.abs(np.diff(values[members].astype(np.float32), axis=0))
        rows[members, :width] = differences.mean(axis=0)
        rows[members, width:-1] = differences.std(axis=0)
    return rows
