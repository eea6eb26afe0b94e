"""What a run would do, and why: catalog rows against what the store says was done.

The plan is an anti-join. A video is done when the ledger has a row with its content and the present fingerprint;
a feature shard when its file is committed; a training when a finished run carries its fingerprint.
`dfpipe plan` prints these objects and `dfpipe run` executes the same ones, so they cannot disagree.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog import Video, VideoRef, find_videos
from dfpipe.extract import extract_fingerprint
from dfpipe.features import feature_version
from dfpipe.fingerprint import fingerprint
from dfpipe.settings import ExtractSettings, FeatureSettings, TrainSettings
from dfpipe.shards import Tables, VideoKey

__all__ = [
    "FacesPlan",
    "FeatureShard",
    "FeaturesPlan",
    "Shard",
    "feature_fingerprint",
    "plan_faces",
    "plan_features",
    "training_fingerprint",
    "usable_videos",
]


@dataclass(frozen=True, slots=True)
class Shard:
    """A batch of videos that is extracted together and committed together."""

    name: str
    """Hash of the videos' contents and the fingerprint: the same work always has the same name."""
    videos: tuple[VideoRef, ...]
    """The batch, sorted by video_id."""


@dataclass(frozen=True, slots=True)
class FacesPlan:
    """What the faces stage would do."""

    fingerprint: str
    """Fingerprint of the stage."""
    shards: tuple[Shard, ...]
    """Work to be done."""
    reasons: Mapping[str, int]
    """Why: number of videos by reason."""
    kept: int
    """Videos whose work stands."""


@dataclass(frozen=True, slots=True)
class FeatureShard:
    """Videos whose features are computed together."""

    name: str
    """First half of the name of its files."""
    videos: tuple[VideoKey, ...]
    """Which."""


@dataclass(frozen=True, slots=True)
class FeaturesPlan:
    """What the features stage would do for one feature set."""

    settings: FeatureSettings
    """The feature set."""
    fingerprint: str
    """Fingerprint of its rows."""
    faces_fingerprint: str
    """Fingerprint of the crops they are computed from."""
    shards: tuple[FeatureShard, ...]
    """Work to be done."""
    kept: int
    """Shards whose work stands."""


def plan_faces(
    catalog: Sequence[Video], tables: Tables, settings: ExtractSettings, *, videos_per_shard: int
) -> FacesPlan:
    """Compare the catalog with the ledger.

    Parameters
    ----------
    catalog
        Every video of the source.
    tables
        The store.
    settings
        What the faces stage depends on.
    videos_per_shard
        Most videos in one shard.
    """
    current = extract_fingerprint(settings)
    ledger = tables.read("videos", columns=["video_id", "content_id", "fingerprint"])
    seen = set(zip(*(ledger[name].to_pylist() for name in ledger.column_names), strict=True))
    ids = {video_id for video_id, _, _ in seen}
    ids_now = {video_id for video_id, _, stage in seen if stage == current}
    todo = [video for video in catalog if (video.video_id, video.content_id, current) not in seen]

    def reason(video: Video) -> str:
        if video.video_id not in ids:
            return "new"
        return "content changed" if video.video_id in ids_now else "settings or code changed"

    todo.sort(key=lambda video: video.video_id)
    return FacesPlan(
        fingerprint=current,
        shards=tuple(_shard(batch, current) for batch in _batches(todo, videos_per_shard)),
        reasons=dict(Counter(map(reason, todo))),
        kept=len(catalog) - len(todo),
    )


def plan_features(
    tables: Tables, settings: Iterable[FeatureSettings], *, faces_fingerprint: str
) -> tuple[FeaturesPlan, ...]:
    """Compare the committed face shards with the committed feature shards, for each feature set."""
    ledger = tables.read(
        "videos", fingerprint=faces_fingerprint, columns=["video_id", "content_id", "attempt", "shard", "status"]
    )
    faces: dict[str, list[VideoKey]] = {}
    for row in ledger.to_pylist():
        if row["status"] == "ok":
            faces.setdefault(row["shard"], []).append((row["video_id"], row["content_id"], row["attempt"]))

    def plan(feature: FeatureSettings) -> FeaturesPlan:
        current = feature_fingerprint(feature, faces_fingerprint)
        claims = tables.read("claims", fingerprint=current, columns=["video_id", "content_id", "attempt"])
        done = set(zip(*(column.to_pylist() for column in claims.columns), strict=True))
        todo = tuple(
            FeatureShard(name.partition("-")[0], tuple(left))
            for name, videos in sorted(faces.items())
            if (left := [key for key in videos if key not in done])
        )
        return FeaturesPlan(feature, current, faces_fingerprint, todo, len(faces) - len(todo))

    return tuple(plan(feature) for feature in settings)


def feature_fingerprint(settings: FeatureSettings, faces_fingerprint: str) -> str:
    """Return the fingerprint of one feature set over one set of crops."""
    return fingerprint("features", feature_version(settings), settings, faces_fingerprint)


def usable_videos(catalog: pa.Table, tables: Tables, *, faces_fingerprint: str) -> pa.Table:
    """Return the rows of the catalog whose present content has faces in the store, in the catalog's order."""
    ledger = tables.read("videos", fingerprint=faces_fingerprint, columns=["video_id", "content_id", "status"])
    found = find_videos(catalog, ledger.filter(pc.equal(ledger["status"], "ok")))
    usable = np.zeros(catalog.num_rows, bool)
    usable[found[found >= 0]] = True
    return catalog.filter(pa.array(usable))


def training_fingerprint(videos: pa.Table, settings: TrainSettings, *, faces_fingerprint: str) -> str:
    """Return the fingerprint of a training: its settings, and every video with its content, label and people.

    Parameters
    ----------
    videos
        Rows of the catalog, sorted by video_id.
    settings
        What the training depends on.
    faces_fingerprint
        Which crops its features are computed from.
    """
    learned_from = videos.select(["video_id", "content_id", "label", "target", "source"])
    # In parts, as a million rows in one JSON text would take gigabytes.
    rows = [
        fingerprint(learned_from.slice(start, ROWS_AT_ONCE).to_pydict())
        for start in range(0, videos.num_rows, ROWS_AT_ONCE)
    ]
    features = [feature_fingerprint(feature, faces_fingerprint) for feature in settings.features]
    return fingerprint("train", TRAIN_VERSION, settings, features, rows)


ROWS_AT_ONCE = 16_384
"""Videos that are hashed together; another number makes other fingerprints."""


TRAIN_VERSION = 1
"""Raised when the code trains differently from the same settings and rows."""


def _shard(videos: Sequence[Video], stage: str) -> Shard:
    name = fingerprint("shard", stage, [(video.video_id, video.content_id) for video in videos])
    return Shard(name, tuple(video.ref for video in videos))


def _batches(videos: Sequence[Video], size: int) -> Iterable[Sequence[Video]]:
    return (videos[start : start + size] for start in range(0, len(videos), size))
