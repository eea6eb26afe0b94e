"""CPU time of other crops of the same faces: with the faces looked for again against with them known, side by side.

usage: python benchmarks/reuse.py [--detectors mtcnn retinaface ...] [--data FOLDER] [--videos N] [--rounds N]
                                  [--markdown]

Both sides extract every video with another crop margin than it was extracted with first; one of them is given the
faces of that first time, by way of the table's schema. Their rows are compared, all columns but times; the program
ends where they differ. Videos are real clips of people, where there are any, and drawn people. Video by video the sides
take turns. Figures are processor time of the process; imports, model loading and the first extraction, of which
the faces are known, are not in them. Where weights are not fetched, their detector is left out.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

# Before the libraries look at it: one core each, as on a worker.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import cv2
import pyarrow as pa
from _clips import invented, real, video_ref
from _table import add_options, machine, show
from pydantic import TypeAdapter

from dfpipe.detections import LENT_COLUMNS, LENT_LEDGER_COLUMNS, KnownFaces, known_faces
from dfpipe.errors import UserError
from dfpipe.extract import VideoRows, extract_video
from dfpipe.faces import open_detector
from dfpipe.settings import CropSettings, DetectorSettings, ExtractSettings, LimitSettings, S3Settings
from dfpipe.shards import SCHEMAS, Table
from dfpipe.testing import shared_data

TIMES = {"cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds", "finished_at"}
FRESH, KNOWN = "looked for", "known"
ANOTHER_CROP = CropSettings(margin_fraction=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser)
    parser.add_argument("--detectors", nargs="+", default=["mtcnn", "retinaface"], help="as extract.detector.name")
    parser.add_argument("--videos", type=int, default=6, help="at most this many (%(default)s); 0 is all")
    parser.add_argument("--data", type=Path, help="folder that holds asl/; without it, the one that tests use")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detectors, notes = open_detectors(options.detectors)
    with tempfile.TemporaryDirectory(prefix="dfpipe-reuse-") as temporary:
        sets = {"drawn people": invented(options.videos or 6, Path(temporary) / "drawn")}
        if options.data is not None or shared_data() is not None:
            sets = {"real clips": real(options.data, "asl")[: options.videos or None]} | sets
        for what, clips in sets.items():
            show(
                f"Another crop margin: {len(clips)} {what}, {options.rounds} rounds",
                ["faces", "CPU ms a video", "times less", "range", "crops of frames"],
                [row for name in detectors for row in measure(name, detectors[name], clips, rounds=options.rounds)],
                note="; ".join([machine(), *notes]),
                markdown=options.markdown,
            )


def open_detectors(names: list[str]) -> tuple[dict[str, DetectorSettings], list[str]]:
    """Return the detectors that can be used here, and a sentence about each that cannot."""
    ready: dict[str, DetectorSettings] = {}
    left_out = []
    for name in names:
        settings: DetectorSettings = TypeAdapter(DetectorSettings).validate_python({"name": name})
        try:
            open_detector(settings)
        except UserError as error:
            left_out.append(f"{name} left out: {error}")
        else:
            ready[name] = settings
    return ready, left_out


def measure(name: str, detector: DetectorSettings, clips: list[Path], *, rounds: int) -> list[list[str]]:
    before = ExtractSettings(detector=detector)
    after = ExtractSettings(detector=detector, crop=ANOTHER_CROP)
    lent = {clip: lend(extract(clip, before)) for clip in clips}
    means: dict[str, list[float]] = {FRESH: [], KNOWN: []}
    crops = frames = 0
    for _ in range(rounds):
        seconds: dict[str, list[float]] = {FRESH: [], KNOWN: []}
        for clip in clips:
            results = {}
            for side, known in ((FRESH, None), (KNOWN, lent[clip])):
                started = time.process_time()
                results[side] = extract(clip, after, known)
                seconds[side].append(time.process_time() - started)
            if untimed(results[FRESH]) != untimed(results[KNOWN]):
                sys.exit(f"{name} gives other rows of {clip.name} when its faces are known")
            crops += results[KNOWN].video["faces_kept"]
            frames += results[KNOWN].video["frames_decoded"]
        for side, times in seconds.items():
            means[side].append(statistics.fmean(times))
    table = []
    for side, times in means.items():
        ratios = [fresh / this for fresh, this in zip(means[FRESH], times, strict=True)]
        table.append(
            [
                f"{name}, {side}",
                f"{1000 * statistics.median(times):.1f}",
                f"{statistics.median(ratios):.2f}",
                f"{min(ratios):.2f} to {max(ratios):.2f}",
                f"{crops // rounds} of {frames // rounds}",
            ]
        )
    return table


def extract(clip: Path, settings: ExtractSettings, known: KnownFaces | None = None) -> VideoRows:
    return extract_video(video_ref(clip), settings=settings, limits=LimitSettings(), s3=S3Settings(), known=known)


def lend(rows: VideoRows) -> KnownFaces:
    detections = as_table("detections", rows.detections, LENT_COLUMNS)
    (known,) = known_faces(detections, as_table("videos", [rows.video], LENT_LEDGER_COLUMNS)).values()
    return known


def as_table(table: Table, rows: list[dict[str, Any]], columns: Sequence[str]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=pa.schema([SCHEMAS[table].field(name) for name in columns]))


def untimed(rows: VideoRows) -> list[object]:
    ledger = {name: value for name, value in rows.video.items() if name not in TIMES}
    return [ledger, *(getattr(rows, field.name) for field in fields(rows) if field.name != "video")]


if __name__ == "__main__":
    main()
