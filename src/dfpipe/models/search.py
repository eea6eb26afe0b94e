"""Grid search: every candidate on every fold, as tasks that can run anywhere in any order."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from dfpipe.errors import TrainingDataError
from dfpipe.models.data import TrainingData
from dfpipe.models.kinds import ModelKind
from dfpipe.models.metrics import frame_level, video_level
from dfpipe.models.specs import Candidate, fit
from dfpipe.models.splits import Rows

__all__ = ["CandidateResult", "FoldResult", "FoldTask", "RunTasks", "SearchResult", "run_fold", "run_here", "search"]

T = TypeVar("T")
R = TypeVar("R")


class RunTasks(Protocol):
    """Calls a function on many items, here or on a cluster."""

    def __call__(self, function: Callable[[Any, T], R], items: Sequence[T], *, shared: Any) -> Iterable[R]:
        """Return ``function(shared, item)`` for every item, in any order."""


def run_here(function: Callable[[Any, T], R], items: Sequence[T], *, shared: Any) -> Iterable[R]:
    """Call the function on one item after the other in this thread."""
    return (function(shared, item) for item in items)


@dataclass(frozen=True, slots=True, eq=False)
class FoldTask:
    """One candidate on one fold."""

    candidate: Candidate
    """What to fit."""
    fold: int
    """Number of the fold, from 0."""
    train_rows: Rows
    """Rows to learn from."""
    valid_rows: Rows
    """Rows to score."""


@dataclass(frozen=True, slots=True)
class FoldResult:
    """How a candidate did on a fold."""

    candidate: Candidate
    """What was fitted."""
    fold: int
    """Number of the fold, from 0."""
    metrics: Mapping[str, float]
    """Figures by name (``frame_accuracy``, ``video_auc`` and so on); empty where it failed."""
    seconds: float
    """Time that fitting and scoring took."""
    error: str | None
    """Why it failed, in one line; None where it did not."""


@dataclass(frozen=True, slots=True)
class CandidateResult:
    """How a candidate did over all folds."""

    candidate: Candidate
    """What was fitted."""
    folds: tuple[FoldResult, ...]
    """Every fold, by number."""

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

    def _over_folds(self, fold_up: Callable[[list[float]], Any]) -> Mapping[str, float]:
        if self.error is not None:
            return {}
        return {name: float(fold_up([fold.metrics[name] for fold in self.folds])) for name in self.folds[0].metrics}


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Every candidate with its figures."""

    ranking: tuple[CandidateResult, ...]
    """By mean video AUC in validation, then by video log loss, best first; failed candidates come last."""

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


def run_fold(data: TrainingData, task: FoldTask) -> FoldResult:
    """Fit a candidate on one side of a fold and score it on the other.

    What the candidate raises becomes a failed result, so that one bad point of the grid does not end the search.
    """
    started = time.perf_counter()
    metrics: Mapping[str, float] = {}
    error: str | None = None
    try:
        train, valid = task.train_rows, task.valid_rows
        model = fit(task.candidate, data, train)
        proba = model.predict_proba(data.X[valid])[:, 1]
        y, video = data.y[valid], data.video[valid]
        metrics = {**frame_level(y, proba).named("frame_"), **video_level(y, proba, video).named("video_")}
    except Exception as raised:  # noqa: BLE001 - whatever a library raises over its parameters
        error = " ".join(f"{type(raised).__name__}: {raised}".split())
    return FoldResult(task.candidate, task.fold, metrics, time.perf_counter() - started, error)


def search(
    data: TrainingData,
    folds: Sequence[tuple[Rows, Rows]],
    candidates: Sequence[Candidate],
    *,
    run_tasks: RunTasks = run_here,
) -> SearchResult:
    """Try every candidate on every fold and rank them.

    Parameters
    ----------
    data
        Rows to learn from.
    folds
        (train, validation) rows of each fold.
    candidates
        Points of the grid.
    run_tasks
        Where and how the fits run.

    Raises
    ------
    TrainingDataError
        Every candidate failed.
    """
    tasks = [
        FoldTask(candidate, number, train_rows, valid_rows)
        for candidate in candidates
        for number, (train_rows, valid_rows) in enumerate(folds)
    ]
    done: dict[Candidate, list[FoldResult]] = defaultdict(list)
    for fold in run_tasks(run_fold, tasks, shared=data):
        done[fold.candidate].append(fold)
    results = [
        CandidateResult(candidate, tuple(sorted(done[candidate], key=lambda fold: fold.fold)))
        for candidate in candidates
    ]
    result = SearchResult(tuple(sorted(results, key=_rank)))
    if result.best.error is not None:
        raise TrainingDataError(
            f"all {len(candidates)} candidates failed, the first with {result.best.error}; mend the grid in train"
        )
    return result


def _rank(result: CandidateResult) -> tuple[bool, float, float]:
    mean = result.mean
    if not mean:
        return (True, 0.0, 0.0)
    return (False, -mean["video_auc"], mean["video_log_loss"])
