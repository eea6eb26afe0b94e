"""Arrow schemas of every table in the store, column by column with units.

Tables that depend on settings are partitioned by ``fingerprint`` (hash of the stage's settings, version and weights),
so that what one setting wrote can be read, compared or dropped alone.
"""

from typing import Any, Literal

import pyarrow as pa

__all__ = [
    "CATALOG",
    "CLAIMS",
    "DETECTIONS",
    "EXTRACTED",
    "FACES",
    "FACE_VIDEOS",
    "FEATURES",
    "FILTERED_BY",
    "FRAMES",
    "LANDMARKS",
    "PICTURES",
    "REJECTIONS",
    "SCHEMAS",
    "VIDEOS",
    "Table",
]

Table = Literal["catalog", "claims", "frames", "detections", "faces", "face_videos", "videos", "features"]

EXTRACTED: tuple[Table, ...] = ("frames", "detections", "faces", "face_videos", "videos")
"""Tables that the faces stage writes, in the order of their commits: the ledger is last, as planning reads it."""

LANDMARKS = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")
"""The five points of a face, in the order in which detectors give them; left and right are the picture's."""

REJECTIONS: dict[str, str] = {
    "other_person": "of somebody else than the person chosen",
    "small": "smaller than quality.min_size_px",
    "blurred": "less sharp than quality.min_sharpness",
    "dark": "darker than quality.min_brightness",
    "bright": "brighter than quality.max_brightness",
    "turned": "turned further than quality.max_yaw_degrees",
    "border": "touching the border of the picture",
    "few_frames": "of a video of which fewer frames than min_frames could be decoded",
    "uncut": "with no pixel of their box in the picture",
}
"""Why a face that was found is not kept; each is counted under the first reason that holds."""


PICTURES = frozenset({"jpeg", "crop_png", "mp4"})
"""Columns of files within files: compressed by themselves, and nearly all of a table's bytes."""

FILTERED_BY = frozenset(
    {
        "video_id",
        "content_id",
        "attempt",
        "frame_index",
        "track",
        "pts_seconds",
        "score",
        "size_px",
        "sharpness",
        "brightness",
        "yaw_degrees",
        "status",
        "shard",
        "width",
        "height",
        "frame_rate",
        "num_frames",
        "duration_seconds",
        "size_bytes",
        "finished_at",
        "dataset",
        "label",
        "manipulation",
        "compression",
    }
)
"""Columns whose smallest and largest values stand in the table's log, so that readers need not open every file."""


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
        _field(
            "attributes",
            pa.string(),
            "what else the data set tells, as JSON: texts by name, such as skin_tone; null for nothing",
            nullable=True,
        ),
    ]
)

