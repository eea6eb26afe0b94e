"""Which faces of several frames are one person's, told by where they are.

Overlap is all that is looked at. It cannot tell apart

- somebody else who is shown at the same place after a cut, in an interview filmed with both in the middle say;
- two people who change places between two of the frames.

And somebody who comes back at another place counts as another person.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal

import numpy as np

from dfpipe.faces.boxes import iou
from dfpipe.faces.detector import Face

__all__ = ["Which", "rank_tracks", "track_faces"]

Which = Literal["most_confident", "largest", "all"]
"""Whose faces are kept; the same words as in the settings."""


def track_faces(frames: Sequence[Sequence[Face]], *, min_overlap: float) -> list[list[int]]:
    """Give each face the number of the person it belongs to.

    Each face is compared with where every person so far was seen last, however long ago: a person may be out of sight
    for a while. Of all pairs the one that overlaps most is taken first. Two faces of one frame are never one person.

    Parameters
    ----------
    frames
        The faces of each frame, frames in order of time; they may lie a second apart.
    min_overlap
        Boxes that overlap by more than this (intersection over union) can be one person's.

    Returns
    -------
    list of list of int
        A number for each face of each frame, in the order given. People are numbered from 0 as they come; of those who
        come in the same frame, the most confident face first, so the order of faces within a frame changes nothing.
    """
    last_seen: list[Face] = []
    tracks = []
    for faces in frames:
        numbers = [-1] * len(faces)
        order = sorted(range(len(faces)), key=lambda one: _confidence(faces[one]))
        for number, place in _match(last_seen, [faces[one] for one in order], min_overlap):
            numbers[order[place]] = number
            last_seen[number] = faces[order[place]]
        for one in order:
            if numbers[one] < 0:
                numbers[one] = len(last_seen)
                last_seen.append(faces[one])
        tracks.append(numbers)
    return tracks


def rank_tracks(frames: Sequence[Sequence[Face]], tracks: Sequence[Sequence[int]], *, which: Which) -> dict[int, int]:
    """Rank people by how much is seen of them.

    Parameters
    ----------
    frames, tracks
        Faces, and the numbers that `track_faces` gave them.
    which
        Rank by the sum of scores over all frames (also for ``all``; counted from the lowest where that is below 0), or
        by the sum of areas.

    Returns
    -------
    dict of int to int
        For each number its rank, 0 being the person chosen; of equals, the one seen first. Empty without faces.
    """
    sums: dict[int, float] = defaultdict(float)
    # dlib's scores may be negative; to be seen once more must never count against anybody.
    floor = min((face.score for faces in frames for face in faces), default=0.0)
    floor = min(floor, 0.0)
    for faces, numbers in zip(frames, tracks, strict=True):
        for face, number in zip(faces, numbers, strict=True):
            sums[number] += float(np.prod(face.box[2:] - face.box[:2])) if which == "largest" else face.score - floor
    ranked = sorted(sums, key=lambda number: (-sums[number], number))
    return {number: rank for rank, number in enumerate(ranked)}


def _confidence(face: Face) -> tuple[float, list[float], bytes, bytes]:
    """Return what to sort by for the most confident first; of faces of one score and box any order will do, if fixed.

    Bytes have one even where landmarks are not numbers.
    """
    more = b"" if face.landmarks_68 is None else face.landmarks_68.tobytes()
    return -face.score, face.box.tolist(), face.landmarks.tobytes(), more


def _match(people: Sequence[Face], faces: Sequence[Face], min_overlap: float) -> list[tuple[int, int]]:
    """Return pairs of a person and a face, each in one pair at most, those that overlap most first."""
    if not people or not faces:
        return []
    overlaps = iou(np.stack([face.box for face in people]), np.stack([face.box for face in faces]))
    close = np.argwhere(overlaps > min_overlap)
    best_first = close[np.argsort(-overlaps[tuple(close.T)], kind="stable")]
    pairs: dict[int, int] = {}
    taken = set()
    for person, face in best_first.tolist():
        if person not in pairs and face not in taken:
            pairs[person] = face
            taken.add(face)
    return list(pairs.items())
