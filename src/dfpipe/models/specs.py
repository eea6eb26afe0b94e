"""The candidates of a grid search, as values that can be compared, sent and recorded."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfpipe.models.data import FeatureMatrix
from dfpipe.settings import TrainSettings

__all__ = ["Candidate", "ModelKind", "build", "candidates", "fit"]

ModelKind = Literal["forest", "xgboost"]
ParamValue = int | float | str | None


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of the grid."""

    model: ModelKind
    """Kind of model."""
    params: tuple[tuple[str, ParamValue], ...]
    """What the grid varies, as (name, value) sorted by name."""
    seed: int
    """Seed of the model."""

    @property
    def name(self) -> str:
        """What people call it: ``forest max_depth=None n_estimators=300``."""
        return " ".join([self.model, *(f"{name}={value}" for name, value in self.params)])


def candidates(settings: TrainSettings) -> list[Candidate]:
    """Return every combination of the grids in the settings, the forests first."""
    grids: list[tuple[ModelKind, Any]] = [("forest", settings.forest), ("xgboost", settings.xgboost)]
    return [
        Candidate(model, params, settings.seed)
        for model, grid in grids
        if grid is not None
        for params in _combinations(grid.model_dump())
    ]


def build(candidate: Candidate) -> Any:
    """Return the candidate as an ordinary scikit-learn or XGBoost classifier, not fitted yet."""
    if candidate.model == "forest":
        from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import

        return RandomForestClassifier(**_forest_parameters(candidate))
    from xgboost import XGBClassifier  # noqa: PLC0415 - slow to import

    return XGBClassifier(
        **dict(candidate.params), tree_method="hist", n_jobs=1, random_state=candidate.seed, verbosity=0
    )


def fit(candidate: Candidate, X: FeatureMatrix, y: NDArray[np.int8]) -> Any:
    """Return the candidate fitted to these rows, both classes weighing the same.

    Parameters
    ----------
    candidate
        What to fit.
    X
        Features: uint8 or float32, shape (n, columns).
    y
        Labels, shape (n,): 0 real, 1 fake.
    """
    if candidate.model == "forest" and X.dtype == np.uint8:
        from dfpipe.models.forest import fit_uint8_forest  # noqa: PLC0415 - slow to import

        return fit_uint8_forest(X.astype(np.uint8, copy=False), y, **_forest_parameters(candidate))
    estimator = build(candidate)
    if candidate.model == "xgboost":
        real, fake = np.bincount(y, minlength=2)
        estimator.set_params(scale_pos_weight=float(real / fake))
    return estimator.fit(X, y)


def _forest_parameters(candidate: Candidate) -> dict[str, Any]:
    return {**dict(candidate.params), "class_weight": "balanced", "n_jobs": 1, "random_state": candidate.seed}


def _combinations(grid: Mapping[str, Iterable[ParamValue]]) -> list[tuple[tuple[str, ParamValue], ...]]:
    names = sorted(grid)
    return [tuple(zip(names, values, strict=True)) for values in product(*(grid[name] for name in names))]
