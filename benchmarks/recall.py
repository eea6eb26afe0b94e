"""Are the faces found that the mtcnn package on TensorFlow finds? Both sides see the same decoded frames.

usage: python benchmarks/recall.py REFERENCE_PYTHON [--clips FOLDER]... [--identities N] [--every-frames N]
                                   [--max-frames K] [--markdown]

REFERENCE_PYTHON is the interpreter of an environment of its own, made once:

    python3 -m venv /tmp/reference
    /tmp/reference/bin/pip install tensorflow-cpu mtcnn==1.0.0 opencv-python-headless

The reference runs as it comes: the whole picture, faces from 20 pixels on. A reference face is one above 0.9; it is
found again when a face of ours overlaps it by more than a half. A face that overlaps none of the other side's by 0.3
stands under "only ours" or "only reference"; which side is right, the table does not say. Without --clips the sets are
the real clips, where there are any, and videos made by dfpipe itself.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _table import machine, show
from numpy.typing import NDArray

from dfpipe.faces import Face, open_detector
from dfpipe.faces.boxes import iou
from dfpipe.settings import LimitSettings, MtcnnSettings
from dfpipe.synth import write_dataset
from dfpipe.testing import shared_data
from dfpipe.video import every, open_video

MIN_SCORE = 0.9
FOUND_OVERLAP = 0.5
FALSE_OVERLAP = 0.3
VIDEO_SUFFIXES = frozenset({".mkv", ".mp4", ".avi", ".mov", ".webm"})
DETECTORS = {
    "mtcnn": MtcnnSettings(min_score=MIN_SCORE),
    "mtcnn, follow": MtcnnSettings(min_score=MIN_SCORE, follow=True),
}


@dataclass
class Count:
    """What became of the faces of one set."""

    pictures: int = 0
    reference: int = 0
    again: int = 0
    only_ours: int = 0
    only_reference: int = 0
    lost: list[str] = field(default_factory=list)

    def add(self, where: str, ours: Sequence[Face], reference: Sequence[Sequence[float]]) -> None:
        mine = np.array([face.box for face in ours], float).reshape(-1, 4)
        all_theirs = np.array([face[:4] for face in reference], float).reshape(-1, 4)
        theirs = [face for face in reference if face[4] > MIN_SCORE]
        self.pictures += 1
        self.reference += len(theirs)
        for face in theirs:
            overlap = iou(np.array([face[:4]]), mine).max(initial=0)
            self.again += bool(overlap > FOUND_OVERLAP)
            self.only_reference += bool(overlap <= FALSE_OVERLAP)
            if overlap <= FOUND_OVERLAP:
                width, height = face[2] - face[0], face[3] - face[1]
                self.lost.append(f"{where}: {width:.0f} x {height:.0f} px, score {face[4]:.3f}, overlap {overlap:.2f}")
        # One that the reference was less sure of is not invented.
        self.only_ours += int((iou(mine, all_theirs).max(axis=1, initial=0) <= FALSE_OVERLAP).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reference_python", type=Path)
    parser.add_argument("--clips", type=Path, action="append", help="folder of videos instead of the usual sets")
    parser.add_argument("--identities", type=int, default=12, help="people in the made set (%(default)s)")
    parser.add_argument("--every-frames", type=int, default=30)
    parser.add_argument("--max-frames", type=int, default=7)
    parser.add_argument("--markdown", action="store_true", help="print tables as GitHub-flavoured Markdown")
    options = parser.parse_args()
    rows, lost = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for title, folder in sets(options.clips, options.identities, Path(scratch)):
            pictures = sample(folder, options.every_frames, options.max_frames)
            reference = ask_reference(options.reference_python, pictures)
            for name, settings in DETECTORS.items():
                count = Count()
                for clip, frames in pictures.items():
                    found = open_detector(settings).detect(list(frames))
                    for position, (ours, theirs) in enumerate(zip(found, reference[clip], strict=True)):
                        count.add(f"{title}, {name}, {clip}, frame {position}", ours, theirs)
                share = f"{100 * count.again / count.reference:.1f} %" if count.reference else ""
                numbers = (count.pictures, count.reference, count.again)
                alone = (count.only_ours, count.only_reference)
                rows.append((f"{title}, {name}", *map(str, numbers), share, *map(str, alone)))
                lost += count.lost
    columns = ("set, detector", "pictures", "reference faces", "found again", "share", "only ours", "only reference")
    show("Faces of the mtcnn package found again", columns, rows, note=machine(), markdown=options.markdown)
    print("not found again" if lost else "every face found again", *lost, sep="\n- ")


def sets(clips: Sequence[Path] | None, identities: int, scratch: Path) -> Iterator[tuple[str, Path]]:
    if clips:
        yield from ((folder.name, folder) for folder in clips)
        return
    if shared := shared_data():
        yield "real clips", shared / "asl"
        yield "no face in sight", shared / "noface"
    write_dataset(scratch / "made", num_identities=identities)
    yield "made", scratch / "made"


def sample(folder: Path, every_frames: int, max_frames: int) -> dict[str, NDArray[np.uint8]]:
    pictures = {}
    for path in sorted(path for path in folder.rglob("*") if path.suffix in VIDEO_SUFFIXES):
        with open_video(str(path), limits=LimitSettings()) as video:
            wanted = every(video.info.num_frames, every_frames=every_frames, max_frames=max_frames)
            name = "-".join(path.relative_to(folder).with_suffix("").parts)
            pictures[name] = np.stack([frame.image for frame in video.frames(wanted)])
    return pictures


def ask_reference(python: Path, pictures: dict[str, NDArray[np.uint8]]) -> dict[str, list[list[list[float]]]]:
    script = Path(__file__).parent / "reference" / "detect.py"
    with tempfile.TemporaryDirectory() as scratch:
        for name, frames in pictures.items():
            np.save(Path(scratch) / f"{name}.npy", frames)
        out = Path(scratch) / "faces.json"
        subprocess.run([str(python), str(script), scratch, str(out)], check=True)
        faces: dict[str, list[list[list[float]]]] = json.loads(out.read_text())
        return faces


if __name__ == "__main__":
    main()
