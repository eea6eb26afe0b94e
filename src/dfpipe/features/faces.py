"""The faces that features are computed from, as arrays; whoever calls takes care of tables and files."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

__all__ = ["Faces"]


@dataclass(frozen=True, slots=True, eq=False)
class Faces:
    """Faces of one or of many videos, in any order; of each video that is in it, all faces are.

    Raises
    ------
    ValueError
        Arrays that are not of one length, or of other shapes than these.
    """

    crops: Sequence[NDArray[np.uint8]]
    """Cut-out faces of uint8, shape (height, width, 3), RGB; sizes may differ."""
    landmarks: NDArray[np.float32]
    """Left eye, right eye, nose, left and right mouth corner, shape (n, 5, 2), x then y in pixels of the frame; not a
    number where none are known."""
    boxes: NDArray[np.float32]
    """Shape (n, 4): x1, y1, x2, y2 in pixels of the frame; may reach beyond it; not a number where not known."""
    frame_wh: NDArray[np.float32]
    """Width and height of the frame in pixels, shape (n, 2); not a number where not known."""
    video: NDArray[np.int64]
    """Any number that names the face's video, shape (n,)."""
    track: NDArray[np.int64]
    """Person within the video, shape (n,)."""
    frame_index: NDArray[np.int64]
    """Position of the frame in presentation order, shape (n,)."""

    def __post_init__(self) -> None:
        n = len(self.crops)
        shapes: dict[str, tuple[NDArray[Any], tuple[int, ...]]] = {
            "landmarks": (self.landmarks, (n, 5, 2)),
            "boxes": (self.boxes, (n, 4)),
            "frame_wh": (self.frame_wh, (n, 2)),
            "video": (self.video, (n,)),
            "track": (self.track, (n,)),
            "frame_index": (self.frame_index, (n,)),
        }
        for name, (array, shape) in shapes.items():
            if array.shape != shape:
                raise ValueError(f"got {name} of shape {array.shape} with {n} crops, expected {shape}")

    @classmethod
    def of_crops(cls, crops: Sequence[NDArray[np.uint8]]) -> Self:
        """Return faces of which nothing is known but the crops, each of a video of its own.

        Parameters
        ----------
        crops
            As the field of that name.
        """
        n = len(crops)
        return cls(
            crops=crops,
            landmarks=np.full((n, 5, 2), np.nan, np.float32),
            boxes=np.full((n, 4), np.nan, np.float32),
            frame_wh=np.full((n, 2), np.nan, np.float32),
            video=np.arange(n),
            track=np.zeros(n, np.int64),
            frame_index=np.zeros(n, np.int64),
        )
