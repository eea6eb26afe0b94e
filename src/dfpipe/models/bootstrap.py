"""Resampling videos by groups of people, since videos of the same people are not independent of each other."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["group_resamples", "group_weights"]


def group_resamples(groups: NDArray[np.integer], *, samples: int, seed: int) -> Iterator[NDArray[np.intp]]:
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
    ndarray of intp
        Indices of the videos of one resample; a video stands in it as often as its group was drawn.

    Examples
    --------
    >>> [resample.tolist() for resample in group_resamples(np.array([7, 7, 9]), samples=2, seed=0)]
    [[2, 2], [2, 0, 1]]
    """
    _, member = np.unique(groups, return_inverse=True)
    order = np.argsort(member, kind="stable")
    members = np.split(order, np.flatnonzero(np.diff(member[order])) + 1)
    random = np.random.default_rng(seed)
    for _ in range(samples):
        drawn = random.integers(len(members), size=len(members))
        yield np.concatenate([members[group] for group in drawn])


def group_weights(groups: NDArray[np.integer], *, samples: int, seed: int) -> Iterator[NDArray[np.int64]]:
    """Draw the resamples of `group_resamples`, told as how often each video stands in them.

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
        Times that each video was drawn.

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
