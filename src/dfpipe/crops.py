"""Rows of the table of faces as arrays: those that features are computed from, and those that people look at."""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dfpipe.detections import BOX, POINTS
from dfpipe.extract import decode_crop
from dfpipe.features import Faces
from dfpipe.settings import FeatureSettings
from dfpipe.shards import FACES, LANDMARKS, Tables

__all__ = ["FACE_KEY", "as_faces", "columns_for", "evenly_along", "face_table", "read_crops"]

FACE_KEY = ("video_id", "content_id", "frame_index", "track")
"""What tells a face from all others, under one fingerprint."""

FACES_AT_ONCE = 64
"""Crops that `read_crops` reads together, if no video has more: those of all frames of all videos never are."""


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


def read_crops(
    tables: Tables, contents: Mapping[str, str], wanted: Mapping[str, int], *, faces_fingerprint: str
) -> dict[str, list[NDArray[np.uint8]]]:
    """Read a few crops of each video, evenly along time; videos without any are left out.

    Parameters
    ----------
    tables
        The store.
    contents
        Content of each video by video_id.
    wanted
        How many crops of it, at most.
    faces_fingerprint
        Which crops.

    Returns
    -------
    dict of lists of uint8 arrays, shape (height, width, 3), RGB

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    keys = tables.read("faces", fingerprint=faces_fingerprint, videos=contents, columns=FACE_KEY)
    faces: dict[str, list[tuple[int, int]]] = {}
    for row in keys.to_pylist():
        if contents.get(row["video_id"]) == row["content_id"]:
            faces.setdefault(row["video_id"], []).append((row["frame_index"], row["track"]))
    chosen = {
        name: [sorted(found)[place] for place in evenly_along(len(found), wanted[name])]
        for name, found in sorted(faces.items())
    }
    crops: dict[str, list[NDArray[np.uint8]]] = {}
    for batch in _batches({name: len(faces[name]) for name in chosen}):
        rows = tables.read("faces", fingerprint=faces_fingerprint, videos=batch, columns=[*FACE_KEY, "crop_png"])
        shown = {(name, contents[name], *face) for name in batch for face in chosen[name]}
        keys_of = zip(*(rows[name].to_pylist() for name in FACE_KEY), strict=True)
        rows = rows.filter(pa.array([key in shown for key in keys_of], pa.bool_()))
        for row in rows.sort_by([(name, "ascending") for name in FACE_KEY]).to_pylist():
            crops.setdefault(row["video_id"], []).append(decode_crop(row["crop_png"]))
    return crops


def evenly_along(length: int, number: int) -> NDArray[np.intp]:
    """Return at most so many places in a sequence: the middles of parts of equal length.

    Examples
    --------
    >>> evenly_along(9, 3), evenly_along(2, 3)
    (array([1, 4, 7]), array([0, 1]))
    """
    number = min(length, number)
    return ((np.arange(number) + 0.5) * length / max(number, 1)).astype(np.intp)


def _batches(faces: Mapping[str, int]) -> Iterator[list[str]]:
    """Cut videos into batches with no more than `FACES_AT_ONCE` faces each, or with one video."""
    batch: list[str] = []
    number = 0
    for name, of in faces.items():
        if batch and number + of > FACES_AT_ONCE:
            yield batch
            batch, number = [], 0
        batch.append(name)
        number += of
    if batch:
        yield batch
