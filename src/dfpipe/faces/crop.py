"""Cutting a face out of a picture."""

import math
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import SettingsError
from dfpipe.faces.boxes import add_margin, square, whole_pixels
from dfpipe.faces.detector import Face
from dfpipe.faces.landmarks import ARCFACE, fit_similarity
from dfpipe.settings import CropSettings

__all__ = ["Interpolation", "crop_face", "resize"]

Picture = NDArray[Any]

Interpolation = Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"]
"""How pixels are resampled; the same words as in the settings."""

_METHODS: dict[Interpolation, int] = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}
_LONGEST_REACH_PX = 4
"""Pixels to each side that the widest of these methods looks at."""


def crop_face(image: NDArray[np.uint8], face: Face, settings: CropSettings) -> NDArray[np.uint8] | None:
    """Cut a face out of a picture and bring it to the size asked.

    ``box``
        The box with its margin, cut off at the picture's edges and stretched to a square.
    ``square``
        The box grown to a square about its centre, then by the margin; nothing is stretched.
    ``aligned``
        Turned, scaled and moved so that the landmarks come closest (least squares) to the ArcFace template, which the
        margin surrounds on every side as a share of its own side. Without margin it ends at the brow and the chin.

    Where a square or an aligned crop reaches beyond the picture it is black: mirrored or smeared pixels would be traces
    that no camera left there, and a model looks for just such traces.

    ``auto`` averages areas when shrinking and is linear when growing. The other methods are OpenCV's of that name; of
    them only ``area`` does not alias when a box is shrunk. Aligned crops never alias, except with ``nearest``: they are
    first shrunk by averaging areas, then turned.

    Parameters
    ----------
    image
        Picture of uint8, shape (height, width, 3), RGB.
    face
        The face, in pixels of this picture.
    settings
        Shape, size, margin and interpolation.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3), RGB, or None
        None where no pixel of the box lies in the picture, or where landmarks to align by lie in one place.

    Raises
    ------
    SettingsError
        ``aligned`` is asked for, and the detector knows no landmarks.
    """
    height, width = image.shape[:2]
    box = face.box.astype(np.float64)[None]
    if not _has_pixels(whole_pixels(box, width_px=width, height_px=height)[0]):
        return None
    if settings.shape == "aligned":
        return _align(image, face.landmarks, settings)
    if settings.shape == "square":
        region = np.rint(add_margin(square(box), settings.margin_fraction)).astype(np.intp)[0]
    else:
        region = whole_pixels(add_margin(box, settings.margin_fraction), width_px=width, height_px=height)[0]
    return _cut(image, region, settings)


def resize(image: Picture, *, width_px: int, height_px: int, interpolation: Interpolation = "auto") -> Picture:
    """Bring a picture to a size; ``auto`` averages areas when shrinking and is linear when growing.

    Parameters
    ----------
    image
        Shape (height, width) or (height, width, channels), uint8 or float32.
    width_px, height_px
        Size asked.
    interpolation
        How.

    Returns
    -------
    ndarray
        Same type and channels.
    """
    if interpolation == "auto":
        shrinks = image.shape[1] >= width_px and image.shape[0] >= height_px
        interpolation = "area" if shrinks else "linear"
    return np.asarray(cv2.resize(image, (width_px, height_px), interpolation=_METHODS[interpolation]))


def _has_pixels(region: NDArray[np.intp]) -> bool:
    x1, y1, x2, y2 = region.tolist()
    return bool(x1 < x2 and y1 < y2)


def _cut(image: NDArray[np.uint8], region: NDArray[np.intp], settings: CropSettings) -> NDArray[np.uint8]:
    """Bring a region of whole pixels, which may reach beyond the picture, to the crop's size."""
    height, width = image.shape[:2]
    seen = np.clip(region, 0, [width, height, width, height])
    x1, y1, x2, y2 = seen.tolist()
    # Only what is seen is resampled, straight to its place in the crop, so memory does not grow with the margin.
    corner, sides = np.tile(region[:2], 2), np.tile(region[2:] - region[:2], 2)
    left, top, right, bottom = np.rint((seen - corner) * settings.size_px / sides).astype(int).tolist()
    left, top = min(left, settings.size_px - 1), min(top, settings.size_px - 1)
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    crop = np.zeros((settings.size_px, settings.size_px, 3), np.uint8)
    crop[top:bottom, left:right] = resize(
        image[y1:y2, x1:x2],
        width_px=right - left,
        height_px=bottom - top,
        interpolation=settings.interpolation,
    )
    return crop


def _align(
    image: NDArray[np.uint8], landmarks: NDArray[np.float32], settings: CropSettings
) -> NDArray[np.uint8] | None:
    if np.isnan(landmarks).any():
        raise SettingsError(
            "extract.crop.shape is aligned, which needs landmarks, and this detector gives none;"
            " choose another extract.detector.name, or box or square"
        )
    size_px, margin = settings.size_px, settings.margin_fraction
    to_crop = fit_similarity(landmarks, (ARCFACE + margin) / (1 + 2 * margin) * size_px)
    scale = math.hypot(*to_crop[:, 0])
    # Not a number is not greater either.
    if not scale > 0:
        return None
    height, width = image.shape[:2]
    corners = np.array([[0, 0], [size_px, 0], [size_px, size_px], [0, size_px]]) - to_crop[:, 2]
    in_picture = corners @ to_crop[:, :2] / scale**2
    reach = _LONGEST_REACH_PX / min(scale, 1)
    around = np.concatenate([in_picture.min(axis=0) - reach, in_picture.max(axis=0) + reach])
    region = whole_pixels(around[None], width_px=width, height_px=height)[0]
    if not _has_pixels(region):
        return None
    x1, y1, x2, y2 = region.tolist()
    piece: Picture = image[y1:y2, x1:x2]
    interpolation = settings.interpolation
    if scale < 1:
        piece = resize(
            piece,
            width_px=max(1, round((x2 - x1) * scale)),
            height_px=max(1, round((y2 - y1) * scale)),
            interpolation="nearest" if interpolation == "nearest" else "area",
        )
    from_piece = np.diag([(x2 - x1) / piece.shape[1], (y2 - y1) / piece.shape[0], 1.0])
    from_piece[:2, 2] = x1, y1
    # OpenCV counts from the centre of the first pixel, we count from its edge.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    warp = to_crop @ from_piece @ half
    warp[:, 2] -= 0.5
    method = _METHODS["linear" if interpolation in {"auto", "area"} else interpolation]
    # What lies outside stays black, the default.
    return np.asarray(cv2.warpAffine(piece, warp, (size_px, size_px), flags=method), np.uint8)
