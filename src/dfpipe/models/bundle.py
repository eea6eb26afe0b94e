"""Everything a verdict needs: the model, and how a video becomes the rows that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import StoreError, TrainingDataError
from dfpipe.models.calibration import VerdictRule
from dfpipe.models.data import ColumnBlock, FeatureMatrix
from dfpipe.models.kept import Kept
from dfpipe.models.kinds import KINDS, ModelKind
from dfpipe.models.soundness import check_lightgbm_text, check_sklearn
from dfpipe.settings import ExtractSettings, FeatureSettings

__all__ = ["Bundle", "LightgbmModel", "Preprocessing", "load_estimator", "predict_proba"]

UNFITTED = VerdictRule()
"""The score as it is, fake from one half on."""


class Preprocessing(Kept):
    """How a video became rows: kept beside a model, and followed to the letter when a video is judged."""

    what: ClassVar[str] = "preprocessing"

    extract: ExtractSettings
    """Frames, faces and crops."""
    features: tuple[FeatureSettings, ...]
    """Feature sets, in the order of the columns."""
    rows: Literal["face", "video"] = "face"
    """What a row stands for, as in the settings ``train.rows``."""
    columns: tuple[ColumnBlock, ...]
    """Columns that each feature set fills."""
    dtype: Literal["uint8", "float32"]
    """Type of the rows."""
    weights_sha256: str
    """Hex digest of the face detector's weights."""
    faces_fingerprint: str
    """Fingerprint of the faces stage that made the training data."""
    feature_fingerprints: tuple[str, ...]
    """Fingerprint of each feature set's rows: settings, code version and crops."""
    dfpipe_version: str
    """Version that wrote this."""


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model with its preprocessing."""

    model: ModelKind
    """Kind of model."""
    estimator: Any
    """Fitted classifier: scikit-learn's, XGBoost's, or a `LightgbmModel`."""
    preprocessing: Preprocessing
    """How a video becomes rows."""
    name: str
    """Name under which it is registered."""
    version: str
    """Registered version."""
    rule: VerdictRule = UNFITTED
    """How the score of a video becomes a verdict."""


def predict_proba(
    bundle: Bundle, X: FeatureMatrix, *, feature_fingerprints: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Return the probability of fake for each row.

    Parameters
    ----------
    bundle
        A model with its preprocessing.
    X
        Features of the type and width it was trained on, shape (n, columns).
    feature_fingerprints
        Fingerprint of each feature set's rows, in the order of the columns, as in `Preprocessing`. None for rows of
        which nobody knows how they were made: then only their type and width can be checked.

    Raises
    ------
    TrainingDataError
        Rows of another type or width, or made in another way than those that it was trained on.
    """
    expected = bundle.preprocessing.feature_fingerprints
    if feature_fingerprints is not None and tuple(feature_fingerprints) != expected:
        raise TrainingDataError(
            f"got rows of feature sets {', '.join(feature_fingerprints)}, but {bundle.name} version {bundle.version} "
            f"was trained on {', '.join(expected)}, made by dfpipe {bundle.preprocessing.dfpipe_version} with other "
            "settings, code or weights; compute the features with the model's own preprocessing, or train again"
        )
    width = bundle.preprocessing.columns[-1].stop
    if X.ndim != 2 or X.shape[1] != width or X.dtype != bundle.preprocessing.dtype:
        raise TrainingDataError(
            f"got rows of {X.dtype}, shape {X.shape}, but {bundle.name} version {bundle.version} was trained on "
            f"{bundle.preprocessing.dtype}, shape (n, {width}); compute the features with the model's own preprocessing"
        )
    return np.asarray(bundle.estimator.predict_proba(X)[:, 1], np.float64)


class LightgbmModel:
    """A LightGBM model read from its text, with the classifier's methods that verdicts need.

    Parameters
    ----------
    booster
        ``lightgbm.Booster`` of a binary objective.
    """

    def __init__(self, booster: Any) -> None:
        self.booster_ = booster
        self.n_features_in_ = booster.num_feature()

    def predict_proba(self, X: FeatureMatrix) -> NDArray[np.float64]:
        """Return the probabilities of real and fake, shape (n, 2)."""
        fake = self.booster_.predict(X)
        return np.column_stack([1 - fake, fake])


def load_estimator(model: ModelKind, data: bytes) -> Any:
    """Build a classifier from the bytes of its file, running no code that the file could bring.

    Parameters
    ----------
    model
        Kind of model.
    data
        The bytes of its file (`Kind.file`). Whoever calls has checked where they come from: XGBoost's own parser can
        end the process over bytes made to that end.

    Raises
    ------
    StoreError
        Bytes that do not hold such a model, or one whose trees or support vectors point outside themselves.
    """
    if not data:
        # XGBoost ends the whole process over an empty buffer.
        raise StoreError(f"the {model} model file cannot be read: it is empty; train again")
    kind = KINDS[model]
    try:
        if kind.flavour == "sklearn":
            import skops.io  # noqa: PLC0415 - slow to import

            estimator = skops.io.loads(data, trusted=list(kind.trusted))
            check_sklearn(model, estimator)
            return estimator
        if kind.flavour == "lightgbm":
            from lightgbm import Booster  # noqa: PLC0415 - slow to import

            text = data.decode()
            check_lightgbm_text(text)
            return LightgbmModel(Booster(model_str=text))
        from xgboost import XGBClassifier  # noqa: PLC0415 - slow to import

        classifier = XGBClassifier()
        classifier.load_model(bytearray(data))
        return classifier
    except StoreError:
        raise
    except Exception as error:  # the loaders raise whatever their parsers met
        raise StoreError(
            f"the {model} model file cannot be read: {' '.join(str(error).split())}; train again"
        ) from error
