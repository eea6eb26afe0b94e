"""Faces as rows of the table of detections, and back: what was found once need not be looked for again.

Whoever wants other crops of the same faces decodes the video again, as stored frames are lossy, but takes the faces
from the rows that an earlier extraction wrote. benchmarks/reuse.py tells what that spares.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.faces import Face
from dfpipe.shards import LANDMARKS

__all__ = [
    "BOX",
    "LENT_COLUMNS",
    "LENT_LEDGER_COLUMNS",
    "POINTS",
    "KnownFaces",
    "as_stored",
    "face_columns",
    "known_faces",
]

BOX = ("x1", "y1", "x2", "y2")
"""Columns of the box."""

POINTS = tuple(f"{name}_{axis}" for name in LANDMARKS for axis in ("x", "y"))
"""Columns of the landmarks, x then y of each; null from detectors that know none."""

KEY = ("video_id", "content_id")
FACE = ("frame_index", "score", *BOX, *POINTS, "landmarks_68")

LENT_COLUMNS = (*KEY, *FACE)
"""Columns of ``detections`` that `known_faces` needs."""

LENT_LEDGER_COLUMNS = (*KEY, "frames_decoded", "faces_found")
"""Columns of ``videos`` that `known_faces` needs."""


@dataclass(frozen=True, slots=True)
class KnownFaces:
    """All faces that an earlier extraction found in one video; small to send, whatever it was cut from."""

    frames_decoded: int
    """Frames that it looked at."""
    detections: pa.Table
    """Its rows of ``detections``, in any order, with at least the columns that make a face."""

    def in_frames(self, indices: Collection[int]) -> dict[int, list[Face]] | None:
        """Return the faces by position of their frame, where just these frames were looked at.

        Parameters
        ----------
        indices
            Positions of the frames that are wanted, each once.

        Returns
        -------
        dict of int to list of Face, or None
            Frames that are not in it show no face. None where other frames were looked at, or fewer: which of them is
            not on record, so a frame without rows may have been one of those that could not be decoded.
        """
        frames = self.detections["frame_index"].to_pylist()
        if self.frames_decoded != len(indices) or not set(frames) <= set(indices):
            return None
        found: dict[int, list[Face]] = {}
        for index, face in zip(frames, _faces(self.detections), strict=True):
            found.setdefault(index, []).append(face)
        return found


def known_faces(detections: pa.Table, ledger: pa.Table) -> dict[tuple[str, str], KnownFaces]:
    """Return what can be lent of the videos in a ledger, by video_id and content_id.

    A video of which nothing was decoded is left out, and so is one of whose faces not all rows are there.

    Parameters
    ----------
    detections
        Rows of ``detections`` with `LENT_COLUMNS`, of these videos at least, all of one fingerprint.
    ledger
        Rows of ``videos`` with `LENT_LEDGER_COLUMNS`, of the same fingerprint.
    """
    known = {}
    for row in ledger.filter(pc.field("frames_decoded") > 0).to_pylist():
        key = (row["video_id"], row["content_id"])
        is_own = (pc.field("video_id") == key[0]) & (pc.field("content_id") == key[1])
        # Filtered and not sliced: a slice would be sent with all that it was cut from.
        own = detections.filter(is_own).select(FACE).combine_chunks()
        if own.num_rows == row["faces_found"]:
            known[key] = KnownFaces(row["frames_decoded"], own)
    return known


def as_stored(face: Face) -> Face:
    """Return the face as its row gives it back: whatever follows from it is then the same, found or known.

    A score may have more digits than a table keeps, as dlib's have.
    """
    return Face(
        box=np.array(face.box, np.float32, order="C"),
        score=float(np.float32(face.score)),
        landmarks=np.array(face.landmarks, np.float32, order="C"),
        landmarks_68=None if face.landmarks_68 is None else np.array(face.landmarks_68, np.float32, order="C"),
    )


def face_columns(face: Face) -> dict[str, Any]:
    """Return the columns that make a face."""
    columns: dict[str, Any] = {"score": float(face.score)}
    columns |= {name: float(edge) for name, edge in zip(BOX, face.box, strict=True)}
    # Not a number means that the detector knows none; a table says so with null.
    places = (None if math.isnan(place) else place for place in face.landmarks.ravel().tolist())
    columns |= dict(zip(POINTS, places, strict=True))
    return columns | {"landmarks_68": None if face.landmarks_68 is None else face.landmarks_68.ravel().tolist()}


def _faces(detections: pa.Table) -> list[Face]:
    """Undo `face_columns`, row by row."""

    def numbers(names: tuple[str, ...]) -> Any:
        # Of a column that may be null, to_numpy makes one that may be not a number.
        return np.stack([detections[name].to_numpy() for name in names], axis=1)

    boxes = numbers(BOX)
    landmarks = numbers(POINTS).reshape(-1, len(LANDMARKS), 2)
    more = detections["landmarks_68"].to_pylist()
    return [
        Face(box, score, points, None if places is None else np.array(places, np.float32).reshape(-1, 2))
        for box, score, points, places in zip(boxes, detections["score"].to_pylist(), landmarks, more, strict=True)
    ]
