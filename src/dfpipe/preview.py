"""What a run would do, stage by stage: the plans of `dfpipe.plan`, made without doing anything."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np

from dfpipe.catalog import find_videos, to_videos
from dfpipe.plan import plan_faces, plan_features, training_fingerprint, usable_videos
from dfpipe.settings import STAGES, Settings, Stage
from dfpipe.shards import Tables
from dfpipe.steps import list_source, load_catalog
from dfpipe.storage import open_location
from dfpipe.training import find_finished_training

__all__ = ["StagePlan", "make_plan"]


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage would do, in numbers."""

    stage: Stage
    """Name of the stage."""
    todo: int
    """Pieces of work to be done."""
    kept: int
    """Pieces whose work stands."""
    unit: str
    """What a piece is."""
    reasons: Mapping[str, int]
    """Why: pieces to be done by reason."""


def make_plan(settings: Settings, *, until: Stage = "train") -> list[StagePlan]:
    """Say what a run would do, stage by stage; nothing is written to the store and no video is opened.

    A stage whose input is about to change can only say so: how much it will have to do is known when that is done.

    Raises
    ------
    CatalogError
        The source is missing, empty or of no known layout.
    StoreError
        Source or store cannot be read.
    """
    return list(islice(_stages(settings), STAGES.index(until) + 1))


def _stages(settings: Settings) -> Iterator[StagePlan]:
    tables = Tables(open_location(settings.store, settings.s3).url, settings.s3)
    before = load_catalog(tables)
    catalog = list_source(settings, before)
    changed = {"new or changed": int(np.count_nonzero(find_videos(before, catalog) < 0))}
    yield _stage("catalog", len(catalog), "videos", changed)

    faces = plan_faces(to_videos(catalog), tables, settings.extract, videos_per_shard=settings.videos_per_shard)
    yield _stage("faces", faces.kept + sum(faces.reasons.values()), "videos", faces.reasons)

    features = plan_features(tables, settings.train.features, faces_fingerprint=faces.fingerprint)
    missing = {"for new faces": len(faces.shards) * len(features)}
    missing |= {f"without {one.settings.name}": len(one.shards) for one in features}
    yield _stage("features", sum(one.kept for one in features) + sum(missing.values()), "shards", missing)

    if any(missing.values()):
        yield _stage("train", 1, "training", {"rows will change": 1})
        return
    videos = usable_videos(catalog, tables, faces_fingerprint=faces.fingerprint)
    current = training_fingerprint(videos, settings.train, faces_fingerprint=faces.fingerprint)
    stands = find_finished_training(settings, current) is not None
    yield _stage("train", 1, "training", {"rows or settings changed": 0 if stands else 1})


def _stage(stage: Stage, total: int, unit: str, reasons: Mapping[str, int]) -> StagePlan:
    todo = sum(reasons.values())
    return StagePlan(stage, todo, total - todo, unit, {reason: number for reason, number in reasons.items() if number})
