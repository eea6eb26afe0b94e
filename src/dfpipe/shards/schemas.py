"""Arrow schemas of every table in the store, column by column with units.

Tables that depend on settings are partitioned by ``fingerprint`` (hash of the stage's settings, version and weights),
so that what one setting wrote can be read, compared or dropped alone.
"""

from typing import Any, Literal

import pyarrow as pa

__all__ = ["CATALOG", "FACES", "FEATURES", "FRAMES", "LANDMARKS", "SCHEMAS", "VIDEOS", "Table", "VideoStatus"]

Table = Literal["catalog", "frames", "faces", "videos", "features"]

VideoStatus = Literal["ok", "no_face", "empty", "corrupt", "unsupported", "too_large", "too_long", "timeout", "crashed"]
"""The one state in which a video ends, for a given fingerprint."""

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The five points of a face, in the order in which detectors give them; left and right are the picture's."""


def _field(name: str, kind: Any, doc: str, *, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"doc": doc})


CATALOG = pa.schema(
    [
        _field("video_id", pa.string(), "dataset/manipulation/compression/name, unique in the store"),
        _field("url", pa.string(), "absolute path or s3:// URL"),
        _field("dataset", pa.string(), "data set"),
        _field("label", pa.string(), "real or fake"),
        _field("manipulation", pa.string(), "method as the data set names it; original for real videos"),
        _field("compression", pa.string(), "raw, c23, c40, or empty"),
        _field("target", pa.string(), "identity whose body is seen"),
        _field("source", pa.string(), "identity whose face was put in", nullable=True),
        _field("split", pa.string(), "official split: train, val, test", nullable=True),
        _field("size_bytes", pa.int64(), "size of the file in bytes"),
        _field("content_id", pa.string(), "hash of the bytes, or the object store's etag"),
        _field("modified", pa.string(), "last change as the file system or object store tells it"),
    ]
)

FRAMES = pa.schema(
    [
        _field("video_id", pa.string(), "key of the video"),
        _field("content_id", pa.string(), "content the frame was decoded from"),
        _field("frame_index", pa.int32(), "position in presentation order, from 0"),
        _field("pts_seconds", pa.float64(), "presentation time in seconds"),
        _field("width", pa.int32(), "pixels"),
        _field("height", pa.int32(), "pixels"),
        _field("jpeg", pa.large_binary(), "the frame as JPEG, RGB"),
        _field("fingerprint", pa.string(), "settings that wrote the row"),
    ]
)

FACES = pa.schema(
    [
        _field("video_id", pa.string(), "key of the video"),
        _field("content_id", pa.string(), "content the face was found in"),
        _field("frame_index", pa.int32(), "position of its frame in presentation order, from 0"),
        _field("pts_seconds", pa.float64(), "presentation time in seconds"),
        _field("score", pa.float32(), "detector's confidence, 0 to 1"),
        *(
            _field(name, pa.float32(), f"box edge {name} in pixels of the full frame")
            for name in ("x1", "y1", "x2", "y2")
        ),
        *(
            _field(f"{point}_{axis}", pa.float32(), f"{point} {axis} in pixels of the full frame")
            for point in LANDMARKS
            for axis in ("x", "y")
        ),
        _field("crop_size_px", pa.int32(), "width and height of the crop in pixels"),
        _field("crop_png", pa.large_binary(), "the crop as PNG, RGB"),
        _field("fingerprint", pa.string(), "settings that wrote the row"),
    ]
)

VIDEOS = pa.schema(
    [
        _field("video_id", pa.string(), "key of the video"),
        _field("content_id", pa.string(), "content this row speaks of"),
        _field("status", pa.string(), "the one state in which the video ended"),
        _field("reason", pa.string(), "why, in a sentence; empty when ok"),
        _field("container", pa.string(), "container format", nullable=True),
        _field("codec", pa.string(), "video codec", nullable=True),
        _field("width", pa.int32(), "pixels as shown, after rotation", nullable=True),
        _field("height", pa.int32(), "pixels as shown, after rotation", nullable=True),
        _field("frame_rate", pa.float64(), "average frames per second", nullable=True),
        _field("num_frames", pa.int64(), "frames counted from the packets", nullable=True),
        _field("duration_seconds", pa.float64(), "duration", nullable=True),
        _field("frames_wanted", pa.int32(), "frames the sampling asked for"),
        _field("frames_decoded", pa.int32(), "of those, decoded"),
        _field("frames_with_face", pa.int32(), "of those, with a face kept"),
        _field("size_bytes", pa.int64(), "size of the file"),
        _field("decode_seconds", pa.float64(), "time spent probing and decoding"),
        _field("detect_seconds", pa.float64(), "time spent finding faces"),
        _field("encode_seconds", pa.float64(), "time spent cropping and encoding pictures"),
        _field("shard", pa.string(), "name of the shard that holds its rows"),
        _field("run_id", pa.string(), "run that wrote the row"),
        _field("finished_at", pa.timestamp("us", tz="UTC"), "when"),
        _field("fingerprint", pa.string(), "settings that wrote the row"),
    ]
)

FEATURES = pa.schema(
    [
        _field("video_id", pa.string(), "key of the video"),
        _field("content_id", pa.string(), "content it was computed from"),
        _field("frame_index", pa.int32(), "position of its frame in presentation order, from 0"),
        _field("feature", pa.string(), "name of the feature set"),
        _field("dtype", pa.string(), "NumPy dtype of values, little endian: |u1 or <f4"),
        _field("values", pa.large_binary(), "the row's values, raw; numpy.frombuffer(values, dtype)"),
        _field("fingerprint", pa.string(), "faces fingerprint, feature settings and version that wrote the row"),
    ]
)

SCHEMAS: dict[Table, pa.Schema] = {
    "catalog": CATALOG,
    "frames": FRAMES,
    "faces": FACES,
    "videos": VIDEOS,
    "features": FEATURES,
}
