"""A few faces for the report's page, so that people see what the pipeline works on."""

from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dfpipe.catalog import Label
from dfpipe.crops import read_crops
from dfpipe.extract import extract_fingerprint
from dfpipe.ledger import GROUPS, read_ledger
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.storage import open_location

__all__ = ["ExampleFace", "example_faces"]

LARGEST_PX = 128
"""Bound of a shown face's longer side."""

JPEG_QUALITY = 85
"""Of 100. A face of `LARGEST_PX` takes about 5 kB."""

SEED = 0
"""A page that is made again shows the same faces, as long as the store has them."""


@dataclass(frozen=True, slots=True)
class ExampleFace:
    """One face of a video, as the store has it."""

    video_id: str
    """Key of the video."""
    label: str
    """``real`` or ``fake``."""
    method: str
    """Manipulation; ``original`` for a real video."""
    jpeg: bytes
    """The picture, no side longer than `LARGEST_PX` and without metadata."""


def example_faces(settings: Settings) -> tuple[ExampleFace, ...]:
    """Draw ``report.faces`` videos of each label evenly over kinds and people, and read a face from their middle.

    Returns
    -------
    tuple of ExampleFace
        Real ones first; sorted by video_id within a label.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    if not settings.report.faces:
        return ()
    from dfpipe.models import draw_evenly  # noqa: PLC0415 - slow to import

    tables = Tables(open_location(settings.store, settings.s3).url, settings.s3)
    fingerprint = extract_fingerprint(settings.extract)
    ledger = read_ledger(tables, fingerprint, columns=["content_id"], groups=[*GROUPS, "target"])
    usable = ledger.filter(pc.equal(ledger["status"], "ok"))
    kind = pc.binary_join_element_wise(usable["dataset"], usable["manipulation"], usable["compression"], " ")
    usable = usable.append_column("kind", kind)
    drawn = []
    for label in get_args(Label):
        of = usable.filter(pc.equal(usable["label"], label))
        places = draw_evenly(_codes(of["kind"]), _codes(of["target"]), number=settings.report.faces, seed=SEED)
        drawn += of.take(pa.array(places)).select(["video_id", "content_id", "label", "manipulation"]).to_pylist()
    contents = {row["video_id"]: row["content_id"] for row in drawn}
    crops = read_crops(tables, contents, dict.fromkeys(contents, 1), faces_fingerprint=fingerprint)
    return tuple(
        ExampleFace(row["video_id"], row["label"], row["manipulation"], _jpeg(crops[row["video_id"]][0]))
        for row in drawn
        # Forgotten since the ledger was read, or without crops by the settings.
        if row["video_id"] in crops
    )


def _codes(column: pa.ChunkedArray) -> NDArray[np.integer]:
    codes: NDArray[np.integer] = column.combine_chunks().dictionary_encode().indices.to_numpy()
    return codes


def _jpeg(crop: NDArray[np.uint8]) -> bytes:
    height, width = crop.shape[:2]
    scale = min(1.0, LARGEST_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    return jpeg.tobytes()
