"""The verbs of a run, each rerunnable on its own; Prefect tasks and notebooks call these.

Every step reads what the steps before it left in the store, and leaves its own work there, whole.
"""

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from dfpipe import progress
from dfpipe.catalog import VideoRef, read_catalog
from dfpipe.crops import FACE_KEY, as_faces, columns_for
from dfpipe.detections import LENT_COLUMNS, LENT_LEDGER_COLUMNS, KnownFaces, known_faces
from dfpipe.engine import Engine
from dfpipe.errors import CatalogError, StoreError
from dfpipe.extract import VideoRows, lost_video
from dfpipe.features import compute
from dfpipe.fingerprint import fingerprint as digest
from dfpipe.forgotten import leave_out_forgotten
from dfpipe.isolation import extract_isolated
from dfpipe.logs import about
from dfpipe.plan import FeatureShard, FeaturesPlan, Shard
from dfpipe.provenance import Provenance
from dfpipe.settings import ExtractSettings, FeatureSettings, LimitSettings, S3Settings, Settings
from dfpipe.shards import CATALOG, SettledWork, Table, Tables, VideoKey
from dfpipe.storage import open_location

__all__ = ["ShardResult", "compute_features", "extract_shard", "list_source", "load_catalog", "refresh_catalog"]


_log = logging.getLogger(__name__)

WRITE_COPIES = 4
"""A shard is held as rows, as Arrow, as the file, and by the client that puts it."""

MOST_FAILURES = 12
"""Shards of features that may fail alone; so many tell of something that is the matter with all of them."""


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What one extracted shard holds."""

    shard: str
    """Name of the shard."""
    statuses: Mapping[str, int]
    """Videos by status."""
    faces: int
    """Face crops written."""
    stored_bytes: int = 0
    """Bytes of pictures and clips written."""
    failures: tuple[tuple[str, str], ...] = ()
    """Videos that did not end ok: id and status."""


def list_source(settings: Settings, known: pa.Table | None) -> pa.Table:
    """Read the source's layout; nothing is stored.

    Parameters
    ----------
    settings
        Where the source is.
    known
        An earlier catalog: files that have not been touched since are not hashed again.

    Raises
    ------
    CatalogError
        No source in the settings, or one that is missing, empty or of no known layout.
    """
    if settings.source is None:
        raise CatalogError("no source is set; say where the videos lie with --set source=FOLDER_OR_S3_URL")
    root = open_location(settings.source, settings.s3)
    lists = None if settings.official_lists is None else open_location(settings.official_lists, settings.s3)
    return read_catalog(root, layout=settings.layout, known=known, lists=lists)


def refresh_catalog(settings: Settings, tables: Tables, *, by: Provenance) -> pa.Table:
    """Read the source's layout and store it as the catalog, if it changed."""
    before = load_catalog(tables)
    catalog = leave_out_forgotten(tables, list_source(settings, before))
    if not catalog.equals(before):
        tables.replace("catalog", catalog, by=by)
    return catalog


def load_catalog(tables: Tables) -> pa.Table:
    """Return the catalog as the last run stored it, sorted by video_id."""
    return tables.read("catalog").sort_by("video_id").cast(CATALOG)


def extract_shard(
    engine: Engine,
    tables: Tables,
    shard: Shard,
    *,
    fingerprint: str,
    settings: ExtractSettings,
    limits: LimitSettings,
    shard_bytes: int,
    by: Provenance,
) -> ShardResult:
    """Extract a shard's videos on the workers, settle them there, and commit them: the ledger last.

    Videos that another run has settled in the meantime are left out. So are those that an earlier try of this one has:
    its commits are finished, as it may have failed between two of them.
    """
    started = time.monotonic()
    taken = tables.owners((video.key for video in shard.videos), fingerprint=fingerprint)
    tables.roll_forward(fingerprint, by=by, names=set(taken.values()))
    lent = _lent_faces(tables, shard)
    works: list[SettledWork]
    items = [(video, lent.get(video.key[:2])) for video in shard.videos if video.key not in taken]
    progress.advance("faces", len(shard.videos) - len(items))
    if not items:
        return ShardResult(shard.name, {}, 0)
    result: ShardResult
    works, result = engine.map_then_write(
        partial(_extract, settings=settings, limits=limits, s3=tables.s3),
        items,
        write=partial(
            _settle_faces,
            tables=tables,
            fingerprint=fingerprint,
            shard=shard.name,
            keys=[video.key for video, _ in items],
            limits=digest(limits),
            by=by,
        ),
        lost=_lost,
        on_done=partial(progress.advance, "faces"),
        task_memory_bytes=limits.max_memory_bytes,
        write_memory_bytes=WRITE_COPIES * shard_bytes,
    )
    tables.commit(works, by=by)
    with about(shard=shard.name):
        for video_id, status in result.failures:
            _log.info("video %s ended as %s", video_id, status, extra={"video": video_id})
        seconds, statuses = round(time.monotonic() - started, 3), dict(result.statuses)
        told = ", ".join(f"{number} {status}" for status, number in sorted(statuses.items()))
        more = {"statuses": statuses, "seconds": seconds}
        _log.info("shard %s is committed: %s in %.1f s", shard.name, told, seconds, extra=more)
    return result


def _lent_faces(tables: Tables, shard: Shard) -> dict[tuple[str, str], KnownFaces]:
    """Read the faces that earlier settings found in the shard's videos, where these find the same."""
    lent: dict[tuple[str, str], KnownFaces] = {}
    for lender in set(shard.lenders) - {None}:
        videos = [video.video_id for video, one in zip(shard.videos, shard.lenders, strict=True) if one == lender]
        lent |= known_faces(
            tables.read("detections", fingerprint=lender, videos=videos, columns=LENT_COLUMNS),
            tables.read("videos", fingerprint=lender, videos=videos, columns=LENT_LEDGER_COLUMNS),
        )
    return lent


