"""CPU seconds per video, from the file to stored frames and crops: dfpipe against the seed study's way, on one core.

usage: python benchmarks/extraction.py [--detectors mtcnn retinaface ...] [--sets asl 1080p ...] [--rounds N]

The seed's way is reference/extract.py, in an environment of its own that is built once (--reference-python names one
that is there). Both sides take the same frames, 1 in 30 and at most 7, and write each as JPEG and each crop as a file.
Video by video they take turns on one and the same core, so what else the machine does meets both. Figures are processor
time of the process with all its threads; imports, model loading and the first video of a set are not in them.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

# Read by the libraries when they are imported.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import av
import cv2
from _clips import enlarged, invented, real, video_ref
from _table import add_options, machine, show

from dfpipe.errors import UserError
from dfpipe.extract import extract_video
from dfpipe.faces import open_detector
from dfpipe.settings import ExtractSettings, LimitSettings, S3Settings

HERE = Path(__file__).parent
REFERENCE_ENVIRONMENT = HERE.parent / ".dfpipe" / "reference-env"
REFERENCE_SMALLEST_FACE_PX = 20
STAGES = ("decode_seconds", "detect_seconds", "encode_seconds")
TARGETS = {"mtcnn": 5, "retinaface": 7}
"""How many times less CPU time than the reference a detector is asked to take."""


@dataclass(slots=True)
class Measured:
    """What one side took on one set of clips."""

    cpu_seconds: list[float] = field(default_factory=list)
    """Per video, one mean for each round."""
    stage_seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    """Sums over all rounds."""
    frames: int = 0
    """Read in one round."""
    crops: int = 0
    """Written in one round."""


class Reference:
    """The reference's process: asked for one video at a time, so that both sides can take turns."""

    def __init__(self, process: "subprocess.Popen[str]", smallest_face_px: int) -> None:
        self._process = process
        self._smallest_face_px = smallest_face_px

    def __call__(self, video: Path, out: Path) -> dict[str, Any]:
        request = {"video": str(video), "out": str(out), "smallest_face_px": self._smallest_face_px}
        to_process, from_process = _pipes(self._process)
        to_process.write(json.dumps(request) + "\n")
        to_process.flush()
        answer = from_process.readline()
        if not answer:
            sys.exit(f"the reference ended with code {self._process.wait()} on {video.name}")
        result: dict[str, Any] = json.loads(answer)
        return result


class Dfpipe:
    """dfpipe with one detector and otherwise the default settings."""

    def __init__(self, detector: str) -> None:
        self._settings = ExtractSettings.model_validate({"detector": {"name": detector}})
        open_detector(self._settings.detector)

    def __call__(self, video: Path, out: Path) -> dict[str, Any]:
        started = time.process_time()
        rows = extract_video(video_ref(video), settings=self._settings, limits=LimitSettings(), s3=S3Settings())
        for number, frame in enumerate(rows.frames):
            (out / f"{video.stem}_{number}.jpg").write_bytes(frame["jpeg"])
        for number, face in enumerate(rows.faces):
            (out / f"{video.stem}_{number}.png").write_bytes(face["crop_png"])
        cpu_seconds = time.process_time() - started
        counts = {"frames": rows.video["frames_decoded"], "crops": len(rows.faces)}
        return counts | {"cpu_seconds": cpu_seconds} | {stage: rows.video[stage] for stage in STAGES}


Side = Reference | Dfpipe


def main() -> None:
    options = read_options()
    cv2.setNumThreads(1)
    where = machine()
    dfpipe, left_out = open_detectors(options.detectors)
    with tempfile.TemporaryDirectory(prefix="dfpipe-extraction-") as temporary, pinned_to(options.core):
        folder = Path(temporary)
        with start_reference(options.reference_python or reference_python()) as process:
            for name in options.sets:
                clips = make_set(name, options.data, folder / name, count=options.videos)
                short_side_px = min(size_of(clips[0]))
                sides: dict[str, Side] = {"reference": Reference(process, REFERENCE_SMALLEST_FACE_PX)}
                if options.same_smallest_face:
                    smallest_face_px = round(short_side_px * ExtractSettings().detector.min_face_fraction)
                    sides[f"reference, faces from {smallest_face_px} px"] = Reference(process, smallest_face_px)
                measured = measure(sides | dfpipe, clips, folder / "out", rounds=options.rounds)
                report(name, clips, measured, note="; ".join([where, *left_out]), markdown=options.markdown)
                shutil.rmtree(folder / name, ignore_errors=True)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser)
    parser.add_argument("--detectors", nargs="+", default=["mtcnn", "retinaface"], help="as extract.detector.name")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="which clips (all of them)")
    parser.add_argument("--videos", type=int, default=0, help="at most this many of each set; 0 is all")
    parser.add_argument("--data", type=Path, help="folder that holds asl/ and noface/")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="core to run on (%(default)s)")
    parser.add_argument("--reference-python", type=Path, help="interpreter that has reference/requirements.txt")
    parser.add_argument(
        "--same-smallest-face",
        action="store_true",
        help="measure the reference also when it looks for no smaller faces than dfpipe does",
    )
    return parser.parse_args()


