"""Cutting a face out of a picture."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.faces.boxes import add_margin, clip

__all__ = ["crop_face"]


def crop_face(
    image: NDArray[np.uint8], box: NDArray[np.floating[Any]], *, size_px: int, margin_fraction: float
) -> NDArray[np.uint8]:
    """Cut a box with its margin out of a picture and bring it to a square of the size asked.

    What would reach beyond the picture is cut off first; width and height are then stretched to the same size.
    Shrinking averages areas, growing interpolates linearly.

    Parameters
    ----------
    image
        Picture of uint8, shape (height, width, 3), RGB.
    box
        Shape (4,): x1, y1, x2, y2 in pixels.
    size_px
        Width and height of the crop.
    margin_fraction
        Added on each side, as a share of the box's width and height.

    Returns
    -------
    ndarray of uint8, shape (size_px, size_px, 3), RGB

    Raises
    ------
    ValueError
        No pixel of the box lies in the picture.
    """
    height, width = image.shape[:2]
    grown = clip(add_margin(np.asarray(box, np.float64)[None], margin_fraction), width_px=width, height_px=height)[0]
    x1, y1, x2, y2 = np.rint(grown).astype(int).tolist()
    if x1 >= x2 or y1 >= y2:
        edges = ", ".join(f"{edge:g}" for edge in box)
        raise ValueError(f"got box {edges}, expected one that covers pixels of a picture of {width} x {height}")
    shrinks = x2 - x1 >= size_px and y2 - y1 >= size_px
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    cut = cv2.resize(image[y1:y2, x1:x2], (size_px, size_px), interpolation=interpolation)
    return np.asarray(cut, np.uint8)
