"""The ledger at a glance: how the catalog's videos ended under the present settings."""

from collections import Counter
from dataclasses import dataclass

from dfpipe.extract import extract_fingerprint
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.steps import load_catalog
from dfpipe.storage import open_location

__all__ = ["Failure", "Status", "StatusRow", "read_status"]


@dataclass(frozen=True, slots=True)
class StatusRow:
    """The videos in one state, with their frames added up."""

    status: str
    """Ledger status, or ``pending`` for videos that no run has looked at yet."""
    videos: int
    """Videos in this state."""
    frames_wanted: int
    """Frames the sampling asked for."""
    frames_decoded: int
    """Of those, decoded."""
    frames_with_face: int
    """Of those, with a face kept."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that gave no faces."""

    video_id: str
    """Which."""
    status: str
    """How it ended."""
    reason: str
    """Why."""


@dataclass(frozen=True, slots=True)
class Status:
    """The ledger at a glance."""

    store: str
    """URL of the store."""
    fingerprint: str
    """Fingerprint of the faces stage under the present settings."""
    statuses: tuple[StatusRow, ...]
    """Videos by state, most first; their sum is the catalog."""
    failures: tuple[Failure, ...]
    """Every video that was looked at and is not ok, sorted by video_id."""


def read_status(settings: Settings) -> Status:
    """Compare the stored catalog with the ledger; nothing is written and no video is opened.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    tables = Tables(str(open_location(settings.store, settings.s3).url), settings.s3)
    fingerprint = extract_fingerprint(settings.extract)
    counts = ["frames_wanted", "frames_decoded", "frames_with_face"]
    ledger = {
        (row["video_id"], row["content_id"]): row
        for row in tables.read(
            "videos", fingerprint=fingerprint, columns=["video_id", "content_id", "status", "reason", *counts]
        ).to_pylist()
    }
    videos: Counter[str] = Counter()
    frames: dict[str, Counter[str]] = {}
    failures = []
    for video in load_catalog(tables):
        row = ledger.get((video.video_id, video.content_id))
        state = row["status"] if row else "pending"
        videos[state] += 1
        if row:
            frames.setdefault(state, Counter()).update({name: row[name] for name in counts})
            if state != "ok":
                failures.append(Failure(video.video_id, state, row["reason"]))
    return Status(
        store=tables.url,
        fingerprint=fingerprint,
        statuses=tuple(
            StatusRow(state, number, *(frames.get(state, Counter())[name] for name in counts))
            for state, number in videos.most_common()
        ),
        failures=tuple(failures),
    )
