"""Which videos show the same pictures of a face, whatever the catalog says of who is in them.

Found are copies of the same footage: encoded again, at another size, slightly cut or shifted, brighter, mirrored. The
same person filmed another time is not looked for: whether two pictures are of one person, nothing here knows.

A face is described by the lowest frequencies of its grey thumbnail (a perceptual hash before it is cut down to bits),
and two faces are compared by the distance of the descriptions. Only those are compared that fall into one bucket of
one of several tables: a bucket is made of the sides of random planes on which a description lies (Charikar, STOC 2002),
so that few faces share one that are not alike, and two videos of the same footage seldom miss each other in all tables
with all their faces (docs/splits.md has the share). Everything is counted in whole numbers, and the planes are the same
for every set: equal thumbnails give equal pairs on every machine, whatever else is there and in whatever order.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIDE_PX", "FacePairs", "duplicate_videos"]

SIDE_PX = 32
"""Width and height of the thumbnails."""

WINDOW_PX = 28
"""Width and height of what is compared; the rest is room to shift it."""

SHIFTS_PX = (-1, 0, 1)
"""Shifts that are tried along either axis: a detector puts its box elsewhere on a picture that was encoded again."""

FREQUENCIES = 8
"""Of either axis, from 0 half cycles a window."""

TABLES, PLANES = 12, 48
"""Tables of buckets, and planes that make a bucket. Two faces 0.15 apart lie on the same side of 48 planes in one case
of ten, and have 12 tables times the faces of their videos for it; two that are 0.7 apart in one of 250,000."""

UNIT = 2**13
"""Length of a description."""

MIN_CONTRAST = 2.0
"""Deviation in grey levels below which a thumbnail shows nothing that could be compared."""

FACES_AT_ONCE = 1024
"""Faces that are looked up together."""

COMPARED_AT_ONCE = 2**18
"""Pairs of faces that are compared together: 66 MB."""

FacePairs = NDArray[np.int32]
"""Pairs of videos, shape (n, 2), the smaller index first, in rising order."""


def duplicate_videos(
    thumbnails: NDArray[np.uint8],
    video: NDArray[np.integer],
    groups: NDArray[np.integer],
    *,
    max_distance: float,
    min_share: float,
    workers: int = 1,
) -> FacePairs:
    """Return the pairs of videos of different groups that show the same pictures of a face.

    Parameters
    ----------
    thumbnails
        Luma of each face's crop, flattened row by row, shape (n, SIDE_PX ** 2).
    video
        Index of each face's video, shape (n,).
    groups
        Group of each video, shape (n_videos,); within one no pair is looked for.
    max_distance
        Greatest distance of two faces that count as one picture, between 0 (the same but for brightness and contrast)
        and 2; faces that have nothing in common are 1.41 apart.
    min_share
        Share of the faces of one of the two videos that must be found in the other. Faces without contrast do not
        count.
    workers
        Threads.

    Returns
    -------
    ndarray of int32, shape (n_pairs, 2)
        A matter of the two videos alone: other videos, and the order of all, change nothing.
    """
    order = np.argsort(video, kind="stable")
    thumbnails = thumbnails.reshape(-1, SIDE_PX, SIDE_PX)[order]
    known, is_clear = _describe(thumbnails)
    thumbnails, known, owner = thumbnails[is_clear], known[is_clear], video[order][is_clear].astype(np.int64)
    keys = _buckets(known)
    tables = [(np.argsort(column, kind="stable"), np.sort(column)) for column in keys.T]
    radius = max_distance * UNIT

    def alike(start: int) -> NDArray[np.int64]:
        """Return the pairs of videos of which some of these faces are the same."""
        faces = slice(start, start + FACES_AT_ONCE)
        met = [np.empty((0, 2), np.int64)]
        for described in _variants(thumbnails[faces]):
            for (members, sorted_keys), column in zip(tables, _buckets(described).T, strict=True):
                for face, other in _in_bucket(members, sorted_keys, column):
                    strange = groups[owner[face + start]] != groups[owner[other]]
                    face, other = face[strange], other[strange]  # noqa: PLW2901
                    same = _distance_squared(described[face], known[other]) <= radius**2
                    met.append(np.stack([owner[face[same] + start], owner[other[same]]], axis=1))
        return np.unique(np.sort(np.concatenate(met), axis=1), axis=0)

    with ThreadPoolExecutor(workers) as pool:
        found = list(pool.map(alike, range(0, len(owner), FACES_AT_ONCE)))
    candidates = np.unique(np.concatenate([np.empty((0, 2), np.int64), *found]), axis=0)
    edges = np.searchsorted(owner, np.arange(len(groups) + 1))

    def share(one: int, other: int) -> float:
        """Return the share of the faces of one video that are in another."""
        own, theirs = (slice(edges[which], edges[which + 1]) for which in (one, other))
        distances = [_distance_squared(seen[:, None], known[None, theirs]) for seen in _variants(thumbnails[own])]
        return float((np.min(distances, axis=(0, 2)) <= radius**2).mean())

    # A share such as 0.7 of ten faces is not 7.000000000000001 of them.
    least = min_share - 1e-9
    kept = [pair for pair in candidates.tolist() if share(*pair) >= least or share(*pair[::-1]) >= least]
    return np.array(kept, np.int32).reshape(-1, 2)


def _buckets(described: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return the bucket of each description in each table, shape (n, TABLES)."""
    rng = np.random.Generator(np.random.PCG64(0))
    planes = rng.integers(-128, 128, (described.shape[1], TABLES * PLANES)).astype(np.float64)
    above = (described.astype(np.float64) @ planes >= 0).reshape(-1, TABLES, PLANES)
    return above @ (1 << np.arange(PLANES, dtype=np.int64))


