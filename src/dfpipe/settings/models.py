"""Grids of the models; every combination of a grid's values is one candidate of the search."""

from typing import Annotated, Literal

from pydantic import Field

from dfpipe.settings.section import Section

__all__ = [
    "MODEL_SECTIONS",
    "Balance",
    "ExtraTreesSettings",
    "ForestSettings",
    "LightgbmSettings",
    "LinearSvmSettings",
    "LogisticSettings",
    "RbfSvmSettings",
    "XgboostSettings",
]

Balance = Literal["weights", "upsample", "none"]
"""How real and fake come to weigh the same in a fit: by weights, by repeating rows of the rarer one, or not at all."""

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class ForestSettings(Section):
    """Grid of scikit-learn's RandomForestClassifier; every combination is one candidate."""

    n_estimators: list[Count] = Field([100, 300], min_length=1)
    """Trees. One fit of the most answers for all."""
    max_depth: list[Count | None] = Field([None], min_length=1)
    """Deepest level; null grows to purity."""
    max_features: list[Literal["sqrt", "log2"] | Count | Share] = Field(["sqrt"], min_length=1)
    """Features tried at a node: the root or the logarithm of how many there are, a whole number, or a share."""
    min_samples_leaf: list[Count] | None = Field(None, min_length=1)
    """Fewest rows of a leaf; null is scikit-learn's 1."""
    max_leaf_nodes: list[Count] | None = Field(None, min_length=1)
    """Most leaves of a tree, best first; null sets no bound."""


class ExtraTreesSettings(ForestSettings):
    """Grid of scikit-learn's ExtraTreesClassifier, whose thresholds are drawn at random."""


class XgboostSettings(Section):
    """Grid of xgboost.XGBClassifier; every combination is one candidate."""

    n_estimators: list[Count] = Field([200], min_length=1)
    """Boosting rounds. One fit of the most answers for all."""
    max_depth: list[Count] = Field([3, 6], min_length=1)
    """Deepest level of a tree."""
    learning_rate: list[Positive] = Field([0.1], min_length=1)
    """Shrinkage."""
    subsample: list[Share] | None = Field(None, min_length=1)
    """Share of the rows that a tree sees; null is all."""
    colsample_bytree: list[Share] | None = Field(None, min_length=1)
    """Share of the columns that a tree sees; null is all."""
    min_child_weight: list[Positive] | None = Field(None, min_length=1)
    """Least weight of a leaf; null is XGBoost's 1."""
    reg_lambda: list[Positive] | None = Field(None, min_length=1)
    """L2 penalty of the leaves; null is XGBoost's 1."""
    early_stopping_rounds: list[Count] | None = Field(None, min_length=1)
    """Stop when the log loss of held-out people, a fifth of the training side, has not fallen for so many rounds.
    The model does not learn from these people; null learns from all and never stops early."""


class LightgbmSettings(Section):
    """Grid of lightgbm.LGBMClassifier; every combination is one candidate."""

    n_estimators: list[Count] = Field([200], min_length=1)
    """Boosting rounds. One fit of the most answers for all."""
    num_leaves: list[Annotated[int, Field(ge=2)]] = Field([31], min_length=1)
    """Most leaves of a tree."""
    learning_rate: list[Positive] = Field([0.1], min_length=1)
    """Shrinkage."""
    max_depth: list[Count] | None = Field(None, min_length=1)
    """Deepest level of a tree; null sets no bound."""
    min_child_samples: list[Count] | None = Field(None, min_length=1)
    """Fewest rows of a leaf; null is LightGBM's 20."""
    subsample: list[Share] | None = Field(None, min_length=1)
    """Share of the rows that a tree sees, drawn for each; null is all."""
    colsample_bytree: list[Share] | None = Field(None, min_length=1)
    """Share of the columns that a tree sees; null is all."""
    reg_lambda: list[Positive] | None = Field(None, min_length=1)
    """L2 penalty of the leaves; null is LightGBM's 0."""
    early_stopping_rounds: list[Count] | None = Field(None, min_length=1)
    """As of XGBoost: stop when the log loss of held-out people has not fallen for so many rounds."""


class LogisticSettings(Section):
    """Grid of scikit-learn's LogisticRegression (L2) on scaled columns; every combination is one candidate."""

    C: list[Positive] = Field([0.01, 1.0], min_length=1)
    """Inverse of the penalty's strength."""


class LinearSvmSettings(Section):
    """Grid of scikit-learn's LinearSVC on scaled columns, with Platt's probabilities."""

    C: list[Positive] = Field([0.01, 1.0], min_length=1)
    """Inverse of the penalty's strength."""


class RbfSvmSettings(Section):
    """Grid of scikit-learn's SVC with the Gaussian kernel on scaled columns, with Platt's probabilities."""

    C: list[Positive] = Field([1.0, 10.0], min_length=1)
    """Inverse of the penalty's strength."""
    gamma: list[Literal["scale", "auto"] | Positive] = Field(["scale"], min_length=1)
    """The kernel's inverse width: a number, 1 / (columns x variance) for scale, 1 / columns for auto."""


MODEL_SECTIONS = ("forest", "extra_trees", "xgboost", "lightgbm", "logistic", "linear_svm", "rbf_svm")
"""Names of the grids in `TrainSettings`, in the order in which candidates are tried."""
