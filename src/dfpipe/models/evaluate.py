"""The final figures: a candidate fitted to all training videos and scored on people it has never seen."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfpipe.models.calibration import VerdictRule, fit_rule
from dfpipe.models.data import TrainingData
from dfpipe.models.growing import proba_at
from dfpipe.models.metrics import Interval, Scores, frame_level, intervals, video_scores
from dfpipe.models.search import CandidateResult
from dfpipe.models.specs import Candidate, fit
from dfpipe.models.splits import Rows
from dfpipe.settings import BootstrapSettings, EvaluationSettings

__all__ = ["Evaluation", "Subset", "VideoPrediction", "refit_and_evaluate", "rule_of", "subsets"]


@dataclass(frozen=True, slots=True)
class VideoPrediction:
    """What a model says of one held-out video."""

    video_id: str
    """Key of the video."""
    label: int
    """The truth: 0 real, 1 fake."""
    score: float
    """Mean probability of fake over its faces, as the model gives it."""
    probability: float
    """The score, calibrated: what a verdict goes by."""
    frames: int
    """Number of faces scored."""
    group: int
    """Group of people."""


@dataclass(frozen=True, slots=True, eq=False)
class Subset:
    """How a model did on the held-out videos that share a value in the catalog."""

    column: str
    """Column of the catalog."""
    value: str
    """Value in it."""
    against: Literal["its own", "all real", "all fake"]
    """What these videos are told from: those of the other class among themselves, or all there are, if they are of one
    class only."""
    real_videos: int
    """Real videos compared."""
    fake_videos: int
    """Fake videos compared."""
    groups: int
    """Groups of people among them."""
    scores: Scores
    """Figures by video."""
    intervals: Mapping[str, Interval]
    """Of each figure."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """A fitted candidate and how it did on the held-out videos."""

    candidate: Candidate
    """What was fitted."""
    model: Any
    """The fitted classifier, with ``predict_proba``."""
    rule: VerdictRule
    """How scores of videos become verdicts; it saw validation videos only."""
    frame: Scores
    """Figures by face, of the model's own probabilities."""
    video: Scores
    """Figures by video, of the calibrated probabilities at the rule's threshold."""
    video_uncalibrated: Scores
    """Figures by video of the scores before calibration, fake from one half on."""
    frame_intervals: Mapping[str, Interval]
    """Of each figure by face."""
    video_intervals: Mapping[str, Interval]
    """Of each figure by video."""
    subsets: tuple[Subset, ...]
    """The same figures of parts of the videos."""
    predictions: tuple[VideoPrediction, ...]
    """Every held-out video."""
    attributes: Mapping[str, tuple[str, ...]]
    """Values of columns of the catalog, in the order of ``predictions``."""
    settings: EvaluationSettings
    """By which this was made."""
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
        """Their calibrated probabilities, shape (n_test_videos,)."""
        return np.array([prediction.probability for prediction in self.predictions], np.float64)

    @property
    def score_video(self) -> NDArray[np.float64]:
        """Their scores before calibration, shape (n_test_videos,)."""
        return np.array([prediction.score for prediction in self.predictions], np.float64)

    @property
    def groups_video(self) -> NDArray[np.int32]:
        """Their groups of people, shape (n_test_videos,)."""
        return np.array([prediction.group for prediction in self.predictions], np.int32)


def rule_of(data: TrainingData, result: CandidateResult, settings: EvaluationSettings) -> VerdictRule:
    """Fit calibration and threshold to the scores that a candidate gave in validation.

    Each video was scored by a model that had not learned from anybody in it, and no test video is among them.

    Parameters
    ----------
    data
        All rows.
    result
        A candidate that did not fail.
    settings
        Method and rule.

    Raises
    ------
    TrainingDataError
        One class only.
    """
    rows, proba = result.out_of_fold
    videos, member = np.unique(data.video[rows], return_inverse=True)
    return fit_rule(data.video_labels[videos], video_scores(proba, member, len(videos)), settings)


