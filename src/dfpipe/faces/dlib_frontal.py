"""dlib's frontal detector, and its predictor of 68 landmarks.

The predictor was trained on the pictures of iBUG 300-W, whose licence excludes commercial use.
"""

import hashlib
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import UserError
from dfpipe.faces.detector import Face
from dfpipe.weights import FILES, locate

__all__ = ["DlibFrontal"]

# Points of the 68, as seen in the picture: the person's right eye lies on the left.
LEFT_EYE = slice(36, 42)
RIGHT_EYE = slice(42, 48)
NOSE = 30
LEFT_MOUTH_CORNER = 48
RIGHT_MOUTH_CORNER = 54

Picture = NDArray[np.uint8]
Points = NDArray[np.float32]


class DlibFrontal:
    """A `Detector` of upright frontal faces, by histograms of gradients, that knows 68 landmarks of each.

    A score is the distance from the detector's decision boundary, mostly between 0 and 3, and no probability.

    Parameters
    ----------
    min_score
        Only faces with a score above this are given back; may be negative.
    longer_side_px
        Pictures are scaled, up or down, so that their longer side is this. The detector sees no face smaller than
        about 60 pixels there.

    Raises
    ------
    UserError
        The library or the weights are not installed.
    """

    def __init__(self, *, min_score: float, longer_side_px: int) -> None:
        dlib = _import_dlib()
        self._detector = dlib.get_frontal_face_detector()
        self._predictor = dlib.shape_predictor(str(locate("dlib")))
        # The detector's own weights are compiled into the library.
        origin = f"dlib {dlib.__version__} {FILES['dlib'].sha256}"
        self._weights_sha256 = hashlib.sha256(origin.encode()).hexdigest()
        self._min_score = min_score
        self._longer_side_px = longer_side_px

    @property
    def weights_sha256(self) -> str:
        """Hex digest over the library's version and the landmarks' weights."""
        return self._weights_sha256

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Find the faces in each picture, as `Detector` says."""
        return [self._find(image) for image in images]

    def _find(self, image: Picture) -> list[Face]:
        height, width = image.shape[:2]
        scale = self._longer_side_px / max(height, width)
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        interpolation = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        grey = cv2.resize(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), size, interpolation=interpolation)
        to_picture = np.array([width, height]) / size
        rectangles, scores, _ = self._detector.run(grey, 0, self._min_score)
        faces = []
        for rectangle, score in zip(rectangles, scores, strict=True):
            landmarks = _points(self._predictor(grey, rectangle), to_picture)
            faces.append(Face(_box(rectangle, to_picture), score, _five_of(landmarks), landmarks))
        return faces


def _box(rectangle: Any, to_picture: NDArray[np.float64]) -> NDArray[np.float32]:
    # dlib names the first and the last pixel; a box has edges.
    edges = np.array([[rectangle.left(), rectangle.top()], [rectangle.right() + 1, rectangle.bottom() + 1]])
    return (edges * to_picture).ravel().astype(np.float32)


def _points(shape: Any, to_picture: NDArray[np.float64]) -> Points:
    # dlib counts from the centre of the first pixel, boxes from its edge.
    pixels = np.array([(point.x, point.y) for point in shape.parts()])
    return ((pixels + 0.5) * to_picture).astype(np.float32)


def _five_of(points: Points) -> Points:
    return np.stack(
        [
            points[LEFT_EYE].mean(axis=0),
            points[RIGHT_EYE].mean(axis=0),
            points[NOSE],
            points[LEFT_MOUTH_CORNER],
            points[RIGHT_MOUTH_CORNER],
        ]
    )


def _import_dlib() -> ModuleType:
    try:
        return import_module("dlib")
    except ImportError as error:
        raise UserError(f"the detector dlib cannot be used: {error}; run: pip install dlib-bin") from error
