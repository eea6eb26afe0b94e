"""The search for the best candidate: fits on folds, as tasks that can run anywhere in any order.

Successive halving follows Jamieson and Talwalkar, "Non-stochastic best arm identification and hyperparameter
optimization" (2016), with the budget counted in groups of people and the schedule of scikit-learn's
``HalvingGridSearchCV(min_resources="exhaust")``.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError
from dfpipe.models.data import REAL_AND_FAKE, TrainingData
from dfpipe.models.growing import Alike, alike, proba_at, size
from dfpipe.models.kinds import ModelKind
from dfpipe.models.memory import why_too_large
from dfpipe.models.metrics import THRESHOLD, frame_level, video_level
from dfpipe.models.specs import CALIBRATION_FOLDS, Candidate, fit
from dfpipe.models.splits import Rows
from dfpipe.settings.search import OWN_FIGURES, SearchSettings

__all__ = [
    "CandidateResult",
    "FoldResult",
    "FoldTask",
    "RunTasks",
    "SearchResult",
    "lower_is_better",
    "run_fold",
    "run_here",
    "search",
]

T = TypeVar("T")
R = TypeVar("R")

WORKER_DIED = (
    "its worker died twice over it, alone the second time; it may need more memory than the worker has: see "
    "dask.memory_per_worker"
)
"""Why a fit failed that took its worker with it."""

BETTER_WHEN_LOWER = ("_log_loss", "_brier", "_eer")
"""Ends of the names of figures that measure what is wrong."""

NO_PROBA = np.empty(0, np.float32)
NO_ROWS = np.empty(0, np.intp)


class RunTasks(Protocol):
    """Calls a function on many items, here or on a cluster."""

    def __call__(
        self, function: Callable[[Any, T], R], items: Sequence[T], *, shared: Any, lost: Callable[[T], R]
    ) -> Iterable[R]:
        """Return ``function(shared, item)`` for every item, in any order, or ``lost(item)`` where it kills workers."""


def run_here(
    function: Callable[[Any, T], R],
    items: Sequence[T],
    *,
    shared: Any,
    lost: Callable[[T], R],  # noqa: ARG001 - what kills this process has nobody to tell
) -> Iterable[R]:
    """Call the function on one item after the other in this thread."""
    return (function(shared, item) for item in items)


@dataclass(frozen=True, slots=True, eq=False)
class FoldTask:
    """One fit on one fold, and all candidates that it answers for."""

    candidates: Alike
    """What to fit: the last; the others are its beginnings."""
    fold: int
    """Number of the fold, from 0."""
    train_rows: Rows
    """Rows to learn from."""
    valid_rows: Rows
    """Rows to score."""
    scoring: str = "video_auc"
    """Figure that ranks candidates; a scorer of scikit-learn's is worked out beside the others."""


@dataclass(frozen=True, slots=True, eq=False)
class FoldResult:
    """How a candidate did on a fold."""

    candidate: Candidate
    """What was fitted."""
    fold: int
    """Number of the fold, from 0."""
    metrics: Mapping[str, float]
    """Figures by name (``frame_accuracy``, ``video_auc`` and so on); empty where it failed."""
    seconds: float
    """Time that it took. Of one fit that answers for several candidates, each has the part that it added: its
    estimators beyond those of the next smaller, so that the seconds of all sum up to what was spent."""
    error: str | None
    """Why it failed, in one line; None where it did not."""
    rows: Rows = field(default_factory=lambda: NO_ROWS)
    """Rows that were scored; empty where it failed."""
    proba: NDArray[np.float32] = field(default_factory=lambda: NO_PROBA)
    """Probability of fake of each of ``rows``, in their order; empty where it failed."""


