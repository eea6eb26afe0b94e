"""How small retinaface may see a picture: faces found, and time, against the mtcnn detector on the same frames.

usage: python benchmarks/retinaface_sizes.py FOLDER [--rounds N] [--markdown]
"""

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from _clips import below
from _table import add_options, machine, show
from numpy.typing import NDArray

from dfpipe.faces import Detector, Face, open_detector
from dfpipe.faces.boxes import iou
from dfpipe.settings import LimitSettings, MtcnnSettings, RetinafaceSettings
from dfpipe.video import every, open_video

SIDES_PX = (192, 256, 320, 384, 448, 512, 640)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of videos")
    add_options(parser, rounds=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    pictures = [image for path in below(options.folder) for image in sampled(path)]
    mtcnn = open_detector(MtcnnSettings())
    detectors: dict[str, Detector] = {"mtcnn": mtcnn}
    for side in SIDES_PX:
        detectors[f"retinaface, {side} px"] = open_detector(RetinafaceSettings(longer_side_px=side))
    expected = mtcnn.detect(pictures)
    seconds: dict[str, list[float]] = {name: [] for name in detectors}
    found: dict[str, list[list[Face]]] = {}
    for _ in range(options.rounds):
        for name, detector in detectors.items():
            started = time.process_time()
            found[name] = detector.detect(pictures)
            seconds[name].append(time.process_time() - started)
    columns = ("detector", "of mtcnn's faces", "others", "lowest score", "CPU ms a picture", "against mtcnn")
    rows = []
    first = statistics.median(seconds["mtcnn"])
    for name, faces in found.items():
        again = sum(matched(theirs, ours) for theirs, ours in zip(expected, faces, strict=True))
        others = sum(len(ours) - matched(ours, theirs) for theirs, ours in zip(expected, faces, strict=True))
        median = statistics.median(seconds[name])
        rows.append(
            (
                name,
                f"{again} of {sum(map(len, expected))}",
                str(others),
                f"{min((face.score for ours in faces for face in ours), default=0):.3f}",
                f"{1000 * median / len(pictures):.1f}",
                f"{median / first:.2f}",
            )
        )
    title = f"{len(pictures)} pictures, medians of {options.rounds} rounds, IoU above 0.5"
    show(title, columns, rows, note=machine(), markdown=options.markdown)


def sampled(path: Path) -> list[NDArray[np.uint8]]:
    with open_video(str(path), limits=LimitSettings()) as video:
        return [frame.image for frame in video.frames(every(video.info.num_frames, every_frames=30, max_frames=7))]


def matched(these: list[Face], those: list[Face]) -> int:
    """How many of these overlap one of those."""
    if not these or not those:
        return 0
    overlaps = iou(np.stack([face.box for face in these]), np.stack([face.box for face in those]))
    return int((overlaps.max(axis=1) > 0.5).sum())


if __name__ == "__main__":
    main()
