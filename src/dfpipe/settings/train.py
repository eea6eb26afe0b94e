"""What a training is made of: feature sets, a split, and the candidates of the search."""

from typing import Literal, Self

from pydantic import Field, model_validator

from dfpipe.settings.evaluation import EvaluationSettings
from dfpipe.settings.features import FeatureSettings, PixelsSettings, ResidualSettings
from dfpipe.settings.models import (
    MODEL_SECTIONS,
    Balance,
    ExtraTreesSettings,
    ForestSettings,
    LightgbmSettings,
    LinearSvmSettings,
    LogisticSettings,
    RbfSvmSettings,
    XgboostSettings,
)
from dfpipe.settings.search import SearchSettings
from dfpipe.settings.section import Section
from dfpipe.settings.split import SplitSettings

__all__ = ["THUMBNAILS", "TrainSettings"]

THUMBNAILS = PixelsSettings(size_px=32, channels="luma")
"""The feature set by which copies of the same footage are known."""


class TrainSettings(Section):
    """Feature sets, split, and the candidates of the search."""

    features: list[FeatureSettings] = Field([PixelsSettings(), ResidualSettings()])
    """Feature sets joined side by side into the rows that models see."""
    rows: Literal["face", "video"] = "face"
    """One row for each face, and the mean of its faces' scores is a video's; or one row for each video, with mean,
    deviation, least and greatest of every column over its faces."""
    split: SplitSettings = SplitSettings()
    """How videos are divided."""
    search: SearchSettings = SearchSettings()
    """How the candidates are searched."""
    balance: Balance = "weights"
    """How real and fake come to weigh the same in every fit: ``weights``, ``upsample`` (rows of the rarer one are
    repeated among those that a fit learns from, never among those it is judged on), or ``none``."""
    forest: ForestSettings | None = ForestSettings()
    """Random forest candidates; null leaves the forest out."""
    extra_trees: ExtraTreesSettings | None = None
    """Candidates of extremely randomised trees; null leaves them out."""
    xgboost: XgboostSettings | None = XgboostSettings()
    """XGBoost candidates; null leaves XGBoost out."""
    lightgbm: LightgbmSettings | None = None
    """LightGBM candidates; null leaves LightGBM out."""
    logistic: LogisticSettings | None = None
    """Logistic regression candidates; null leaves it out."""
    linear_svm: LinearSvmSettings | None = None
    """Candidates of the linear support vector machine; null leaves it out."""
    rbf_svm: RbfSvmSettings | None = None
    """Candidates of the support vector machine with the Gaussian kernel; null leaves it out."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """How the best are judged, and how scores become verdicts."""
    seed: int = 42
    """Seed of every model."""

    def without_pictures(self) -> Self:
        """Return the same settings without what is only shown."""
        return self.model_copy(update={"evaluation": self.evaluation.without_pictures()})

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
        if all(getattr(self, name) is None for name in MODEL_SECTIONS):
            raise ValueError(f"train.{', train.'.join(MODEL_SECTIONS)} are all null; leave at least one model in")
        return self
