"""The ledger at a glance: how the catalog's videos ended under the present settings."""

from dataclasses import dataclass

from dfpipe.extract import extract_fingerprint
from dfpipe.ledger import failed_videos, read_ledger
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.storage import open_location

__all__ = ["Failure", "Status", "StatusRow", "read_status"]


@dataclass(frozen=True, slots=True)
class StatusRow:
    """The videos in one state, with their frames and faces added up."""

    status: str
    """Ledger status, or ``pending`` for videos that no run has looked at yet."""
    videos: int
    """Videos in this state."""
    frames_wanted: int
    """Frames that the sampling takes of them: decoded + missing."""
    frames_decoded: int
    """Of those, decoded: with a face + without."""
    frames_missing: int
    """Of those, not to be decoded, or beyond the end."""
    frames_with_face: int
    """Decoded frames in which a face was found."""
    frames_without_face: int
    """Decoded frames in which none was found."""
    faces_kept: int
    """Faces that were found and are good enough."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that was looked at and gave no face."""

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
    """Every video that was looked at and gave no face, sorted by video_id; filtered ones were not looked at."""


COUNTS = (
    "frames_wanted",
    "frames_decoded",
    "frames_missing",
    "frames_with_face",
    "frames_without_face",
    "faces_kept",
)


def read_status(settings: Settings) -> Status:
    """Compare the stored catalog with the ledger; nothing is written and no video is opened.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    tables = Tables(str(open_location(settings.store, settings.s3).url), settings.s3)
    fingerprint = extract_fingerprint(settings.extract)
    ledger = read_ledger(tables, fingerprint, columns=["reason", *COUNTS])
    sums = ledger.group_by("status", use_threads=False).aggregate(
        [("video_id", "count"), *((name, "sum") for name in COUNTS)]
    )
    sums = sums.sort_by([("video_id_count", "descending"), ("status", "ascending")])
    failed = failed_videos(ledger.select(["video_id", "status", "reason"]))
    return Status(
        store=tables.url,
        fingerprint=fingerprint,
        statuses=tuple(
            StatusRow(
                status=row["status"],
                videos=row["video_id_count"],
                **{name: row[f"{name}_sum"] or 0 for name in COUNTS},
            )
            for row in sums.to_pylist()
        ),
        failures=tuple(Failure(**row) for row in failed.to_pylist()),
    )