def _extract(
    item: tuple[VideoRef, KnownFaces | None], *, settings: ExtractSettings, limits: LimitSettings, s3: S3Settings
) -> VideoRows:
    video, known = item
    return extract_isolated(video, settings=settings, limits=limits, s3=s3, known=known)


def _lost(item: tuple[VideoRef, KnownFaces | None]) -> VideoRows:
    return lost_video(item[0], fault="crashed", reason="its worker process died twice while working on it")


def compute_features(engine: Engine, tables: Tables, plan: FeaturesPlan, *, by: Provenance) -> int:
    """Compute one feature set for all faces that lack it; return the rows written.

    Each shard is committed as it comes, so that an interrupted run keeps what it finished.

    Raises
    ------
    StoreError
        Some shards could not be read or written; all others are committed, unless many could not.
    """
    rows = 0
    failures: list[StoreError] = []
    for ended in engine.run(_try_features, plan.works(), shared=(tables, _FeatureWork.of(plan), by)):
        if isinstance(ended, StoreError):
            failures.append(ended)
            if len(failures) == MOST_FAILURES:
                break
            continue
        tables.commit(ended, by=by)
        rows += sum(file.rows for work in ended for file in work.files)
        progress.advance("features")
    if failures:
        raise failures[0]
    return rows


def _settle_faces(
    videos: Sequence[VideoRows],
    *,
    tables: Tables,
    fingerprint: str,
    shard: str,
    keys: Sequence[VideoKey],
    limits: str,
    by: Provenance,
) -> tuple[list[SettledWork], ShardResult]:
    rows: dict[Table, list[dict[str, Any]]] = {
        "frames": [row for video in videos for row in video.frames],
        "detections": [row for video in videos for row in video.detections],
        "faces": [row for video in videos for row in video.faces],
        "face_videos": [row for video in videos for row in video.face_videos],
    }
    rows["videos"] = [
        video.video | {"attempt": attempt, "limits": limits, "stored_bytes": video.stored_bytes, "run_id": by.run_id}
        for video, (_, _, attempt) in zip(videos, keys, strict=True)
    ]
    works = tables.settle(rows, keys, fingerprint=fingerprint, shard=shard, by=by)
    return works, ShardResult(
        shard,
        dict(Counter(video.video["status"] for video in videos)),
        len(rows["faces"]),
        sum(video.stored_bytes for video in videos),
        tuple((row["video_id"], row["status"]) for row in rows["videos"] if row["status"] != "ok"),
    )


@dataclass(frozen=True, slots=True)
class _FeatureWork:
    """What workers need to know of a plan: not all that there is to do."""

    settings: FeatureSettings
    fingerprint: str
    faces_fingerprint: str

    @classmethod
    def of(cls, plan: FeaturesPlan) -> "_FeatureWork":
        return cls(plan.settings, plan.fingerprint, plan.faces_fingerprint)


def _try_features(
    shared: tuple[Tables, _FeatureWork, Provenance], shard: FeatureShard
) -> list[SettledWork] | StoreError:
    """Return what went wrong, as whatever is raised ends the work on all other shards."""
    try:
        return _settle_features(shared, shard)
    except StoreError as error:
        return error


def _settle_features(shared: tuple[Tables, _FeatureWork, Provenance], shard: FeatureShard) -> list[SettledWork]:
    tables, plan, by = shared
    # Another run has been at it, or an earlier try of this one.
    taken = tables.owners(shard.videos, fingerprint=plan.fingerprint)
    videos = [key for key in shard.videos if key not in taken]
    unfinished = tables.unfinished(plan.fingerprint, names=set(taken.values()))
    settled = [tables.find_work(plan.fingerprint, name) for name in sorted(unfinished)]
    if not videos:
        return settled
    video_ids = [video_id for video_id, _, _ in videos]
    faces = tables.read(
        "faces", fingerprint=plan.faces_fingerprint, videos=video_ids, columns=columns_for(plan.settings)
    )
    contents = {key[:2] for key in videos}
    found = list(zip(faces["video_id"].to_pylist(), faces["content_id"].to_pylist(), strict=True))
    if missing := contents.difference(found):
        video_id, _ = min(missing)
        raise StoreError(
            f"{tables.location('faces').url} has no rows of {video_id}, of which the ledger says that faces are kept "
            f"({len(missing)} such videos); something else changed the table: run with --retry ok --videos '{video_id}'"
        )
    faces = faces.filter(pa.array([pair in contents for pair in found], pa.bool_()))
    sizes = _frame_sizes(tables, plan, video_ids) if plan.settings.needs_landmarks else {}
    values = compute(as_faces(faces, frame_wh=sizes), plan.settings)
    rows = faces.select(FACE_KEY)
    rows = rows.append_column("feature", pa.repeat(plan.settings.name, len(rows)))
    rows = rows.append_column("dtype", pa.repeat(np.dtype(values.dtype).newbyteorder("<").str, len(rows)))
    rows = rows.append_column("values", pa.array([row.tobytes() for row in values], pa.large_binary()))
    return settled + tables.settle({"features": rows}, videos, fingerprint=plan.fingerprint, shard=shard.name, by=by)


def _frame_sizes(
    tables: Tables, plan: _FeatureWork, video_ids: Sequence[str]
) -> dict[tuple[str, str], tuple[int | None, int | None]]:
    ledger = tables.read(
        "videos",
        fingerprint=plan.faces_fingerprint,
        videos=video_ids,
        columns=["video_id", "content_id", "width", "height"],
    )
    return {(row["video_id"], row["content_id"]): (row["width"], row["height"]) for row in ledger.to_pylist()}
