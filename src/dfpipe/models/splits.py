"""Dividing videos so that nobody seen in training is met again in the test.

Whoever appears together in a video, as the body or as the face, belongs to one group, and so does everyone they
appear with elsewhere. Groups are dealt out whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError

__all__ = ["Rows", "Split", "check_disjoint", "grouped_folds", "identity_groups", "split_groups"]

Videos = NDArray[np.intp]
"""Indices of videos, in rising order."""

Rows = NDArray[np.intp]
"""Indices of rows, in rising order."""


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Which rows a model learns from and which it is judged on."""

    train_rows: Rows
    """Rows to learn from."""
    test_rows: Rows
    """Held-out rows."""
    folds: tuple[tuple[Rows, Rows], ...]
    """(train, validation) rows inside ``train_rows``."""


def identity_groups(identities: Sequence[tuple[str, ...]]) -> NDArray[np.int32]:
    """Group videos by the connected components of everyone who appears in them.

    Parameters
    ----------
    identities
        Who appears in each video.

    Returns
    -------
    ndarray of int32, shape (n_videos,)
        Group of each video, numbered from 0 in order of first appearance; a video of nobody is a group of its own.

    Examples
    --------
    >>> identity_groups([("ann",), ("bob",), ("ann", "cleo"), ("cleo",)])
    array([0, 1, 0, 0], dtype=int32)
    """
    parent = list(range(len(identities)))

    def root(video: int) -> int:
        while parent[video] != video:
            parent[video] = parent[parent[video]]
            video = parent[video]
        return video

    first_video_of: dict[str, int] = {}
    for video, people in enumerate(identities):
        for person in people:
            parent[root(video)] = root(first_video_of.setdefault(person, video))
    numbers: dict[int, int] = {}
    return np.array([numbers.setdefault(root(video), len(numbers)) for video in range(len(parent))], np.int32)


def split_groups(
    groups: NDArray[np.int32], labels: NDArray[np.int8], *, test_fraction: float, seed: int
) -> tuple[Videos, Videos]:
    """Hold whole groups out for the test, near the given share of the videos of each class.

    Parameters
    ----------
    groups
        Group of each video, shape (n_videos,).
    labels
        Label of each video, shape (n_videos,): 0 real, 1 fake.
    test_fraction
        Share wanted in the test, between 0 and 1.
    seed
        Equal seeds give equal splits.

    Returns
    -------
    train_videos, test_videos
        Indices in rising order; together every video once. Both sides hold both classes.

    Raises
    ------
    TrainingDataError
        One class only, or too few groups to have both classes on both sides.
    """
    side = _deal(groups, labels, shares=np.array([1 - test_fraction, test_fraction]), seed=seed, what="train and test")
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)


def grouped_folds(
    groups: NDArray[np.int32],
    labels: NDArray[np.int8],
    *,
    folds: int,
    seed: int,
    videos: Videos | None = None,
) -> list[tuple[Videos, Videos]]:
    """Divide videos into folds for cross-validation, whole groups at a time.

    Parameters
    ----------
    groups
        Group of each video, shape (n_videos,).
    labels
        Label of each video, shape (n_videos,): 0 real, 1 fake.
    folds
        Number of folds, 2 or more.
    seed
        Equal seeds give equal folds.
    videos
        Indices of the videos to divide; None is all.

    Returns
    -------
    list of (train_videos, valid_videos)
        Indices in rising order; each video divided is in exactly one valid_videos, and both classes are in each.

    Raises
    ------
    TrainingDataError
        One class only, or too few groups to have both classes in every fold.
    """
    chosen = np.arange(len(groups)) if videos is None else np.sort(videos)
    fold = _deal(
        groups[chosen], labels[chosen], shares=np.full(folds, 1 / folds), seed=seed, what=f"{folds} validation folds"
    )
    return [(chosen[fold != number], chosen[fold == number]) for number in range(folds)]


def check_disjoint(
    train_videos: Videos,
    test_videos: Videos,
    *,
    groups: NDArray[np.int32],
    identities: Sequence[tuple[str, ...]] | None = None,
) -> None:
    """Refuse a split in which a video, a group or a person stands on both sides.

    Raises
    ------
    TrainingDataError
        Names what stands on both sides.
    """
    shared: dict[str, set[str]] = {
        "video": _names(train_videos) & _names(test_videos),
        "group": _names(groups[train_videos]) & _names(groups[test_videos]),
    }
    if identities is not None:
        train_people, test_people = (
            {person for video in side for person in identities[video]} for side in (train_videos, test_videos)
        )
        shared["identity"] = train_people & test_people
    for what, both in shared.items():
        if both:
            names = ", ".join(sorted(both)[:3])
            raise TrainingDataError(
                f"{what} {names} stands in training and in the test, expected nobody on both sides; "
                "split by identity groups"
            )


def _names(numbers: NDArray[np.integer]) -> set[str]:
    return {str(number) for number in numbers}


def _deal(
    groups: NDArray[np.int32], labels: NDArray[np.int8], *, shares: NDArray[np.float64], seed: int, what: str
) -> NDArray[np.intp]:
    """Give each video a side, whole groups at a time, every side near its share of each class."""
    _, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((int(member.max(initial=-1)) + 1, 2), np.int64)
    np.add.at(counts, (member, labels), 1)
    _check_enough(counts, sides=len(shares), what=what)
    order = np.random.default_rng(seed).permutation(len(counts))
    side_of = _fill(counts, order, shares, np.full(len(counts), -1))
    if not _both_classes(counts, side_of, len(shares)):
        side_of = _fill(counts, order, shares, _reserve(counts, order, len(shares)))
    return side_of[member]


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
    counts: NDArray[np.int64], order: NDArray[np.intp], shares: NDArray[np.float64], side_of: NDArray[np.intp]
) -> NDArray[np.intp]:
    """Deal the groups that have no side yet, largest first, each to the side that lacks most of what it brings."""
    parts = counts / counts.sum(axis=0)
    lacking = np.outer(shares, (1.0, 1.0))
    taken = side_of >= 0
    np.subtract.at(lacking, side_of[taken], parts[taken])
    waiting = order[~taken[order]]
    for group in waiting[np.argsort(-counts[waiting].sum(axis=1), kind="stable")]:
        # The smallest rise in the squared distance from the shares; rounded so that equal sides tie exactly.
        side = int(np.argmax(np.round(lacking @ parts[group], 12)))
        side_of[group] = side
        lacking[side] -= parts[group]
    return side_of


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
