"""Dividing videos so that nobody seen in training is met again in the test.

Whoever appears together in a video, as the body or as the face, belongs to one group, and so does everyone they
appear with elsewhere. Groups are dealt out whole. Rows at random are there for comparison with those who did so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError
from dfpipe.models.dealing import deal
from dfpipe.settings import SplitProtocol

__all__ = [
    "Rows",
    "Split",
    "Videos",
    "check_disjoint",
    "grouped_folds",
    "identity_groups",
    "join_groups",
    "on_two_sides",
    "random_rows",
    "split_groups",
]

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
    """(train, validation) rows inside ``train_rows``; one fold whose validation rows are on neither side where an
    official split has validation videos of its own."""
    protocol: SplitProtocol = "identity"
    """By which rule."""
    left_out: Mapping[int, str] = field(default_factory=dict)
    """Why videos have no row here, by their index."""
    shared: Mapping[str, int] = field(default_factory=dict)
    """How many videos, contents, identities and groups stand on two sides; empty where none does."""

    @property
    def leaky(self) -> bool:
        """Whether figures on the test come out too good, since something of it may be known from training."""
        return self.protocol == "seed" or bool(self.shared)


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


def join_groups(groups: NDArray[np.int32], pairs: NDArray[np.int32]) -> NDArray[np.int32]:
    """Make one group of those groups that pairs of videos connect.

    Parameters
    ----------
    groups
        Group of each video, shape (n_videos,).
    pairs
        Pairs of videos, shape (n, 2).

    Returns
    -------
    ndarray of int32, shape (n_videos,)
        Group of each video, numbered from 0 in order of first appearance; videos of one group before are of one now.

    Examples
    --------
    >>> join_groups(np.array([0, 1, 2, 2], np.int32), np.array([[0, 3]], np.int32))
    array([0, 1, 0, 0], dtype=int32)
    """
    names: list[tuple[str, ...]] = [(str(group),) for group in groups.tolist()]
    links = [(str(one), str(other)) for one, other in groups[pairs].tolist()]
    return identity_groups([*names, *links])[: len(groups)]


def split_groups(
    groups: NDArray[np.int32],
    labels: NDArray[np.int8],
    *,
    test_fraction: float,
    seed: int,
    strata: Sequence[str] | None = None,
) -> tuple[Videos, Videos]:
    """Hold whole groups out for the test, near the given share of the videos of each stratum.

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
    strata
        What each video is an example of within its class, such as a method; None is the class alone.

    Returns
    -------
    train_videos, test_videos
        Indices in rising order; together every video once. Both sides hold both classes.

    Raises
    ------
    TrainingDataError
        One class only, or too few groups to have both classes on both sides.
    """
    shares = np.array([1 - test_fraction, test_fraction])
    side = deal(groups, labels, strata, shares=shares, seed=seed, what="train and test")
    return np.flatnonzero(side == 0), np.flatnonzero(side == 1)


def grouped_folds(
    groups: NDArray[np.int32],
    labels: NDArray[np.int8],
    *,
    folds: int,
    seed: int,
    videos: Videos | None = None,
    strata: Sequence[str] | None = None,
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
    strata
        What each of all videos is an example of within its class, such as a method; None is the class alone.

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
    fold = deal(
        groups[chosen],
        labels[chosen],
        None if strata is None else [strata[video] for video in chosen],
        shares=np.full(folds, 1 / folds),
        seed=seed,
        what=f"{folds} validation folds",
    )
    return [(chosen[fold != number], chosen[fold == number]) for number in range(folds)]


def random_rows(
    y: NDArray[np.int8], *, test_fraction: float, folds: int, seed: int
) -> tuple[Rows, Rows, list[tuple[Rows, Rows]]]:
    """Divide rows at random, whoever is in them, as scikit-learn's train_test_split and KFold do: the seed's protocol.

    Parameters
    ----------
    y
        Labels, shape (n,): 0 real, 1 fake.
    test_fraction
        Share of the rows held out.
    folds
        Number of folds inside the rest, consecutive parts of it in its shuffled order.
    seed
        ``random_state`` of the shuffle.

    Returns
    -------
    train_rows, test_rows, folds
        Rows in rising order; of each fold the rows to learn from and the rows to validate on.

    Raises
    ------
    TrainingDataError
        Fewer rows than this takes, or a side without one of the classes.
    """
    from sklearn.model_selection import KFold, train_test_split  # noqa: PLC0415 - slow to import

    if len(y) <= folds or round((1 - test_fraction) * len(y)) < folds:
        raise TrainingDataError(
            f"got {len(y)} faces, expected enough for {folds} folds beside the test; add videos or ask for fewer folds "
            "(train.split.folds)"
        )
    train, test = train_test_split(np.arange(len(y)), test_size=test_fraction, random_state=seed)
    inside = [(np.sort(train[learnt]), np.sort(train[valid])) for learnt, valid in KFold(folds).split(train)]
    for rows in (train, test, *(part for fold in inside for part in fold)):
        if len(np.unique(y[rows])) < 2:
            raise TrainingDataError(
                f"drawn at random, a side of {len(rows)} faces has only one of the classes, expected both; add videos, "
                "ask for fewer folds (train.split.folds), or set another train.split.seed"
            )
    return np.sort(train), np.sort(test), inside


def on_two_sides(
    left: Videos,
    right: Videos,
    *,
    groups: NDArray[np.int32],
    identities: Sequence[tuple[str, ...]] | None = None,
    contents: Sequence[str] | None = None,
    face_pairs: NDArray[np.int32] | None = None,
) -> dict[str, list[str]]:
    """Return what two sides of a split have in common: ``{"identity": ["ann", "bob"], "group": ["3"]}``.

    Parameters
    ----------
    left, right
        Indices of the videos on each side.
    groups
        Group of each video, shape (n_videos,).
    identities
        Who appears in each video.
    contents
        What tells each video's bytes from others.
    face_pairs
        Pairs of videos that show the same pictures of a face, shape (n, 2).

    Returns
    -------
    dict
        Names by what they name (video, content, identity, face duplicate, group), sorted; nothing that is on one side
        only. A face duplicate is named by the numbers of its videos: ``3=17``.
    """

    def people(side: Videos) -> set[str]:
        return {person for video in side for person in identities[video]} if identities is not None else set()

    def bytes_of(side: Videos) -> set[str]:
        return {contents[video] for video in side} if contents is not None else set()

    def across() -> set[str]:
        pairs = np.empty((0, 2), np.int32) if face_pairs is None else face_pairs
        on_left, on_right = np.isin(pairs, left), np.isin(pairs, right)
        apart = (on_left & on_right[:, ::-1]).any(axis=1)
        return {f"{one}={other}" for one, other in pairs[apart].tolist()}

    shared = {
        "video": _names(left) & _names(right),
        "content": bytes_of(left) & bytes_of(right),
        "identity": people(left) & people(right),
        "face duplicate": across(),
        "group": _names(groups[left]) & _names(groups[right]),
    }
    return {what: sorted(names) for what, names in shared.items() if names}


def check_disjoint(
    train_videos: Videos,
    test_videos: Videos,
    *,
    groups: NDArray[np.int32],
    identities: Sequence[tuple[str, ...]] | None = None,
    contents: Sequence[str] | None = None,
    face_pairs: NDArray[np.int32] | None = None,
    video_ids: Sequence[str] | None = None,
    advice: str = "split by identity groups",
) -> None:
    """Refuse a split in which a video, its bytes, its pictures, a person or a group stands on both sides.

    Parameters
    ----------
    train_videos, test_videos, groups, identities, contents, face_pairs
        As in `on_two_sides`.
    video_ids
        Names of the videos for the message; None names indices.
    advice
        What to do, for the message.

    Raises
    ------
    TrainingDataError
        Names what stands on both sides, and a video of each.
    """
    shared = on_two_sides(
        train_videos, test_videos, groups=groups, identities=identities, contents=contents, face_pairs=face_pairs
    )
    if not shared:
        return
    what, names = next(iter(shared.items()))

    def has_first(video: int) -> bool:
        match what:
            case "content":
                return contents is not None and contents[video] == names[0]
            case "identity":
                return identities is not None and names[0] in identities[video]
            case "face duplicate":
                return str(video) in names[0].split("=")
        return str(video if what == "video" else groups[video]) == names[0]

    one, other = (
        next(video if video_ids is None else video_ids[video] for video in side.tolist() if has_first(video))
        for side in (train_videos, test_videos)
    )
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    # The two videos are named anyway.
    told = f"{what} {', '.join(names[:3])}{more}" if what != "face duplicate" else f"one of {len(names)} {what}s"
    raise TrainingDataError(
        f"{told} stands on two sides of the split (in video {one} and in {other}), "
        f"expected no video, content, identity, face duplicate or group on two; {advice}"
    )


def _names(numbers: NDArray[np.integer]) -> set[str]:
    return {str(number) for number in numbers}