def refit_and_evaluate(
    data: TrainingData,
    train_rows: Rows,
    test_rows: Rows,
    candidate: Candidate,
    *,
    rule: VerdictRule = VerdictRule(),  # noqa: B008 - a frozen value
    settings: EvaluationSettings = EvaluationSettings(),  # noqa: B008 - a frozen value
    attributes: Mapping[str, Sequence[str]] | None = None,
) -> Evaluation:
    """Fit a candidate to all training rows and score it on the held-out ones.

    Parameters
    ----------
    data
        All rows.
    train_rows, test_rows
        The rows on each side.
    candidate
        What to fit.
    rule
        How scores of videos become verdicts, fitted to validation videos.
    settings
        Intervals.
    attributes
        Columns of the catalog for each value of which figures are given, in the order of ``data.video_ids``.
    """
    model = fit(candidate, data, train_rows)
    (proba,) = proba_at((candidate,), model, data, test_rows)
    y, video = data.y[test_rows], data.video[test_rows]
    videos, member, faces = np.unique(video, return_inverse=True, return_counts=True)
    scores = video_scores(proba, member, len(videos))
    probabilities = rule.apply(scores)
    labels, groups = data.video_labels[videos], data.groups[videos]
    known = {name: tuple(values[index] for index in videos) for name, values in (attributes or {}).items()}
    threshold, bootstrap = rule.threshold, settings.bootstrap
    return Evaluation(
        candidate=candidate,
        model=model,
        rule=rule,
        frame=frame_level(y, proba),
        video=frame_level(labels, probabilities, threshold=threshold),
        video_uncalibrated=frame_level(labels, scores),
        frame_intervals=intervals(y, proba, data.groups[video], bootstrap=bootstrap),
        video_intervals=intervals(labels, probabilities, groups, threshold=threshold, bootstrap=bootstrap),
        subsets=tuple(subsets(labels, probabilities, groups, known, threshold=threshold, bootstrap=bootstrap)),
        predictions=tuple(
            VideoPrediction(data.video_ids[index], *values)
            for index, *values in zip(
                videos,
                labels.tolist(),
                scores.tolist(),
                probabilities.tolist(),
                faces.tolist(),
                groups.tolist(),
                strict=True,
            )
        ),
        attributes=known,
        settings=settings,
        y_frame=y,
        proba_frame=proba,
    )


def subsets(
    y: NDArray[np.int8],
    proba: NDArray[np.float64],
    groups: NDArray[np.integer],
    attributes: Mapping[str, Sequence[str]],
    *,
    threshold: float,
    bootstrap: BootstrapSettings,
) -> list[Subset]:
    """Give the figures of the videos of each value apart.

    Videos of one class only, such as the fakes of one method, are told from all videos of the other class. What would
    be the whole set again is left out: a column with one value, the real videos of the column ``manipulation``.

    Parameters
    ----------
    y
        Labels, shape (n,): 0 real, 1 fake.
    proba
        Calibrated probability of fake, shape (n,).
    groups
        Group of people of each video, shape (n,).
    attributes
        Values of each column, n of them.
    threshold
        Called fake from here on.
    bootstrap
        Intervals.
    """
    found = []
    for column, values in attributes.items():
        of = np.array(values)
        for value in np.unique(of):
            own = of == value
            labels = np.unique(y[own])
            against: Literal["its own", "all real", "all fake"] = "its own"
            compared = own
            if len(labels) == 1:
                against = "all real" if labels[0] == 1 else "all fake"
                compared = own | (y != labels[0])
            if compared.all():
                continue
            part = (y[compared], proba[compared])
            found.append(
                Subset(
                    column=column,
                    value=str(value),
                    against=against,
                    real_videos=int((part[0] == 0).sum()),
                    fake_videos=int((part[0] == 1).sum()),
                    groups=len(np.unique(groups[compared])),
                    scores=frame_level(*part, threshold=threshold),
                    intervals=intervals(*part, groups[compared], threshold=threshold, bootstrap=bootstrap),
                )
            )
    return found