def _in_bucket(
    members: NDArray[np.intp], sorted_keys: NDArray[np.int64], keys: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Yield pairs of a key's place and a member of its bucket, `COMPARED_AT_ONCE` at most at a time."""
    first = np.searchsorted(sorted_keys, keys, "left")
    counts = np.searchsorted(sorted_keys, keys, "right") - first
    ends = np.cumsum(counts)
    for start in range(0, int(ends[-1]), COMPARED_AT_ONCE):
        number = np.arange(start, min(start + COMPARED_AT_ONCE, int(ends[-1])))
        place = np.searchsorted(ends, number, "right")
        yield place, members[first[place] + number - (ends - counts)[place]]


def _distance_squared(one: NDArray[np.int16], other: NDArray[np.int16]) -> NDArray[np.int64]:
    squared: NDArray[np.int64] = ((one.astype(np.int32) - other) ** 2).sum(axis=-1)
    return squared


def _variants(thumbnails: NDArray[np.uint8]) -> Iterator[NDArray[np.int16]]:
    """Describe thumbnails as they are and mirrored, each shifted by a pixel in every direction."""
    for seen in (thumbnails, thumbnails[:, :, ::-1]):
        for down in SHIFTS_PX:
            for right in SHIFTS_PX:
                yield _describe(seen, down=down, right=right)[0]


def _describe(
    thumbnails: NDArray[np.uint8], *, down: int = 0, right: int = 0
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """Return the low frequencies of a window, brought to length `UNIT`, lowest first, and which have any contrast."""
    margin = (SIDE_PX - WINDOW_PX) // 2
    cosines, order = _basis()
    described = np.empty((len(thumbnails), len(order)), np.int16)
    is_clear = np.empty(len(thumbnails), np.bool_)
    for start in range(0, len(thumbnails), FACES_AT_ONCE):
        part = slice(start, start + FACES_AT_ONCE)
        window = thumbnails[part, margin + down :, margin + right :][:, :WINDOW_PX, :WINDOW_PX].astype(np.float64)
        # Whole numbers far below 2 ** 53, so the sums are exact in whatever order a machine adds.
        both = np.rint((cosines @ window @ cosines.T).reshape(len(window), -1)[:, order] / 256**2)
        length = np.sqrt((both**2).sum(axis=1))
        is_clear[part] = length >= MIN_CONTRAST * WINDOW_PX
        described[part] = np.rint(both * (UNIT / np.maximum(length, 1)[:, None]))
    return described, is_clear


def _basis() -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return 256 times the orthonormal DCT-II in whole numbers, and the order of its products without the mean."""
    row, place = np.mgrid[:FREQUENCIES, :WINDOW_PX]
    cosines = np.cos(np.pi * row * (2 * place + 1) / (2 * WINDOW_PX)) * np.sqrt(2 / WINDOW_PX)
    cosines[0] /= np.sqrt(2)
    lowest_first = np.argsort(np.add.outer(np.arange(FREQUENCIES), np.arange(FREQUENCIES)).ravel(), kind="stable")
    return np.rint(256 * cosines), lowest_first[1:]
