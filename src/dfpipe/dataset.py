"""Committed feature rows joined with the catalog's labels and people, as the arrays that models learn from."""

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dfpipe.catalog import Video, find_videos, to_videos
from dfpipe.engine import usable_cores
from dfpipe.errors import TrainingDataError
from dfpipe.features import block_names
from dfpipe.models import ColumnBlock, FaceJoins, TrainingData, identity_groups, join_groups
from dfpipe.models.data import FeatureMatrix
from dfpipe.models.duplicates import duplicate_videos
from dfpipe.plan import feature_fingerprint, usable_videos
from dfpipe.settings import THUMBNAILS, FaceDuplicateSettings, FeatureSettings
from dfpipe.shards import Tables

__all__ = ["Rows", "describe_videos", "join_features", "load_training_data"]

_log = logging.getLogger(__name__)

Rows = Literal["face", "video"]
"""What a row stands for."""

ROWS_AT_ONCE = 16
"""Rows put into a column at once: more of them are no faster, fewer are slower."""


def load_training_data(
    catalog: pa.Table,
    tables: Tables,
    features: Sequence[FeatureSettings],
    *,
    faces_fingerprint: str,
    rows: Rows = "face",
    face_duplicates: FaceDuplicateSettings | None = None,
) -> tuple[list[Video], TrainingData]:
    """Read the feature rows of every usable video.

    Labels and people come from the catalog, never from the feature rows, so correcting them computes no row again
    (unless the layout makes the label a part of the video's name, as the csv layout does).

    Parameters
    ----------
    catalog
        Every video of the source, schema `CATALOG`, sorted by video_id.
    tables
        The store.
    features
        Feature sets, joined side by side in this order.
    faces_fingerprint
        Which crops the features were computed from.
    rows
        One row for each face, as the store has them, or one for each video, see `describe_videos`.
    face_duplicates
        When two videos show the same pictures of a face, so that they are of one group; None asks names alone.

    Returns
    -------
    list of Video
        The videos that have rows, sorted by video_id.
    TrainingData
        Their rows; ``video_ids`` in the order of the list.

    Raises
    ------
    TrainingDataError
        No video has faces, or a feature set lacks rows that another has.
    """
    usable = usable_videos(catalog, tables, faces_fingerprint=faces_fingerprint)
    if not usable.num_rows:
        raise TrainingDataError(
            f"none of the {len(catalog)} videos of the catalog has a face in the store; see `dfpipe status --failures`"
        )
    # Each feature set is read twice, its keys and then its values: as one commit left it.
    version = tables.version("features")
    pinned = tables if version is None else tables.at({**(tables.versions or {}), "features": version})
    owner: NDArray[np.int32] | None = None
    blocks: list[FeatureMatrix] = []
    names = block_names(features)
    for name, feature in zip(names, features, strict=True):
        fingerprint = feature_fingerprint(feature, faces_fingerprint)
        video, position = _places(pinned, fingerprint, usable)
        if owner is not None and not np.array_equal(owner, video):
            raise TrainingDataError(
                f"feature set {name} has {len(video)} rows where {names[0]} has {len(owner)}; "
                "run `dfpipe run --until features` to compute what is missing"
            )
        owner = video
        blocks.append(_matrix(pinned, fingerprint, position))
    assert owner is not None  # noqa: S101 - the settings refuse an empty list of feature sets
    videos = to_videos(usable)
    # The same bytes under two names are one thing to learn, whoever they say is in them.
    groups = people = identity_groups([(*video.identities, video.content_id) for video in videos])
    pairs = None
    if face_duplicates is not None:
        fingerprint = feature_fingerprint(THUMBNAILS, faces_fingerprint)
        video, position = _places(pinned, fingerprint, usable)
        if not np.array_equal(owner, video):
            raise TrainingDataError(
                f"train.split.face_duplicates compares thumbnails of faces; of {len(owner)} there are {len(video)}; "
                "run `dfpipe run --until features` to compute what is missing"
            )
        pairs = duplicate_videos(
            np.ascontiguousarray(_matrix(pinned, fingerprint, position)),
            owner,
            people,
            max_distance=face_duplicates.max_distance,
            min_share=face_duplicates.min_share,
            workers=usable_cores(),
        )
        groups = join_groups(people, pairs)
        _log.info(
            "%d pairs of videos show the same faces: %d groups of people are %d",
            len(pairs),
            people.max() + 1,
            groups.max() + 1,
        )
    if rows == "video":
        blocks = [describe_videos(block, owner) for block in blocks]
        owner = np.unique(owner)
    X, columns = join_features(blocks, names)
    labels = np.array([video.label == "fake" for video in videos], np.int8)
    data = TrainingData(
        X=X,
        y=labels[owner],
        video=owner,
        video_ids=tuple(video.video_id for video in videos),
        groups=groups,
        columns=columns,
        face_joins=None if pairs is None else FaceJoins(pairs, people),
    )
    return videos, data


