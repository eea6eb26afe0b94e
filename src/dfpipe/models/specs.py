"""The candidates of a search, as values that can be compared, sent and recorded, and how one is fitted."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError
from dfpipe.models.data import FeatureMatrix, TrainingData
from dfpipe.models.kinds import KINDS, ModelKind, ParamValue
from dfpipe.models.splits import Rows, grouped_folds, split_groups
from dfpipe.settings import Balance, TrainSettings

__all__ = ["CALIBRATION_FOLDS", "Candidate", "build", "candidates", "fit", "on_bytes", "upsampled"]

CALIBRATION_FOLDS = 3
"""Parts of the training side on which an SVM is scored in turn, for Platt's sigmoid."""

STOPPING_SHARE = 0.2
"""Share of the training side whose people decide when boosting stops."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of the grid."""

    model: ModelKind
    """Kind of model."""
    params: tuple[tuple[str, ParamValue], ...]
    """What the grid names, as (name, value) sorted by name."""
    seed: int
    """Seed of the model."""
    balance: Balance = "weights"
    """How real and fake come to weigh the same."""

    @property
    def name(self) -> str:
        """What people call it: ``forest max_depth=None n_estimators=300``."""
        return " ".join([self.model, *(f"{name}={value}" for name, value in self.params)])


def candidates(settings: TrainSettings) -> list[Candidate]:
    """Return every combination of the grids in the settings, in the order of `KINDS`."""
    return [
        Candidate(model, params, settings.seed, settings.balance)
        for model in KINDS
        if (grid := getattr(settings, model)) is not None
        for params in _combinations(grid.model_dump())
    ]


def build(candidate: Candidate) -> Any:
    """Return the candidate as an ordinary scikit-learn, XGBoost or LightGBM classifier, not fitted yet.

    What `fit` puts around it (scaling, Platt's sigmoid) is not there yet.
    """
    return KINDS[candidate.model].make(dict(candidate.params), candidate.seed)


def fit(candidate: Candidate, data: TrainingData, rows: Rows) -> Any:
    """Return the candidate fitted to these rows and to nothing else.

    Whatever is held out inside (to stop boosting early, to calibrate an SVM) is whole groups of people among the rows.

    Parameters
    ----------
    candidate
        What to fit.
    data
        All rows.
    rows
        Those to learn from.

    Returns
    -------
    estimator
        With ``predict_proba``; a pipeline where columns are scaled.

    Raises
    ------
    TrainingDataError
        Too few groups of people among the rows for what is held out inside.
    """
    kind = KINDS[candidate.model]
    model = build(candidate)
    options: dict[str, Any] = {}
    if dict(candidate.params).get("early_stopping_rounds") is not None:
        rows, judged = _stopping_part(data, rows, candidate.seed)
        options = _judging(kind.flavour, data.X[judged], data.y[judged])
    if candidate.balance == "upsample":
        rows = upsampled(data, rows, seed=candidate.seed)
    if on_bytes(candidate.model, data):
        return _forest_on_bytes(candidate, data, rows)
    y = data.y[rows]
    if candidate.balance == "weights":
        if kind.weights == "class_weight":
            model.set_params(class_weight="balanced")
        elif kind.weights == "scale_pos_weight":
            real, fake = np.bincount(y, minlength=2)
            model.set_params(scale_pos_weight=float(real / fake))
        else:
            # Weighs in the sigmoid as well as in the machine, or a video of the rarer class would never be called so.
            options["sample_weight"] = (len(y) / (2 * np.bincount(y, minlength=2)))[y]
    if kind.calibrated:
        model = _calibrated(model, data, rows, candidate.seed)
    if not kind.scaled:
        return model.fit(data.X[rows], y, **options)
    pipeline = _scaled(model, data.X)
    pipeline.fit(data.X[rows], y, **{f"classifier__{name}": value for name, value in options.items()})
    if kind.calibrated:
        # Only fitting reads it, and it is longer than the model.
        pipeline[-1].set_params(cv=None)
    return pipeline


