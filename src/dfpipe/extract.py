"""One video in, its rows out: frames, faces, and the ledger row that says how it ended."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.catalog import VideoRef
from dfpipe.detections import KnownFaces, as_stored, face_columns
from dfpipe.errors import VideoError, VideoFault, VideoStatus
from dfpipe.faces import (
    Face,
    Quality,
    crop_face,
    make_face_clip,
    measure_quality,
    open_detector,
    rank_tracks,
    reject,
    track_faces,
)
from dfpipe.fingerprint import fingerprint
from dfpipe.settings import ExtractSettings, FilterSettings, LimitSettings, S3Settings
from dfpipe.shards import REJECTIONS
from dfpipe.storage import open_location, storage_errors
from dfpipe.video import Frame, VideoFile, VideoInfo, choose_frames, open_source, open_video

__all__ = [
    "VideoRows",
    "decode_crop",
    "detection_fingerprint",
    "extract_fingerprint",
    "extract_video",
    "lost_video",
]

VERSION = 2
"""Raised when the code changes what it writes for the same settings."""

DETECTION_VERSION = 1
"""Raised when the code takes other frames for the same sampling or finds other faces in them, by other batches too:
mtcnn that follows looks at a batch as a whole."""

BATCH_BYTES = 64 * 2**20
"""Pixels of the frames that are looked at together; bounds the memory whatever the video's size and sampling."""

BATCH_FRAMES = 16

RAW_CROP_BYTES = 64 * 2**20
"""Crops kept as pixels until it is known whose face is wanted; beyond this they are encoded at once."""

PNG_OPTIONS = {
    cv2.IMWRITE_PNG_COMPRESSION: 1,
    cv2.IMWRITE_PNG_STRATEGY: cv2.IMWRITE_PNG_STRATEGY_RLE,
    cv2.IMWRITE_PNG_FILTER: cv2.IMWRITE_PNG_FILTER_AVG,
}
"""Crops are noise to a general compressor; this is faster and smaller than its levels (benchmarks/crop_encoding.py)."""

NO_COUNTS = {
    "frames_wanted": 0,
    "frames_decoded": 0,
    "frames_missing": 0,
    "frames_with_face": 0,
    "frames_with_kept_face": 0,
    "frames_without_face": 0,
    "faces_found": 0,
    "faces_kept": 0,
    **{f"faces_rejected_{reason}": 0 for reason in REJECTIONS},
}


@dataclass(slots=True)
class VideoRows:
    """What one video adds to each table; keys are column names, without ``fingerprint``, ``shard`` and ``run_id``."""

    video: dict[str, Any]
    """The ledger row."""
    frames: list[dict[str, Any]] = field(default_factory=list)
    """Sampled frames, if they are kept."""
    detections: list[dict[str, Any]] = field(default_factory=list)
    """Every face found, without pixels."""
    faces: list[dict[str, Any]] = field(default_factory=list)
    """Those that are kept, with their crops."""
    face_videos: list[dict[str, Any]] = field(default_factory=list)
    """The clip of the face alone, if one is asked for."""

    @property
    def stored_bytes(self) -> int:
        """Bytes of its pictures and clips."""
        rows = (*self.frames, *self.faces, *self.face_videos)
        return sum(len(value) for row in rows for value in row.values() if isinstance(value, bytes))


@dataclass(slots=True)
class _Sighting:
    """A face in a frame."""

    place: dict[str, Any]
    face: Face
    quality: Quality
    rejected: str | None
    crop: NDArray[np.uint8] | bytes | None
    """Pixels, or already PNG."""


def extract_fingerprint(settings: ExtractSettings) -> str:
    """Return the faces stage's fingerprint: settings, code version, and the detector's weights."""
    return fingerprint("faces", VERSION, settings.without_places(), open_detector(settings.detector).weights_sha256)


def detection_fingerprint(settings: ExtractSettings) -> str:
    """Return the fingerprint of what is found before anything is chosen, measured or cut out.

    Extractions that share it find the same faces in every video that both look at, and may lend them to each other. It
    leaves out which videos are looked at (``filter``, ``decode_check``): of one that was not, nothing is lent.
    """
    detector = settings.without_places().detector
    weights = open_detector(settings.detector).weights_sha256
    return fingerprint("detections", DETECTION_VERSION, settings.sampling, detector, weights)


