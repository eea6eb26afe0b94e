"""Tiny clips, encoded where a test needs them."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

WIDTH, HEIGHT = 96, 64


@cache
def moving_picture(index: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A textured surface that glides by, with a patch of its own in every frame."""
    surface = np.random.default_rng(7).integers(0, 256, (height * 2, width * 2, 3), np.uint8)
    surface = cv2.GaussianBlur(surface, (0, 0), 2)
    picture = np.roll(surface, (-index, -2 * index), axis=(0, 1))[:height, :width].copy()
    picture[4:20, 4:20] = np.random.default_rng(index).integers(0, 256, 3, np.uint8)
    return picture


def write_clip(
    path: Path,
    *,
    codec: str = "libx264",
    num_frames: int = 40,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    rate: int = 25,
    b_frames: int = 0,
    key_every: int = 12,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    rotation: int = 0,
    pixel_format: str = "yuv420p",
    times_ms: Sequence[int] | None = None,
    sound: bool = False,
) -> Path:
    """Encode a clip; the container follows from the path's suffix.

    Given times in milliseconds, frames are shown at those instead of at a steady rate.
    """
    width, height = size
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.gop_size = key_every
        stream.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        if sound:
            hum = container.add_stream("mp3" if path.suffix in {".avi", ".ts"} else "aac", rate=48_000, layout="mono")
            samples = np.sin(np.arange(48_000 * num_frames // rate) / 50).astype(np.float32)
            note = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
            note.sample_rate = 48_000
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(moving_picture(index, width, height), format="rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        if sound:
            for packet in [*hum.encode(note), *hum.encode(None)]:
                container.mux(packet)
        container.mux(stream.encode(None))
    return path


def rewrite(
    source: Path,
    target: Path,
    *,
    drop: int = 0,
    shift_frames: int = 0,
    container_options: Mapping[str, str] | None = None,
) -> Path:
    """Copy the packets of a clip into another file: without the first ones, or shown so many frames (of 25/s) later."""
    with (
        av.open(str(source)) as old,
        av.open(str(target), "w", options={"avoid_negative_ts": "disabled", **(container_options or {})}) as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for place, packet in enumerate(old.demux(video=0)):
            if packet.dts is None or place < drop:
                continue
            shift = round(shift_frames / 25 / packet.time_base)
            packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
            new.mux(packet)
    return target


@pytest.fixture(scope="session")
def rewritten() -> Callable[..., Path]:
    return rewrite


@pytest.fixture(scope="session")
def clip() -> Callable[..., Path]:
    return write_clip


@pytest.fixture(scope="session")
def decode_all() -> Callable[[Path], list[NDArray[np.uint8]]]:
    """Plain sequential decoding of everything, without any of dfpipe."""

    def decode(path: Path) -> list[NDArray[np.uint8]]:
        # The shortest transport streams are taken for bare MPEG video where the container is guessed.
        with av.open(str(path), format="mpegts" if path.suffix == ".ts" else None) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    return decode
