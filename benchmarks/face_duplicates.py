"""What `train.split.face_duplicates` finds: copies of real clips by ffmpeg, and other people.

    python benchmarks/face_duplicates.py [--shape box|square|aligned] [--data FOLDER]

Each clip is copied in several ways, extracted with default settings, and compared with all originals. Printed is, for
each distance, how many copies are joined to their original, and how many pairs of different clips are joined.
"""

import argparse
import csv
import subprocess
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import _clips
import numpy as np
from numpy.typing import NDArray

from dfpipe.extract import decode_crop, extract_video
from dfpipe.features import Faces, compute
from dfpipe.models import duplicate_videos
from dfpipe.settings import THUMBNAILS, ExtractSettings, LimitSettings, S3Settings

COPIES = {
    "CRF 35": "null -crf 35",
    "half size": "scale=iw/2:-2 -crf 23",
    "half size, CRF 35": "scale=iw/2:-2 -crf 35",
    "a tenth cut off": "crop=iw*0.9:ih*0.9 -crf 23",
    "brighter": "eq=brightness=0.08:contrast=1.15 -crf 23",
    "25 frames a second": "fps=25 -crf 23",
    "10 frames cut off": "trim=start_frame=10,setpts=PTS-STARTPTS -crf 23",
    "mirrored": "hflip -crf 23",
}
DISTANCES = (0.15, 0.2, 0.25, 0.3, 0.35)


def copy(clip: Path, out: Path, options: str) -> Path:
    """Write a clip again."""
    command = ["ffmpeg", "-v", "error", "-y", "-threads", "1", "-i", str(clip), "-an", "-vf", *options.split()]
    subprocess.run([*command, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-threads", "1", str(out)], check=True)
    return out


def thumbnails(clip: Path, settings: ExtractSettings) -> NDArray[np.uint8]:
    """Return the thumbnails of a clip's faces, as the store would have them."""
    rows = extract_video(_clips.video_ref(clip), settings=settings, limits=LimitSettings(), s3=S3Settings())
    crops = [decode_crop(row["crop_png"]) for row in rows.faces]
    return compute(Faces.of_crops(crops), THUMBNAILS).astype(np.uint8)


def joined(one: NDArray[np.uint8], other: NDArray[np.uint8], distance: float) -> bool:
    """Say whether two clips are one by their faces."""
    video, groups = np.repeat([0, 1], [len(one), len(other)]), np.arange(2)
    return bool(
        len(duplicate_videos(np.concatenate([one, other]), video, groups, max_distance=distance, min_share=0.5))
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder that holds asl/ with identities.csv")
    parser.add_argument("--shape", choices=("box", "square", "aligned"), default="box", help="shape of the crops")
    options = parser.parse_args()
    clips = _clips.real(options.data, "asl")
    with Path(clips[0].parent, "identities.csv").open(encoding="utf-8") as file:
        person = {row["video"]: row["identity"] for row in csv.DictReader(file)}
    clips = [clip for clip in clips if clip.name in person]
    settings = ExtractSettings.model_validate({"crop": {"shape": options.shape}})
    originals = {clip: thumbnails(clip, settings) for clip in clips}
    print(f"| joined within a distance of | {' | '.join(map(str, DISTANCES))} |\n|---|{'---:|' * len(DISTANCES)}")
    with TemporaryDirectory() as folder:
        for name, how in COPIES.items():
            copies = {clip: thumbnails(copy(clip, Path(folder, f"{clip.stem}.mp4"), how), settings) for clip in clips}
            tell(f"{name}, of {len(clips)}", [(originals[clip], copies[clip]) for clip in clips])
    pairs = list(combinations(clips, 2))
    for name, is_same in (("same person, another clip", True), ("different people", False)):
        some = [(one, other) for one, other in pairs if (person[one.name] == person[other.name]) == is_same]
        tell(f"{name}, of {len(some)}", [(originals[one], originals[other]) for one, other in some])


def tell(name: str, pairs: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]) -> None:
    """Print how many pairs are joined at each distance."""
    counts = [sum(joined(one, other, distance) for one, other in pairs) for distance in DISTANCES]
    print(f"| {name} | {' | '.join(map(str, counts))} |", flush=True)


if __name__ == "__main__":
    main()
