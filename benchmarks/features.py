"""What each feature set costs: CPU ms a face, one thread, on the faces of real clips at several sizes of the crop.

usage: python benchmarks/features.py CLIP… [--sizes 112 224 320] [--rounds N] [--markdown]
"""

import argparse
import statistics
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from _table import add_options, machine, show
from threadpoolctl import threadpool_limits

from dfpipe.catalog import VideoRef
from dfpipe.crops import as_faces, face_table
from dfpipe.extract import decode_crop, extract_video
from dfpipe.features import Faces, columns, compute
from dfpipe.settings import (
    ColourSettings,
    CooccurrenceSettings,
    CropSettings,
    DctSettings,
    ExtractSettings,
    FrameSettings,
    LandmarksSettings,
    LbpSettings,
    LimitSettings,
    PixelsSettings,
    ResidualMapSettings,
    ResidualSettings,
    S3Settings,
    SharpnessSettings,
    SpectrumSettings,
    TemporalSettings,
)

SETS = [
    PixelsSettings(),
    ResidualSettings(),
    ResidualMapSettings(),
    SpectrumSettings(),
    DctSettings(),
    LbpSettings(),
    CooccurrenceSettings(),
    ColourSettings(),
    SharpnessSettings(),
    LandmarksSettings(),
    TemporalSettings(),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--sizes", type=int, nargs="+", default=[112, 224, 320])
    add_options(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    sized = {size_px: faces_of(options.clips, size_px) for size_px in options.sizes}
    # What every face costs before any of them: its crop has to be decoded.
    decoding = {
        size_px: [cv2.imencode(".png", crop)[1].tobytes() for crop in of.crops] for size_px, of in sized.items()
    }
    seconds: dict[tuple[str, int], list[float]] = {}
    with threadpool_limits(1):
        for _ in range(options.rounds):
            for size_px, faces in sized.items():
                started = time.process_time()
                for png in decoding[size_px]:
                    decode_crop(png)
                seconds.setdefault(("crop decoded", size_px), []).append(time.process_time() - started)
                for chosen in SETS:
                    started = time.process_time()
                    compute(faces, chosen)
                    seconds.setdefault((chosen.name, size_px), []).append(time.process_time() - started)
    wide = {chosen.name: str(columns(chosen)) for chosen in SETS}
    rows = [
        [
            name,
            wide.get(name, ""),
            *(
                f"{1000 * statistics.median(seconds[name, size_px]) / len(faces.crops):.2f}"
                for size_px, faces in sized.items()
            ),
        ]
        for name in ["crop decoded", *wide]
    ]
    faces = next(iter(sized.values()))
    note = f"{len(faces.crops)} faces of {len(options.clips)} clips, medians of {options.rounds} rounds; {machine()}"
    titles = ["feature set", "columns", *(f"{size_px} px" for size_px in sized)]
    show("CPU ms a face at each size of the crop, one thread", titles, rows, note=note, markdown=options.markdown)


def faces_of(clips: list[Path], size_px: int) -> Faces:
    settings = ExtractSettings(crop=CropSettings(size_px=size_px), frames=FrameSettings(keep=False))
    found = []
    for clip in clips:
        video = VideoRef(clip.name, str(clip.resolve()), clip.stat().st_size, content_id="")
        rows = extract_video(video, settings=settings, limits=LimitSettings(), s3=S3Settings())
        size_wh = (rows.video["width"], rows.video["height"])
        found.append(as_faces(face_table(rows.faces), frame_wh={(clip.name, ""): size_wh}))
    names = ("landmarks", "boxes", "frame_wh", "track", "frame_index")
    joined = {name: np.concatenate([getattr(faces, name) for faces in found]) for name in names}
    video_of = np.repeat(np.arange(len(found)), [len(faces.crops) for faces in found])
    crops = [crop for faces in found for crop in faces.crops]
    return replace(Faces.of_crops(crops), video=video_of, **joined)


if __name__ == "__main__":
    main()
