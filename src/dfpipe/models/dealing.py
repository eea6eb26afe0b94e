"""Dealing whole groups out to sides, so that every side has both classes and its share of every stratum."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError

__all__ = ["deal"]

MOST_MOVES = 1000
"""Groups that are moved after the dealing; each move looks at all of them."""


def deal(
    groups: NDArray[np.int32],
    labels: NDArray[np.int8],
    strata: Sequence[str] | None,
    *,
    shares: NDArray[np.float64],
    seed: int,
    what: str,
) -> NDArray[np.intp]:
    """Give each video a side, whole groups at a time, every side near its share of each stratum.

    Parameters
    ----------
    groups
        Group of each video, shape (n_videos,).
    labels
        Label of each video, shape (n_videos,): 0 real, 1 fake.
    strata
        What each video is an example of within its class; None is the class alone.
    shares
        Share of the videos that each side is to have, shape (n_sides,), summing to 1.
    seed
        Equal seeds give equal sides.
    what
        What the sides are, for messages.

    Returns
    -------
    ndarray of intp, shape (n_videos,)
        Side of each video. Every side holds both classes.

    Raises
    ------
    TrainingDataError
        One class only, or too few groups to have both classes on every side.
    """
    _, member = np.unique(groups, return_inverse=True)
    number = int(member.max(initial=-1)) + 1
    counts = np.zeros((number, 2), np.int64)
    np.add.at(counts, (member, labels), 1)
    _check_enough(counts, sides=len(shares), what=what)
    stratum = _stratify(labels, strata, smallest=1 / shares.min())
    parts = np.zeros((number, int(stratum.max()) + 1))
    np.add.at(parts, (member, stratum), 1)
    parts /= parts.sum(axis=0)
    order = np.random.default_rng(seed).permutation(number)
    largest_first = order[np.argsort(-counts[order].sum(axis=1), kind="stable")]
    side_of = _fill(parts, largest_first, shares, np.full(number, -1))
    if not _both_classes(counts, side_of, len(shares)):
        side_of = _fill(parts, largest_first, shares, _reserve(counts, order, len(shares)))
    _improve(parts, counts, shares, side_of)
    return side_of[member]


def _stratify(labels: NDArray[np.int8], strata: Sequence[str] | None, *, smallest: float) -> NDArray[np.intp]:
    """Return the number of each video's stratum; those of a class too small to give every side a video are one."""
    kinds = np.zeros(len(labels), np.intp) if strata is None else np.unique(strata, return_inverse=True)[1]
    both = np.stack([labels.astype(np.intp), kinds + 1], axis=1)
    _, stratum, videos = np.unique(both, axis=0, return_inverse=True, return_counts=True)
    both[videos[stratum] < smallest, 1] = 0
    numbers: NDArray[np.intp] = np.unique(both, axis=0, return_inverse=True)[1]
    return numbers


def _check_enough(counts: NDArray[np.int64], *, sides: int, what: str) -> None:
    real, fake = (int(total) for total in counts.sum(axis=0))
    if not real or not fake:
        missing = "fake" if real else "real"
        raise TrainingDataError(
            f"got {real} real and {fake} fake videos, expected both classes; add {missing} videos to the source"
        )
    mixed = int((counts > 0).all(axis=1).sum())
    only_real, only_fake = (int(((counts > 0) == kind).all(axis=1).sum()) for kind in ((True, False), (False, True)))
    # A side is served by one mixed group, or by a pair of one real and one fake group.
    if mixed + min(only_real, only_fake) < sides:
        raise TrainingDataError(
            f"got {len(counts)} groups of people ({mixed} with real and fake videos, {only_real} with real only, "
            f"{only_fake} with fake only), expected enough to have both classes in each of {what}; "
            "ask for fewer folds (train.split.folds) or add videos of other people"
        )


def _fill(
    parts: NDArray[np.float64],
    largest_first: NDArray[np.intp],
    shares: NDArray[np.float64],
    side_of: NDArray[np.intp],
) -> NDArray[np.intp]:
    """Deal the groups that have no side yet, each to the side that lacks most of what it brings."""
    lacking = np.repeat(shares[:, None], parts.shape[1], axis=1)
    taken = side_of >= 0
    np.subtract.at(lacking, side_of[taken], parts[taken])
    for group in largest_first[~taken[largest_first]]:
        # The smallest rise in the squared distance from the shares; rounded so that equal sides tie exactly.
        side = int(np.argmax(np.round(lacking @ parts[group], 12)))
        side_of[group] = side
        lacking[side] -= parts[group]
    return side_of


def _improve(
    parts: NDArray[np.float64], counts: NDArray[np.int64], shares: NDArray[np.float64], side_of: NDArray[np.intp]
) -> None:
    """Move single groups, in place, for as long as that brings the sides nearer to their shares.

    What is lowered is the sum of the squared distances over sides and strata. Where every group is of one stratum, no
    side then misses its share of a stratum by more than the stratum's largest group: else moving one would help.
    """
    here = np.arange(len(parts))
    excess = np.repeat(-shares[:, None], parts.shape[1], axis=1)
    np.add.at(excess, side_of, parts)
    classes = np.zeros((len(shares), 2), np.int64)
    np.add.at(classes, side_of, counts)
    lengths = (parts**2).sum(axis=1, keepdims=True)
    for _ in range(MOST_MOVES):
        along = parts @ excess.T
        change = 2 * (lengths + along - along[here, side_of][:, None])
        change[here, side_of] = 0
        # No side may lose its last video of a class.
        change[~(classes[side_of] > counts).all(axis=1)] = 0
        group, side = np.unravel_index(int(np.argmin(np.round(change, 12))), change.shape)
        if change[group, side] > -1e-9:
            return
        for sign, where in ((-1, side_of[group]), (1, side)):
            excess[where] += sign * parts[group]
            classes[where] += sign * counts[group]
        side_of[group] = side


def _reserve(counts: NDArray[np.int64], order: NDArray[np.intp], sides: int) -> NDArray[np.intp]:
    """Give every side both classes with as few videos as that takes; the other groups stay without a side (-1)."""
    by_size = order[np.argsort(counts[order].sum(axis=1), kind="stable")]
    kinds = counts > 0
    mixed = [[group] for group in by_size if kinds[group].all()]
    real = [group for group in by_size if kinds[group, 0] and not kinds[group, 1]]
    fake = [group for group in by_size if kinds[group, 1] and not kinds[group, 0]]
    side_of = np.full(len(counts), -1)
    for side, servers in zip(range(sides), [*mixed, *([r, f] for r, f in zip(real, fake, strict=False))], strict=False):
        side_of[servers] = side
    return side_of


def _both_classes(counts: NDArray[np.int64], side_of: NDArray[np.intp], sides: int) -> bool:
    totals = np.zeros((sides, 2), np.int64)
    np.add.at(totals, side_of, counts)
    return bool((totals > 0).all())