def measure(sides: dict[str, Side], clips: Sequence[Path], out: Path, *, rounds: int) -> dict[str, Measured]:
    measured = {name: Measured() for name in sides}
    for side in sides.values():
        run(side, clips[0], out)
    for _ in range(rounds):
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
        for clip in clips:
            for name, side in sides.items():
                results[name].append(run(side, clip, out))
        for name, result in results.items():
            record = measured[name]
            record.cpu_seconds.append(statistics.fmean(video["cpu_seconds"] for video in result))
            record.frames = sum(video["frames"] for video in result)
            record.crops = sum(video["crops"] for video in result)
            for stage in STAGES:
                record.stage_seconds[stage] += sum(video[stage] for video in result)
    return measured


def run(side: Side, clip: Path, out: Path) -> dict[str, Any]:
    out.mkdir(exist_ok=True)
    try:
        return side(clip, out)
    finally:
        shutil.rmtree(out)


def report(name: str, clips: Sequence[Path], measured: dict[str, Measured], *, note: str, markdown: bool) -> None:
    reference = measured["reference"]
    rows = []
    for side, record in measured.items():
        ratios = [theirs / ours for theirs, ours in zip(reference.cpu_seconds, record.cpu_seconds, strict=True)]
        median = statistics.median(record.cpu_seconds)
        whole = sum(record.stage_seconds.values())
        rows.append(
            [
                side,
                f"{median:.3f}",
                f"{statistics.median(ratios):.1f}",
                f"{min(ratios):.1f} to {max(ratios):.1f}",
                f"{TARGETS[side]}" if side in TARGETS else "",
                *(f"{record.stage_seconds[stage] / whole:.0%}" for stage in STAGES),
                f"{record.crops} of {record.frames}",
            ]
        )
    width, height = size_of(clips[0])
    title = f"{name}: {len(clips)} videos of {width} x {height}, {len(reference.cpu_seconds)} rounds"
    columns = ["", "CPU s a video", "times less", "range", "asked", "decode", "detect", "store", "crops of frames"]
    show(title, columns, rows, note=note, markdown=markdown)


def make_set(name: str, data: Path | None, folder: Path, *, count: int) -> list[Path]:
    """Return the clips of a set, made in the folder if they are not there as they are needed."""
    folder.mkdir(parents=True)
    if name == "synth":
        return invented(count or 6, folder)
    if name in ("asl", "noface"):
        clips = real(data, name)
        return clips[: count or len(clips)]
    width_px, height_px = LARGE[name]
    clips = real(data, "asl")
    wanted = count or 4
    return enlarged(clips[:: len(clips) // wanted][:wanted], folder, width_px=width_px, height_px=height_px)


LARGE = {"720p": (1280, 720), "1080p": (1920, 1080)}
SETS = ("asl", "noface", "synth", *LARGE)


def open_detectors(names: Sequence[str]) -> tuple[dict[str, Dfpipe], list[str]]:
    """Return the detectors that can be used here, and a sentence about each that cannot."""
    ready: dict[str, Dfpipe] = {}
    left_out = []
    for name in names:
        try:
            ready[name] = Dfpipe(name)
        except UserError as error:
            left_out.append(f"{name} left out: {error}")
    return ready, left_out


def size_of(clip: Path) -> tuple[int, int]:
    with av.open(str(clip)) as container:
        stream = container.streams.video[0]
        return stream.width, stream.height


@contextmanager
def pinned_to(core: int) -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def start_reference(python: Path) -> Iterator["subprocess.Popen[str]"]:
    command = [str(python), str(HERE / "reference" / "extract.py")]
    # What the reference's environment imports is its own affair.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            yield process
        finally:
            _pipes(process)[0].close()


def reference_python() -> Path:
    """Build the reference's environment, if it is not there, and return its interpreter."""
    python = REFERENCE_ENVIRONMENT / "bin" / "python"
    ready = REFERENCE_ENVIRONMENT / ".ready"
    if not ready.exists():
        print("building the reference's environment (a few minutes the first time) ...", file=sys.stderr)
        REFERENCE_ENVIRONMENT.parent.mkdir(exist_ok=True)
        subprocess.run([HERE.parent / "infra" / "make-venv", sys.executable, REFERENCE_ENVIRONMENT], check=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, "-r", HERE / "reference" / "requirements.txt"], check=True)
        ready.touch()
    return python


def _pipes(process: "subprocess.Popen[str]") -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None
    assert process.stdout is not None
    return process.stdin, process.stdout


if __name__ == "__main__":
    main()
