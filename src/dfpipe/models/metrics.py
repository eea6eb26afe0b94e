"""How well probabilities fit labels, counted by face and by video, with intervals.

Every figure is worked out from how often each row counts. So one piece of code gives the figures of a set, where each
counts once, and those of a thousand resamples, where some count twice and others not at all. ``fake`` is the positive
class throughout; docs/metrics.md has the definitions with their sources.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError
from dfpipe.models.bootstrap import group_weights
from dfpipe.settings import BootstrapSettings

__all__ = ["ECE_BINS", "THRESHOLD", "Interval", "Scores", "differences", "equal_mass_bins", "frame_level"]
__all__ += ["intervals", "roc_points", "video_level", "video_scores"]

THRESHOLD = 0.5
"""A face counts as fake when its score is at least this, and so does a video for which no other was chosen."""

ECE_BINS = 10
"""Bins of the expected calibration error and of the reliability diagram; each holds as many rows as any other."""

CELLS_AT_ONCE = 2_000_000
"""Resamples times rows that are worked on together; bounds the memory to some 100 MB."""


class Interval(NamedTuple):
    """A percentile interval; nan where there is nothing to draw from."""

    low: float
    """Lower end."""
    high: float
    """Upper end."""


@dataclass(frozen=True, slots=True)
class Scores:
    """How well probabilities fit labels; ``fake`` is the positive class."""

    accuracy: float
    """Share that is right."""
    balanced_accuracy: float
    """Mean of the two recalls."""
    auc: float
    """Area under the ROC curve; nan where only one class is present, as are the next four."""
    pr_auc: float
    """Average precision: precision at each score, weighted by the recall that it adds."""
    eer: float
    """Equal error rate: where as large a share of the real as of the fake is wrong, on the line between ROC points."""
    tpr_at_fpr_1: float
    """Share of the fake found at the lowest threshold that calls at most 1 % of the real fake; never interpolated."""
    tpr_at_fpr_5: float
    """The same for at most 5 %."""
    log_loss: float
    """Mean negative log likelihood, in nats."""
    brier: float
    """Mean squared difference between probability and truth, 0 to 1."""
    ece: float
    """Expected calibration error over `ECE_BINS` bins of equal mass."""
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


FIGURES = tuple(field.name for field in fields(Scores) if field.type is float)


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


def frame_level(y: NDArray[np.int8], proba: NDArray[np.floating], *, threshold: float = THRESHOLD) -> Scores:
    """Score every row on its own.

    Parameters
    ----------
    y
        Labels, shape (n,): 0 real, 1 fake.
    proba
        Probability of fake, shape (n,).
    threshold
        Called fake from here on.

    Raises
    ------
    TrainingDataError
        No rows, or a probability that is none.
    """
    values = _figures(*_checked(y, proba), np.ones((1, len(y)), np.int64), threshold)
    return Scores(**{one.name: one.type(values[one.name][0]) for one in fields(Scores)})  # type: ignore[operator]


def video_level(
    y: NDArray[np.int8], proba: NDArray[np.floating], video: NDArray[np.integer], *, threshold: float = THRESHOLD
) -> Scores:
    """Score every video by the mean probability of its faces.

    Parameters
    ----------
    y
        Labels of the faces, shape (n,): 0 real, 1 fake; equal within a video.
    proba
        Probability of fake for each face, shape (n,).
    video
        Any integer that names each face's video, shape (n,).
    threshold
        Called fake from here on.
    """
    _, first, member = np.unique(video, return_index=True, return_inverse=True)
    return frame_level(y[first], video_scores(proba, member, len(first)), threshold=threshold)


def intervals(
    y: NDArray[np.int8],
    proba: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    threshold: float = THRESHOLD,
    bootstrap: BootstrapSettings,
) -> Mapping[str, Interval]:
    """Return the percentile interval of every figure of `Scores`, by resampling whole groups.

    A resample that lacks a class which the rows have is left out, as most figures are undefined there.

    Parameters
    ----------
    y
        Labels, shape (n,): 0 real, 1 fake.
    proba
        Probability of fake, shape (n,).
    groups
        Group of people of each row, shape (n,).
    threshold
        Called fake from here on.
    bootstrap
        How many resamples, which percentiles.

    Returns
    -------
    mapping of str to Interval
        nan where there are fewer than two groups: one group says nothing of others.
    """
    y, proba = _checked(y, proba)
    return _resampled(y, groups, lambda weights: _figures(y, proba, weights, threshold), bootstrap)


def differences(
    y: NDArray[np.int8],
    proba: NDArray[np.floating],
    other: NDArray[np.floating],
    groups: NDArray[np.integer],
    *,
    bootstrap: BootstrapSettings,
) -> Mapping[str, tuple[float, Interval]]:
    """Return by how much every figure of `Scores` is larger than another model's on the same rows, with its interval.

    The difference is paired: each resample scores both models on the same rows.

    Parameters
    ----------
    y
        Labels, shape (n,): 0 real, 1 fake.
    proba, other
        Each model's probability of fake, shape (n,).
    groups
        Group of people of each row, shape (n,).
    bootstrap
        How many resamples, which percentiles.

    Returns
    -------
    mapping of str to (float, Interval)
        nan as in `intervals`.
    """
    (y, proba), (_, other) = _checked(y, proba), _checked(y, other)

    def of(weights: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        one, two = (_figures(y, values, weights, THRESHOLD) for values in (proba, other))
        return {name: one[name] - two[name] for name in FIGURES}

    found = _resampled(y, groups, of, bootstrap)
    whole = of(np.ones((1, len(y)), np.int64))
    return {name: (float(whole[name][0]), found[name]) for name in FIGURES}


def _resampled(
    y: NDArray[np.int8],
    groups: NDArray[np.integer],
    figures: Callable[[NDArray[np.int64]], Mapping[str, NDArray[np.float64]]],
    bootstrap: BootstrapSettings,
) -> dict[str, Interval]:
    if len(np.unique(groups)) < 2:
        return dict.fromkeys(FIGURES, Interval(float("nan"), float("nan")))
    kinds = len(np.unique(y))
    drawn: dict[str, list[NDArray[np.float64]]] = {name: [] for name in FIGURES}
    resamples = group_weights(groups, samples=bootstrap.samples, seed=bootstrap.seed)
    while block := list(islice(resamples, max(1, CELLS_AT_ONCE // len(y)))):
        weights = np.stack(block)
        fake = weights @ y
        both = (fake > 0).astype(int) + (fake < weights.sum(axis=1)) == kinds
        values = figures(weights[both])
        for name in FIGURES:
            drawn[name].append(values[name])
    tail = (1 - bootstrap.confidence) / 2
    return {name: _percentiles(np.concatenate(parts), tail) for name, parts in drawn.items()}


def equal_mass_bins(proba: NDArray[np.floating], bins: int = ECE_BINS) -> NDArray[np.intp]:
    """Return the bin of each probability, from 0: bins of as equal counts as ties allow, equal values in one bin.

    Parameters
    ----------
    proba
        Probabilities, shape (n,).
    bins
        Most bins; fewer where values tie.

    Examples
    --------
    >>> equal_mass_bins(np.array([0.9, 0.1, 0.1, 0.3]), bins=2)
    array([1, 0, 0, 1])
    """
    _, first, member = np.unique(np.sort(proba), return_index=True, return_inverse=True)
    of_sorted = (first * bins // max(len(proba), 1))[member]
    of_rows = np.empty(len(proba), np.intp)
    of_rows[np.argsort(proba, kind="stable")] = of_sorted
    return np.unique(of_rows, return_inverse=True)[1]


def roc_points(
    y: NDArray[np.int8], proba: NDArray[np.floating], weights: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the real and the fake at or above each distinct score, from none to all.

    Parameters
    ----------
    y
        Labels, shape (n,): 0 real, 1 fake.
    proba
        Probability of fake, shape (n,).
    weights
        Times that each row counts, shape (samples, n).

    Returns
    -------
    false_fake, true_fake
        int64, shape (samples, distinct scores + 1), rising along the second axis.
    """
    order = np.argsort(-proba, kind="stable")
    last_of_ties = np.flatnonzero(np.append(np.diff(proba[order]) != 0, True))
    ordered = weights[:, order]
    fake = np.cumsum(ordered * y[order], axis=1)[:, last_of_ties]
    real = np.cumsum(ordered * (1 - y[order]), axis=1)[:, last_of_ties]
    return np.pad(real, ((0, 0), (1, 0))), np.pad(fake, ((0, 0), (1, 0)))


