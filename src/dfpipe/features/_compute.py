"""From faces to the rows that models see, for whichever feature set the settings name."""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

from dfpipe.features import (
    colour,
    cooccurrence,
    dct,
    landmarks,
    lbp,
    pixels,
    residual,
    residual_map,
    sharpness,
    spectrum,
    temporal,
)
from dfpipe.features.faces import Faces
from dfpipe.settings import FeatureSettings, TemporalSettings

__all__ = ["block_names", "columns", "compute", "feature_version"]


class FeatureSet(Protocol):
    """What a module has that computes a feature set of one face after the other."""

    VERSION: int

    def columns(self, settings: Any, /) -> int:
        """Return how many values a face becomes."""

    def compute(self, faces: Faces, settings: Any, /) -> NDArray[Any]:
        """Return one row of values for each face: uint8 or float32, finite, shape (n, columns(settings))."""


SETS: Mapping[str, FeatureSet] = {
    "colour": colour,
    "cooccurrence": cooccurrence,
    "dct": dct,
    "landmarks": landmarks,
    "lbp": lbp,
    "pixels": pixels,
    "residual": residual,
    "residual_map": residual_map,
    "sharpness": sharpness,
    "spectrum": spectrum,
}
"""Modules by the name in their settings. ``temporal`` is none of them: it works on the rows of another."""


def compute(faces: Faces, settings: FeatureSettings) -> NDArray[Any]:
    """Turn each face into one row of values.

    Parameters
    ----------
    faces
        Faces; of a video, all or none.
    settings
        Feature set and its options.

    Returns
    -------
    ndarray of uint8 (pixels) or float32 (all others), shape (n, columns(settings))
        Finite, in the order of the faces. A row depends on its own face alone, or for ``temporal`` on its track.

    Raises
    ------
    SettingsError
        Options that do not fit the size of the crops, or landmarks that are asked for and not known.
    """
    if isinstance(settings, TemporalSettings):
        return temporal.changes(compute(faces, settings.of), faces)
    return SETS[settings.name].compute(faces, settings)


def columns(settings: FeatureSettings) -> int:
    """Return how many values a face becomes."""
    if isinstance(settings, TemporalSettings):
        return temporal.columns(columns(settings.of))
    return SETS[settings.name].columns(settings)


def feature_version(settings: FeatureSettings) -> int:
    """Return the version of the feature set's code, which is part of the fingerprint of what it computed."""
    if isinstance(settings, TemporalSettings):
        # New code of the other set makes other differences.
        return 1000 * temporal.VERSION + feature_version(settings.of)
    return SETS[settings.name].VERSION


def block_names(features: Sequence[FeatureSettings]) -> list[str]:
    """Return a name for each feature set's columns, all different.

    The set's own name, and with it the options in which sets of one name differ.

    Examples
    --------
    >>> from dfpipe.settings import LbpSettings, PixelsSettings
    >>> block_names([PixelsSettings(size_px=8), LbpSettings(), PixelsSettings(size_px=8, channels="luma")])
    ['pixels(channels=rgb)', 'lbp', 'pixels(channels=luma)']
    """
    options = [_flat(feature.model_dump(mode="json")) for feature in features]
    return [_label(own, [other for other in options if other["name"] == own["name"]]) for own in options]


def _flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in options.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return flat


def _label(own: Mapping[str, Any], alike: Sequence[Mapping[str, Any]]) -> str:
    differing = [key for key in own if any(key not in other or other[key] != own[key] for other in alike)]
    told = ", ".join(f"{key}={own[key]}" for key in differing)
    return f"{own['name']}({told})" if told else str(own["name"])
