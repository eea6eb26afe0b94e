"""Rows and tables as a run leaves them, and what a machine has for tests."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from dfpipe.catalog import Video, VideoRef
from dfpipe.errors import VideoStatus
from dfpipe.fingerprint import fingerprint
from dfpipe.plan import FacesPlan, FeaturesPlan, feature_fingerprint
from dfpipe.provenance import Provenance
from dfpipe.settings import FeatureSettings, LimitSettings
from dfpipe.shards import SCHEMAS, Table, Tables
from dfpipe.stages import write_stage

__all__ = [
    "BY",
    "as_catalog",
    "finish_faces",
    "finish_features",
    "ledger_row",
    "make_row",
    "make_video",
    "require_service",
    "shared_data",
    "write_catalog",
    "write_features",
]


BY = Provenance("r")
"""A run of no importance."""


def shared_data() -> Path | None:
    """Return the folder of real videos, None where there is none.

    It is the one that ``DFPIPE_SHARED_DATA`` names, else ``shared/data`` beside the checkout.
    """
    named = os.environ.get("DFPIPE_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).parents[4] / "shared" / "data"
    return folder.resolve() if folder.is_dir() else None


def require_service(reason: str) -> NoReturn:
    """Skip the test that needs a server which this machine cannot start; fail it when ``DFPIPE_REQUIRE_SERVICES=1``.

    Parameters
    ----------
    reason
        What is missing.
    """
    import pytest  # noqa: PLC0415  # only tests have it

    if os.environ.get("DFPIPE_REQUIRE_SERVICES") == "1":
        pytest.fail(f"{reason}, and DFPIPE_REQUIRE_SERVICES=1 asks for it")
    pytest.skip(reason)


def make_video(name: str, content: str = "c0", **more: Any) -> Video:
    """Return a real video that shows only the person of its own name; any column can be given otherwise."""
    values = {
        "video_id": name,
        "url": f"/videos/{name}.mp4",
        "dataset": "d",
        "label": "real",
        "manipulation": "original",
        "compression": "",
        "target": name,
        "source": None,
        "split": None,
        "size_bytes": 1,
        "content_id": content,
        "modified": "m",
    }
    return Video(**values | more)


def as_catalog(videos: Sequence[Video]) -> pa.Table:
    """Return these videos as rows of the catalog, sorted by video_id."""
    ordered = sorted(videos, key=lambda video: video.video_id)
    columns = {name: [getattr(video, name) for video in ordered] for name in SCHEMAS["catalog"].names}
    return pa.table(columns, schema=SCHEMAS["catalog"])


def write_catalog(tables: Tables, videos: Sequence[Video]) -> None:
    """Store these videos as the catalog."""
    tables.replace("catalog", as_catalog(videos), by=BY)


def make_row(table: Table, **columns: Any) -> dict[str, Any]:
    """Return a row of a table in which every column is null, or zero or empty where it must not be; or as given."""
    fields = [field for field in SCHEMAS[table] if field.name != "fingerprint"]
    row = {field.name: None if field.nullable else _nothing(field.type) for field in fields}
    return row | columns


def _nothing(kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        return datetime.now(UTC)
    if pa.types.is_large_binary(kind):
        return b""
    return "" if pa.types.is_string(kind) else kind.to_pandas_dtype()(0).item()


def ledger_row(video: VideoRef, *, status: VideoStatus = "ok", **columns: Any) -> dict[str, Any]:
    """Return a ledger row that says nothing of the video but how it ended; any column can be given otherwise."""
    known = {
        "video_id": video.video_id,
        "content_id": video.content_id,
        "size_bytes": video.size_bytes,
        "attempt": getattr(video, "attempt", 1),
    }
    known["limits"] = fingerprint(LimitSettings())
    return make_row("videos", **known | {"status": status, "run_id": "r"} | columns)


def finish_faces(
    tables: Tables,
    plan: FacesPlan,
    *,
    status: VideoStatus = "ok",
    columns: Mapping[str, Mapping[str, Any]] | None = None,
    crops: Mapping[str, bytes] | None = None,
) -> None:
    """Commit the ledger rows of every planned shard, as if a run had ended each video with this status.

    Parameters
    ----------
    tables, plan
        Where, and of which videos.
    status
        How all end of which the columns do not say otherwise.
    columns
        What else to write, by video_id.
    crops
        Video_ids with a face, and its picture as PNG.
    """
    write_stage(tables, plan.stage)
    for shard in plan.shards():
        rows = [
            ledger_row(video, **{"status": status, **(columns or {}).get(video.video_id, {})}) for video in shard.videos
        ]
        keys = [video.key for video in shard.videos]
        faces = [
            make_row("faces", video_id=video.video_id, content_id=video.content_id, crop_png=crops[video.video_id])
            for video in shard.videos
            if crops and video.video_id in crops
        ]
        by_table: dict[Table, Any] = ({"faces": faces} if faces else {}) | {"videos": rows}
        works = tables.settle(by_table, keys, fingerprint=plan.fingerprint, shard=shard.name, by=BY)
        tables.commit(works, by=BY)


def finish_features(tables: Tables, plan: FeaturesPlan) -> None:
    """Commit a feature row without values for every planned video."""
    write_stage(tables, plan.stage)
    for shard in plan.works():
        rows = [
            make_row("features", video_id=video_id, content_id=content_id, feature=plan.settings.name, dtype="|u1")
            for video_id, content_id, _ in shard.videos
        ]
        works = tables.settle({"features": rows}, shard.videos, fingerprint=plan.fingerprint, shard=shard.name, by=BY)
        tables.commit(works, by=BY)


def write_features(
    tables: Tables, feature: FeatureSettings, rows: Sequence[tuple[str, str, int, Any]], *, faces_fingerprint: str
) -> None:
    """Commit feature rows given as (video_id, content_id, frame_index, values)."""
    dtype = "|u1" if feature.name == "pixels" else "<f4"
    table = [
        {
            "video_id": video,
            "content_id": content,
            "frame_index": frame,
            "track": 0,
            "feature": feature.name,
            "dtype": dtype,
        }
        | {"values": np.array(values, dtype).tobytes()}
        for video, content, frame, values in rows
    ]
    stage = feature_fingerprint(feature, faces_fingerprint)
    keys = sorted({(video, content, 1) for video, content, _, _ in rows})
    works = tables.settle({"features": table}, keys, fingerprint=stage, shard=fingerprint(rows), by=BY)
    tables.commit(works, by=BY)
