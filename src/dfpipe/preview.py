"""What a run would do, stage by stage: the plans of `dfpipe.plan`, made without doing anything."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

import pyarrow.compute as pc

from dfpipe.engine import usable_cores
from dfpipe.forgotten import leave_out_forgotten
from dfpipe.plan import (
    EVERYTHING,
    SETTLED,
    FacesPlan,
    plan_catalog,
    plan_faces,
    plan_features,
    training_fingerprint,
    usable_videos,
)
from dfpipe.settings import STAGES, DaskSettings, Selection, Settings, Stage
from dfpipe.shards import Tables
from dfpipe.steps import list_source, load_catalog
from dfpipe.storage import open_location
from dfpipe.training import why_train

__all__ = ["Estimate", "StagePlan", "make_plan"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a stage would take, if its videos are like those of the ledger."""

    read_bytes: int
    """Bytes of the videos."""
    write_bytes: int | None
    """Bytes of pictures and clips; None before the first run."""
    cpu_seconds: float | None
    """Processor time; None before the first run. Less is needed where detections can be used again."""
    workers: int | None
    """Workers that share it; None where their number is the scheduler's to say."""
    seconds: float | None
    """How long they take, if each has a core of its own; None where that is not known."""


@dataclass(frozen=True, slots=True)
class StagePlan:
    """What one stage would do, in numbers."""

    stage: Stage
    """Name of the stage."""
    todo: int
    """Pieces of work to be done."""
    kept: int
    """Pieces whose work stands, or that are left out."""
    unit: str
    """What a piece is; a feature set is that of one video."""
    reasons: Mapping[str, int]
    """Why: pieces to be done by reason."""
    stays: Mapping[str, int] = field(default_factory=dict)
    """Why the rest stays as it is: pieces by reason, where there is more to say than that they are done."""
    gone: int = 0
    """Pieces of which the store knows and the source no longer; nothing of them is deleted."""
    estimate: Estimate | None = None
    """What it would take; None where the ledger has no figures of such work."""


def make_plan(settings: Settings, *, until: Stage = "train", selection: Selection = EVERYTHING) -> list[StagePlan]:
    """Say what a run would do, stage by stage; nothing is written to the store and no video is opened.

    A stage whose input is about to change can only say so: how much it will have to do is known when that is done.

    Parameters
    ----------
    settings, until, selection
        What the run would be given.

    Raises
    ------
    CatalogError
        The source is missing, empty or of no known layout, or has nothing of what the selection names.
    StoreError
        Source or store cannot be read.
    ServiceError
        MLflow cannot be reached.
    """
    return list(islice(_stages(settings, selection), STAGES.index(until) + 1))


def _stages(settings: Settings, selection: Selection) -> Iterator[StagePlan]:
    tables = Tables(open_location(settings.store, settings.s3).url, settings.s3)
    before = load_catalog(tables)
    catalog = leave_out_forgotten(tables, list_source(settings, before))
    changes = plan_catalog(before, catalog)
    del before
    yield StagePlan(
        "catalog", sum(changes.reasons.values()), changes.kept, "videos", changes.reasons, gone=changes.gone
    )

    faces = plan_faces(catalog, tables, settings, selection=selection)
    yield StagePlan(
        stage="faces",
        todo=faces.todo.num_rows,
        kept=sum(faces.kept.values()),
        unit="videos",
        reasons=faces.reasons,
        stays=faces.kept,
        gone=faces.gone,
        estimate=_estimate(faces, settings.dask) if faces.todo.num_rows else None,
    )

    features = plan_features(
        tables,
        settings.train.needed_features,
        faces_fingerprint=faces.fingerprint,
        videos_per_shard=settings.videos_per_shard,
    )
    new = faces.todo.num_rows + faces.kept.get(SETTLED, 0)
    missing = {"for new faces": new * len(features)}
    missing |= {f"without {one.settings.name}": one.todo.num_rows for one in features}
    reasons = {reason: number for reason, number in missing.items() if number}
    yield StagePlan("features", sum(reasons.values()), sum(one.kept for one in features), "sets of videos", reasons)

    if reasons:
        yield StagePlan("train", 1, 0, "training", {"rows will change": 1})
        return
    videos = usable_videos(catalog, tables, faces_fingerprint=faces.fingerprint)
    current = training_fingerprint(videos, settings.train, faces_fingerprint=faces.fingerprint)
    why = why_train(settings, current, faces_fingerprint=faces.fingerprint)
    yield StagePlan("train", int(why is not None), int(why is None), "training", {why: 1} if why else {})


def _estimate(plan: FacesPlan, dask: DaskSettings) -> Estimate:
    videos, figures = plan.todo.num_rows, plan.figures
    is_local = dask.scheduler is None and dask.cluster is None
    workers = (dask.workers or usable_cores()) if is_local else None
    cpu_seconds = None if figures is None else videos * figures.cpu_seconds
    return Estimate(
        read_bytes=pc.sum(plan.todo["size_bytes"]).as_py(),
        write_bytes=None if figures is None else round(videos * figures.stored_bytes),
        cpu_seconds=cpu_seconds,
        workers=workers,
        seconds=None if cpu_seconds is None or workers is None else cpu_seconds / workers,
    )
