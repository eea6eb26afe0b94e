"""What a face detector is, whichever network stands behind it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Detector", "Face"]


@dataclass(frozen=True, slots=True)
class Face:
    """A face found in a picture; all coordinates are pixels of the picture given, x to the right, y down."""

    box: NDArray[np.float32]
    """Shape (4,): x1, y1, x2, y2; may reach beyond the picture."""
    score: float
    """Confidence: 0 to 1 from networks; dlib and cascade have scales of their own."""
    landmarks: NDArray[np.float32]
    """Shape (5, 2), x then y: left eye, right eye, nose, left and right mouth corner, as seen in the picture; not a
    number from detectors that know none."""
    landmarks_68: NDArray[np.float32] | None = None
    """Shape (68, 2), x then y, in the order of the iBUG 300-W annotation; None from all detectors but dlib."""


class Detector(Protocol):
    """Finds faces in pictures."""

    @property
    def weights_sha256(self) -> str:
        """Hex digest of the weights, part of the stage fingerprint."""

    def detect(self, images: Sequence[NDArray[np.uint8]]) -> list[list[Face]]:
        """Find the faces in each picture, most confident first.

        Parameters
        ----------
        images
            Pictures of uint8, shape (height, width, 3), RGB; sizes may differ.

        Returns
        -------
        list of list of Face
            One list for each picture, empty where nothing was found.
        """