@dataclass(frozen=True, slots=True, eq=False)
class CandidateResult:
    """How a candidate did over all folds."""

    candidate: Candidate
    """What was fitted."""
    folds: tuple[FoldResult, ...]
    """Every fold, by number; of successive halving, those of the last round that it was in."""
    round: int = 0
    """Last round of successive halving that it was in, from 0; figures of different rounds are not comparable."""
    share: float = 1.0
    """Share of the training side's groups of people that it learnt from in that round."""

    @property
    def error(self) -> str | None:
        """Why the first failed fold failed; None where none did."""
        return next((fold.error for fold in self.folds if fold.error is not None), None)

    @property
    def seconds(self) -> float:
        """Time that all folds took together."""
        return sum(fold.seconds for fold in self.folds)

    @property
    def mean(self) -> Mapping[str, float]:
        """Mean of each figure over the folds; empty for a failed candidate."""
        return self._over_folds(np.mean)

    @property
    def std(self) -> Mapping[str, float]:
        """Standard deviation of each figure over the folds; empty for a failed candidate."""
        return self._over_folds(np.std)

    @property
    def out_of_fold(self) -> tuple[Rows, NDArray[np.float32]]:
        """Every row that was scored, in rising order, with its probability of fake from the fold that held it out.

        Empty for a candidate that failed on any fold: what is left would be a chosen part.
        """
        if self.error is not None:
            return NO_ROWS, NO_PROBA
        rows = np.concatenate([fold.rows for fold in self.folds])
        order = np.argsort(rows, kind="stable")
        return rows[order], np.concatenate([fold.proba for fold in self.folds])[order]

    def _over_folds(self, fold_up: Callable[[list[float]], Any]) -> Mapping[str, float]:
        if self.error is not None:
            return {}
        return {name: float(fold_up([fold.metrics[name] for fold in self.folds])) for name in self.folds[0].metrics}


@dataclass(frozen=True, slots=True, eq=False)
class SearchResult:
    """Every candidate with its figures."""

    ranking: tuple[CandidateResult, ...]
    """By the mean of the figure in validation, then by video log loss, best first. Whoever came into a later round of
    successive halving stands before those that did not; failed candidates come last."""
    scoring: str = "video_auc"
    """The figure by which they are ranked."""

    @property
    def best(self) -> CandidateResult:
        """The candidate that did best in validation."""
        return self.ranking[0]

    @property
    def best_per_model(self) -> Mapping[ModelKind, CandidateResult]:
        """The best candidate of each kind of model that did not fail, best kind first."""
        best: dict[ModelKind, CandidateResult] = {}
        for result in self.ranking:
            if result.error is None:
                best.setdefault(result.candidate.model, result)
        return best


def lower_is_better(scoring: str) -> bool:
    """Tell whether a figure measures what is wrong; scikit-learn's scorers are all better when higher."""
    return scoring in OWN_FIGURES and scoring.endswith(BETTER_WHEN_LOWER)


def run_fold(data: TrainingData, task: FoldTask) -> tuple[FoldResult, ...]:
    """Fit on one side of a fold and score every candidate that the fit answers for on the other.

    What a candidate raises becomes a failed result, so that one bad point of the grid does not end the search.
    """
    started = time.perf_counter()
    try:
        model = fit(task.candidates[-1], data, task.train_rows)
        answers = proba_at(task.candidates, model, data, task.valid_rows)
    except Exception as raised:  # noqa: BLE001 - whatever a library raises over its parameters
        return _failed(task, " ".join(f"{type(raised).__name__}: {raised}".split()), time.perf_counter() - started)
    shares = _shares(task.candidates)
    fitted = time.perf_counter() - started
    results = []
    for candidate, proba, share in zip(task.candidates, answers, shares, strict=True):
        started = time.perf_counter()
        metrics: Mapping[str, float] = {}
        error = None
        try:
            metrics = _figures(data, task, proba)
        except Exception as raised:  # noqa: BLE001 - whatever a scorer raises
            error = " ".join(f"{type(raised).__name__}: {raised}".split())
        seconds = fitted * share + time.perf_counter() - started
        if error is None:
            told = proba.astype(np.float32)
            results.append(FoldResult(candidate, task.fold, metrics, seconds, None, task.valid_rows, told))
        else:
            results.append(FoldResult(candidate, task.fold, {}, seconds, error))
    return tuple(results)


