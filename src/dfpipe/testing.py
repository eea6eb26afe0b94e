"""What tests of several rooms share; nothing but tests imports this."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa

from dfpipe.catalog import Video
from dfpipe.fingerprint import fingerprint
from dfpipe.plan import FacesPlan, feature_fingerprint
from dfpipe.services._manager import unused_port as free_port
from dfpipe.settings import FeatureSettings
from dfpipe.shards import SCHEMAS, Table, Tables, VideoStatus

__all__ = ["finish_faces", "free_port", "make_row", "make_video", "require_service", "shared_data", "write_features"]


def shared_data() -> Path | None:
    """Return the folder of real videos, None where there is none.

    It is the one that ``DFPIPE_SHARED_DATA`` names, else ``shared/data`` beside the checkout.
    """
    named = os.environ.get("DFPIPE_SHARED_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data"
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


def make_row(table: Table, **values: Any) -> dict[str, Any]:
    """Return a row that fits a table: the values given, null where a column may be, else 0, empty or now."""
    row = {column.name: None if column.nullable else _nothing(column.type) for column in SCHEMAS[table]}
    return row | values


def _nothing(kind: pa.DataType) -> Any:
    if pa.types.is_timestamp(kind):
        return datetime.now(UTC)
    if pa.types.is_large_binary(kind):
        return b""
    return "" if pa.types.is_string(kind) else kind.to_pandas_dtype()(0)


def finish_faces(tables: Tables, plan: FacesPlan, *, status: VideoStatus = "ok") -> None:
    """Commit the ledger rows of every planned shard, as if a run had ended each video with this status."""
    for shard in plan.shards:
        rows = [
            make_row(
                "videos",
                video_id=video.video_id,
                content_id=video.content_id,
                status=status,
                shard=shard.name,
                run_id="r",
            )
            for video in shard.videos
        ]
        tables.commit([tables.write_shard("videos", rows, fingerprint=plan.fingerprint, shard=shard.name)], run_id="r")


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
    shard = fingerprint(rows)
    tables.commit([tables.write_shard("features", table, fingerprint=stage, shard=shard)], run_id="r")