def _figures(
    y: NDArray[np.int8], proba: NDArray[np.float64], weights: NDArray[np.int64], threshold: float
) -> dict[str, NDArray[np.float64]]:
    """Return every figure and count of `Scores` for each row of weights, shape (samples,)."""
    total = weights.sum(axis=1)
    tiny = np.finfo(np.float64).eps
    bounded = np.clip(proba, tiny, 1 - tiny)
    loss = -np.log(np.where(y == 1, bounded, 1 - bounded))
    in_bin = np.eye(ECE_BINS)[equal_mass_bins(proba)]
    off = np.abs(weights @ (in_bin * (proba - y)[:, None])).sum(axis=1)
    called = proba >= threshold
    cells = np.stack([(y == truth) & (called == verdict) for truth in (0, 1) for verdict in (False, True)], axis=1)
    true_real, false_fake, false_real, true_fake = (weights @ cells).T
    recall_real, recall_fake = _share(true_real, true_real + false_fake), _share(true_fake, true_fake + false_real)
    present = np.stack([true_real + false_fake, true_fake + false_real]) > 0
    return {
        "accuracy": (true_real + true_fake) / total,
        "balanced_accuracy": (recall_real + recall_fake) / present.sum(axis=0),
        **_ranking(y, proba, weights),
        "log_loss": weights @ loss / total,
        "brier": weights @ (proba - y) ** 2 / total,
        "ece": off / total,
        "precision_real": _share(true_real, true_real + false_real),
        "recall_real": recall_real,
        "f1_real": _share(2 * true_real, 2 * true_real + false_fake + false_real),
        "precision_fake": _share(true_fake, true_fake + false_fake),
        "recall_fake": recall_fake,
        "f1_fake": _share(2 * true_fake, 2 * true_fake + false_fake + false_real),
        "true_real": true_real,
        "false_fake": false_fake,
        "false_real": false_real,
        "true_fake": true_fake,
    }


