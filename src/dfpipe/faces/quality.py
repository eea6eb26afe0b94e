"""How good the picture of a face is, and whether that is good enough."""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.faces.boxes import whole_pixels
from dfpipe.faces.crop import resize
from dfpipe.faces.detector import Face
from dfpipe.faces.landmarks import yaw_degrees
from dfpipe.settings import QualitySettings

__all__ = ["Quality", "Rejection", "measure_quality", "reject"]

Rejection = Literal["small", "blurred", "dark", "bright", "turned", "border"]
"""Why a face is not good enough."""

_SHARPNESS_SIDE_PX = 112


@dataclass(frozen=True, slots=True)
class Quality:
    """Measures of one face."""

    size_px: float
    """Shorter side of the box in pixels of the full frame, whether or not all of it is seen."""
    sharpness: float | None
    """Variance of the Laplacian of the grey face at 112 x 112 pixels; None where no pixel of the box is seen."""
    brightness: float | None
    """Mean of the grey values in the box, 0 to 255; None where no pixel of it is seen."""
    yaw_degrees: float | None
    """Rough turn of the head, positive where the nose points to the picture's right; None without landmarks."""
    touches_border: bool
    """The box reaches the border of the picture or beyond."""


def measure_quality(image: NDArray[np.uint8], face: Face) -> Quality:
    """Measure the face where it stands in the full frame; how it is cropped later changes nothing.

    For the sharpness the grey box is brought to 112 x 112 pixels, by averaging areas where it is larger, so that faces
    of all sizes are held against one bound, and linearly where it is smaller, which keeps it as blurred as it is. The
    Laplacian is the plain one: a pixel's four neighbours less four times itself.

    Parameters
    ----------
    image
        Picture of uint8, shape (height, width, 3), RGB.
    face
        The face, in pixels of this picture.
    """
    height, width = image.shape[:2]
    x1, y1, x2, y2 = face.box.tolist()
    left, top, right, bottom = whole_pixels(face.box.astype(np.float64)[None], width_px=width, height_px=height)[
        0
    ].tolist()
    sharpness = brightness = None
    if left < right and top < bottom:
        grey = cv2.cvtColor(np.ascontiguousarray(image[top:bottom, left:right]), cv2.COLOR_RGB2GRAY)
        brightness = float(grey.mean())
        small = resize(grey.astype(np.float32), width_px=_SHARPNESS_SIDE_PX, height_px=_SHARPNESS_SIDE_PX)
        sharpness = float(cv2.Laplacian(small, cv2.CV_32F, ksize=1).var())
    return Quality(
        size_px=min(x2 - x1, y2 - y1),
        sharpness=sharpness,
        brightness=brightness,
        yaw_degrees=None if np.isnan(face.landmarks).any() else yaw_degrees(face.landmarks),
        touches_border=x1 <= 0 or y1 <= 0 or x2 >= width or y2 >= height,
    )


def reject(quality: Quality, bounds: QualitySettings) -> Rejection | None:
    """Return the first reason why a face is not good enough, None where it is.

    A measure that is not known breaks no bound.
    """
    turn = None if quality.yaw_degrees is None else abs(quality.yaw_degrees)
    reasons: dict[Rejection, bool] = {
        "small": _below(quality.size_px, bounds.min_size_px),
        "blurred": _below(quality.sharpness, bounds.min_sharpness),
        "dark": _below(quality.brightness, bounds.min_brightness),
        "bright": _below(bounds.max_brightness, quality.brightness),
        "turned": _below(bounds.max_yaw_degrees, turn),
        "border": quality.touches_border and not bounds.allow_border,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _below(value: float | None, bound: float | None) -> bool:
    return value is not None and bound is not None and value < bound
