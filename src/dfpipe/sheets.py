"""Sheets of faces for a training: crops of the store beside what the model said of their videos."""

import logging
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dfpipe.catalog import Video, to_videos
from dfpipe.crops import FACE_KEY
from dfpipe.extract import decode_crop
from dfpipe.fingerprint import fingerprint
from dfpipe.models import (
    JudgedVideo,
    evenly_along,
    examples_figure,
    mistakes_figure,
    pick_examples,
    pick_mistakes,
)
from dfpipe.models.data import REAL_AND_FAKE
from dfpipe.settings import SheetSettings
from dfpipe.shards import Tables
from dfpipe.tracking import Sheet, Tracking, has_sheets, read_predictions, record_sheets

__all__ = ["draw_sheets", "sheets_stand"]

_log = logging.getLogger(__name__)

SHEETS_VERSION = 1
"""Raised when the code draws other sheets by the same settings."""

FACES_AT_ONCE = 64
"""Crops that are read together, if no video has more: so that the crops of all frames of all videos never are."""


def draw_sheets(
    tracking: Tracking,
    run_id: str,
    tables: Tables,
    catalog: pa.Table,
    settings: SheetSettings | None,
    *,
    faces_fingerprint: str,
) -> int:
    """Put sheets of faces beside the figures of a training, unless they are there.

    What the model said comes from the training's own record, so it may have been made long ago.

    Parameters
    ----------
    tracking
        Where the training is on record.
    run_id
        Its run.
    tables
        The store. The crops are read as they are now; a video of which there are none any more has an empty field.
    catalog
        Rows of the catalog as the training read them; tells the content of which crops are shown.
    settings
        How many; None draws nothing, and leaves what is there.
    faces_fingerprint
        Crops that the training's features were computed from.

    Returns
    -------
    int
        Sheets that were drawn now.

    Raises
    ------
    ServiceError, StoreError
        MLflow or the store cannot be read or written.
    """
    if settings is None or sheets_stand(tracking, run_id, settings):
        return 0
    videos, judged = _judged(read_predictions(tracking, run_id), catalog)
    picked = {
        f"examples_{name}.png": pick_examples(
            [video for video in judged if video.label == label], number=settings.videos, seed=settings.seed
        )
        for label, name in enumerate(REAL_AND_FAKE)
    }
    mistakes = pick_mistakes(judged, number=settings.videos)
    wanted = {video.video_id: 1 for shown in picked.values() for video in shown}
    wanted |= {video.video_id: settings.faces for video in mistakes}
    crops = _read_crops(tables, [videos[name] for name in wanted], wanted, faces_fingerprint)
    sheets = {}
    for name, shown in picked.items():
        if shown:
            label = shown[0].label
            middle = {one: faces[len(faces) // 2 :] for one, faces in crops.items()}
            of = sum(video.label == label for video in judged)
            sheets[name] = Sheet(examples_figure(shown, middle, label=label, of=of), _ids(shown))
    if mistakes:
        figure = mistakes_figure(mistakes, crops, of=judged, faces=settings.faces)
        sheets["mistakes.png"] = Sheet(figure, _ids(mistakes))
    if missing := wanted.keys() - crops.keys():
        _log.warning("the store has no crops any more of %d of the %d videos on the sheets", len(missing), len(wanted))
    record_sheets(tracking, run_id, sheets, drawn_by=_drawn_by(settings))
    return len(sheets)


def sheets_stand(tracking: Tracking, run_id: str, settings: SheetSettings) -> bool:
    """Say whether a training has its sheets, drawn as these settings want them.

    Raises
    ------
    ServiceError, StoreError
        MLflow or its artifacts cannot be read.
    """
    return has_sheets(tracking, run_id, drawn_by=_drawn_by(settings))


def _drawn_by(settings: SheetSettings) -> str:
    return fingerprint("sheets", SHEETS_VERSION, settings)


def _ids(videos: Sequence[JudgedVideo]) -> list[str]:
    return [video.video_id for video in videos]


def _judged(predictions: pa.Table, catalog: pa.Table) -> tuple[dict[str, Video], list[JudgedVideo]]:
    """Join what the model said with the catalog; what this has no more is left out."""
    known = catalog.filter(pc.is_in(catalog["video_id"], value_set=predictions["video_id"].combine_chunks()))
    videos = {video.video_id: video for video in to_videos(known)}
    judged = [
        JudgedVideo(
            video_id=row["video_id"],
            label=REAL_AND_FAKE.index(row["label"]),
            probability=row["probability"],
            threshold=row["threshold"],
            group=row["group"],
            dataset=videos[row["video_id"]].dataset,
            method=videos[row["video_id"]].manipulation,
            compression=videos[row["video_id"]].compression,
        )
        for row in predictions.to_pylist()
        if row["video_id"] in videos
    ]
    return videos, judged


def _read_crops(
    tables: Tables, videos: Sequence[Video], wanted: Mapping[str, int], faces_fingerprint: str
) -> dict[str, list[NDArray[np.uint8]]]:
    """Read so many crops of each video, evenly along time; videos without any are left out."""
    contents = {video.video_id: video.content_id for video in videos}
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
