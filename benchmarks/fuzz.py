"""Damaged videos: good clips mutated in many ways, each of which must end in exactly one ledger row and in time.

usage: python benchmarks/fuzz.py [FOLDER] [--mutations 1000] [--seed 0] [--seconds 20] [--keep FOLDER] [--markdown]

Clips of every codec and container that the library can make here are made; those of the folder come on top. The same
seed makes the same mutations of the same clips. Ends with 1 if a video is not accounted for, or took too long.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from _clips import below
from _table import machine, show
from numpy.random import Generator

from dfpipe.catalog import VideoRef
from dfpipe.isolation import extract_isolated
from dfpipe.isolation.extract import GRACE_SECONDS
from dfpipe.settings import EverySampling, ExtractSettings, LimitSettings, S3Settings

CLIPS = [
    ("libx264", "mp4", {"bf": "2", "g": "8"}),
    ("libx264", "mkv", {"bf": "0", "g": "8"}),
    ("libx264", "mov", {"x264-params": "open-gop=1:keyint=8:bframes=3"}),
    ("libx264", "ts", {"g": "8"}),
    ("libx265", "mp4", {"x265-params": "log-level=none:keyint=8"}),
    ("libx265", "mkv", {"x265-params": "log-level=none:keyint=8"}),
    ("libvpx-vp9", "webm", {"deadline": "realtime", "g": "8"}),
    ("libvpx-vp9", "mp4", {"deadline": "realtime", "g": "8"}),
    ("libsvtav1", "mp4", {"preset": "12", "g": "8"}),
    ("libsvtav1", "mkv", {"preset": "12", "g": "8"}),
    ("mpeg4", "avi", {"g": "8", "bf": "0"}),
    ("mpeg4", "mp4", {"g": "8", "bf": "2"}),
    ("mjpeg", "avi", {}),
    ("mjpeg", "mov", {}),
]
"""Encoder, container, options."""

START_SECONDS = 15.0
"""What the start of a child may add to a video's time, on a busy machine."""

HEADER_FIELDS = (
    *(
        b"stts",
        b"stsc",
        b"stsz",
        b"stco",
        b"stss",
        b"ctts",
        b"elst",
        b"mdhd",
        b"mvhd",
        b"tkhd",
        b"stsd",
        b"avc1",
        b"hvc1",
    ),
    *(b"avcC", b"hvcC", b"trun", b"tfhd", b"mdat", b"moov", b"trak", b"strh", b"strf", b"idx1", b"avih", b"movi"),
    *(b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\x1c\x53\xbb\x6b", b"\x11\x4d\x9b\x74", b"\x2a\xd7\xb1", b"\x63\xa2"),
)
"""Marks behind which numbers stand that a reader trusts: boxes of MP4, chunks of AVI, elements of Matroska."""

EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"\0\1\0\0")


@dataclass(frozen=True, slots=True)
class Ended:
    """How one mutation ended."""

    number: int
    how: str
    status: str
    reason: str
    seconds: float
    lost: int


def flip_bits(data: bytearray, _other: bytes, rng: Generator) -> None:
    for place in rng.integers(0, len(data), rng.integers(1, 65)):
        data[place] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, _other: bytes, rng: Generator) -> None:
    start, length = _range(data, rng)
    data[start : start + length] = rng.bytes(length)


def blank(data: bytearray, _other: bytes, rng: Generator) -> None:
    start, length = _range(data, rng)
    data[start : start + length] = bytes(length)


def cut_off(data: bytearray, _other: bytes, rng: Generator) -> None:
    del data[int(rng.integers(len(data))) :]


def cut_out(data: bytearray, _other: bytes, rng: Generator) -> None:
    start, length = _range(data, rng)
    del data[start : start + length]


def double(data: bytearray, _other: bytes, rng: Generator) -> None:
    start, length = _range(data, rng)
    data[start:start] = data[start : start + length]


def splice(data: bytearray, other: bytes, rng: Generator) -> None:
    data[int(rng.integers(len(data))) :] = other[int(rng.integers(len(other))) :]


def edit_header(data: bytearray, _other: bytes, rng: Generator) -> None:
    marks = [mark for mark in HEADER_FIELDS if mark in data]
    for _ in range(int(rng.integers(1, 4))):
        mark = marks[int(rng.integers(len(marks)))] if marks else bytes(data[:4])
        # From the size before the mark to a few numbers behind it.
        place = max(0, data.find(mark) + 4 * int(rng.integers(-1, 9)))
        data[place : place + 4] = EXTREMES[int(rng.integers(len(EXTREMES)))]


MUTATIONS: tuple[Callable[[bytearray, bytes, Generator], None], ...] = (
    flip_bits,
    overwrite,
    blank,
    cut_off,
    cut_out,
    double,
    splice,
    edit_header,
    edit_header,
)