def extract_video(
    video: VideoRef,
    *,
    settings: ExtractSettings,
    limits: LimitSettings,
    s3: S3Settings,
    known: KnownFaces | None = None,
) -> VideoRows:
    """Decode the sampled frames of one video, find the faces in them, and cut out those of the person wanted.

    A video that cannot be used gives a ledger row with the reason, not an error.

    Parameters
    ----------
    video
        The video.
    settings
        What is wanted of it.
    limits
        What it is held against.
    s3
        How to reach ``s3://`` URLs.
    known
        Faces of the same content under the same `detection_fingerprint`. They are taken instead of looking for them,
        where they tell of every sampled frame, and give the same rows. The clip of the face is of more frames, so for
        that the detector looks in any case.

    Raises
    ------
    StoreError
        The video's bytes cannot be reached; this says nothing about the video.
    """
    rows = VideoRows(_ledger_row(video))
    started = time.process_time()
    try:
        with storage_errors("read", video.url), ExitStack() as opened:
            with _timed(rows.video, "decode_seconds"):
                location = open_location(video.url, s3)
                source = opened.enter_context(
                    open_source(location, size_bytes=video.size_bytes, max_bytes=limits.max_bytes)
                )
                file = opened.enter_context(open_video(source, limits=limits))
            _extract(file, rows, settings, known)
        status, reason = _outcome(rows.video, settings)
    except VideoError as error:
        # Nothing is kept of a video that cannot be used, so nothing of it counts.
        wanted = rows.video["frames_wanted"]
        rows = VideoRows(rows.video | NO_COUNTS | {"frames_wanted": wanted, "frames_missing": wanted})
        status, reason = error.fault, error.reason
    rows.video["cpu_seconds"] = time.process_time() - started
    return _ended(rows, status, reason)


def lost_video(video: VideoRef, *, fault: VideoFault, reason: str, seconds: float = 0.0) -> VideoRows:
    """Return the rows of a video whose extraction did not come back, after so many seconds on the clock."""
    return _ended(VideoRows(_ledger_row(video) | {"cpu_seconds": seconds}), fault, reason)


def decode_crop(crop_png: bytes) -> NDArray[np.uint8]:
    """Decode a stored crop: uint8, shape (size, size, 3), RGB."""
    bgr = cv2.imdecode(np.frombuffer(crop_png, np.uint8), cv2.IMREAD_COLOR)
    return np.ascontiguousarray(bgr[:, :, ::-1])  # type: ignore[index]


def _extract(file: VideoFile, rows: VideoRows, settings: ExtractSettings, known: KnownFaces | None) -> None:
    ledger, info = rows.video, file.info
    ledger |= _facts(info)
    _check_filter(info, settings.filter)
    sample = choose_frames(settings.sampling, pts_seconds=file.pts_seconds, keyframes=info.keyframes)
    ledger["frames_asked"] = sample.asked
    ledger["frames_wanted"] = len(sample.indices) + sample.missing
    if settings.decode_check:
        with _timed(ledger, "decode_seconds"):
            damaged = file.check()
        if damaged:
            raise VideoError("corrupt", f"{damaged} of {info.num_frames} frames are damaged")

    detector = open_detector(settings.detector)

    def find(frames: Sequence[Frame]) -> list[list[Face]]:
        found = detector.detect([frame.image for frame in frames])
        return [[as_stored(face) for face in faces] for faces in found]

    sightings: list[list[_Sighting]] = []
    with _timed(ledger, "detect_seconds"):
        found = None if known is None else known.in_frames(sample.indices)
    if found is not None:
        sightings = _look(
            file, sample.indices, rows, settings, lambda frames: [found.get(one.index, []) for one in frames]
        )
    if len(sightings) < len(sample.indices):
        # Nothing is known, or not all frames can be decoded that could be then.
        rows.frames.clear()
        sightings = _look(file, sample.indices, rows, settings, find)
    ledger["frames_decoded"] = len(sightings)
    ledger["frames_missing"] = ledger["frames_wanted"] - len(sightings)
    with _timed(ledger, "encode_seconds"):
        chosen = _choose(sightings, rows, settings)
        if settings.face_video is not None and rows.faces:
            person = {sighting.place["frame_index"]: sighting.face for sighting in chosen}
            try:
                clip = make_face_clip(
                    file.frames(range(min(info.num_frames, settings.face_video.max_frames))),
                    detector,
                    person=person,
                    settings=settings.face_video,
                    crop=settings.crop,
                    frame_rate=info.frame_rate,
                    min_overlap=settings.person.min_overlap,
                )
            except VideoError as error:
                # A video whose first frames are damaged has faces all the same, but no clip.
                if error.fault != "corrupt":
                    raise
            else:
                key = {name: ledger[name] for name in ("video_id", "content_id")}
                rows.face_videos.append(key | {"size_px": settings.face_video.size_px} | asdict(clip))


