"""Rows of the table of faces as the arrays that features are computed from: for a store and for a verdict alike."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from dfpipe.detections import BOX, POINTS
from dfpipe.extract import decode_crop
from dfpipe.features import Faces
from dfpipe.settings import FeatureSettings
from dfpipe.shards import FACES, LANDMARKS

__all__ = ["FACE_KEY", "as_faces", "columns_for", "face_table"]

FACE_KEY = ("video_id", "content_id", "frame_index", "track")
"""What tells a face from all others, under one fingerprint."""


def columns_for(feature: FeatureSettings) -> list[str]:
    """Return the columns of ``faces`` that a feature set is computed from."""
    return [*FACE_KEY, "crop_png", *((*BOX, *POINTS) if feature.needs_landmarks else ())]


def face_table(rows: list[dict[str, object]]) -> pa.Table:
    """Return rows of one video, as an extraction gives them, as a table with all that features may need."""
    names = [*FACE_KEY, "crop_png", *BOX, *POINTS]
    return pa.Table.from_pylist(rows, schema=pa.schema([FACES.field(name) for name in names])).sort_by(
        [(name, "ascending") for name in FACE_KEY]
    )


def as_faces(rows: pa.Table, *, frame_wh: Mapping[tuple[str, str], tuple[int | None, int | None]]) -> Faces:
    """Decode the crops of these rows and put all else beside them, in the order of the rows.

    Parameters
    ----------
    rows
        Rows of ``faces`` with at least the key and ``crop_png``; of a video, all or none.
    frame_wh
        Width and height of each video's frames by video_id and content_id; a video may be missing or unknown.
    """
    names = list(zip(rows["video_id"].to_pylist(), rows["content_id"].to_pylist(), strict=True))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    sizes = np.array([frame_wh.get(name, (None, None)) for name in names], np.float32).reshape(-1, 2)
    return Faces(
        crops=[decode_crop(png.as_py()) for png in rows["crop_png"]],
        landmarks=_numbers(rows, POINTS).reshape(-1, len(LANDMARKS), 2),
        boxes=_numbers(rows, BOX),
        frame_wh=sizes,
        video=np.array([numbers[name] for name in names], np.int64),
        track=rows["track"].to_numpy().astype(np.int64),
        frame_index=rows["frame_index"].to_numpy().astype(np.int64),
    )


def _numbers(rows: pa.Table, names: tuple[str, ...]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Return these columns side by side, not a number where they are null or were not read."""
    if names[0] not in rows.column_names:
        return np.full((rows.num_rows, len(names)), np.nan, np.float32)
    return np.stack([rows[name].to_numpy() for name in names], axis=1).astype(np.float32)
