"""The files of one evaluation: pictures, figures by part of the videos, predictions, and the rule of verdicts."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.models.bundle import Preprocessing
from dfpipe.models.data import REAL_AND_FAKE
from dfpipe.models.evaluate import Evaluation
from dfpipe.models.figures import (
    classification_text,
    confusion_figure,
    importance_figure,
    reliability_figure,
    scores_figure,
    subsets_figure,
)
from dfpipe.models.metrics import Interval, Scores
from dfpipe.tracking.artifacts import PREDICTIONS_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["write_evaluation", "write_figure"]


BY_SCHEMA = pa.schema(
    [
        ("column", pa.string()),
        ("value", pa.string()),
        ("against", pa.string()),
        ("real_videos", pa.int32()),
        ("fake_videos", pa.int32()),
        ("groups", pa.int32()),
        ("figure", pa.string()),
        ("estimate", pa.float64()),
        ("low", pa.float64()),
        ("high", pa.float64()),
    ]
)
"""Columns of ``figures_by.parquet``; the row of all held-out videos has an empty column and value."""


def write_evaluation(folder: Path, evaluation: Evaluation, preprocessing: Preprocessing) -> None:
    """Write figures, predictions and the rule of verdicts of one evaluation into a folder.

    Parameters
    ----------
    folder
        Made if it is not there.
    evaluation
        A fitted candidate and how it did on the held-out videos.
    preprocessing
        How videos became its rows, for the importance on the face.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_figure(folder / "confusion_matrix.png", confusion_figure(evaluation))
    write_figure(folder / "reliability.png", reliability_figure(evaluation))
    write_figure(folder / "scores.png", scores_figure(evaluation))
    write_figure(folder / "figures_by.png", subsets_figure(evaluation))
    write_figure(folder / "importance.png", importance_figure(evaluation, preprocessing))
    (folder / "classification_report.txt").write_text(classification_text(evaluation), encoding="utf-8")
    (folder / "verdict_rule.json").write_text(evaluation.rule.to_json(), encoding="utf-8")
    pq.write_table(_predictions(evaluation), folder / PREDICTIONS_FILE)
    pq.write_table(_figures_by(evaluation), folder / "figures_by.parquet")


def write_figure(path: Path, figure: "Figure | None") -> None:
    """Write a picture; None, of what cannot be drawn, leaves no file."""
    if figure is not None:
        # Legends below the axes are outside of what the layout knows.
        figure.savefig(path, dpi=110, bbox_inches="tight")


def _predictions(evaluation: Evaluation) -> pa.Table:
    predictions = evaluation.predictions
    return pa.table(
        {
            "video_id": [one.video_id for one in predictions],
            "label": [REAL_AND_FAKE[one.label] for one in predictions],
            "score": pa.array([one.score for one in predictions], pa.float64()),
            "probability": pa.array([one.probability for one in predictions], pa.float64()),
            "threshold": pa.array([evaluation.rule.threshold] * len(predictions), pa.float64()),
            "frames": pa.array([one.frames for one in predictions], pa.int32()),
            "group": pa.array([one.group for one in predictions], pa.int32()),
            **{name: pa.array(values, pa.string()) for name, values in evaluation.attributes.items()},
        }
    )


def _figures_by(evaluation: Evaluation) -> pa.Table:
    """Return the figures by video of all held-out videos and of every subset, one figure a row."""
    y, groups = evaluation.y_video, evaluation.groups_video
    whole = ("", "", "its own", int((y == 0).sum()), int((y == 1).sum()), len(np.unique(groups)))
    parts: list[tuple[tuple[Any, ...], Scores, Mapping[str, Interval]]] = [
        (whole, evaluation.video, evaluation.video_intervals)
    ]
    for one in evaluation.subsets:
        about = (one.column, one.value, one.against, one.real_videos, one.fake_videos, one.groups)
        parts.append((about, one.scores, one.intervals))
    return pa.Table.from_pylist(
        [
            dict(zip(BY_SCHEMA.names, (*about, name, value, *intervals[name]), strict=True))
            for about, scores, intervals in parts
            for name, value in scores.named("").items()
        ],
        schema=BY_SCHEMA,
    )