def _look(
    file: VideoFile,
    indices: Sequence[int],
    rows: VideoRows,
    settings: ExtractSettings,
    find: Callable[[Sequence[Frame]], list[list[Face]]],
) -> list[list[_Sighting]]:
    """Decode frames, keep them if they are wanted, and return what is seen in each that could be decoded."""
    ledger = rows.video
    sightings: list[list[_Sighting]] = []
    uncompressed: list[_Sighting] = []
    batches = _batches(file.frames(indices))
    while True:
        with _timed(ledger, "decode_seconds"):
            batch = next(batches, None)
        if batch is None:
            return sightings
        with _timed(ledger, "detect_seconds"):
            found = find(batch)
        with _timed(ledger, "encode_seconds"):
            for frame, faces in zip(batch, found, strict=True):
                place = {name: ledger[name] for name in ("video_id", "content_id")}
                place |= {"frame_index": frame.index, "pts_seconds": frame.pts_seconds}
                if settings.frames.keep:
                    rows.frames.append(place | _frame_columns(frame.image, settings.frames.jpeg_quality))
                sightings.append([_look_at(face, frame.image, place, settings) for face in faces])
            uncompressed = _bound_memory(uncompressed + [one for frame in sightings[-len(batch) :] for one in frame])


def _look_at(face: Face, image: NDArray[np.uint8], place: dict[str, Any], settings: ExtractSettings) -> _Sighting:
    quality = measure_quality(image, face)
    rejected: str | None = reject(quality, settings.quality)
    crop = crop_face(image, face, settings.crop) if rejected is None else None
    if crop is None and rejected is None:
        rejected = "uncut"
    return _Sighting(place, face, quality, rejected, crop)


def _choose(frames: Sequence[Sequence[_Sighting]], rows: VideoRows, settings: ExtractSettings) -> list[_Sighting]:
    """Tell people apart, keep the faces of those wanted, count all, and return the chosen person's."""
    which = settings.person.which
    faces = [[sighting.face for sighting in frame] for frame in frames]
    tracks = track_faces(faces, min_overlap=settings.person.min_overlap)
    ranks = rank_tracks(faces, tracks, which=which)
    rejections: Counter[str] = Counter()
    chosen = []
    for frame, numbers in zip(frames, tracks, strict=True):
        # As tables sort them, so that it does not matter in which order a detector names the faces of a frame.
        for track, sighting in sorted(zip(map(ranks.__getitem__, numbers), frame, strict=True), key=itemgetter(0)):
            if track == 0:
                chosen.append(sighting)
            if len(frames) < settings.min_frames:
                sighting.rejected = "few_frames"
            elif track > 0 and which != "all":
                sighting.rejected = "other_person"
            row = sighting.place | {"track": track} | face_columns(sighting.face) | asdict(sighting.quality)
            rows.detections.append(row | {"rejected": sighting.rejected})
            if sighting.rejected is not None:
                rejections[sighting.rejected] += 1
                continue
            rows.faces.append(row | {"crop_size_px": settings.crop.size_px, "crop_png": _png(sighting)})
    with_face = sum(bool(frame) for frame in frames)
    rows.video |= {
        "frames_with_face": with_face,
        "frames_with_kept_face": len({row["frame_index"] for row in rows.faces}),
        "frames_without_face": len(frames) - with_face,
        "faces_found": len(rows.detections),
        "faces_kept": len(rows.faces),
        **{f"faces_rejected_{reason}": rejections[reason] for reason in REJECTIONS},
    }
    return chosen


