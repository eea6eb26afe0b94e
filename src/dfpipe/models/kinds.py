"""The kinds of models: how each is built, what it needs, and how it is kept. A further kind is a further entry."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["KINDS", "Kind", "ModelKind", "ParamValue", "Params"]

ModelKind = Literal["forest", "extra_trees", "xgboost", "lightgbm", "logistic", "linear_svm", "rbf_svm"]
"""Name of a kind, and of its grid in the settings."""

ParamValue = int | float | str | None
Params = Mapping[str, Any]
"""Parameters by the names that the library has for them."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What dfpipe has to know of a kind of model."""

    make: Callable[[Params, int], Any]
    """Builds the classifier, not fitted, of one thread, from parameters and a seed."""
    flavour: Literal["sklearn", "xgboost", "lightgbm"]
    """The flavour under which MLflow keeps it."""
    weights: Literal["class_weight", "scale_pos_weight", "sample_weight"]
    """How it is told that both classes weigh the same."""
    scaled: bool = False
    """Whether columns have to be brought to one scale, in a pipeline with the model."""
    calibrated: bool = False
    """Whether its scores are no probabilities, so that Platt's sigmoid is fitted to those of people it did not see."""
    grows: bool = False
    """Whether the model of k estimators is the first k estimators of any larger one."""
    trusted: tuple[str, ...] = ()
    """Types beyond its own list that skops may build."""

    @property
    def file(self) -> str:
        """Name of the file that holds a model of this kind; none of them is a pickle."""
        return {"sklearn": "model.skops", "xgboost": "model.ubj", "lightgbm": "model.lgb"}[self.flavour]

    @property
    def packages(self) -> tuple[str, ...]:
        """What has to be installed to use a model of this kind."""
        return {
            "sklearn": ("scikit-learn", "skops", "numpy"),
            "xgboost": ("xgboost", "scikit-learn", "numpy"),
            "lightgbm": ("lightgbm", "numpy"),
        }[self.flavour]


def _forest(params: Params, seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import

    return RandomForestClassifier(**params, n_jobs=1, random_state=seed)


def _extra_trees(params: Params, seed: int) -> Any:
    from sklearn.ensemble import ExtraTreesClassifier  # noqa: PLC0415 - slow to import

    return ExtraTreesClassifier(**params, n_jobs=1, random_state=seed)


def _xgboost(params: Params, seed: int) -> Any:
    from xgboost import XGBClassifier  # noqa: PLC0415 - slow to import

    return XGBClassifier(**params, tree_method="hist", eval_metric="logloss", n_jobs=1, random_state=seed, verbosity=0)


def _lightgbm(params: Params, seed: int) -> Any:
    from lightgbm import LGBMClassifier  # noqa: PLC0415 - slow to import

    # Left to itself it times both layouts of its histograms and takes the faster; columns suit thousands of them.
    return LGBMClassifier(
        **params, subsample_freq=1, force_col_wise=True, deterministic=True, n_jobs=1, random_state=seed, verbosity=-1
    )


def _logistic(params: Params, seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - slow to import

    return LogisticRegression(**params, max_iter=2000, random_state=seed)


def _linear_svm(params: Params, seed: int) -> Any:
    from sklearn.svm import LinearSVC  # noqa: PLC0415 - slow to import

    return LinearSVC(**params, dual="auto", max_iter=10_000, random_state=seed)


def _rbf_svm(params: Params, seed: int) -> Any:
    from sklearn.svm import SVC  # noqa: PLC0415 - slow to import

    return SVC(**params, kernel="rbf", random_state=seed)


TREE = ("sklearn.tree._tree.Tree",)
# What scikit-learn builds a calibrated classifier of; both are a few numbers and an estimator.
CALIBRATED = ("sklearn.calibration._CalibratedClassifier", "sklearn.calibration._SigmoidCalibration")

KINDS: Mapping[ModelKind, Kind] = {
    "forest": Kind(_forest, "sklearn", "class_weight", grows=True, trusted=TREE),
    "extra_trees": Kind(_extra_trees, "sklearn", "class_weight", grows=True, trusted=TREE),
    "xgboost": Kind(_xgboost, "xgboost", "scale_pos_weight", grows=True),
    # Its scale_pos_weight leaves the score that it starts from where the majority is.
    "lightgbm": Kind(_lightgbm, "lightgbm", "class_weight", grows=True),
    "logistic": Kind(_logistic, "sklearn", "class_weight", scaled=True),
    "linear_svm": Kind(_linear_svm, "sklearn", "sample_weight", scaled=True, calibrated=True, trusted=CALIBRATED),
    "rbf_svm": Kind(_rbf_svm, "sklearn", "sample_weight", scaled=True, calibrated=True, trusted=CALIBRATED),
}
"""Every kind, in the order in which candidates are tried."""