def upsampled(data: TrainingData, rows: Rows, *, seed: int) -> Rows:
    """Repeat rows of the rarer class until both classes have as many.

    Every row of the rarer class is repeated equally often but for the rest, which is drawn without replacement.

    Parameters
    ----------
    data
        All rows.
    rows
        Those that a fit learns from, of both classes.
    seed
        Equal seeds draw equal rows.

    Returns
    -------
    ndarray of intp
        Indices in rising order, none that is not in ``rows``.
    """
    sides = [rows[data.y[rows] == label] for label in (0, 1)]
    rarer, other = sorted(sides, key=len)
    times, rest = divmod(len(other), len(rarer))
    drawn = np.random.default_rng(seed).permutation(rarer)[:rest]
    return np.sort(np.concatenate([other, np.tile(rarer, times), drawn]))


def on_bytes(model: ModelKind, data: TrainingData) -> bool:
    """Say whether a model reads the rows where they are, as `dfpipe.models.forest` does with bytes."""
    return model == "forest" and data.X.dtype == np.uint8


def _forest_on_bytes(candidate: Candidate, data: TrainingData, rows: Rows) -> Any:
    from dfpipe.models.forest import fit_uint8_forest  # noqa: PLC0415 - slow to import

    X: NDArray[Any] = data.X
    params: dict[str, Any] = dict(candidate.params)
    if candidate.balance == "weights":
        params["class_weight"] = "balanced"
    if candidate.balance == "upsample":
        # Where the rows lie each can be named once, so repeated ones are taken out.
        return fit_uint8_forest(X[rows], data.y[rows], random_state=candidate.seed, **params)
    return fit_uint8_forest(X, data.y, rows=rows, random_state=candidate.seed, **params)


def _stopping_part(data: TrainingData, rows: Rows, seed: int) -> tuple[Rows, Rows]:
    videos = np.unique(data.video[rows])
    try:
        train, _ = split_groups(data.groups[videos], data.video_labels[videos], test_fraction=STOPPING_SHARE, seed=seed)
    except TrainingDataError as error:
        raise TrainingDataError(f"early_stopping_rounds holds people of the training side out: {error}") from error
    learns = np.isin(data.video[rows], videos[train])
    return rows[learns], rows[~learns]


def _judging(flavour: str, X: FeatureMatrix, y: NDArray[np.int8]) -> dict[str, Any]:
    if flavour == "xgboost":
        return {"eval_set": [(X, y)], "verbose": False}
    return {"eval_X": X, "eval_y": y, "eval_metric": "binary_logloss"}


def _calibrated(model: Any, data: TrainingData, rows: Rows, seed: int) -> Any:
    """Put Platt's sigmoid on a machine, fitted to its scores of people of the training side it did not see."""
    from sklearn.calibration import CalibratedClassifierCV  # noqa: PLC0415 - slow to import

    videos, member = np.unique(data.video[rows], return_inverse=True)
    try:
        folds = grouped_folds(data.groups[videos], data.video_labels[videos], folds=CALIBRATION_FOLDS, seed=seed)
    except TrainingDataError as error:
        raise TrainingDataError(
            f"an SVM's probabilities come from {CALIBRATION_FOLDS} parts of its training side: {error}"
        ) from error
    sides = [tuple(np.flatnonzero(np.isin(member, side)) for side in fold) for fold in folds]
    # scikit-learn's own advice in place of SVC(probability=True), whose inner folds know no people.
    return CalibratedClassifierCV(model, method="sigmoid", cv=sides, ensemble=False)


def _scaled(model: Any, X: FeatureMatrix) -> Any:
    """Put scaling before a model: pixels by 255, whatever the rows; other columns to mean 0 and deviation 1."""
    from sklearn.frozen import FrozenEstimator  # noqa: PLC0415 - slow to import
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - slow to import
    from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler  # noqa: PLC0415 - slow

    if X.dtype != np.uint8:
        return Pipeline([("scale", StandardScaler()), ("classifier", model)])
    ends = np.repeat(np.array([[0], [255]], np.float32), X.shape[1], axis=1)
    # Without the first step scikit-learn would make eight bytes of each pixel.
    steps = [("float32", FunctionTransformer(np.float32)), ("scale", FrozenEstimator(MinMaxScaler().fit(ends)))]
    return Pipeline([*steps, ("classifier", model)])


def _combinations(grid: Mapping[str, Iterable[ParamValue] | None]) -> list[tuple[tuple[str, ParamValue], ...]]:
    # What is null is the library's own affair, and no part of a candidate's name.
    varied = {name: values for name, values in sorted(grid.items()) if values is not None}
    return [tuple(zip(varied, values, strict=True)) for values in product(*varied.values())]
