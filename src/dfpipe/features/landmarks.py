"""Geometry of the face: how its five landmarks lie to one another, in their box, and in the frame.

Columns:

=======  ==============================================================================================
columns  value
=======  ==============================================================================================
10       landmarks in the box: x then y of each, as shares of its width and height
10       distances between every two of them, over the landmarks' spread
1        roll of the line between the eyes in degrees, positive clockwise, -180 to 180
1        roll of the line between the mouth's corners less that, in degrees, -180 to 180
1        rough turn of the head in degrees, as ``yaw_degrees`` of the faces
2        angle at the nose between the eyes, between the mouth's corners, in degrees
1        how far the landmarks lie from where an aligned face has them (root mean square over their spread) after the
         best turn, scale and shift
4        centre of the box, then its width and height, as shares of the frame's
=======  ==============================================================================================

The spread is the root mean square distance of the landmarks from their centre. Where they all lie in one place,
distances, angles and the misfit are 0. Pairs stand in the order of the landmarks: left eye with right eye, with nose,
with left and right mouth corner, right eye with nose, and so on.
"""

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import SettingsError
from dfpipe.faces.landmarks import ARCFACE, fit_similarity, yaw_degrees
from dfpipe.features.faces import Faces
from dfpipe.settings import LandmarksSettings

__all__ = ["VERSION", "columns", "compute"]

VERSION = 1
"""Raised whenever the same landmarks would give other values."""

_PAIRS = np.array(list(combinations(range(5), 2)))
_LEFT_EYE, _RIGHT_EYE, _NOSE, _MOUTH_LEFT, _MOUTH_RIGHT = range(5)

Floats = NDArray[np.floating[Any]]


def columns(settings: LandmarksSettings) -> int:  # noqa: ARG001 - what every set has
    """Return how many values a face becomes."""
    return 30


def compute(faces: Faces, settings: LandmarksSettings) -> NDArray[np.float32]:  # noqa: ARG001 - what every set has
    """Return the geometry of each face.

    Parameters
    ----------
    faces
        Of which landmarks, boxes and the size of the frames are looked at, and no pixel.
    settings
        Without options.

    Returns
    -------
    ndarray of float32, shape (n, columns(settings))
        Finite; the module tells what stands where.

    Raises
    ------
    SettingsError
        Faces without landmarks, or of frames whose size is not known.
    """
    if np.isnan(faces.landmarks).any():
        raise SettingsError(
            "got faces without landmarks for train.features landmarks; choose another extract.detector.name than "
            "cascade, which gives none, or take the feature set out"
        )
    if np.isnan(faces.boxes).any() or not (faces.frame_wh > 0).all():
        raise SettingsError(
            "got faces without boxes or of frames of unknown size for train.features landmarks; "
            "extract the videos again with --retry ok, or take the feature set out"
        )
    points = faces.landmarks.astype(np.float64)
    boxes = faces.boxes.astype(np.float64)
    corner, sides = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2]
    # A box of less than a pixel is one of a pixel.
    in_box = (points - corner) / np.maximum(sides, 1)
    centred = points - points.mean(axis=1, keepdims=True)
    spread = np.sqrt((centred**2).sum(axis=2).mean(axis=1))
    first, second = points[:, _PAIRS[:, 0]], points[:, _PAIRS[:, 1]]
    distances = _divide(np.linalg.norm(first - second, axis=2), spread[:, None])
    roll = _direction(points[:, _RIGHT_EYE] - points[:, _LEFT_EYE])
    mouth_roll = _direction(points[:, _MOUTH_RIGHT] - points[:, _MOUTH_LEFT])
    nose = points[:, _NOSE]
    eyes_angle = _angle(points[:, _LEFT_EYE] - nose, points[:, _RIGHT_EYE] - nose)
    mouth_angle = _angle(points[:, _MOUTH_LEFT] - nose, points[:, _MOUTH_RIGHT] - nose)
    one_by_one = [(yaw_degrees(face), _misfit(face)) for face in points]
    frame = faces.frame_wh.astype(np.float64)
    rows = np.concatenate(
        [
            in_box.reshape(-1, 10),
            distances,
            np.stack([roll, _wrapped(mouth_roll - roll)], axis=1),
            np.array([yaw for yaw, _ in one_by_one]).reshape(-1, 1),
            np.stack([eyes_angle, mouth_angle], axis=1),
            np.array([misfit for _, misfit in one_by_one]).reshape(-1, 1),
            (boxes[:, :2] + boxes[:, 2:]) / 2 / frame,
            (boxes[:, 2:] - boxes[:, :2]) / frame,
        ],
        axis=1,
    )
    return rows.astype(np.float32)


def _divide(values: Floats, by: Floats) -> Floats:
    by = np.broadcast_to(by, values.shape)
    return np.divide(values, by, out=np.zeros_like(values), where=by > 0)


def _direction(vectors: Floats) -> Floats:
    """Return the direction of each vector in degrees from the x axis, y down."""
    directions: Floats = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))
    return directions


def _wrapped(degrees: Floats) -> Floats:
    wrapped: Floats = (degrees + 180) % 360 - 180
    return wrapped


def _angle(first: Floats, second: Floats) -> Floats:
    """Return the angle between two vectors in degrees, 0 to 180; 0 where one has no length."""
    across = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    angles: Floats = np.degrees(np.arctan2(np.abs(across), (first * second).sum(axis=1)))
    return angles


def _misfit(points: Floats) -> float:
    """Fit the template to the landmarks and return what is left, over their spread."""
    centred = points - points.mean(axis=0)
    spread = float(np.sqrt((centred**2).sum(axis=1).mean()))
    if spread == 0:
        return 0.0
    to_points = fit_similarity(ARCFACE, centred)
    left = ARCFACE @ to_points[:, :2].T + to_points[:, 2] - centred
    return float(np.sqrt((left**2).sum(axis=1).mean())) / spread
