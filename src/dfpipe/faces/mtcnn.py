"""MTCNN on ONNX Runtime: propose on a pyramid of small pictures, refine, decide.

The steps, thresholds and coordinate habits are those of the package whose weights are used, so that the same faces
come out; only the smallest face scales with the picture here.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.faces.boxes import nms, regress, square
from dfpipe.faces.detector import Face
from dfpipe.faces.mtcnn_nets import load_nets

__all__ = ["Mtcnn"]

CELL_PX = 12
STRIDE_PX = 2
PYRAMID_FACTOR = 0.709
# Smaller faces than this were not in what the networks learned from.
SMALLEST_FACE_PX = 20
PROPOSAL_SCORE = 0.6
REFINED_SCORE = 0.7

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]


class Mtcnn:
    """A `Detector` that runs on one core.

    Parameters
    ----------
    min_face_fraction
        Side of the smallest face looked for, as a share of the picture's shorter side; never below 20 pixels.
    min_score
        Only faces with a score above this are given back.

    Raises
    ------
    UserError
        The weights are not installed, or are not those known.
    """

    def __init__(self, *, min_face_fraction: float, min_score: float) -> None:
        self._min_face_fraction = min_face_fraction
        self._min_score = min_score
        self._nets = load_nets()

    @property
    def name(self) -> str:
        """Name in the settings."""
        return "mtcnn"

    @property
    def weights_sha256(self) -> str:
        """Hex digest over the three weight files."""
        return self._nets.weights_sha256

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
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
        proposals = [self._propose(image) for image in images]
        refined = self._refine(images, proposals)
        return self._decide(images, refined)

    def _propose(self, image: Picture) -> Floats:
        all_boxes = [np.empty((0, 4), np.float32)]
        all_scores = [np.empty(0, np.float32)]
        for scale, level in self._pyramid(image):
            offsets, score = self._nets.pnet.run(["offsets", "score"], {"pictures": level[None]})
            rows, columns = np.nonzero(score[0] > PROPOSAL_SCORE)
            first = np.stack([columns, rows], axis=1) * STRIDE_PX
            # The networks' own habit: a cell starts at its second pixel.
            cells = np.hstack([first + 1, first + CELL_PX]).astype(np.float32)
            boxes = regress(cells, offsets[0][:, rows, columns].T) / np.float32(scale)
            scores = score[0, rows, columns]
            kept = nms(boxes, scores, threshold=0.5)
            all_boxes.append(boxes[kept])
            all_scores.append(scores[kept])
        boxes = np.concatenate(all_boxes)
        return square(boxes[nms(boxes, np.concatenate(all_scores), threshold=0.7)])

    def _pyramid(self, image: Picture) -> Iterator[tuple[float, Picture]]:
        height, width = image.shape[:2]
        shorter = min(height, width)
        scale = CELL_PX / max(SMALLEST_FACE_PX, self._min_face_fraction * shorter)
        while shorter * scale >= CELL_PX:
            size = (int(width * scale), int(height * scale))
            yield scale, np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
            scale *= PYRAMID_FACTOR

    def _refine(self, images: Sequence[Picture], proposals: Sequence[Floats]) -> list[Floats]:
        crops = _cut_all(images, proposals, size_px=24)
        offsets, scores = self._nets.rnet.run(["offsets", "score"], {"pictures": crops})
        refined = []
        for boxes, part in _parts(proposals):
            good = scores[part] > REFINED_SCORE
            better = _regress_pixels(boxes[good], offsets[part][good])
            kept = nms(better, scores[part][good], threshold=0.7)
            refined.append(square(better[kept]))
        return refined

    def _decide(self, images: Sequence[Picture], refined: Sequence[Floats]) -> list[list[Face]]:
        crops = _cut_all(images, refined, size_px=48)
        offsets, points, scores = self._nets.onet.run(["offsets", "landmarks", "score"], {"pictures": crops})
        found = []
        for boxes, part in _parts(refined):
            good = scores[part] > self._min_score
            better = _regress_pixels(boxes[good], offsets[part][good])
            landmarks = _place_landmarks(boxes[good], points[part][good])
            kept = nms(better, scores[part][good], threshold=0.7, over="smaller")
            found.append([Face(better[i], float(scores[part][good][i]), landmarks[i]) for i in kept])
        return found


def _parts(boxes: Sequence[Floats]) -> Iterator[tuple[Floats, slice]]:
    """Yield each picture's boxes with the slice they take in the common batch."""
    start = 0
    for one in boxes:
        yield one, slice(start, start + len(one))
        start += len(one)


def _cut_all(images: Sequence[Picture], boxes: Sequence[Floats], *, size_px: int) -> Picture:
    crops = np.empty((sum(map(len, boxes)), size_px, size_px, 3), np.uint8)
    for image, (several, part) in zip(images, _parts(boxes), strict=True):
        for crop, box in zip(crops[part], several, strict=True):
            _cut(image, box, crop)
    return crops


def _cut(image: Picture, box: Floats, crop: Picture) -> None:
    """Sample a box into a crop; what lies outside the picture is mid-grey, which the networks see as zero."""
    height, width = image.shape[:2]
    size_px = len(crop)
    # Corner pixels of the crop fall on the corners of the box, measured on a grid of pixel centres.
    shrink_x, shrink_y = (width - 1) / width, (height - 1) / height
    to_picture = np.array(
        [
            [(box[2] - box[0]) * shrink_x / (size_px - 1), 0, box[0] * shrink_x],
            [0, (box[3] - box[1]) * shrink_y / (size_px - 1), box[1] * shrink_y],
        ]
    )
    cv2.warpAffine(
        image,
        to_picture,
        (size_px, size_px),
        dst=crop,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(128, 128, 128),
    )


def _regress_pixels(boxes: Floats, offsets: Floats) -> Floats:
    # The two later networks learned offsets as shares of sides counted in pixels, both edges included.
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * np.hstack([sides, sides])


def _place_landmarks(boxes: Floats, points: Floats) -> Floats:
    """Turn shares of the box, five x then five y, into pixels of the picture, shape (n, 5, 2)."""
    shares = points.reshape(-1, 2, 5).transpose(0, 2, 1)
    corner, sides = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2] + 1
    return corner - 1 + shares * sides