def search(
    data: TrainingData,
    folds: Sequence[tuple[Rows, Rows]],
    candidates: Sequence[Candidate],
    *,
    settings: SearchSettings | None = None,
    memory_bytes: int | None = None,
    run_tasks: RunTasks = run_here,
) -> SearchResult:
    """Try candidates on every fold and rank them.

    Parameters
    ----------
    data
        Rows to learn from.
    folds
        (train, validation) rows of each fold.
    candidates
        Points of the grid.
    settings
        Which of them are tried on what, and what ranks them; None is a grid search by video AUC.
    memory_bytes
        What a fit may take beside the rows, where it runs; a candidate that is predicted to need more fails without
        being tried. None sets no bound.
    run_tasks
        Where and how the fits run.

    Raises
    ------
    TrainingDataError
        A fold lacks a class on one of its sides, or every candidate failed.
    """
    settings = settings or SearchSettings()
    _check_folds(data, folds)
    tried = _drawn(candidates, settings) if settings.method == "random" else list(candidates)
    refused = _refused(data, folds, tried, memory_bytes)
    waiting = [candidate for candidate in tried if candidate not in refused]
    results = {
        candidate: CandidateResult(candidate, tuple(FoldResult(candidate, n, {}, 0, why) for n in range(len(folds))))
        for candidate, why in refused.items()
    }
    shares = _rounds(len(waiting), settings.factor) if settings.method == "halving" else [1.0]
    for number, share in enumerate(shares):
        tasks = [
            FoldTask(together, fold, _people(data, train, share, settings.seed), valid, settings.scoring)
            for together in alike(waiting)
            for fold, (train, valid) in enumerate(folds)
        ]
        done: dict[Candidate, list[FoldResult]] = defaultdict(list)
        for scored in run_tasks(run_fold, tasks, shared=data, lost=_lost):
            for result in scored:
                done[result.candidate].append(result)
        of_round = [
            CandidateResult(candidate, tuple(sorted(scored, key=lambda one: one.fold)), number, share)
            for candidate, scored in done.items()
        ]
        results |= {result.candidate: result for result in of_round}
        ranked = sorted((one for one in of_round if one.error is None), key=lambda one: _rank(one, settings.scoring))
        kept = {one.candidate for one in ranked[: math.ceil(len(waiting) / settings.factor)]}
        # In the order of the grid, so that ties do not depend on who was ready first.
        waiting = [candidate for candidate in waiting if candidate in kept]
    found = SearchResult(
        tuple(sorted((results[one] for one in dict.fromkeys(tried)), key=lambda one: _rank(one, settings.scoring))),
        settings.scoring,
    )
    if found.best.error is not None:
        raise TrainingDataError(
            f"all {len(tried)} candidates failed, the first with {found.best.error}; mend the grid in train"
        )
    return found


def _shares(together: Alike) -> list[float]:
    """Return which part of a fit's time each candidate added."""
    if len(together) == 1:
        return [1.0]
    sizes = [size(one) or 0 for one in together]
    return [(more - fewer) / sizes[-1] for fewer, more in pairwise([0, *sizes])]


def _figures(data: TrainingData, task: FoldTask, proba: NDArray[np.float64]) -> Mapping[str, float]:
    y, video = data.y[task.valid_rows], data.video[task.valid_rows]
    figures = {**frame_level(y, proba).named("frame_"), **video_level(y, proba, video).named("video_")}
    if task.scoring not in OWN_FIGURES:
        figures[task.scoring] = _scored(task.scoring, y, proba)
    if not math.isfinite(figures[task.scoring]):
        raise TrainingDataError(f"{task.scoring} is {figures[task.scoring]} on fold {task.fold}, which ranks nothing")
    return figures


