"""The ledger at a glance: how the catalog's videos ended under the present settings."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from dfpipe.errors import ServiceError
from dfpipe.extract import extract_fingerprint
from dfpipe.ledger import failed_videos, read_ledger
from dfpipe.settings import Settings
from dfpipe.shards import SCHEMAS, Table, Tables
from dfpipe.storage import open_location, storage_errors

__all__ = ["Aliases", "Failure", "RunAtGlance", "Status", "StatusRow", "TableSize", "read_aliases", "read_status"]

LATEST_RUNS = 5
"""Runs told of."""


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
class RunAtGlance:
    """What one run left in the tables' logs."""

    run_id: str
    """Run of the flow, or the command where no flow ran."""
    first_commit: datetime
    """When it first committed something."""
    last_commit: datetime
    """When it last did; how it ended is Prefect's to say."""
    commits: int
    """Commits to all tables."""
    dfpipe_version: str
    """Version of dfpipe that made them; empty where it does not say."""


@dataclass(frozen=True, slots=True)
class TableSize:
    """How much one table holds under all settings."""

    table: Table
    """Which."""
    files: int
    """Files of its newest version."""
    size_bytes: int
    """Bytes of them; files of older versions, which a vacuum gives back, are not counted."""


@dataclass(frozen=True, slots=True)
class Aliases:
    """Which versions of the registered model the aliases mean."""

    model: str
    """Registered model."""
    versions: Mapping[str, str | None]
    """Version by alias; None where the alias means none. Empty where MLflow was not asked, or knows no experiment
    of this store."""
    problem: str | None = None
    """Why MLflow could not be asked; None where it was."""


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
    runs: tuple[RunAtGlance, ...]
    """The runs that committed last, newest first."""
    sizes: tuple[TableSize, ...]
    """Size of every table that is there."""


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
        **_from_logs(tables),
    )


def read_aliases(settings: Settings) -> Aliases:
    """Ask MLflow which versions are champion and challenger; a server that does not answer is said in the result."""
    from dfpipe.tracking import alias_version  # noqa: PLC0415 - slow to import
    from dfpipe.training import find_store_tracking  # noqa: PLC0415 - slow to import

    names = settings.mlflow
    try:
        tracking = find_store_tracking(settings)
        if tracking is None:
            return Aliases(names.registered_model, {})
        aliases = (names.alias, names.challenger_alias)
        return Aliases(names.registered_model, {alias: alias_version(tracking, alias) for alias in aliases})
    except ServiceError as error:
        return Aliases(names.registered_model, {}, problem=str(error))


def _from_logs(tables: Tables) -> dict[str, Any]:
    """Read what runs committed and what it takes, from the tables' logs alone."""
    times: defaultdict[str, list[datetime]] = defaultdict(list)
    versions: dict[str, str] = {}
    sizes = []
    for table in SCHEMAS:
        log = tables.log(table)
        opened = log.open()
        if opened is None:
            continue
        files = log.files(opened)
        sizes.append(TableSize(table, len(files), sum(file.size_bytes for file in files)))
        with storage_errors("read", log.location.url):
            commits = opened.history()
        for commit in commits:
            if commit.get("run_id") and "timestamp" in commit:
                times[commit["run_id"]].append(datetime.fromtimestamp(commit["timestamp"] / 1000, UTC))
                versions[commit["run_id"]] = commit.get("dfpipe_version", "")
    runs = [RunAtGlance(one, min(when), max(when), len(when), versions[one]) for one, when in times.items()]
    runs.sort(key=lambda run: (run.last_commit, run.run_id), reverse=True)
    return {"runs": tuple(runs[:LATEST_RUNS]), "sizes": tuple(sizes)}
