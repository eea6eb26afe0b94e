"""Feature sets, splits and models."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from dfpipe.settings.section import Section

__all__ = [
    "FeatureSettings",
    "ForestSettings",
    "PixelsSettings",
    "ResidualSettings",
    "SplitSettings",
    "TrainSettings",
    "XgboostSettings",
]


class PixelsSettings(Section):
    """The seed's feature: the crop's pixels, flattened."""

    name: Literal["pixels"] = "pixels"
    """Feature set."""
    size_px: int = Field(64, ge=4, le=2048)
    """Side to which the crop is resized (area averaging) before flattening; gives size x size x 3 uint8 columns."""


class ResidualSettings(Section):
    """Noise residual: the crop minus its Gaussian blur, as per-block statistics."""

    name: Literal["residual"] = "residual"
    """Feature set."""
    sigma_px: float = Field(1.0, gt=0)
    """Standard deviation of the Gaussian in crop pixels."""
    grid: int = Field(12, ge=1, le=64)
    """The crop is cut into grid x grid blocks, each described on its own."""


FeatureSettings = Annotated[PixelsSettings | ResidualSettings, Field(discriminator="name")]


class SplitSettings(Section):
    """How videos are divided; always along groups of people who appear together."""

    test_fraction: float = Field(0.25, gt=0, lt=1)
    """Share of the videos of each class held out for the final figures, in whole groups of people."""
    folds: int = Field(3, ge=2)
    """Grouped cross-validation folds inside the rest."""
    seed: int = 42
    """Seed of the division."""


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


class TrainSettings(Section):
    """Feature sets, split, and the candidates of the grid search."""

    features: list[FeatureSettings] = Field([PixelsSettings(), ResidualSettings()])
    """Feature sets joined side by side into the rows that models see."""
    split: SplitSettings = SplitSettings()
    """How videos are divided."""
    forest: ForestSettings | None = ForestSettings()
    """Random forest candidates; null leaves the forest out."""
    xgboost: XgboostSettings | None = XgboostSettings()
    """XGBoost candidates; null leaves XGBoost out."""
    seed: int = 42
    """Seed of every model."""

    @model_validator(mode="after")
    def _at_least_one(self) -> "TrainSettings":
        if not self.features:
            raise ValueError("train.features is empty; name at least one feature set")
        names = [feature.name for feature in self.features]
        if len(set(names)) < len(names):
            raise ValueError(f"train.features names {', '.join(names)}; expected each feature set once")
        if self.forest is None and self.xgboost is None:
            raise ValueError("train.forest and train.xgboost are both null; leave at least one model in")
        return self
