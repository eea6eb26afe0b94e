"""Sheets of faces for a training: crops of the store beside what the model said of their videos."""

import logging
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog import Video, to_videos
from dfpipe.crops import read_crops
from dfpipe.fingerprint import fingerprint
from dfpipe.models import (
    JudgedVideo,
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
    contents = {name: videos[name].content_id for name in wanted}
    crops = read_crops(tables, contents, wanted, faces_fingerprint=faces_fingerprint)
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
