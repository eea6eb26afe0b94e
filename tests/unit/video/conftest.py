"""Tiny clips, encoded where a test needs them."""

from collections.abc import Callable, Mapping
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
) -> Path:
    """Encode a clip; the container follows from the path's suffix."""
    width, height = size
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=rate, options=dict(options or {}))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.gop_size = key_every
        stream.max_b_frames = b_frames
        if rotation:
            stream.set_display_rotation(rotation)
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(moving_picture(index, width, height), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def clip() -> Callable[..., Path]:
    return write_clip


@pytest.fixture(scope="session")
def decode_all() -> Callable[[Path], list[NDArray[np.uint8]]]:
    """Plain sequential decoding of everything, without any of dfpipe."""

    def decode(path: Path) -> list[NDArray[np.uint8]]:
        with av.open(str(path)) as container:
            return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]

    return decode