def _ranking(
    y: NDArray[np.int8], proba: NDArray[np.float64], weights: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Return the figures that follow from the order of the scores alone; nan where a class is missing."""
    false_fake, true_fake = roc_points(y, proba, weights)
    real, fake = false_fake[:, -1:], true_fake[:, -1:]
    defined = (real * fake)[:, 0] > 0
    with np.errstate(invalid="ignore", divide="ignore"):
        # Whole numbers up to the one division, so that resamples of equal order have exactly equal areas.
        twice = (np.diff(false_fake) * (true_fake[:, 1:] + true_fake[:, :-1])).sum(axis=1)
        precision = _share(true_fake[:, 1:], true_fake[:, 1:] + false_fake[:, 1:])
        figures = {
            "auc": twice / (2 * real * fake)[:, 0],
            "pr_auc": (np.diff(true_fake) * precision).sum(axis=1) / fake[:, 0],
            "eer": _equal_error_rate(false_fake / real, 1 - true_fake / fake),
            "tpr_at_fpr_1": _found_at(0.01, false_fake, true_fake),
            "tpr_at_fpr_5": _found_at(0.05, false_fake, true_fake),
        }
    return {name: np.where(defined, values, np.nan) for name, values in figures.items()}


def _equal_error_rate(false_fake: NDArray[np.float64], false_real: NDArray[np.float64]) -> NDArray[np.float64]:
    # The one rate rises from 0 to 1 along the curve as the other falls, so they cross once.
    apart = false_fake - false_real
    after = np.maximum(np.argmax(apart >= 0, axis=1), 1)
    rows = np.arange(len(after))
    below, above = apart[rows, after - 1], apart[rows, after]
    step = false_fake[rows, after] - false_fake[rows, after - 1]
    rate: NDArray[np.float64] = false_fake[rows, after - 1] + step * -below / (above - below)
    return rate


def _found_at(rate: float, false_fake: NDArray[np.int64], true_fake: NDArray[np.int64]) -> NDArray[np.float64]:
    # Of 20 real ones 1 % is none: the last point before the first false alarm, never a point between two that exist.
    allowed = np.floor(rate * false_fake[:, -1:] + 1e-9)
    last = (false_fake <= allowed).sum(axis=1) - 1
    found: NDArray[np.float64] = true_fake[np.arange(len(last)), last] / true_fake[:, -1]
    return found


def _share(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """Divide, with 0 for a share of nothing."""
    share: NDArray[np.float64] = np.divide(part, whole, out=np.zeros(part.shape), where=whole > 0)
    return share


def _percentiles(values: NDArray[np.float64], tail: float) -> Interval:
    defined = values[~np.isnan(values)]
    if not len(defined):
        return Interval(float("nan"), float("nan"))
    low, high = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(low), float(high))


def _checked(y: NDArray[np.int8], proba: NDArray[np.floating]) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    values: NDArray[np.float64] = np.asarray(proba, np.float64)
    if not len(y) or values.shape != y.shape:
        raise TrainingDataError(f"got {len(y)} labels and probabilities of shape {values.shape}, expected one for each")
    wrong = ~((values >= 0) & (values <= 1))
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise TrainingDataError(f"the model gave {values[row]} for row {row}, expected a probability from 0 to 1")
    return y, values
