"""The mathematics of five landmarks in plain NumPy.

Landmarks are an array of shape (5, 2), x then y: left eye, right eye, nose, left and right mouth corner, as seen in the
picture. Coordinates are edges, as in `dfpipe.faces.boxes`.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ARCFACE", "fit_similarity", "yaw_degrees"]

Points = NDArray[np.floating[Any]]

ARCFACE: NDArray[np.float64] = (
    np.array([[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]) / 112
)
"""Where the landmarks of an aligned face lie, as shares of the crop's side: the template that ArcFace and most face
recognition networks after it were trained on, so that their weights fit aligned crops of 112 pixels without margin."""

_NOSE_HEIGHT = 0.5
"""How far the tip of the nose stands out before the plane of eyes and mouth, in distances between the eyes."""


def fit_similarity(points: Points, onto: Points) -> NDArray[np.float64]:
    """Return the turn, scale and shift, shape (2, 3), that brings points closest to others (least squares).

    Never mirrors. Points that all lie in one place have no answer; the result is not a number then.

    Examples
    --------
    >>> square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
    >>> fit_similarity(square, square * 2 + 3).round(6)
    array([[ 2., -0.,  3.],
           [ 0.,  2.,  3.]])
    """
    # A similarity is z -> a z + b in complex numbers, so one division solves it.
    start, end = (np.asarray(p, np.float64) @ [1, 1j] for p in (points, onto))
    centred = start - start.mean()
    size = np.vdot(centred, centred).real
    a = np.vdot(centred, end - end.mean()) / size if size > 0 else complex(np.nan, np.nan)
    b = end.mean() - a * start.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def yaw_degrees(landmarks: Points) -> float:
    """Return roughly how far a head is turned, positive where the nose points to the picture's right.

    Eyes and mouth are taken to lie in a plane, and the tip of the nose to stand out before the middle of that plane by
    half the distance between the eyes. Turned by an angle, seen from afar, that distance shrinks with the cosine and
    the nose moves aside with the sine, so

        tan(yaw) = how far the nose lies beside the line from mid-eyes to mid-mouth / (0.5 * distance between the eyes)

    Both are measured across that line, so a head that is tilted to a shoulder gives the same. Noses differ: a frontal
    face is told well from a half profile, but the number is no measurement. In a full profile, where detectors guess
    the hidden eye, it is weakest.

    Parameters
    ----------
    landmarks
        Shape (5, 2), all of them numbers.

    Returns
    -------
    float
        -90 to 90.

    Examples
    --------
    >>> yaw_degrees(np.array([[40.0, 50], [80, 50], [60, 75], [44, 95], [76, 95]]))
    0.0
    >>> round(yaw_degrees(np.array([[40.0, 50], [80, 50], [80, 75], [44, 95], [76, 95]])))
    45
    """
    left_eye, right_eye, nose, mouth_left, mouth_right = np.asarray(landmarks, np.float64)
    eyes, mouth = (left_eye + right_eye) / 2, (mouth_left + mouth_right) / 2
    down = mouth - eyes
    across = np.array([down[1], -down[0]])
    aside = float(across @ (nose - eyes))
    # Beyond a profile the eyes change sides, which no more than a profile is made of.
    apart = max(0.0, float(across @ (right_eye - left_eye)))
    return float(np.degrees(np.arctan2(aside, _NOSE_HEIGHT * apart)))
