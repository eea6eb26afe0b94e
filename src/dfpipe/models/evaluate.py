"""The final figures: a candidate fitted to all training videos and scored on people it has never seen."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.models.data import TrainingData
from dfpipe.models.growing import proba_at
from dfpipe.models.metrics import Scores, frame_level, video_level, video_scores
from dfpipe.models.specs import Candidate, fit
from dfpipe.models.splits import Rows

__all__ = ["Evaluation", "VideoPrediction", "refit_and_evaluate"]


@dataclass(frozen=True, slots=True)
class VideoPrediction:
    """What a model says of one held-out video."""

    video_id: str
    """Key of the video."""
    label: int
    """The truth: 0 real, 1 fake."""
    score: float
    """Mean probability of fake over its faces."""
    frames: int
    """Number of faces scored."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A fitted candidate and how it did on the held-out videos."""

    candidate: Candidate
    """What was fitted."""
    model: Any
    """The fitted classifier, with ``predict_proba``."""
    frame: Scores
    """Figures by face."""
    video: Scores
    """Figures by video."""
    predictions: tuple[VideoPrediction, ...]
    """Every held-out video."""
    y_frame: NDArray[np.int8]
    """Labels of the held-out faces, shape (n,): 0 real, 1 fake."""
    proba_frame: NDArray[np.float64]
    """Their probability of fake, shape (n,)."""

    @property
    def y_video(self) -> NDArray[np.int8]:
        """Labels of the held-out videos, shape (n_test_videos,)."""
        return np.array([prediction.label for prediction in self.predictions], np.int8)

    @property
    def proba_video(self) -> NDArray[np.float64]:
        """Their scores, shape (n_test_videos,)."""
        return np.array([prediction.score for prediction in self.predictions], np.float64)


def refit_and_evaluate(data: TrainingData, train_rows: Rows, test_rows: Rows, candidate: Candidate) -> Evaluation:
    """Fit a candidate to all training rows and score it on the held-out ones.

    Parameters
    ----------
    data
        All rows.
    train_rows, test_rows
        The rows on each side.
    candidate
        What to fit.
    """
    model = fit(candidate, data, train_rows)
    (proba,) = proba_at((candidate,), model, data, test_rows)
    y, video = data.y[test_rows], data.video[test_rows]
    scores = video_scores(proba, video, len(data.video_ids))
    frames = np.bincount(video, minlength=len(data.video_ids))
    labels = data.video_labels
    return Evaluation(
        candidate=candidate,
        model=model,
        frame=frame_level(y, proba),
        video=video_level(y, proba, video),
        predictions=tuple(
            VideoPrediction(data.video_ids[index], int(labels[index]), float(scores[index]), int(frames[index]))
            for index in np.unique(video)
        ),
        y_frame=y,
        proba_frame=proba,
    )