def _range(data: bytearray, rng: Generator) -> tuple[int, int]:
    """Draw a place and a length of up to a quarter of the data, short ones as often as long ones."""
    longest = max(1, len(data) // 4)
    return int(rng.integers(len(data))), int(longest ** rng.random())


def make_clips(folder: Path) -> list[Path]:
    """Make a short clip of every codec and container that there is an encoder for."""
    # One of the encoders talks.
    os.environ["SVT_LOG"] = "1"
    rng = np.random.default_rng(0)
    still = rng.integers(0, 256, (96, 128, 3), np.uint8) // 4
    made = []
    for number, (codec, ending, options) in enumerate(CLIPS):
        path = folder / f"{number:02d}-{codec}.{ending}"
        with suppress(av.FFmpegError, ValueError), av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25, options=options)
            stream.width, stream.height = 128, 96
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            stream.codec_context.thread_count = 1
            for shift in range(24):
                picture = np.roll(still, 3 * shift, axis=1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
            made.append(path)
    return made


def mutate(clips: list[bytes], rng: Generator) -> tuple[str, bytes]:
    """Return the names of one to three mutations, and a clip to which they were done."""
    clip, other = (int(rng.integers(len(clips))) for _ in range(2))
    data, names = bytearray(clips[clip]), []
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        mutation = MUTATIONS[int(rng.integers(len(MUTATIONS)))]
        if data:
            mutation(data, clips[other], rng)
            names.append(mutation.__name__)
    return f"clip {clip}: {', '.join(names)}", bytes(data)


class Losses(logging.Handler):
    """Counts the children that died."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def emit(self, _record: logging.LogRecord) -> None:
        self.count += 1


def run(
    clips: list[bytes], *, mutations: int, seed: int, seconds: float, folder: Path, keep: Path | None
) -> list[Ended]:
    losses = Losses()
    logger = logging.getLogger("dfpipe.isolation")
    logger.setLevel(logging.INFO)
    logger.addHandler(losses)
    logger.propagate = False
    settings = ExtractSettings(sampling=EverySampling(every_frames=8, max_frames=3))
    limits = LimitSettings(timeout_seconds=seconds, max_memory_bytes=2**29)
    ended = []
    for number in range(mutations):
        how, data = mutate(clips, np.random.default_rng([seed, number]))
        path = folder / "mutation"
        path.write_bytes(data)
        video = VideoRef(f"fuzz/{seed}/{number}", str(path), len(data), f"{seed}-{number}")
        lost_before, started = losses.count, time.monotonic()
        try:
            ledger = extract_isolated(video, settings=settings, limits=limits, s3=S3Settings()).video
            status, reason = ledger["status"], ledger["reason"]
        except Exception as error:  # noqa: BLE001  # this is what is looked for
            status, reason = "unaccounted", f"{type(error).__name__}: {error}"
        one = Ended(number, how, status, reason, time.monotonic() - started, losses.count - lost_before)
        ended.append(one)
        if keep is not None and (one.lost or status in ("unaccounted", "timeout", "crashed", "too_large")):
            (keep / f"{seed}-{number}").write_bytes(data)
    return ended


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clips", nargs="?", type=Path, help="folder of good videos, looked through to the bottom")
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=20.0, help="limit for one video")
    parser.add_argument("--keep", type=Path, help="existing folder for the files that cost a child")
    parser.add_argument("--markdown", action="store_true", help="print tables as GitHub-flavoured Markdown")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = make_clips(folder)
        given = below(args.clips) if args.clips else []
        clips = [path.read_bytes() for path in [*made, *given]]
        started = time.monotonic()
        ended = run(
            clips, mutations=args.mutations, seed=args.seed, seconds=args.seconds, folder=folder, keep=args.keep
        )
        took = time.monotonic() - started
    title = f"{len(ended)} mutations of {len(made)} made and {len(given)} given clips, seed {args.seed}, {took:.0f} s"
    statuses = Counter(one.status for one in ended).most_common()
    rows = [(status, str(count)) for status, count in statuses]
    show(title, ("status", "videos"), rows, note=machine(), markdown=args.markdown)
    return _report(ended, limit=args.seconds)


def _report(ended: list[Ended], *, limit: float) -> int:
    slowest = sorted(ended, key=lambda one: -one.seconds)[:3]
    lost = [one for one in ended if one.lost]
    bound = limit + GRACE_SECONDS + START_SECONDS
    late = [one for one in ended if one.seconds > bound]
    unaccounted = [one for one in ended if one.status == "unaccounted"]
    _list("slowest", slowest)
    _list(f"children lost: {sum(one.lost for one in ended)}", lost)
    _list(f"over {bound:g} s (limit, grace and a start): {len(late)}", late)
    _list(f"not accounted for: {len(unaccounted)}", unaccounted)
    return 1 if late or unaccounted else 0


def _list(title: str, some: list[Ended]) -> None:
    print(title)
    for one in some:
        print(f"- number {one.number}, {one.how}: {one.seconds:.1f} s, {one.status} {one.reason}")


if __name__ == "__main__":
    sys.exit(main())
