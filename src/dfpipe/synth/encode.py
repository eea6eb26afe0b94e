"""Writing H.264 in MP4, the same bytes each time."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["RATES", "Encoding", "Mp4Writer", "draw_encoding"]

RATES = (Fraction(25), Fraction(30000, 1001), Fraction(30), Fraction(24))
"""Frames a second that videos have."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """How x264 is set for one video."""

    quantiser: int
    """Quantiser of every frame; higher is coarser. A rate factor would give what a smooth face saves to the wall."""
    keyframe_interval: int
    """Most frames from one key frame to the next."""
    num_b_frames: int
    """Most B-frames in a row; 0 keeps frames in the order in which they are shown."""


def draw_encoding(rng: Generator) -> Encoding:
    """Draw one; it must know nothing of the label, or the file's size would tell it."""
    return Encoding(
        quantiser=int(rng.integers(22, 27)),
        keyframe_interval=int(rng.choice([12, 50, 120, 250])),
        num_b_frames=int(rng.choice([0, 0, 2])),
    )


class Mp4Writer:
    """Writes the frames of one video.

    Parameters
    ----------
    path
        Where; the folder is made.
    width, height
        Size in pixels, both even.
    rate
        Frames a second.
    encoding
        How x264 is set.
    """

    def __init__(self, path: Path, *, width: int, height: int, rate: Fraction, encoding: Encoding) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        # Under another name until it is whole, so that a run that was cut off leaves nothing that looks finished.
        self._part = path.with_name(path.name + ".part")
        self._container = av.open(str(self._part), "w", format="mp4")
        self._stream: VideoStream = self._container.add_stream("libx264", rate=rate)
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        # One thread: x264 rounds differently with more, and the processes beside this one use the other cores.
        self._stream.codec_context.thread_count = 1
        self._stream.options = {
            "preset": "ultrafast",
            "qp": str(encoding.quantiser),
            "g": str(encoding.keyframe_interval),
            "bf": str(encoding.num_b_frames),
        }

    def write(self, planes: NDArray[np.uint8]) -> None:
        """Append a frame given as planes of 4:2:0, shape (height * 3 / 2, width)."""
        self._mux(self._stream.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))

    def __enter__(self) -> "Mp4Writer":
        return self

    def __exit__(self, exc_type: type[BaseException] | None, *exc: object) -> None:
        if exc_type is None:
            self._mux(self._stream.encode(None))
        self._container.close()
        if exc_type is None:
            self._part.replace(self._path)
        else:
            self._part.unlink(missing_ok=True)

    def _mux(self, packets: "Iterable[Packet[VideoStream]]") -> None:
        for packet in packets:
            self._container.mux(packet)
