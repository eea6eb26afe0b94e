"""Resampling videos by groups of people, since videos of the same people are not independent of each other."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_weights"]


def group_weights(groups: NDArray[np.integer], *, samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw whole groups with replacement, as many as there are (the cluster bootstrap).

    Parameters
    ----------
    groups
        Group of each video, shape (n_videos,).
    samples
        Number of resamples.
    seed
        Equal seeds give equal resamples.

    Yields
    ------
    ndarray of int64, shape (n_videos,)
        How often each video stands in a resample: as often as its group was drawn.

    Examples
    --------
    >>> [weights.tolist() for weights in group_weights(np.array([7, 7, 9]), samples=2, seed=0)]
    [[0, 0, 2], [1, 1, 1]]
    """
    names, member = np.unique(groups, return_inverse=True)
    random = np.random.default_rng(seed)
    for _ in range(samples):
        drawn = random.integers(len(names), size=len(names))
        yield np.bincount(drawn, minlength=len(names))[member]
