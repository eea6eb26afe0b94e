"""RetinaFace with MobileNetV2 on ONNX Runtime: one look at the whole picture, whatever the number of faces."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe import weights
from dfpipe.faces._onnx import start_session
from dfpipe.faces.anchors import Candidates, Level, best_of, decode
from dfpipe.faces.detector import Face
from dfpipe.faces.retinaface_net import HEADS, state_net

__all__ = ["Retinaface", "look"]

Picture = NDArray[np.uint8]

LEVELS = (Level(8, 4.0, (16.0, 32.0)), Level(16, 8.0, (64.0, 128.0)), Level(32, 16.0, (256.0, 512.0)))
# What the heads' numbers were divided by when the network learned.
CENTRE_SCALE = 0.1
SIZE_SCALE = 0.2
# The coarsest cells; the levels only fit onto each other where every one is whole.
SIDE_MULTIPLE_PX = 32


class Retinaface:
    """A `Detector` that runs on one core, one picture at a time: a batch was measured to be no faster.

    Parameters
    ----------
    longer_side_px
        Pictures are shrunk so that their longer side is at most this.
    min_score
        Only faces with a score above this are given back.

    Raises
    ------
    UserError
        The weights have not been fetched, or are not those known.
    """

    def __init__(self, *, longer_side_px: int, min_score: float) -> None:
        self._longer_side_px = longer_side_px
        self._min_score = min_score
        self._session = start_session(state_net(weights.read("retinaface")).SerializeToString())

    @property
    def weights_sha256(self) -> str:
        """Hex digest of the frozen graph that the network is read from."""
        return weights.FILES["retinaface"].sha256

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Find the faces in each picture, as `Detector` says."""
        return [look(image, self._find, longer_side_px=self._longer_side_px) for image in images]

    def _find(self, picture: Picture) -> list[Candidates]:
        heads = dict(zip(HEADS, self._session.run(list(HEADS), {"pictures": picture[None]}), strict=True))
        found = []
        for level in LEVELS:
            logits, boxes, landmarks = (heads[f"{kind}{level.stride_px}"][0] for kind in ("class", "box", "landmark"))
            # Of the two logits of an anchor the first speaks against a face.
            scores = 1 / (1 + np.exp(logits[..., ::2] - logits[..., 1::2]))
            found.append(
                decode(
                    level,
                    scores,
                    boxes,
                    landmarks,
                    min_score=self._min_score,
                    centre_scale=CENTRE_SCALE,
                    size_scale=SIZE_SCALE,
                )
            )
        return found


def look(image: Picture, find: Callable[[Picture], Sequence[Candidates]], *, longer_side_px: int) -> list[Face]:
    """Show a picture to a single-shot network, shrunk and filled up, and bring what it finds back to the full picture.

    Parameters
    ----------
    image
        Picture of uint8, shape (height, width, 3), RGB.
    find
        Takes a picture with sides that are multiples of 32 and returns the candidates of each level.
    longer_side_px
        Longer side of what the network sees, at most; smaller pictures are not enlarged.
    """
    height, width = image.shape[:2]
    scale = min(1.0, longer_side_px / max(height, width))
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    seen = image if scale == 1 else cv2.resize(image, (columns, rows), interpolation=cv2.INTER_AREA)
    padding = ((0, -rows % SIDE_MULTIPLE_PX), (0, -columns % SIDE_MULTIPLE_PX), (0, 0))
    found = best_of(find(np.asarray(np.pad(seen, padding), np.uint8)))
    back = np.array([width / columns, height / rows], np.float32)
    boxes, landmarks = found.boxes * np.tile(back, 2), found.landmarks * back
    return [Face(*face) for face in zip(boxes, found.scores.tolist(), landmarks, strict=True)]
