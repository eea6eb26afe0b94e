"""CPU time of face detectors per frame, side by side on the same pictures of several sizes.

usage: python benchmarks/detectors.py CLIP... [--detectors mtcnn mtcnn,follow=true cascade ...] [--heights 480 1080]
                                      [--rounds N] [--markdown]

A detector is its name in the settings, with settings of its own behind it. Frames of the clips (one in 30, at most 7)
are brought to each height; every round asks all detectors in turn, so that a busy machine disturbs them alike.
"""

import argparse
import statistics
import time
from pathlib import Path

import cv2
import numpy as np
from _table import add_options, machine, show
from numpy.typing import NDArray
from pydantic import TypeAdapter

from dfpipe.faces import Detector, open_detector
from dfpipe.settings import DetectorSettings, LimitSettings
from dfpipe.video import every, open_video


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--detectors", nargs="+", default=["mtcnn", "mtcnn,follow=true"])
    parser.add_argument("--heights", type=int, nargs="+", default=[360, 480, 720, 1080])
    add_options(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detectors = {text: open_from(text) for text in options.detectors}
    clips = [sample(path) for path in options.clips]
    rows = []
    for height_px in options.heights:
        sized = [[to_height(frame, height_px) for frame in frames] for frames in clips]
        num_frames = sum(map(len, sized))
        seconds: dict[str, list[float]] = {text: [] for text in detectors}
        for _ in range(options.rounds):
            for text, detector in detectors.items():
                started = time.process_time()
                faces = [detector.detect(frames) for frames in sized]
                seconds[text].append((time.process_time() - started) / num_frames)
                del faces
        medians = [1000 * statistics.median(seconds[text]) for text in detectors]
        rows.append((f"{height_px} px", *(f"{ms:.1f} ({ms / medians[0]:.2f})" for ms in medians)))
    note = f"{num_frames} frames of {len(clips)} clips, medians of {options.rounds} rounds; {machine()}"
    title = "CPU ms a frame (and against the first detector), one thread"
    show(title, ("height", *detectors), rows, note=note, markdown=options.markdown)


def open_from(text: str) -> Detector:
    name, *pairs = text.split(",")
    given = {"name": name} | dict(pair.split("=", 1) for pair in pairs)
    settings: DetectorSettings = TypeAdapter(DetectorSettings).validate_python(given)
    return open_detector(settings)


def sample(path: Path) -> list[NDArray[np.uint8]]:
    with open_video(str(path), limits=LimitSettings()) as video:
        wanted = every(video.info.num_frames, every_frames=30, max_frames=7)
        return [frame.image for frame in video.frames(wanted)]


def to_height(frame: NDArray[np.uint8], height_px: int) -> NDArray[np.uint8]:
    width_px = round(frame.shape[1] * height_px / frame.shape[0])
    return np.asarray(cv2.resize(frame, (width_px, height_px), interpolation=cv2.INTER_CUBIC), np.uint8)


if __name__ == "__main__":
    main()
