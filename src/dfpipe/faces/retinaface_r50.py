"""RetinaFace with ResNet-50: the ONNX file that the retina-face package downloads, run without that package.

The package itself asks for an OpenCV wheel that overwrites the one used here, so only its file is used: float pictures
of shape (n, height, width, 3), RGB, 0 to 255, in; out, for strides of 32, 16 and 8 pixels in this order, probabilities
(not a face, for both anchors of a cell, then a face), boxes and landmarks of shape (n, rows, columns, channels).
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import UserError
from dfpipe.faces._onnx import ort, start_session
from dfpipe.faces.anchors import Candidates, Level, decode
from dfpipe.faces.detector import Face
from dfpipe.faces.retinaface import look

__all__ = ["RetinafaceR50", "packaged_weights"]

Picture = NDArray[np.uint8]

# Every anchor grew from a square of 16 pixels in the cell's corner, and kept its centre.
LEVELS = (Level(32, 8.0, (512.0, 256.0)), Level(16, 8.0, (128.0, 64.0)), Level(8, 8.0, (32.0, 16.0)))
CHANNELS = (4, 8, 20)
ANCHORS = 2


class RetinafaceR50:
    """A `Detector` that runs on one core, one picture at a time.

    Parameters
    ----------
    longer_side_px
        Pictures are shrunk so that their longer side is at most this.
    min_score
        Only faces with a score above this are given back.
    weights
        ONNX file; None is where the retina-face package keeps its own.

    Raises
    ------
    UserError
        There is no such file, or it is no such network.
    """

    def __init__(self, *, longer_side_px: int, min_score: float, weights: Path | None) -> None:
        self._longer_side_px = longer_side_px
        self._min_score = min_score
        path = weights or packaged_weights()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"cannot read the retinaface-r50 weights {path}: {error.strerror}; set extract.detector.weights to the "
                "ONNX file of the retina-face package, which downloads it at its first use"
            ) from error
        self._weights_sha256 = hashlib.sha256(content).hexdigest()
        self._session = _start(content, path)
        self._input = self._session.get_inputs()[0].name

    @property
    def weights_sha256(self) -> str:
        """Hex digest of the ONNX file."""
        return self._weights_sha256

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Find the faces in each picture, as `Detector` says."""
        return [look(image, self._find, longer_side_px=self._longer_side_px) for image in images]

    def _find(self, picture: Picture) -> list[Candidates]:
        heads = self._session.run(None, {self._input: picture[None].astype(np.float32)})
        return [
            decode(level, scores[0, :, :, ANCHORS:], boxes[0], landmarks[0], min_score=self._min_score)
            for level, scores, boxes, landmarks in zip(LEVELS, heads[::3], heads[1::3], heads[2::3], strict=True)
        ]


def packaged_weights() -> Path:
    """Return where the retina-face package keeps the file that it downloads."""
    return Path(os.environ.get("DEEPFACE_HOME") or Path.home()) / ".deepface" / "weights" / "retinaface.onnx"


def _start(content: bytes, path: Path) -> ort.InferenceSession:
    try:
        session = start_session(content)
        # Shapes are often left open in the file; one small picture tells.
        side_px = LEVELS[0].stride_px
        name = session.get_inputs()[0].name
        shapes = [head.shape for head in session.run(None, {name: np.zeros((1, side_px, side_px, 3), np.float32)})]
    except Exception as error:
        # ONNX Runtime has a kind of its own for every way in which a file can be no model.
        words = " ".join(str(error).split())
        raise UserError(f"the retinaface-r50 weights {path} cannot be run: {words}") from error
    expected = [
        (1, side_px // level.stride_px, side_px // level.stride_px, channels)
        for level in LEVELS
        for channels in CHANNELS
    ]
    if shapes != expected:
        raise UserError(
            f"the retinaface-r50 weights {path} give {len(shapes)} outputs of shapes {shapes}, expected {expected}; "
            "use the ONNX file of the retina-face package"
        )
    return session
