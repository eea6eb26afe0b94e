"""Stores with as many catalog and ledger rows as one likes and no video behind them.

The files and the log are written by dfpipe's own `Tables`. The ledger comes in two forms: `fresh`, as the first run
over everything leaves it, with one small file for each shard of 64 videos; and `compacted`, as `dfpipe compact` leaves
it, with files of about 16 MB. Claims are cut like the ledger. Tables of pictures are not there.

    settings = make_store(folder, videos=1_000_000, form="compacted")
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.extract import extract_fingerprint
from dfpipe.fingerprint import fingerprint as digest
from dfpipe.plan import feature_fingerprint
from dfpipe.provenance import Provenance
from dfpipe.settings import LimitSettings, Settings
from dfpipe.shards import SCHEMAS, Table, Tables, open_tables
from dfpipe.shards.files import MERGED, without_fingerprint
from dfpipe.shards.log import Change
from dfpipe.shards.schemas import REJECTIONS

__all__ = ["METHODS", "Form", "add_feature_claims", "make_catalog", "make_ledger", "make_store"]

Form = Literal["fresh", "compacted"]

VIDEOS_PER_SHARD = 64
VIDEOS_PER_FILE = 220_000
"""Of a compacted ledger: a row takes about 72 bytes of a large file."""

SHARDS_PER_COMMIT = 200
"""A run makes a commit for each shard; what a reader meets after a checkpoint is the same."""

METHODS = ("Deepfakes", "Face2Face", "FaceShifter", "FaceSwap", "original")
BY = Provenance("0f0e0d0c-1111-4222-8333-444455556666")


def make_store(folder: Path, *, videos: int, form: Form, pending: float = 0.001) -> Settings:
    """Write catalog, claims and ledger; return settings under which the ledger's rows count.

    Parameters
    ----------
    folder
        Empty folder of the store.
    videos
        Rows of the catalog.
    form
        How the files of claims and ledger are cut.
    pending
        Share of the videos of which nothing is known; they are spread over the catalog.
    """
    settings = Settings(store=str(folder), source="s3://large/videos")
    tables = open_tables(settings.store, settings.s3)
    catalog = make_catalog(videos)
    tables.replace("catalog", catalog, by=BY)
    every = round(1 / pending) if pending else videos + 1
    ledger = make_ledger(catalog.filter(pa.array(np.arange(1, videos + 1) % every != 0)))
    fingerprint = extract_fingerprint(settings.extract)
    _write(tables, "claims", ledger.select(without_fingerprint("claims").names), fingerprint, form)
    _write(tables, "videos", ledger, fingerprint, form)
    return settings


def add_feature_claims(settings: Settings, *, form: Form) -> None:
    """Claim the features of every video that has faces, as if all were computed, in shards as large as they may be."""
    tables = Tables(settings.store, settings.s3)
    fingerprint = extract_fingerprint(settings.extract)
    names = without_fingerprint("claims").names
    ledger = tables.read("videos", fingerprint=fingerprint, columns=[*names, "status"]).sort_by("video_id")
    done = ledger.filter(pc.equal(ledger["status"], "ok")).select(names).cast(without_fingerprint("claims"))
    for feature in settings.train.features:
        _write(tables, "claims", done, feature_fingerprint(feature, fingerprint), form, settings.videos_per_shard)


def _write(
    tables: Tables, table: Table, rows: pa.Table, fingerprint: str, form: Form, shard: int = VIDEOS_PER_SHARD
) -> None:
    """Commit rows file by file, and remember every shard's commit, as the log does also after a merge."""
    log = tables.log(table)
    step = VIDEOS_PER_FILE if form == "compacted" else shard * SHARDS_PER_COMMIT
    for first in range(0, rows.num_rows, step):
        here = rows.slice(first, step)
        parts = [here.slice(start, shard) for start in range(0, here.num_rows, shard)]
        names = [part["shard"][0].as_py() for part in parts]
        if form == "compacted":
            files = [tables.write_shard(table, here, fingerprint=fingerprint, name=f"{MERGED}{names[0]}")]
        else:
            files = [
                tables.write_shard(table, part, fingerprint=fingerprint, name=name)
                for part, name in zip(parts, names, strict=True)
            ]
        change = Change([file for file in files if file is not None], (), [f"{fingerprint}/{name}" for name in names])
        log.transact(lambda _, change=change: change, by=BY)


