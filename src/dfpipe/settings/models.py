"""Grids of the models; every combination is one candidate of the search."""

from pydantic import Field

from dfpipe.settings.section import Section

__all__ = ["ForestSettings", "XgboostSettings"]


class ForestSettings(Section):
    """Grid of scikit-learn's RandomForestClassifier; every combination is one candidate."""

    n_estimators: list[int] = Field([100, 300], min_length=1)
    """Trees."""
    max_depth: list[int | None] = Field([None], min_length=1)
    """Deepest level; null grows to purity."""
    max_features: list[str | float] = Field(["sqrt"], min_length=1)
    """Features tried at a node."""


class XgboostSettings(Section):
    """Grid of xgboost.XGBClassifier; every combination is one candidate."""

    n_estimators: list[int] = Field([200], min_length=1)
    """Boosting rounds."""
    max_depth: list[int] = Field([3, 6], min_length=1)
    """Deepest level of a tree."""
    learning_rate: list[float] = Field([0.1], min_length=1)
    """Shrinkage."""