def join_features(
    blocks: Sequence[FeatureMatrix], names: Sequence[str]
) -> tuple[FeatureMatrix, tuple[ColumnBlock, ...]]:
    """Put feature sets side by side: uint8 if all are, else float32.

    Parameters
    ----------
    blocks
        One array of shape (n, columns) for each feature set.
    names
        Their names.
    """
    edges = np.cumsum([0, *(block.shape[1] for block in blocks)]).tolist()
    columns = tuple(ColumnBlock(name, start, stop) for name, start, stop in zip(names, edges, edges[1:], strict=False))
    if len(blocks) == 1:
        return blocks[0], columns
    joined: FeatureMatrix = np.concatenate(blocks, axis=1, dtype=np.result_type(*blocks))
    return joined, columns


def describe_videos(block: FeatureMatrix, video: NDArray[np.integer]) -> NDArray[np.float32]:
    """Make one row for each video of the rows of its faces.

    Parameters
    ----------
    block
        Rows of one feature set, shape (n, c).
    video
        Any number that names each row's video, shape (n,).

    Returns
    -------
    ndarray of float32, shape (videos, 4 * c)
        In rising order of the numbers: mean of every column, then standard deviation, smallest and greatest value of
        each. A video with one face has deviations of 0.

    Examples
    --------
    >>> describe_videos(np.array([[1], [5], [3]], np.uint8), np.array([0, 1, 0]))
    array([[2., 1., 1., 3.],
           [5., 0., 5., 5.]], dtype=float32)
    """
    order = np.argsort(video, kind="stable")
    _, starts = np.unique(video[order], return_index=True)
    described = np.empty((len(starts), 4, block.shape[1]), np.float32)
    # Video by video, so that no second copy of all rows is made, and a video gives the same values among others.
    for row, members in zip(described, np.split(order, starts[1:]), strict=True):
        faces = block[members].astype(np.float64)
        row[:] = faces.mean(axis=0), faces.std(axis=0), faces.min(axis=0), faces.max(axis=0)
    return described.reshape(len(starts), -1)


def _places(tables: Tables, fingerprint: str, usable: pa.Table) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the video of each row of a matrix, and for each row of the table its place in it, -1 for none."""
    keys = ("video_id", "content_id", "frame_index", "track")
    table = tables.read("features", fingerprint=fingerprint, columns=keys)
    index = find_videos(usable, table).astype(np.int32)
    order = pc.sort_indices(table, sort_keys=[(key, "ascending") for key in keys]).to_numpy()
    order = order[index[order] >= 0]
    position = np.full(table.num_rows, -1, np.int64)
    position[order] = np.arange(len(order))
    return index[order], position


def _matrix(tables: Tables, fingerprint: str, position: NDArray[np.int64]) -> FeatureMatrix:
    """Read the values, each row to its place; beside the matrix only a few files are in memory.

    Bytes stand in Fortran order, in which forests read them.
    """
    matrix: FeatureMatrix | None = None
    num_rows, read = int(position.max(initial=-1)) + 1, 0
    for batch in tables.read_batches("features", fingerprint=fingerprint, columns=["dtype", "values"]):
        places = position[read : read + batch.num_rows]
        read += batch.num_rows
        kept = np.flatnonzero(places >= 0)
        if not len(kept):
            continue
        values = _values(batch)
        if matrix is None:
            order: Literal["F", "C"] = "F" if values.dtype == np.uint8 else "C"
            matrix = np.empty((num_rows, values.shape[1]), values.dtype, order=order)
        for start in range(0, len(kept), ROWS_AT_ONCE):
            some = kept[start : start + ROWS_AT_ONCE]
            matrix[places[some]] = values[some]
    return np.empty((0, 0), np.float32) if matrix is None else matrix


def _values(batch: pa.RecordBatch) -> FeatureMatrix:
    """Return the values of a file's rows where they lie."""
    values = batch["values"]
    _, offsets, data = values.buffers()
    start, stop = np.frombuffer(offsets, np.int64)[[values.offset, values.offset + len(values)]].tolist()
    dtype = np.dtype(batch["dtype"][0].as_py())
    flat: FeatureMatrix = np.frombuffer(data, dtype, (stop - start) // dtype.itemsize, start)
    return flat.reshape(len(values), -1)