def _outcome(ledger: Mapping[str, Any], settings: ExtractSettings) -> tuple[VideoStatus, str]:
    if ledger["faces_kept"]:
        return "ok", ""
    if ledger["frames_decoded"] < settings.min_frames:
        return "few_frames", f"got {ledger['frames_decoded']} frames, expected at least {settings.min_frames}"
    if not ledger["faces_found"]:
        return "no_face", f"no face was found in {ledger['frames_decoded']} frames"
    rejected = {reason: ledger[f"faces_rejected_{reason}"] for reason in REJECTIONS}
    listed = ", ".join(f"{number} {reason.replace('_', ' ')}" for reason, number in rejected.items() if number)
    return "no_face", f"none of {ledger['faces_found']} faces was kept: {listed}"


def _check_filter(info: VideoInfo, bounds: FilterSettings) -> None:
    """Hold the video's facts against the user's bounds."""
    facts = {
        "frames": info.num_frames,
        "frame_rate": info.frame_rate,
        "width_px": info.width,
        "duration_seconds": info.duration_seconds,
    }
    for name, value in facts.items():
        least, most = getattr(bounds, f"min_{name}"), getattr(bounds, f"max_{name}")
        if not value and (least, most) != (None, None):
            raise VideoError("filtered", f"{name} is not known, and extract.filter sets a bound on it")
        if least is not None and value < least:
            raise VideoError("filtered", f"{name} is {value:g}, less than extract.filter.min_{name} = {least:g}")
        if most is not None and value > most:
            raise VideoError("filtered", f"{name} is {value:g}, more than extract.filter.max_{name} = {most:g}")


def _batches(frames: Iterable[Frame]) -> Iterator[list[Frame]]:
    batch: list[Frame] = []
    for frame in frames:
        batch.append(frame)
        if len(batch) == BATCH_FRAMES or sum(one.image.nbytes for one in batch) >= BATCH_BYTES:
            yield batch
            batch = []
    if batch:
        yield batch


def _bound_memory(sightings: list[_Sighting]) -> list[_Sighting]:
    """Compress the crops if they take much memory, and return those sightings that hold pixels after that."""
    if sum(one.crop.nbytes for one in sightings if isinstance(one.crop, np.ndarray)) <= RAW_CROP_BYTES:
        return sightings
    for one in sightings:
        one.crop = None if one.crop is None else _png(one)
    return []


@contextmanager
def _timed(ledger: dict[str, Any], column: str) -> Iterator[None]:
    started = time.perf_counter()
    try:
        yield
    finally:
        ledger[column] += time.perf_counter() - started


def _facts(info: VideoInfo) -> dict[str, Any]:
    return {
        "container": info.container,
        "codec": info.codec,
        "width": info.width,
        "height": info.height,
        "rotation_degrees": info.rotation_degrees,
        "pixel_format": info.pixel_format,
        # 0 stands for what cannot be known.
        "frame_rate": info.frame_rate or None,
        "is_variable_rate": info.is_variable_rate,
        "num_frames": info.num_frames,
        "num_keyframes": len(info.keyframes),
        "duration_seconds": info.duration_seconds or None,
        "has_audio": info.has_audio,
    }


def _frame_columns(image: NDArray[np.uint8], jpeg_quality: int) -> dict[str, Any]:
    height, width = image.shape[:2]
    jpeg = _encode(".jpg", image, {cv2.IMWRITE_JPEG_QUALITY: jpeg_quality})
    return {"width": width, "height": height, "jpeg": jpeg}


def _png(sighting: _Sighting) -> bytes:
    if isinstance(sighting.crop, bytes):
        return sighting.crop
    assert sighting.crop is not None  # noqa: S101 - only faces without a crop are rejected
    return _encode(".png", sighting.crop, PNG_OPTIONS)


def _encode(extension: str, image: NDArray[np.uint8], options: Mapping[int, int]) -> bytes:
    parameters = [number for option in options.items() for number in option]
    encoded, data = cv2.imencode(extension, image[:, :, ::-1], parameters)
    if not encoded:
        height, width = image.shape[:2]
        raise VideoError("unsupported", f"pictures of {width} x {height} pixels cannot be stored as {extension}")
    return bytes(data)


def _ledger_row(video: VideoRef) -> dict[str, Any]:
    seconds = dict.fromkeys(("cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds"), 0.0)
    key = {"video_id": video.video_id, "content_id": video.content_id, "size_bytes": video.size_bytes}
    return key | NO_COUNTS | seconds


def _ended(rows: VideoRows, status: VideoStatus, reason: str) -> VideoRows:
    rows.video |= {"status": status, "reason": reason, "finished_at": datetime.now(UTC)}
    return rows