CLAIMS = pa.schema(
    [
        _field("video_id", pa.string(), "key of the video"),
        _field("content_id", pa.string(), "content that was worked on"),
        _field("attempt", pa.int32(), "as in videos"),
        _field("shard", pa.string(), "name of the files whose rows count for this attempt, and no others"),
        _field("fingerprint", pa.string(), "settings of the stage"),
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

_FACE = [
    _field("video_id", pa.string(), "key of the video"),
    _field("content_id", pa.string(), "content the face was found in"),
    _field("frame_index", pa.int32(), "position of its frame in presentation order, from 0"),
    _field("pts_seconds", pa.float64(), "presentation time in seconds"),
    _field("track", pa.int32(), "person: the same number is the same person in every frame; 0 is the one chosen"),
    _field("score", pa.float32(), "detector's confidence, 0 to 1; dlib and cascade have scales of their own"),
    *(_field(name, pa.float32(), f"box edge {name} in pixels of the full frame") for name in ("x1", "y1", "x2", "y2")),
    *(
        _field(
            f"{point}_{axis}",
            pa.float32(),
            f"{point} {axis} in pixels of the full frame; null from detectors without landmarks",
            nullable=True,
        )
        for point in LANDMARKS
        for axis in ("x", "y")
    ),
    _field(
        "landmarks_68",
        pa.list_(pa.float32()),
        "x then y of 68 points in pixels of the full frame; null from all detectors but dlib",
        nullable=True,
    ),
    _field("size_px", pa.float32(), "shorter side of the box in pixels of the full frame"),
    _field("sharpness", pa.float32(), "variance of the Laplacian of the grey face at 112 x 112 pixels", nullable=True),
    _field("brightness", pa.float32(), "mean of the grey values in the box, 0 to 255", nullable=True),
    _field(
        "yaw_degrees",
        pa.float32(),
        "rough turn of the head, positive where the nose points to the picture's right; null without landmarks",
        nullable=True,
    ),
    _field("touches_border", pa.bool_(), "the box reaches the border of the picture or beyond"),
]

FACES = pa.schema(
    [
        *_FACE,
        _field("crop_size_px", pa.int32(), "width and height of the crop in pixels"),
        _field("crop_png", pa.large_binary(), "the crop as PNG, RGB"),
        _field("fingerprint", pa.string(), "settings that wrote the row"),
    ]
)

DETECTIONS = pa.schema(
    [
        *_FACE,
        _field("rejected", pa.string(), "why it is not in faces, a key of REJECTIONS; null where it is", nullable=True),
        _field("fingerprint", pa.string(), "settings that wrote the row"),
    ]
)

FACE_VIDEOS = pa.schema(
    [
        _field("video_id", pa.string(), "key of the video"),
        _field("content_id", pa.string(), "content the clip was made of"),
        _field("size_px", pa.int32(), "width and height of the clip in pixels"),
        _field("num_frames", pa.int32(), "frames in the clip"),
        _field("frames_with_face", pa.int32(), "of those, showing the face; the rest show the whole frame"),
        _field("frame_rate", pa.float64(), "frames per second"),
        _field("mp4", pa.large_binary(), "the clip, H.264 in mp4"),
        _field("fingerprint", pa.string(), "settings that wrote the row"),
    ]
)

VIDEOS = pa.schema(
    [
        _field("video_id", pa.string(), "key of the video"),
        _field("content_id", pa.string(), "content this row speaks of"),
        _field(
            "attempt",
            pa.int32(),
            "1, and one more each time that it was done again under the same settings; only the last stands here",
        ),
        _field("status", pa.string(), "the one state in which the video ended"),
        _field("reason", pa.string(), "why, in a sentence; empty when ok"),
        _field("container", pa.string(), "container format", nullable=True),
        _field("codec", pa.string(), "video codec", nullable=True),
        _field("width", pa.int32(), "pixels as shown, after rotation", nullable=True),
        _field("height", pa.int32(), "pixels as shown, after rotation", nullable=True),
        _field("rotation_degrees", pa.int32(), "turned counter-clockwise by this to be shown", nullable=True),
        _field("pixel_format", pa.string(), "as stored, such as yuv420p", nullable=True),
        _field("frame_rate", pa.float64(), "average frames per second", nullable=True),
        _field("is_variable_rate", pa.bool_(), "frames are not shown for equal times", nullable=True),
        _field("num_frames", pa.int64(), "frames counted from the packets", nullable=True),
        _field("num_keyframes", pa.int64(), "key frames among them", nullable=True),
        _field("duration_seconds", pa.float64(), "duration", nullable=True),
        _field("has_audio", pa.bool_(), "the file has a sound track", nullable=True),
        _field("frames_asked", pa.int32(), "frames taken of a video that is long enough", nullable=True),
        _field("frames_wanted", pa.int32(), "frames that it takes of this one: decoded + missing"),
        _field(
            "frames_decoded",
            pa.int32(),
            "of those, decoded and looked at: with a face + without",
        ),
        _field("frames_missing", pa.int32(), "of those, not to be decoded, or beyond the end"),
        _field("frames_with_face", pa.int32(), "decoded frames in which a face was found"),
        _field("frames_with_kept_face", pa.int32(), "of those, frames of which a face was kept"),
        _field("frames_without_face", pa.int32(), "decoded frames in which none was found"),
        _field("faces_found", pa.int32(), "faces the detector found: kept + rejected"),
        _field("faces_kept", pa.int32(), "of those, kept"),
        *(_field(f"faces_rejected_{name}", pa.int32(), f"of those, {doc}") for name, doc in REJECTIONS.items()),
        _field("size_bytes", pa.int64(), "size of the file"),
        _field("stored_bytes", pa.int64(), "bytes of its pictures and clips in the other tables"),
        _field("limits", pa.string(), "hash of the limits that it was held against"),
        _field(
            "cpu_seconds",
            pa.float64(),
            "processor time spent on it; time on the clock where its process was lost",
        ),
        _field("decode_seconds", pa.float64(), "time spent probing and decoding"),
        _field("detect_seconds", pa.float64(), "time spent finding faces"),
        _field("encode_seconds", pa.float64(), "time spent cropping and encoding, and on the clip of the face"),
        _field("shard", pa.string(), "name of the files that hold its rows in the other tables"),
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
        _field("track", pa.int32(), "person, as in faces"),
        _field("feature", pa.string(), "name of the feature set"),
        _field("dtype", pa.string(), "NumPy dtype of values, little endian: |u1 or <f4"),
        _field("values", pa.large_binary(), "the row's values, raw; numpy.frombuffer(values, dtype)"),
        _field("fingerprint", pa.string(), "faces fingerprint, feature settings and version that wrote the row"),
    ]
)

SCHEMAS: dict[Table, pa.Schema] = {
    "catalog": CATALOG,
    "claims": CLAIMS,
    "frames": FRAMES,
    "detections": DETECTIONS,
    "faces": FACES,
    "face_videos": FACE_VIDEOS,
    "videos": VIDEOS,
    "features": FEATURES,
}
