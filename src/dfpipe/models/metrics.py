"""How well probabilities fit labels, counted by face and by video."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["THRESHOLD", "Scores", "frame_level", "video_level", "video_scores"]

THRESHOLD = 0.5
"""A face or video counts as fake when its score is at least this."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How well probabilities fit labels; ``fake`` is the positive class."""

    accuracy: float
    """Share that is right."""
    balanced_accuracy: float
    """Mean of the two recalls."""
    auc: float
    """Area under the ROC curve; nan where only one class is present."""
    log_loss: float
    """Mean negative log likelihood, in nats."""
    precision_real: float
    """Of those called real, the share that is."""
    recall_real: float
    """Of the real ones, the share called so."""
    f1_real: float
    """Harmonic mean of the two above."""
    precision_fake: float
    """Of those called fake, the share that is."""
    recall_fake: float
    """Of the fake ones, the share called so."""
    f1_fake: float
    """Harmonic mean of the two above."""
    true_real: int
    """Real ones called real."""
    false_fake: int
    """Real ones called fake."""
    false_real: int
    """Fake ones called real."""
    true_fake: int
    """Fake ones called fake."""

    @property
    def confusion(self) -> NDArray[np.int64]:
        """Counts, shape (2, 2): truth down, verdict across, real before fake."""
        return np.array([[self.true_real, self.false_fake], [self.false_real, self.true_fake]], np.int64)

    def named(self, prefix: str) -> Mapping[str, float]:
        """Return every figure but the counts by name, such as ``video_auc`` for the prefix ``video_``."""
        return {prefix + name: value for name, value in asdict(self).items() if isinstance(value, float)}


def video_scores(proba: NDArray[np.floating], video: NDArray[np.integer], n: int) -> NDArray[np.float64]:
    """Average the probabilities of each video's faces.

    Parameters
    ----------
    proba
        Probability of fake for each face, shape (rows,).
    video
        Index of its video, shape (rows,), from 0 to n - 1.
    n
        Number of videos.

    Returns
    -------
    ndarray of float64, shape (n,)
        Score of each video, nan for one without faces.

    Examples
    --------
    >>> video_scores(np.array([0.2, 0.4, 1.0]), np.array([0, 0, 1]), 2)
    array([0.3, 1. ])
    """
    faces = np.bincount(video, minlength=n)
    sums = np.bincount(video, weights=proba, minlength=n)
    scores: NDArray[np.float64] = np.divide(sums, faces, out=np.full(n, np.nan), where=faces > 0)
    return scores


def frame_level(y: NDArray[np.int8], proba: NDArray[np.floating]) -> Scores:
    """Score every face on its own.

    Parameters
    ----------
    y
        Labels, shape (n,): 0 real, 1 fake.
    proba
        Probability of fake, shape (n,).
    """
    from sklearn import metrics  # noqa: PLC0415 - a second of import, spared to whoever only reads the types

    called = (proba >= THRESHOLD).astype(np.int8)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(y, called, labels=[0, 1], zero_division=0)
    present = np.bincount(y, minlength=2) > 0
    confusion = metrics.confusion_matrix(y, called, labels=[0, 1])
    return Scores(
        accuracy=float(np.mean(y == called)),
        balanced_accuracy=float(recall[present].mean()),
        auc=float(metrics.roc_auc_score(y, proba)) if present.all() else float("nan"),
        log_loss=float(metrics.log_loss(y, np.asarray(proba, np.float64), labels=[0, 1])),
        precision_real=float(precision[0]),
        recall_real=float(recall[0]),
        f1_real=float(f1[0]),
        precision_fake=float(precision[1]),
        recall_fake=float(recall[1]),
        f1_fake=float(f1[1]),
        true_real=int(confusion[0, 0]),
        false_fake=int(confusion[0, 1]),
        false_real=int(confusion[1, 0]),
        true_fake=int(confusion[1, 1]),
    )


def video_level(y: NDArray[np.int8], proba: NDArray[np.floating], video: NDArray[np.integer]) -> Scores:
    """Score every video by the mean probability of its faces.

    Parameters
    ----------
    y
        Labels of the faces, shape (n,): 0 real, 1 fake; equal within a video.
    proba
        Probability of fake for each face, shape (n,).
    video
        Any integer that names each face's video, shape (n,).
    """
    _, first, member = np.unique(video, return_index=True, return_inverse=True)
    return frame_level(y[first], video_scores(proba, member, len(first)))