def make_catalog(videos: int) -> pa.Table:
    """Return a catalog that looks like a bucket of FaceForensics++, five times as many videos as people."""
    numbers = np.arange(videos) // len(METHODS)
    width = len(str(videos))
    methods = [METHODS[video % len(METHODS)] for video in range(videos)]
    targets = [f"{number:0{width}}" for number in numbers]
    real = [method == "original" for method in methods]
    names = [
        one if is_real else f"{one}_{number + 1:0{width}}"
        for one, number, is_real in zip(targets, numbers, real, strict=True)
    ]
    columns = {
        "video_id": [f"ffpp/{method}/c23/{name}" for method, name in zip(methods, names, strict=True)],
        "url": [
            f"s3://large/videos/{method}/c23/videos/{name}.mp4" for method, name in zip(methods, names, strict=True)
        ],
        "dataset": ["ffpp"] * videos,
        "label": ["real" if one else "fake" for one in real],
        "manipulation": methods,
        "compression": ["c23"] * videos,
        "target": [f"ffpp:{one}" for one in targets],
        "source": [None if is_real else f"ffpp:{name[-width:]}" for name, is_real in zip(names, real, strict=True)],
        "split": [None] * videos,
        "size_bytes": np.full(videos, 10_000_000),
        "content_id": [f"etag:{hashlib.md5(name.encode()).hexdigest()}-10000000" for name in names],
        "modified": ["2026-01-01T00:00:00+00:00"] * videos,
    }
    return pa.table(columns, schema=SCHEMAS["catalog"]).sort_by("video_id").combine_chunks()


def make_ledger(videos: pa.Table) -> pa.Table:
    """Return ledger rows of these catalog rows: of a hundred 95 ok, three without a face, one torn, one too slow."""
    rows = videos.num_rows
    random = np.random.default_rng(0)
    # Parted by chance, so that no row group has one status alone.
    kind = random.integers(0, 100, rows)
    status = np.select([kind < 95, kind < 98, kind < 99], ["ok", "no_face", "corrupt"], "timeout")
    opened = kind < 98
    kept = np.where(kind < 95, 7, 0)
    facts = {
        "video_id": videos["video_id"],
        "content_id": videos["content_id"],
        "attempt": np.ones(rows, np.int32),
        "status": status,
        "reason": np.where(status == "ok", "", "what went wrong with this video, in one sentence of usual length"),
        "container": np.where(opened, "mov", None),
        "codec": np.where(opened, "h264", None),
        "width": np.full(rows, 1280),
        "height": np.full(rows, 720),
        "rotation_degrees": np.zeros(rows, np.int32),
        "pixel_format": np.where(opened, "yuv420p", None),
        "frame_rate": random.choice([24.0, 25.0, 29.97, 30.0], rows),
        "is_variable_rate": np.zeros(rows, bool),
        "num_frames": random.integers(100, 1000, rows),
        "num_keyframes": random.integers(2, 20, rows),
        "duration_seconds": random.uniform(4, 40, rows),
        "has_audio": random.integers(0, 2, rows).astype(bool),
        "frames_asked": np.full(rows, 7),
        "frames_wanted": np.where(opened, 7, 0),
        "frames_decoded": np.where(opened, 7, 0),
        "frames_with_face": kept,
        "frames_with_kept_face": kept,
        "frames_without_face": np.where(opened, 7 - kept, 0),
        "faces_found": kept,
        "faces_kept": kept,
        "size_bytes": videos["size_bytes"],
        "stored_bytes": random.integers(500_000, 2_000_000, rows),
        "limits": np.full(rows, digest(LimitSettings())),
        "cpu_seconds": random.uniform(0.2, 2, rows),
        "decode_seconds": random.uniform(0.05, 0.5, rows),
        "detect_seconds": random.uniform(0.1, 1, rows),
        "encode_seconds": random.uniform(0.02, 0.2, rows),
        "shard": [f"{row // VIDEOS_PER_SHARD:016x}-{row // VIDEOS_PER_SHARD:016x}" for row in range(rows)],
        "run_id": np.full(rows, BY.run_id),
        "finished_at": np.datetime64("2026-01-01", "us") + random.integers(0, 10**9, rows).astype("timedelta64[us]"),
    }
    none = ("frames_missing", *(f"faces_rejected_{name}" for name in REJECTIONS))
    facts |= {name: np.zeros(rows, np.int32) for name in none}
    schema = without_fingerprint("videos")
    columns = [
        one if isinstance(one, pa.ChunkedArray) else pa.array(one, from_pandas=True)
        for one in (facts[name] for name in schema.names)
    ]
    return pa.table(columns, names=schema.names).cast(schema)
