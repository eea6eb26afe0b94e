"""MTCNN on ONNX Runtime: propose on a pyramid of small pictures, refine, decide.

The steps, thresholds and coordinate habits are those of the package whose weights are used, so that the same faces
come out; only the smallest face scales with the picture here.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.faces._onnx import ort
from dfpipe.faces.boxes import Boxes, nms, regress, square
from dfpipe.faces.detector import Face
from dfpipe.faces.mtcnn_nets import load_nets

__all__ = ["Mtcnn"]

CELL_PX = 12
STRIDE_PX = 2
PYRAMID_FACTOR = 0.709
# Smaller faces than this were not in what the networks learned from.
SMALLEST_FACE_PX = 20
PROPOSAL_SCORE = 0.6
PROPOSAL_MARGIN = math.log(PROPOSAL_SCORE / (1 - PROPOSAL_SCORE))
REFINED_SCORE = 0.7
# Bounds the memory for a picture full of proposals; larger batches are no faster.
CROPS_AT_ONCE = 32
# Where a face is looked for again: so many of its sides, for sizes of half to double its own.
REGION_SIDES = 3
SIZE_CHANGE = 2
# Below this the whole picture is asked as well.
FOLLOWED_SCORE = 0.95

Floats = NDArray[np.float32]
Picture = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Search:
    """A part of a picture, and the sizes of the faces looked for in it."""

    left_px: int
    top_px: int
    right_px: int
    bottom_px: int
    smallest_px: float
    largest_px: float


class Mtcnn:
    """A `Detector` that runs on one core.

    Parameters
    ----------
    min_face_fraction
        Side of the smallest face looked for, as a share of the picture's shorter side; never below 20 pixels.
    min_score
        Only faces with a score above this are given back.
    follow
        Take the pictures for frames of one video in order, and look first only around the faces of the frame before.
        The whole frame is searched when one of them is not found again. Faces that appear while all others stay in
        place are missed until then.

    Raises
    ------
    UserError
        The weights are not installed, or are not those known.
    """

    def __init__(self, *, min_face_fraction: float, min_score: float, follow: bool = False) -> None:
        self._min_face_fraction = min_face_fraction
        self._min_score = min_score
        self._follow = follow
        self._nets = load_nets()

    @property
    def weights_sha256(self) -> str:
        """Hex digest over the three weight files."""
        return self._nets.weights_sha256

    def detect(self, images: Sequence[Picture]) -> list[list[Face]]:
        """Find the faces in each picture, as `Detector` says."""
        found: list[list[Face]] = []
        for position, image in enumerate(images):
            again = []
            if self._follow and position > 0 and image.shape == images[position - 1].shape:
                again = self._find_again(image, found[-1])
            found.append(again or self._find_anywhere(image))
        return found

    def _find_anywhere(self, image: Picture) -> list[Face]:
        """Search the whole picture; where nothing is found, once more for the sizes between.

        A face may fall through the scores of all levels by a hair, and does so in one drawn picture of fifty.
        """
        searches = [self._everywhere(image)]
        return self._find(image, searches) or self._find(image, searches, between=True)

    def _everywhere(self, image: Picture) -> _Search:
        height, width = image.shape[:2]
        smallest = max(SMALLEST_FACE_PX, self._min_face_fraction * min(height, width))
        return _Search(0, 0, width, height, smallest, math.inf)

    def _find_again(self, image: Picture, last: Sequence[Face]) -> list[Face]:
        """Look around the faces of the frame before; empty unless each of them is there again."""
        whole = self._everywhere(image)
        searches = [_around(face, whole) for face in last]
        faces = self._find(image, searches)
        centres = [(face.box[:2] + face.box[2:]) / 2 for face in faces if face.score > FOLLOWED_SCORE]
        seen = [any(_is_in(centre, search) for centre in centres) for search in searches]
        return faces if len(centres) >= len(last) and all(seen) else []

    def _find(self, image: Picture, searches: Sequence[_Search], *, between: bool = False) -> list[Face]:
        proposed = self._propose(image, searches, between=between)
        refined = self._refine(image, proposed) if len(proposed) else proposed
        return self._decide(image, refined) if len(refined) else []

    def _propose(self, image: Picture, searches: Sequence[_Search], *, between: bool) -> Floats:
        all_boxes = [np.empty((0, 4), np.float32)]
        all_scores = [np.empty(0, np.float32)]
        for search in searches:
            corner = np.array([search.left_px, search.top_px] * 2, np.float32)
            for scale, level in _pyramid(image, search, between=between):
                (found,) = self._nets.pnet.run(None, {"pictures": level[None]})
                places = np.flatnonzero(found[0, 4] > PROPOSAL_MARGIN)
                if not len(places):
                    continue
                good = found.reshape(5, -1)[:, places]
                rows, columns = np.divmod(places, found.shape[3])
                first = np.stack([columns, rows], axis=1) * STRIDE_PX
                # The networks' own habit: a cell starts at its second pixel.
                cells = np.concatenate([first + 1, first + CELL_PX], axis=1).astype(np.float32)
                boxes = regress(cells, good[:4].T) / np.float32(scale)
                kept = nms(boxes, good[4], threshold=0.5)
                all_boxes.append(boxes[kept] + corner)
                all_scores.append(good[4, kept])
        boxes = np.concatenate(all_boxes)
        return square(boxes[nms(boxes, np.concatenate(all_scores), threshold=0.7)])

    def _refine(self, image: Picture, boxes: Floats) -> Floats:
        found = _ask(self._nets.rnet, image, boxes, size_px=24)
        scores = _logistic(found[:, 4])
        good = scores > REFINED_SCORE
        better = _regress_pixels(boxes[good], found[good, :4])
        return square(better[nms(better, scores[good], threshold=0.7)])

    def _decide(self, image: Picture, boxes: Floats) -> list[Face]:
        found = _ask(self._nets.onet, image, boxes, size_px=48)
        scores = _logistic(found[:, 14])
        good = scores > self._min_score
        better = _regress_pixels(boxes[good], found[good, :4])
        landmarks = _place_landmarks(boxes[good], found[good, 4:14])
        kept = nms(better, scores[good], threshold=0.7, over="smaller")
        return [Face(better[i], float(scores[good][i]), landmarks[i]) for i in kept]


def _around(face: Face, whole: _Search) -> _Search:
    centre = (face.box[:2] + face.box[2:]) / 2
    side = float(np.max(face.box[2:] - face.box[:2]))
    low = np.floor(centre - REGION_SIDES * side / 2).astype(int)
    high = np.ceil(centre + REGION_SIDES * side / 2).astype(int)
    return _Search(
        left_px=max(whole.left_px, int(low[0])),
        top_px=max(whole.top_px, int(low[1])),
        right_px=min(whole.right_px, int(high[0])),
        bottom_px=min(whole.bottom_px, int(high[1])),
        smallest_px=max(whole.smallest_px, side / SIZE_CHANGE),
        largest_px=side * SIZE_CHANGE,
    )


def _is_in(point: Boxes, search: _Search) -> bool:
    return bool(search.left_px <= point[0] <= search.right_px and search.top_px <= point[1] <= search.bottom_px)


def _pyramid(image: Picture, search: _Search, *, between: bool) -> Iterator[tuple[float, Picture]]:
    """Yield the part of the picture ever smaller, each time with its scale.

    A level shows faces of one size at the 12 pixels that the network looks at. The sizes are those of the package,
    20 pixels and up by the pyramid's factor: other sizes would give other scores, and with them other faces. The first
    is the one that the smallest face looked for reaches or just misses; the network sees such a face as well.
    ``between`` gives the sizes half a step further on.
    """
    source = image[search.top_px : search.bottom_px, search.left_px : search.right_px]
    height, width = source.shape[:2]
    shorter = min(height, width)
    # Less a little, so that a size that stands on the ladder itself is not rounded past.
    skipped = math.ceil(math.log(SMALLEST_FACE_PX / search.smallest_px, PYRAMID_FACTOR) - 1e-6)
    scale = CELL_PX / SMALLEST_FACE_PX * PYRAMID_FACTOR ** (skipped + 0.5 * between)
    while shorter * scale >= CELL_PX and search.largest_px * scale >= CELL_PX:
        size = (int(width * scale), int(height * scale))
        # Halving is cheap and leaves little to do for all smaller levels. Areas are averaged, as the package does:
        # linear interpolation would give other scores.
        while source.shape[1] >= 2 * size[0] and source.shape[0] >= 2 * size[1]:
            source = _resize(source, (source.shape[1] // 2, source.shape[0] // 2))
        yield scale, _resize(source, size)
        scale *= PYRAMID_FACTOR


def _resize(picture: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _ask(net: ort.InferenceSession, image: Picture, boxes: Floats, *, size_px: int) -> Floats:
    """Show each box to a network, a bounded number at a time."""
    answers = [
        net.run(None, {"pictures": _cut(image, boxes[start : start + CROPS_AT_ONCE], size_px)})[0]
        for start in range(0, len(boxes), CROPS_AT_ONCE)
    ]
    return np.concatenate(answers)


def _cut(image: Picture, boxes: Floats, size_px: int) -> Picture:
    """Sample each box into a crop; what lies outside the picture is mid-grey, which the networks see as zero."""
    height, width = image.shape[:2]
    # Corner pixels of the crop fall on the corners of the box, measured on a grid of pixel centres.
    on_grid = boxes * (np.array([width - 1, height - 1] * 2) / np.array([width, height] * 2))
    to_picture = np.zeros((len(boxes), 2, 3))
    to_picture[:, [0, 1], [0, 1]] = (on_grid[:, 2:] - on_grid[:, :2]) / (size_px - 1)
    to_picture[:, :, 2] = on_grid[:, :2]
    crops = np.empty((len(boxes), size_px, size_px, 3), np.uint8)
    for matrix, crop in zip(to_picture, crops, strict=True):
        cv2.warpAffine(
            image,
            matrix,
            (size_px, size_px),
            dst=crop,
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=(128, 128, 128),
        )
    return crops


def _logistic(margins: Floats) -> Floats:
    # Written with tanh, which cannot overflow.
    scores: Floats = 0.5 + 0.5 * np.tanh(0.5 * margins)
    return scores


def _regress_pixels(boxes: Floats, offsets: Floats) -> Floats:
    # The two later networks learned offsets as shares of sides counted in pixels, both edges included.
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    return boxes + offsets * np.hstack([sides, sides])


def _place_landmarks(boxes: Floats, points: Floats) -> Floats:
    """Turn shares of the box, five x then five y, into pixels of the picture, shape (n, 5, 2)."""
    shares = points.reshape(-1, 2, 5).transpose(0, 2, 1)
    corner, sides = boxes[:, None, :2], boxes[:, None, 2:] - boxes[:, None, :2] + 1
    return corner - 1 + shares * sides
