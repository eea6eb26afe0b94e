"""Making a fake as the published methods do: another face warped in, coarser, colour-matched, softly blended.

Works on drawn and on filmed pictures alike; all it needs are five landmarks of the face that gives and of the one
that is covered.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dfpipe.faces.landmarks import fit_similarity

__all__ = ["Donor", "Patch", "SwapStyle", "draw_style", "lift_face", "place_face"]

# Five landmarks of a face whose eyes are 1 apart, from the middle between the eyes.
_CANON = np.array([[-0.5, 0], [0.5, 0], [0, 0.62], [-0.4, 1.12], [0.4, 1.12]], np.float32)
_MASK_CENTRE, _MASK_RADII = (0.0, 0.52), (0.98, 1.12)


@dataclass(frozen=True, slots=True)
class SwapStyle:
    """Traces that one fake carries; drawn once a video."""

    detail: float
    """Resolution of the inserted face as a share of the target's, in (0, 1]."""
    noise_kept: float
    """Share of the camera's noise that is left in the inserted face."""
    softness: float
    """Width of the mask's soft rim, as a share of its radius."""
    jitter: float
    """Standard deviation of the face's misplacement in each frame, as a share of the distance between the eyes."""
    tint: NDArray[np.float32]
    """Colour left wrong by the matching, shape (3,), RGB levels."""
    flicker: float
    """Standard deviation of the brightness error in each frame, in levels."""


def draw_style(rng: Generator, *, strength: float) -> SwapStyle:
    """Draw the traces of one fake.

    Parameters
    ----------
    rng
        Source of chance.
    strength
        0 leaves hardly a trace, 1 a coarse one.
    """
    return SwapStyle(
        detail=1 / (1 + 3 * strength * rng.uniform(0.85, 1.15)),
        noise_kept=1 - strength,
        softness=float(0.55 - 0.3 * strength + rng.uniform(-0.04, 0.04)),
        jitter=0.02 * strength,
        tint=(rng.normal(0, 5, 3) * strength).astype(np.float32),
        flicker=1.5 * strength,
    )


@dataclass(frozen=True, slots=True)
class Donor:
    """A face ready to be put into pictures, at the resolution that it will have there."""

    rgb: NDArray[np.uint8]
    """Shape (height, width, 3), RGB."""
    mask: NDArray[np.float32]
    """Shape (height, width): weight of the face in the blend, 0 to 1."""
    landmarks: NDArray[np.float32]
    """Shape (5, 2), pixels of this picture."""


@dataclass(frozen=True, slots=True)
class Patch:
    """Where in a frame a face was put."""

    box: tuple[slice, slice]
    """Rows and columns of the frame."""
    mask: NDArray[np.float32]
    """Weight of the inserted face there, 0 to 1."""


def lift_face(
    rgb: NDArray[np.uint8], landmarks: NDArray[np.float32], *, eye_distance_px: float, style: SwapStyle
) -> Donor:
    """Take a face out of a picture, at the resolution of the style.

    Parameters
    ----------
    rgb
        Picture, shape (height, width, 3), RGB.
    landmarks
        Its five landmarks, shape (5, 2).
    eye_distance_px
        Distance between the eyes of the face that will be covered.
    style
        Traces to leave.
    """
    to_canon = fit_similarity(_CANON, landmarks)
    scale = float(np.hypot(to_canon[0, 0], to_canon[1, 0]))
    reach = np.array(_MASK_RADII) * 1.1 * scale
    centre = to_canon[:, :2] @ _MASK_CENTRE + to_canon[:, 2]
    height, width = rgb.shape[:2]
    x1, y1 = np.clip(np.floor(centre - reach.max()), 0, (width - 2, height - 2)).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(centre + reach.max()), (x1 + 2, y1 + 2), (width, height)).astype(int).tolist()
    shrink = min(1.0, style.detail * eye_distance_px / scale)
    size = (max(2, round((x2 - x1) * shrink)), max(2, round((y2 - y1) * shrink)))
    small = cv2.resize(rgb[y1:y2, x1:x2], size, interpolation=cv2.INTER_AREA)
    ratio = np.array([size[0] / (x2 - x1), size[1] / (y2 - y1)], np.float32)
    points = ((landmarks - (x1, y1) + 0.5) * ratio - 0.5).astype(np.float32)
    return Donor(
        rgb=np.asarray(small, np.uint8), mask=_face_mask(small.shape[:2], points, style.softness), landmarks=points
    )


