"""The verbs of a run, each rerunnable on its own; Prefect tasks and notebooks call these.

Every step reads what the steps before it left in the store, and leaves its own work there, whole.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from dfpipe import progress
from dfpipe.catalog import Video, read_catalog
from dfpipe.engine import Engine
from dfpipe.errors import CatalogError
from dfpipe.extract import VideoRows, decode_crop, lost_video
from dfpipe.features import compute
from dfpipe.isolation import extract_isolated
from dfpipe.plan import FeaturesPlan, Shard
from dfpipe.settings import ExtractSettings, LimitSettings, Settings
from dfpipe.shards import SCHEMAS, ShardFile, Table, Tables
from dfpipe.storage import open_location

__all__ = ["ShardResult", "compute_features", "extract_shard", "list_source", "load_catalog", "refresh_catalog"]


@dataclass(frozen=True, slots=True)
class ShardResult:
    """What one extracted shard holds."""

    shard: str
    """Name of the shard."""
    statuses: Mapping[str, int]
    """Videos by status."""
    faces: int
    """Face crops written."""


def list_source(settings: Settings, known: Sequence[Video]) -> list[Video]:
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
    return read_catalog(root, layout=settings.layout, known={video.video_id: video for video in known})


def refresh_catalog(settings: Settings, tables: Tables, *, run_id: str) -> list[Video]:
    """Read the source's layout and store it as the catalog, if it changed."""
    before = load_catalog(tables)
    catalog = list_source(settings, before)
    if catalog != before:
        columns = {name: [getattr(video, name) for video in catalog] for name in SCHEMAS["catalog"].names}
        tables.replace("catalog", pa.table(columns, schema=SCHEMAS["catalog"]), run_id=run_id)
    return catalog


def load_catalog(tables: Tables) -> list[Video]:
    """Return the catalog as the last run stored it, sorted by video_id."""
    return sorted((Video(**row) for row in tables.read("catalog").to_pylist()), key=lambda video: video.video_id)


def extract_shard(
    engine: Engine,
    tables: Tables,
    shard: Shard,
    *,
    fingerprint: str,
    settings: ExtractSettings,
    limits: LimitSettings,
    run_id: str,
) -> ShardResult:
    """Extract a shard's videos on the workers, write its files whole, and commit them: the ledger last."""
    files: list[ShardFile | None]
    result: ShardResult
    files, result = engine.map_then_write(
        partial(extract_isolated, settings=settings, limits=limits, s3=tables.s3),
        shard.videos,
        write=partial(_write_shard, tables=tables, fingerprint=fingerprint, shard=shard.name, run_id=run_id),
        lost=partial(lost_video, fault="crashed", reason="its worker process died twice while working on it"),
        on_done=partial(progress.advance, "faces"),
    )
    tables.commit(files, run_id=run_id)
    return result


def compute_features(engine: Engine, tables: Tables, plan: FeaturesPlan, *, run_id: str) -> int:
    """Compute one feature set for every face shard that lacks it; return the rows written.

    Each shard is committed as it comes, so that an interrupted run keeps what it finished.
    """
    rows = 0
    for file in engine.run(_write_feature_shard, plan.shards, shared=(tables, plan)):
        tables.commit([file], run_id=run_id)
        rows += file.rows if file is not None else 0
        progress.advance("features")
    return rows


def _write_shard(
    videos: Sequence[VideoRows], *, tables: Tables, fingerprint: str, shard: str, run_id: str
) -> tuple[list[ShardFile | None], ShardResult]:
    rows: dict[Table, list[dict[str, Any]]] = {
        "frames": [row for video in videos for row in video.frames],
        "detections": [row for video in videos for row in video.detections],
        "faces": [row for video in videos for row in video.faces],
        "face_videos": [row for video in videos for row in video.face_videos],
    }
    files = tables.write_extracted(
        rows, [video.video | {"run_id": run_id} for video in videos], fingerprint=fingerprint, shard=shard
    )
    return files, ShardResult(shard, dict(Counter(video.video["status"] for video in videos)), len(rows["faces"]))


def _write_feature_shard(shared: tuple[Tables, FeaturesPlan], shard: str) -> ShardFile | None:
    tables, plan = shared
    keys = ["video_id", "content_id", "frame_index", "track"]
    faces = tables.read("faces", fingerprint=plan.faces_fingerprint, shard=shard, columns=[*keys, "crop_png"])
    values = compute([decode_crop(png.as_py()) for png in faces["crop_png"]], plan.settings)
    rows = faces.select(keys)
    rows = rows.append_column("feature", pa.repeat(plan.settings.name, len(rows)))
    rows = rows.append_column("dtype", pa.repeat(np.dtype(values.dtype).newbyteorder("<").str, len(rows)))
    rows = rows.append_column("values", pa.array([row.tobytes() for row in values], pa.large_binary()))
    return tables.write_shard("features", rows, fingerprint=plan.fingerprint, shard=shard)
