"""OpenCV's cascade of Haar features: the plain baseline that other detectors are compared with."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import UserError
from dfpipe.faces.detector import Face
from dfpipe.weights import FILES, locate

__all__ = ["Cascade"]

# What the cascade was trained on: no face smaller than this is seen.
WINDOW_PX = 24
PYRAMID_FACTOR = 1.1

Picture = NDArray[np.uint8]


class Cascade:
    """A `Detector` of upright frontal faces, without landmarks.

    It looks at grey values. They are not equalised: the cascade evens out the contrast of every window by itself, and
    equalising the whole picture first costs it a quarter of the faces in the real clips that tests use.

    A score is the number of raw hits that agree on the face, 2 or more, and no probability. It grows with the size of
    the face, but tells faces from false ones better than the margin in the cascade's last stage does.

    Parameters
    ----------
    min_neighbours
        A face counts when a raw hit has at least this many others around it, so its score is above this.
    min_face_fraction
        Side of the smallest face looked for, as a share of the picture's shorter side; never below 24 pixels. Pictures
        are shrunk until such a face has that size.

    Raises
    ------
    UserError
        The weights have not been fetched, or OpenCV comes without the cascade's code.
    """

    def __init__(self, *, min_neighbours: int, min_face_fraction: float) -> None:
        if not hasattr(cv2, "CascadeClassifier"):
            # Another package brought OpenCV's smaller wheel, and both write the same folder.
            raise UserError(
                f"OpenCV {cv2.__version__} here cannot run cascades; "
                "uninstall every opencv package, then install opencv-contrib-python-headless"
            )
        self._classifier = cv2.CascadeClassifier(str(locate("cascade")))
        self._min_neighbours = min_neighbours
        self._min_face_fraction = min_face_fraction

    @property
    def weights_sha256(self) -> str:
        """Hex digest of the XML file that states the cascade."""
        return FILES["cascade"].sha256

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Find the faces in each picture, as `Detector` says."""
        return [self._find(image) for image in images]

    def _find(self, image: Picture) -> list[Face]:
        height, width = image.shape[:2]
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        scale = WINDOW_PX / (self._min_face_fraction * min(height, width))
        if scale < 1:
            size = (round(width * scale), round(height * scale))
            grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        found, hits = self._classifier.detectMultiScale2(
            grey, scaleFactor=PYRAMID_FACTOR, minNeighbors=self._min_neighbours
        )
        to_picture = np.array([width / grey.shape[1], height / grey.shape[0]] * 2)
        faces = [
            Face(
                box=(np.array([x, y, x + side_x, y + side_y]) * to_picture).astype(np.float32),
                score=float(count),
                landmarks=np.full((5, 2), np.nan, np.float32),
            )
            for (x, y, side_x, side_y), count in zip(found, hits, strict=True)
        ]
        # OpenCV's threads race, so the order it gives differs from run to run.
        return sorted(faces, key=lambda face: (-face.score, *face.box.tolist()))