def place_face(
    frame: NDArray[np.uint8], landmarks: NDArray[np.float32], donor: Donor, style: SwapStyle, rng: Generator
) -> Patch:
    """Put a face into a frame, in place.

    Parameters
    ----------
    frame
        Picture to change, shape (height, width, 3), RGB.
    landmarks
        Five landmarks of the face that is covered, shape (5, 2).
    donor
        Face to put in.
    style
        Traces to leave.
    rng
        Chance of this frame's misplacement and brightness.

    Returns
    -------
    Patch
        Where, and with which weight.
    """
    matrix = fit_similarity(donor.landmarks, landmarks)
    eye_distance = float(np.hypot(*(landmarks[1] - landmarks[0])))
    matrix[:, :2] *= 1 + rng.normal(0, style.jitter / 2)
    # Enlarging or shrinking must not move the face: keep the landmarks' middle where it was.
    matrix[:, 2] = landmarks.mean(axis=0) - matrix[:, :2] @ donor.landmarks.mean(axis=0)
    matrix[:, 2] += rng.normal(0, style.jitter * eye_distance, 2)
    height, width = donor.mask.shape
    corners = np.array([[0, 0], [width, 0], [0, height], [width, height]]) @ matrix[:, :2].T + matrix[:, 2]
    x1, y1 = np.clip(np.floor(corners.min(axis=0)), 0, (frame.shape[1], frame.shape[0])).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(corners.max(axis=0)), 0, (frame.shape[1], frame.shape[0])).astype(int).tolist()
    box = (slice(y1, y2), slice(x1, x2))
    if x1 >= x2 or y1 >= y2:
        return Patch(box=box, mask=np.zeros((max(0, y2 - y1), max(0, x2 - x1)), np.float32))
    matrix[:, 2] -= (x1, y1)
    size = (x2 - x1, y2 - y1)
    face = np.asarray(cv2.warpAffine(donor.rgb, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8)
    mask = np.asarray(cv2.warpAffine(donor.mask, matrix, size), np.float32)
    error = style.tint + rng.normal(0, style.flicker)
    matched = _match_colours(face, frame[box], mask, error)
    frame[box] = cv2.blendLinear(matched, np.ascontiguousarray(frame[box]), mask, 1 - mask)
    return Patch(box=box, mask=mask)


def _face_mask(shape: tuple[int, ...], landmarks: NDArray[np.float32], softness: float) -> NDArray[np.float32]:
    """Return an ellipse from the brows to the chin that falls to 0 inside its rim."""
    to_picture = fit_similarity(_CANON, landmarks)
    inverse = cv2.invertAffineTransform(to_picture)
    x, y = np.arange(shape[1], dtype=np.float32)[None, :], np.arange(shape[0], dtype=np.float32)[:, None]
    u = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] - _MASK_CENTRE[0]
    v = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] - _MASK_CENTRE[1]
    cover = np.clip((1 - np.hypot(u / _MASK_RADII[0], v / _MASK_RADII[1])) / softness, 0, 1)
    return np.asarray(cover * cover * (3 - 2 * cover), np.float32)


def _match_colours(
    face: NDArray[np.uint8], target: NDArray[np.uint8], mask: NDArray[np.float32], error: NDArray[np.float32]
) -> NDArray[np.uint8]:
    """Give the face the target's mean and spread of each colour under the mask, missing by ``error`` levels."""
    core = (mask > 0.5).astype(np.uint8)
    if not core.any():
        return face
    face_mean, face_std = cv2.meanStdDev(face, mask=core)
    target_mean, target_std = cv2.meanStdDev(target, mask=core)
    gain = np.clip(target_std / np.maximum(face_std, 1e-3), 0.6, 1.6)
    offset = target_mean - gain * face_mean + np.asarray(error, np.float64)[:, None]
    return np.asarray(cv2.transform(face, np.hstack([np.diag(gain[:, 0]), offset])), np.uint8)
