"""One fit that answers for many: where the model of k estimators is the first k of any larger one.

The trees of a seeded scikit-learn forest are drawn one after the other from one stream of random numbers, and a round
of boosting depends only on those before it. Tests hold the answers equal to those of separate fits, bit by bit.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.models.data import FeatureMatrix, TrainingData
from dfpipe.models.kinds import KINDS
from dfpipe.models.specs import Candidate, on_bytes
from dfpipe.models.splits import Rows

__all__ = ["Alike", "alike", "proba_at", "size"]

Alike = tuple[Candidate, ...]
"""Candidates that differ in nothing but ``n_estimators``, the smallest first: the fit of the last answers for all."""


def alike(candidates: Sequence[Candidate]) -> list[Alike]:
    """Put candidates together that one fit answers for; every candidate is in one of the tuples.

    Examples
    --------
    >>> grid = [Candidate("forest", (("n_estimators", k),), 0) for k in (30, 10)] + [Candidate("logistic", (), 0)]
    >>> [[one.name for one in together] for together in alike(grid)]
    [['forest n_estimators=10', 'forest n_estimators=30'], ['logistic']]
    """
    together: dict[object, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        rest = tuple(param for param in candidate.params if param[0] != "n_estimators")
        grows = KINDS[candidate.model].grows and size(candidate) is not None
        key = (candidate.model, rest, candidate.seed, candidate.balance, grows) if grows else candidate
        together[key].append(candidate)
    return [tuple(sorted(members, key=lambda one: size(one) or 0)) for members in together.values()]


def size(candidate: Candidate) -> int | None:
    """Return how many estimators a candidate asks for; None where it leaves that to the library."""
    asked = dict(candidate.params).get("n_estimators")
    return asked if isinstance(asked, int) else None


def proba_at(together: Alike, estimator: Any, data: TrainingData, rows: Rows) -> list[NDArray[np.float64]]:
    """Return the probability of fake that each of the candidates gives, from the fit of the largest.

    Parameters
    ----------
    together
        Candidates that one fit answers for.
    estimator
        The last of them, fitted.
    data
        All rows.
    rows
        Those to judge.

    Returns
    -------
    list of ndarray of float64, shape (len(rows),)
        As each candidate says when it is fitted by itself; where boosting may stop early, as it would have stopped.
    """
    model = together[-1].model
    sizes = [size(one) or 0 for one in together]
    if on_bytes(model, data):
        from dfpipe.models.forest import forest_proba  # noqa: PLC0415 - slow to import

        trees = sizes if sizes[-1] else [len(estimator.estimators_)]
        X: NDArray[Any] = data.X
        found = forest_proba(estimator, X, rows, at=trees)
        return [found[number][:, 1] for number in trees]
    X = data.X[rows]
    if len(together) == 1:
        answers = [estimator.predict_proba(X)[:, 1]]
    elif KINDS[model].flavour == "sklearn":
        answers = _forest_at(estimator, X, sizes)
    elif model == "xgboost":
        rounds = _stopped(estimator.evals_result() if estimator.early_stopping_rounds else None, sizes)
        answers = [estimator.predict_proba(X, iteration_range=(0, number))[:, 1] for number in rounds]
    else:
        rounds = _stopped(estimator.evals_result_ or None, sizes)
        answers = [estimator.predict_proba(X, num_iteration=number)[:, 1] for number in rounds]
    return [np.asarray(answer, np.float64) for answer in answers]


def _forest_at(forest: Any, X: FeatureMatrix, sizes: Sequence[int]) -> list[NDArray[np.float64]]:
    # Type, order of the sum and division are those of scikit-learn's own predict_proba: the same bits.
    rows = np.asarray(X, np.float32, order="C")
    total = np.zeros(len(rows))
    answers = []
    for number, tree in enumerate(forest.estimators_[: sizes[-1]], start=1):
        total += tree.predict_proba(rows, check_input=False)[:, 1]
        answers += [total / number] * sizes.count(number)
    return answers


def _stopped(history: Any, sizes: Sequence[int]) -> list[int]:
    """Return how many rounds count of each number asked for: up to the best for the people that judge, if any do."""
    if not history:
        return list(sizes)
    (figures,) = history.values()
    (losses,) = figures.values()
    return [int(np.argmin(losses[:number])) + 1 for number in sizes]
