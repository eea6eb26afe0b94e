"""What a training is made of: feature sets, a split, and the candidates of the search."""

from typing import Literal

from pydantic import Field, model_validator

from dfpipe.settings.evaluation import EvaluationSettings
from dfpipe.settings.features import FeatureSettings, PixelsSettings, ResidualSettings
from dfpipe.settings.models import ForestSettings, XgboostSettings
from dfpipe.settings.section import Section
from dfpipe.settings.split import SplitSettings

__all__ = ["THUMBNAILS", "TrainSettings"]

THUMBNAILS = PixelsSettings(size_px=32, channels="luma")
"""The feature set by which copies of the same footage are known."""


class TrainSettings(Section):
    """Feature sets, split, and the candidates of the grid search."""

    features: list[FeatureSettings] = Field([PixelsSettings(), ResidualSettings()])
    """Feature sets joined side by side into the rows that models see."""
    rows: Literal["face", "video"] = "face"
    """One row for each face, and the mean of its faces' scores is a video's; or one row for each video, with mean,
    deviation, least and greatest of every column over its faces."""
    split: SplitSettings = SplitSettings()
    """How videos are divided."""
    forest: ForestSettings | None = ForestSettings()
    """Random forest candidates; null leaves the forest out."""
    xgboost: XgboostSettings | None = XgboostSettings()
    """XGBoost candidates; null leaves XGBoost out."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How the best are judged, and how scores become verdicts."""
    seed: int = 42
    """Seed of every model."""

    @property
    def needed_features(self) -> list[FeatureSettings]:
        """The feature sets that must stand in the store: those that models see, and what the split looks at."""
        looked_at = [] if self.split.face_duplicates is None or THUMBNAILS in self.features else [THUMBNAILS]
        return [*self.features, *looked_at]

    @model_validator(mode="after")
    def _at_least_one(self) -> "TrainSettings":
        if not self.features:
            raise ValueError("train.features is empty; name at least one feature set")
        for place, feature in enumerate(self.features):
            if feature in self.features[:place]:
                raise ValueError(
                    f"train.features has {feature.name} twice with the same options; "
                    "take one out, or change its options"
                )
        if self.forest is None and self.xgboost is None:
            raise ValueError("train.forest and train.xgboost are both null; leave at least one model in")
        return self
