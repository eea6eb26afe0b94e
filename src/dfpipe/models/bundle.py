"""Everything a verdict needs: the model, and how a video becomes the rows that it was trained on."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from dfpipe.errors import StoreError, TrainingDataError
from dfpipe.models.data import ColumnBlock, FeatureMatrix
from dfpipe.models.specs import ModelKind
from dfpipe.settings import ExtractSettings, FeatureSettings

__all__ = ["MODEL_FILES", "TRUSTED_TYPES", "Bundle", "Preprocessing", "load_estimator", "predict_proba"]

MODEL_FILES: dict[ModelKind, str] = {"forest": "model.skops", "xgboost": "model.ubj"}
"""Name of the file that holds a model of each kind."""

TRUSTED_TYPES = ["sklearn.tree._tree.Tree"]
"""The one type beyond its own that skops may build for a forest."""


class Preprocessing(BaseModel):
    """How a video became rows: kept beside a model, and followed to the letter when a video is judged."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

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

    def to_json(self) -> str:
        """Return it as indented JSON."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read it back.

        Raises
        ------
        StoreError
            Text that is not such JSON.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise StoreError(
                f"the model's preprocessing cannot be read at {where or 'its first byte'}: {first['msg']}; "
                "train again, or use the dfpipe version that trained the model"
            ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """A model with its preprocessing."""

    model: ModelKind
    """Kind of model."""
    estimator: Any
    """Fitted scikit-learn or XGBoost classifier."""
    preprocessing: Preprocessing
    """How a video becomes rows."""
    name: str
    """Name under which it is registered."""
    version: str
    """Registered version."""


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


def load_estimator(model: ModelKind, data: bytes) -> Any:
    """Build a classifier from the bytes of its file, running no code that the file could bring.

    Parameters
    ----------
    model
        Kind of model.
    data
        The bytes of ``model.skops`` or ``model.ubj``; whoever calls has checked where they come from.

    Raises
    ------
    StoreError
        Bytes that do not hold such a model, or a forest whose trees point outside themselves.
    """
    if not data:
        # XGBoost ends the whole process over an empty buffer.
        raise StoreError(f"the {model} model file cannot be read: it is empty; train again")
    try:
        if model == "forest":
            import skops.io  # noqa: PLC0415 - slow to import

            forest = skops.io.loads(data, trusted=TRUSTED_TYPES)
            _check_forest(forest)
            return forest
        from xgboost import XGBClassifier  # noqa: PLC0415 - slow to import

        classifier = XGBClassifier()
        classifier.load_model(bytearray(data))
        return classifier
    except StoreError:
        raise
    except Exception as error:  # both loaders raise whatever their parsers met
        raise StoreError(
            f"the {model} model file cannot be read: {' '.join(str(error).split())}; train again"
        ) from error


def _check_forest(forest: Any) -> None:
    """Refuse trees that compiled code would follow out of bounds: it trusts every index that it finds in a node."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import

    if type(forest) is not RandomForestClassifier:
        raise StoreError(f"the model file holds a {type(forest).__name__}, expected a RandomForestClassifier")
    for number, member in enumerate(forest.estimators_):
        tree = member.tree_
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        leaf = left == -1
        parent = np.arange(tree.node_count)
        # Children come after their parent in every tree that scikit-learn grows, so no walk can go in circles.
        sound = (
            np.all(right[leaf] == -1)
            and all(np.all((side > parent)[~leaf] & (side < tree.node_count)[~leaf]) for side in (left, right))
            and np.all((feature >= 0)[~leaf] & (feature < forest.n_features_in_)[~leaf])
            and tree.value.shape == (tree.node_count, 1, 2)
        )
        if not sound:
            raise StoreError(f"tree {number} of the model file points outside itself; train again")