def _scored(name: str, y: NDArray[np.int8], proba: NDArray[np.float64]) -> float:
    """Ask a scorer of scikit-learn's, which wants to see an estimator, about probabilities that are known."""
    from sklearn.base import BaseEstimator, ClassifierMixin  # noqa: PLC0415 - slow to import
    from sklearn.metrics import get_scorer  # noqa: PLC0415 - slow to import

    class Told(ClassifierMixin, BaseEstimator):  # type: ignore[misc] # scikit-learn has no types
        classes_ = np.array([0, 1])

        def predict_proba(self, X: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.column_stack([1 - X, X])

        def predict(self, X: NDArray[np.float64]) -> NDArray[np.int8]:
            return (X >= THRESHOLD).astype(np.int8)

    return float(get_scorer(name)(Told(), proba, y))


def _failed(task: FoldTask, error: str, seconds: float) -> tuple[FoldResult, ...]:
    shares = _shares(task.candidates)
    return tuple(
        FoldResult(candidate, task.fold, {}, seconds * share, error)
        for candidate, share in zip(task.candidates, shares, strict=True)
    )


def _lost(task: FoldTask) -> tuple[FoldResult, ...]:
    return _failed(task, WORKER_DIED, 0.0)


def _check_folds(data: TrainingData, folds: Sequence[tuple[Rows, Rows]]) -> None:
    for number, sides in enumerate(folds):
        for side, rows in zip(("training", "validation"), sides, strict=True):
            counts = np.bincount(data.y[rows], minlength=2)
            if not counts.all():
                raise TrainingDataError(
                    f"the {side} side of fold {number} has {counts[0]} real and {counts[1]} fake rows, expected both "
                    f"classes; ask for fewer folds, or add {REAL_AND_FAKE[int(np.argmin(counts))]} videos"
                )


def _drawn(candidates: Sequence[Candidate], settings: SearchSettings) -> list[Candidate]:
    """Draw candidates without replacement, in the order of the grid."""
    order = np.random.default_rng(settings.seed).permutation(len(candidates))
    return [candidates[index] for index in sorted(order[: settings.n_iter])]


def _refused(
    data: TrainingData, folds: Sequence[tuple[Rows, Rows]], candidates: Sequence[Candidate], memory_bytes: int | None
) -> dict[Candidate, str]:
    """Say why candidates cannot be tried where a fit has so much memory."""
    rows = max(len(train) for train, _ in folds)
    reasons = {candidate: why_too_large(candidate, data, rows, memory_bytes) for candidate in candidates}
    return {candidate: why for candidate, why in reasons.items() if why is not None}


def _rounds(candidates: int, factor: int) -> list[float]:
    """Return the share of the people that each round of successive halving learns from; the last has all.

    Examples
    --------
    >>> _rounds(9, 3)
    [0.1111111111111111, 0.3333333333333333, 1.0]
    >>> _rounds(2, 3)
    [1.0]
    """
    # In whole numbers, as the logarithm of 243 to the base 3 is less than 5 for a computer.
    rounds = 1
    while factor**rounds <= candidates:
        rounds += 1
    return [1.0 / factor**later for later in reversed(range(rounds))]


def _people(data: TrainingData, rows: Rows, share: float, seed: int) -> Rows:
    """Return the rows of a share of the groups of people, the same and more for a larger share.

    At least as many groups with either class as a candidate may divide its training side into.
    """
    if share == 1:
        return rows
    of_row = data.groups[data.video[rows]]
    groups, member = np.unique(of_row, return_inverse=True)
    place = np.argsort(np.random.default_rng(seed).permutation(len(groups)))[member]
    with_class = (np.unique(place[data.y[rows] == label]) for label in (0, 1))
    enough = max(int(places[:CALIBRATION_FOLDS][-1]) + 1 for places in with_class)
    return rows[place < max(enough, round(share * len(groups)))]


def _rank(result: CandidateResult, scoring: str) -> tuple[bool, int, float, float]:
    mean = result.mean
    if not mean:
        return (True, 0, 0.0, 0.0)
    # Some of dfpipe's own figures are better when lower; scikit-learn's scorers are all better when higher.
    better = mean[scoring] if lower_is_better(scoring) else -mean[scoring]
    return (False, -result.round, better, mean["video_log_loss"])
