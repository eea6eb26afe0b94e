"""One command's work: the committed features, one candidate, and the matrix of kinds against kinds."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from dfpipe.catalog import Video
from dfpipe.dataset import load_training_data
from dfpipe.engine import open_engine
from dfpipe.errors import SettingsError
from dfpipe.extract import extract_fingerprint
from dfpipe.fingerprint import fingerprint
from dfpipe.lineage import tables_as_they_are
from dfpipe.models import TrainingData, candidates, split_record
from dfpipe.models.cross import CrossBy, CrossMatrix, cross_evaluate, cross_kinds
from dfpipe.models.splits import Videos
from dfpipe.plan import training_fingerprint, usable_videos
from dfpipe.provenance import make_provenance
from dfpipe.settings import Settings
from dfpipe.shards import open_tables
from dfpipe.splitting import split_by_identity
from dfpipe.spool import drop_matrix, find_matrix, keep_matrix, telling_of_kept_matrix
from dfpipe.steps import load_catalog
from dfpipe.tracking import record_cross
from dfpipe.training import connect_tracking, on_workers, search_grid, training_tags

__all__ = ["Crossed", "cross", "kinds_of"]

CROSS_VERSION = 1
"""Raised when the code makes another matrix of the same settings and rows."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Crossed:
    """A matrix, and where it is on record."""

    matrix: CrossMatrix
    """The figures."""
    run_id: str
    """Its run in MLflow."""
    url: str | None
    """Page of the run; None where MLflow runs without a server."""


def cross(settings: Settings, by: CrossBy, *, model: str | None = None) -> Crossed:
    """Train on each kind of video, test on every kind, and record the matrix.

    One division by identity serves all kinds. Where the settings' grid has several candidates, they are searched on all
    of the training side first, and the best is fitted to each kind. A matrix that MLflow did not take is kept until it
    does.

    Parameters
    ----------
    settings
        Which store, features, grid and division.
    by
        What the kinds are kinds of.
    model
        Only candidates of this kind of model; None is all.

    Raises
    ------
    SettingsError
        The grid has no such model.
    TrainingDataError
        No features, or fewer than two kinds with both classes on both sides.
    ServiceError
        MLflow cannot be reached.
    """
    grid = [one for one in candidates(settings.train) if model in (None, one.model)]
    if not grid:
        known = ", ".join(sorted({one.model for one in candidates(settings.train)}))
        raise SettingsError(f"got model {model!r}, expected one that the settings' grid has: {known}")
    tracking = connect_tracking(settings)
    tables = tables_as_they_are(open_tables(settings.store, settings.s3))
    catalog, faces_fingerprint = load_catalog(tables), extract_fingerprint(settings.extract)
    videos, data = load_training_data(
        catalog,
        tables,
        settings.train.features,
        faces_fingerprint=faces_fingerprint,
        rows=settings.train.rows,
        face_duplicates=settings.train.split.face_duplicates,
    )
    split = split_by_identity(videos, data, settings.train.split)
    usable = usable_videos(catalog, tables, faces_fingerprint=faces_fingerprint)
    depends_on = training_fingerprint(usable, settings.train, faces_fingerprint=faces_fingerprint)
    key = fingerprint("cross", CROSS_VERSION, depends_on, by, model)
    matrix = find_matrix(settings.state, key, data, split)
    if matrix is None:
        kinds = kinds_of(videos, data, by)
        with open_engine(settings.dask) as engine:
            best = grid[0]
            if len(grid) > 1:
                best = search_grid(engine, data, split, settings.train, grid=grid).best.candidate
            matrix = cross_evaluate(
                data,
                split,
                kinds,
                best,
                by=by,
                memory_bytes=engine.room_bytes(data.X.nbytes),
                run_tasks=on_workers(engine, "cross"),
                bootstrap=settings.train.evaluation.bootstrap,
            )
        keep_matrix(settings.state, key, data, split, matrix)
    else:
        _log.info("an earlier call computed this matrix; it waits to be recorded")
    tags = training_tags(tables, make_provenance(settings, run_id=""))
    split_json = split_record(data, split, settings.train.split)
    with telling_of_kept_matrix(settings.state, key):
        run_id = record_cross(tracking, matrix, split_json=split_json, fingerprint=key, tags=tags)
    drop_matrix(settings.state, key)
    return Crossed(matrix, run_id, tracking.run_url(run_id))


def kinds_of(videos: Sequence[Video], data: TrainingData, by: CrossBy) -> dict[str, Videos]:
    """Return the videos of each data set, method or compression; a method has the real videos of its data sets too."""
    if by == "dataset":
        return cross_kinds([video.dataset for video in videos], data.video_labels)
    if by == "compression":
        return cross_kinds([video.compression or "not told" for video in videos], data.video_labels)
    several = len({video.dataset for video in videos}) > 1
    methods = [f"{video.dataset}/{video.manipulation}" if several else video.manipulation for video in videos]
    return cross_kinds(methods, data.video_labels, real_of=[video.dataset for video in videos])
