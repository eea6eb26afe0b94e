"""The rows that models learn from, checked once when they come into being."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError

__all__ = ["REAL_AND_FAKE", "ColumnBlock", "FaceJoins", "FeatureMatrix", "TrainingData"]

FeatureMatrix = NDArray[np.uint8] | NDArray[np.float32]
"""Rows of features, shape (n, columns)."""

REAL_AND_FAKE = ("real", "fake")
"""Names of the classes; a label is the index into them."""


class ColumnBlock(NamedTuple):
    """The columns that one feature set fills."""

    feature: str
    """Name of the feature set, with the options in which it differs from others of the same name."""
    start: int
    """First column."""
    stop: int
    """Column after the last."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceJoins:
    """What was found of videos that show the same pictures of a face, whatever the names in them say."""

    pairs: NDArray[np.int32]
    """Pairs of videos of different groups of people, shape (n, 2), the smaller index first, in rising order."""
    people: NDArray[np.int32]
    """Group of each video by names alone, shape (n_videos,)."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """One row for each face or for each video; every video has at least one.

    Raises
    ------
    TrainingDataError
        Shapes that do not fit together, a value that is not a number, a label other than 0 or 1,
        a video without rows or with rows of both labels.
    """

    X: FeatureMatrix
    """Features: uint8 or float32, shape (n, columns)."""
    y: NDArray[np.int8]
    """Labels, shape (n,): 0 real, 1 fake."""
    video: NDArray[np.int32]
    """Index into ``video_ids`` of each row's video, shape (n,)."""
    video_ids: tuple[str, ...]
    """Key of each video."""
    groups: NDArray[np.int32]
    """Group of each video, shape (n_videos,): videos of one group share people and stay on one side of any split."""
    columns: tuple[ColumnBlock, ...]
    """Feature sets side by side, from column 0 to the last without gaps."""
    face_joins: FaceJoins | None = None
    """What of the groups comes of faces that look the same; None where they were not compared."""

    def __post_init__(self) -> None:
        rows = len(self.X)
        if self.X.ndim != 2 or self.X.dtype not in (np.uint8, np.float32):
            raise TrainingDataError(
                f"features are {self.X.dtype} of shape {self.X.shape}, expected uint8 or float32 of shape (n, columns)"
            )
        if self.y.shape != (rows,) or self.video.shape != (rows,):
            raise TrainingDataError(
                f"{rows} rows of features came with labels of shape {self.y.shape} and videos of shape "
                f"{self.video.shape}, expected ({rows},) for both"
            )
        if self.groups.shape != (len(self.video_ids),):
            raise TrainingDataError(
                f"{len(self.video_ids)} videos came with groups of shape {self.groups.shape}, expected one a video"
            )
        self._check_columns()
        self._check_labels()
        self._check_values()

    @property
    def video_labels(self) -> NDArray[np.int8]:
        """Label of each video, shape (n_videos,): 0 real, 1 fake."""
        labels = np.empty(len(self.video_ids), np.int8)
        labels[self.video] = self.y
        return labels

    def rows_of(self, videos: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return the indices of the rows that belong to these videos, in rising order."""
        return np.flatnonzero(np.isin(self.video, videos))

    def _check_columns(self) -> None:
        edges = [0, *(block.stop for block in self.columns)]
        if [block.start for block in self.columns] != edges[:-1] or edges[-1] != self.X.shape[1]:
            blocks = ", ".join(f"{block.feature} {block.start}:{block.stop}" for block in self.columns)
            raise TrainingDataError(
                f"column blocks are {blocks or 'none'}, expected blocks that cover 0:{self.X.shape[1]} without gaps"
            )

    def _check_labels(self) -> None:
        if not np.isin(self.y, (0, 1)).all():
            row = int(np.flatnonzero(~np.isin(self.y, (0, 1)))[0])
            raise TrainingDataError(f"row {row} has label {self.y[row]}, expected 0 (real) or 1 (fake)")
        counts = np.zeros((len(self.video_ids), 2), np.int64)
        if len(self.video) and not 0 <= self.video.min() <= self.video.max() < len(self.video_ids):
            raise TrainingDataError(
                f"rows belong to videos {self.video.min()} to {self.video.max()}, but there are {len(self.video_ids)}"
            )
        np.add.at(counts, (self.video, self.y), 1)
        for wrong, problem in (
            (~counts.any(axis=1), "has no rows; leave it out"),
            (counts.all(axis=1), "has rows labelled real and rows labelled fake; expected one label a video"),
        ):
            if wrong.any():
                raise TrainingDataError(f"video {self.video_ids[int(np.flatnonzero(wrong)[0])]} {problem}")

    def _check_values(self) -> None:
        if self.X.dtype == np.uint8:
            return
        finite = np.isfinite(self.X)
        if not finite.all():
            row, column = (int(index) for index in np.argwhere(~finite)[0])
            feature = next(block.feature for block in self.columns if block.start <= column < block.stop)
            raise TrainingDataError(
                f"feature {feature} is {self.X[row, column]} in row {row} (video {self.video_ids[self.video[row]]}), "
                "expected a finite number; compute the features again"
            )
