"""One video in, its rows out: frames, face crops, and the ledger row that says how it ended."""

import io
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.catalog import VideoRef
from dfpipe.errors import VideoError, VideoFault
from dfpipe.faces import Face, crop_face, open_detector
from dfpipe.fingerprint import fingerprint
from dfpipe.settings import EverySampling, ExtractSettings, LimitSettings, S3Settings
from dfpipe.shards import LANDMARKS, VideoStatus
from dfpipe.storage import open_location, storage_errors
from dfpipe.video import VideoFile, every, open_video

__all__ = ["VideoRows", "decode_crop", "extract_fingerprint", "extract_video", "lost_video"]

VERSION = 1
"""Raised when the code changes what it writes for the same settings."""

WHOLE_OBJECT_BYTES = 64 * 2**20
"""Objects up to this size are fetched with one request; larger ones are read in ranges."""

RANGE_BYTES = 4 * 2**20


@dataclass(slots=True)
class VideoRows:
    """What one video adds to each table; keys are column names, without ``fingerprint``, ``shard`` and ``run_id``."""

    video: dict[str, Any]
    """The ledger row."""
    frames: list[dict[str, Any]] = field(default_factory=list)
    """Sampled frames, if they are kept."""
    faces: list[dict[str, Any]] = field(default_factory=list)
    """Face crops, at most one a frame."""


def extract_fingerprint(settings: ExtractSettings) -> str:
    """Return the faces stage's fingerprint: settings, code version, and the detector's weights."""
    return fingerprint("faces", VERSION, settings, open_detector(settings.detector).weights_sha256)


def extract_video(video: VideoRef, *, settings: ExtractSettings, limits: LimitSettings, s3: S3Settings) -> VideoRows:
    """Decode the sampled frames of one video and cut out the most confident face of each.

    A video that cannot be used gives a ledger row with the reason, not an error.

    Raises
    ------
    StoreError
        The video's bytes cannot be reached; this says nothing about the video.
    """
    rows = VideoRows(_ledger_row(video))
    started = time.perf_counter()
    try:
        with (
            storage_errors("read", video.url),
            _open_bytes(video, limits, s3) as source,
            open_video(source, limits=limits) as file,
        ):
            _extract(file, rows, settings, started=started)
    except VideoError as error:
        return _ended(VideoRows(rows.video), error.fault, error.reason)
    if rows.faces:
        return _ended(rows, "ok", "")
    looked = rows.video["frames_decoded"]
    return _ended(rows, "no_face", f"no face was found in {looked} frames")


def lost_video(video: VideoRef, *, fault: VideoFault, reason: str) -> VideoRows:
    """Return the rows of a video whose extraction did not come back."""
    return _ended(VideoRows(_ledger_row(video)), fault, reason)


def decode_crop(crop_png: bytes) -> NDArray[np.uint8]:
    """Decode a stored crop: uint8, shape (size, size, 3), RGB."""
    bgr = cv2.imdecode(np.frombuffer(crop_png, np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(bgr[:, :, ::-1])  # type: ignore[index]


def _extract(file: VideoFile, rows: VideoRows, settings: ExtractSettings, *, started: float) -> None:
    ledger, info = rows.video, file.info
    ledger |= {
        "container": info.container,
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "frame_rate": info.frame_rate,
        "num_frames": info.num_frames,
        "duration_seconds": info.duration_seconds,
    }
    sampling = settings.sampling
    assert isinstance(sampling, EverySampling)
    wanted = every(info.num_frames, every_frames=sampling.every_frames, max_frames=sampling.max_frames)
    ledger["frames_wanted"] = len(wanted)
    frames = list(file.frames(wanted))
    ledger["frames_decoded"] = len(frames)
    decoded = time.perf_counter()
    found = open_detector(settings.detector).detect([frame.image for frame in frames])
    detected = time.perf_counter()
    for frame, faces in zip(frames, found, strict=True):
        place = {
            "video_id": ledger["video_id"],
            "content_id": ledger["content_id"],
            "frame_index": frame.index,
            "pts_seconds": frame.pts_seconds,
        }
        if settings.frames.keep:
            height, width = frame.image.shape[:2]
            jpeg = _encode(".jpg", frame.image, cv2.IMWRITE_JPEG_QUALITY, settings.frames.jpeg_quality)
            rows.frames.append(place | {"width": width, "height": height, "jpeg": jpeg})
        if faces:
            crop = crop_face(
                frame.image,
                faces[0].box,
                size_px=settings.crop.size_px,
                margin_fraction=settings.crop.margin_fraction,
            )
            # Level 6 takes five times as long for 13 % fewer bytes (benchmarks/crop_encoding.py).
            png = _encode(".png", crop, cv2.IMWRITE_PNG_COMPRESSION, 1)
            rows.faces.append(place | _face_columns(faces[0]) | {"crop_size_px": crop.shape[0], "crop_png": png})
    ledger["frames_with_face"] = len(rows.faces)
    ledger["decode_seconds"] = decoded - started
    ledger["detect_seconds"] = detected - decoded
    ledger["encode_seconds"] = time.perf_counter() - detected


def _face_columns(face: Face) -> dict[str, float]:
    columns = {"score": float(face.score)}
    columns |= {name: float(edge) for name, edge in zip(("x1", "y1", "x2", "y2"), face.box, strict=True)}
    for name, (x, y) in zip(LANDMARKS, face.landmarks, strict=True):
        columns |= {f"{name}_x": float(x), f"{name}_y": float(y)}
    return columns


def _encode(extension: str, image: NDArray[np.uint8], parameter: int, value: int) -> bytes:
    encoded, data = cv2.imencode(extension, image[:, :, ::-1], [parameter, value])
    if not encoded:
        height, width = image.shape[:2]
        raise VideoError("unsupported", f"pictures of {width} x {height} pixels cannot be stored as {extension}")
    return bytes(data)


@contextmanager
def _open_bytes(video: VideoRef, limits: LimitSettings, s3: S3Settings) -> Iterator[str | BinaryIO]:
    if video.size_bytes > limits.max_bytes:
        raise VideoError("too_large", f"{video.size_bytes} bytes, more than limits.max_bytes = {limits.max_bytes}")
    location = open_location(video.url, s3)
    if location.is_local:
        yield location.path
    elif video.size_bytes <= WHOLE_OBJECT_BYTES:
        yield io.BytesIO(location.read_bytes())
    else:
        with location.fs.open(location.path, "rb", block_size=RANGE_BYTES) as source:
            yield source


def _ledger_row(video: VideoRef) -> dict[str, Any]:
    return {
        "video_id": video.video_id,
        "content_id": video.content_id,
        "size_bytes": video.size_bytes,
        "frames_wanted": 0,
        "frames_decoded": 0,
        "frames_with_face": 0,
        "decode_seconds": 0.0,
        "detect_seconds": 0.0,
        "encode_seconds": 0.0,
    }


def _ended(rows: VideoRows, status: VideoStatus, reason: str) -> VideoRows:
    rows.video |= {"status": status, "reason": reason, "finished_at": datetime.now(UTC)}
    return rows
