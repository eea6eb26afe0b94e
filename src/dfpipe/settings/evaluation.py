"""How a model is judged on held-out videos, and how its scores become verdicts."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field

from dfpipe.settings.section import Section

__all__ = [
    "BalancedThreshold",
    "BootstrapSettings",
    "ByColumn",
    "EvaluationSettings",
    "FalseAlarmThreshold",
    "FixedThreshold",
    "SheetSettings",
    "ThresholdSettings",
]

OWN_COLUMNS = ("dataset", "manipulation", "compression", "split")
"""Columns of the catalog that videos can be told apart by; those that name people are left out, as figures of single
people say little of a model and more of them."""

TAKEN = frozenset(
    {
        *(
            "video_id",
            "url",
            "label",
            "identity",
            "target",
            "source",
            "size_bytes",
            "content_id",
            "modified",
            "attributes",
        ),
        *("score", "probability", "threshold", "frames", "group"),
    }
)
"""Names of the catalog's other columns, and of those that stand beside the parts in the file of predictions."""


def _a_part(name: str) -> str:
    if name in TAKEN:
        raise ValueError(
            f"got {name!r}, which means single videos, people or predictions; expected one of "
            f"{', '.join(OWN_COLUMNS)}, or an attribute of the videos by another name"
        )
    return name


ByColumn = Annotated[str, AfterValidator(_a_part)]
"""A column of the catalog, or an attribute of its videos, that tells parts of the videos apart."""


class FixedThreshold(Section):
    """The same threshold for every model."""

    name: Literal["fixed"] = "fixed"
    """Rule."""
    value: float = Field(0.5, gt=0, le=1)
    """A video is called fake from this probability on."""


class BalancedThreshold(Section):
    """Where the mean of the two recalls is largest on the validation videos."""

    name: Literal["balanced_accuracy"] = "balanced_accuracy"
    """Rule."""


class FalseAlarmThreshold(Section):
    """The lowest at which no more than a given share of the real validation videos is called fake."""

    name: Literal["false_alarm_rate"] = "false_alarm_rate"
    """Rule."""
    rate: float = Field(0.05, ge=0, lt=1)
    """Share of the real videos."""


ThresholdSettings = Annotated[FixedThreshold | BalancedThreshold | FalseAlarmThreshold, Field(discriminator="name")]


class BootstrapSettings(Section):
    """Intervals from resampling whole groups of people."""

    samples: int = Field(1000, ge=100, le=100_000)
    """Resamples."""
    confidence: float = Field(0.95, gt=0, lt=1)
    """Share of repetitions of the study in which an interval is to hold the true figure."""
    seed: int = 42
    """Seed of the draws."""


class SheetSettings(Section):
    """Sheets of face crops of held-out videos: examples of both classes, and the worst mistakes."""

    videos: int = Field(24, ge=2, le=60)
    """Most videos on a sheet; half of those on the sheet of mistakes are fake ones called real."""
    faces: int = Field(4, ge=1, le=8)
    """Most faces of each video on the sheet of mistakes, evenly along time."""
    seed: int = 42
    """Seed of the draw of examples."""


class EvaluationSettings(Section):
    """How a model is judged, and how its scores become verdicts."""

    calibration: Literal["none", "sigmoid", "isotonic"] = "sigmoid"
    """How the score of a video becomes a probability; fitted to validation videos, never to test videos."""
    threshold: ThresholdSettings = BalancedThreshold()
    """From which probability on a video is called fake; chosen on validation videos too."""
    bootstrap: BootstrapSettings = BootstrapSettings()
    """Intervals of every figure."""
    by: list[ByColumn] = Field(["dataset", "manipulation", "compression"])
    """What figures are given apart for each value of: ``dataset``, ``manipulation``, ``compression``, ``split``, and
    attributes of the videos (further columns of ``metadata.csv``, or an ``attributes.csv``) such as ``skin_tone``."""
    sheets: SheetSettings | None = None
    """Sheets of faces beside the figures; null draws none. Off unless asked for: everybody who can open MLflow sees
    them, and people, or the terms of a data set, may have allowed that to fewer. No model depends on them, so that a
    training that stands gets its sheets in the next run, in seconds, without being made again."""

    def without_pictures(self) -> Self:
        """Return the same settings without what is only shown: no figure and no model depends on it."""
        return self.model_copy(update={"sheets": None})
