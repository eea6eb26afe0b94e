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
    """Confidence, 0 to 1."""
    landmarks: NDArray[np.float32]
    """Shape (5, 2), x then y: left eye, right eye, nose, left and right mouth corner, as seen in the picture."""


class Detector(Protocol):
    """Finds faces in pictures."""

    @property
    def name(self) -> str:
        """Name in the settings."""

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
