"""Whether a model may take the champion's place: a decision from scores alone.

The challenger is not to be worse: of each figure the difference to the champion on the same videos is resampled by
groups of people, and the far end of its interval must lie within a tolerance (a test of non-inferiority by the paired
cluster bootstrap, percentile intervals: Efron & Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dfpipe.models.metrics import Interval, differences, frame_level, intervals
from dfpipe.settings import GateSettings

__all__ = ["Check", "Figure", "Verdict", "decide"]

Figure = Literal["auc", "log_loss", "ece"]
"""What is compared, by video; figures of `dfpipe.models.metrics.Scores`."""

WORDS: dict[Figure, str] = {"auc": "AUC", "log_loss": "log loss", "ece": "calibration error"}
"""What each is called."""


@dataclass(frozen=True, slots=True)
class Check:
    """One figure, and the bound that it was held against."""

    figure: Figure
    """What was measured."""
    against: Literal["bound", "champion"]
    """Whether it is the challenger's own figure or its difference to the champion's."""
    value: float
    """The figure; of a difference: challenger minus champion."""
    low: float
    """Lower end of its interval."""
    high: float
    """Upper end."""
    limit: float
    """What ``low`` must reach, or ``high`` must not exceed where less is better."""
    passed: bool
    """Whether it does."""

    @property
    def name(self) -> str:
        """Name of the figure in records: ``auc``, ``auc_difference`` and so on."""
        return self.figure if self.against == "bound" else f"{self.figure}_difference"

    def __str__(self) -> str:
        """Say it in words."""
        what = WORDS[self.figure] + (" minus the champion's" if self.against == "champion" else "")
        end = "at least" if self.figure == "auc" else "at most"
        side, bound = ("lower", self.low) if self.figure == "auc" else ("upper", self.high)
        return (
            f"video {what} is {self.value:.3f} ({self.low:.3f} to {self.high:.3f}), and the {side} end must be {end} "
            f"{self.limit:g}" + ("" if self.passed else f", not {bound:.3f}")
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate says of a challenger."""

    checks: tuple[Check, ...]
    """What was measured: its own AUC, then its differences to the champion, then log loss and calibration error."""
    videos: int
    """Held-out videos that it was judged on."""
    groups: int
    """Groups of people in them."""
    compared_videos: int
    """Those that the champion was judged on too; 0 where there was no comparison."""
    compared_groups: int
    """Groups of people in these."""
    hindrance: str
    """Why it could not be judged, or not be compared with the champion that there is; else empty."""

    @property
    def passed(self) -> bool:
        """Whether the challenger may become the champion: without a comparison it may not."""
        return not self.hindrance and all(check.passed for check in self.checks)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it may not, a sentence each; empty where it passed."""
        failed = tuple(str(check) for check in self.checks if not check.passed)
        return (*failed, self.hindrance) if self.hindrance else failed


def decide(
    y: NDArray[np.int8],
    challenger: NDArray[np.floating],
    groups: NDArray[np.integer],
    rules: GateSettings,
    *,
    champion: NDArray[np.floating] | None = None,
    hindrance: str = "",
) -> Verdict:
    """Judge a challenger by its scores of videos of people that it never saw.

    Parameters
    ----------
    y
        Label of each video, shape (n,): 0 real, 1 fake.
    challenger
        Its probability of fake, shape (n,).
    groups
        Group of people of each video, shape (n,).
    rules
        Bounds and tolerances.
    champion
        The champion's probability of fake, shape (n,), nan for videos that it has no score for, or that it may have
        learned from. None where there is no champion, or no score of it.
    hindrance
        Why there is no score of the champion; empty where there is no champion.

    Returns
    -------
    Verdict
        The same arguments give the same verdict. Videos of one class only, or of fewer groups than
        `GateSettings.min_groups`, are too few to judge by.

    Examples
    --------
    >>> rules = GateSettings(auc_tolerance=0.1)
    >>> y = np.tile([0, 1], 50)
    >>> sure, unsure = y * 0.96 + 0.02, np.full(100, 0.5)
    >>> decide(y, sure, np.arange(100), rules, champion=unsure).passed
    True
    >>> decide(y, unsure, np.arange(100), rules, champion=sure).reasons[0]
    "video AUC minus the champion's is -0.500 (-0.500 to -0.500), and the lower end must be at least -0.1, not -0.500"
    """
    counts = (len(y), len(np.unique(groups)))
    lacking = _lacking(y, groups, rules)
    if lacking:
        return Verdict((), *counts, 0, 0, f"it cannot be judged: of people that it never saw there are {lacking}")
    auc, end = frame_level(y, challenger).auc, intervals(y, challenger, groups, bootstrap=rules.bootstrap)["auc"]
    checks = [Check("auc", "bound", auc, *end, rules.min_auc_lower_bound, end.low >= rules.min_auc_lower_bound)]
    compared = (0, 0)
    if champion is not None and not hindrance:
        both = np.isfinite(champion)
        lacking = _lacking(y[both], groups[both], rules)
        if lacking:
            hindrance = f"of people that neither of them learned from there are {lacking}"
        else:
            checks += _differences(y[both], groups[both], challenger[both], champion[both], rules)
            compared = (int(both.sum()), len(np.unique(groups[both])))
    if hindrance:
        hindrance = f"it cannot be compared with the champion: {hindrance}"
    return Verdict(tuple(checks), *counts, *compared, hindrance)


def _differences(
    y: NDArray[np.int8],
    groups: NDArray[np.integer],
    challenger: NDArray[np.floating],
    champion: NDArray[np.floating],
    rules: GateSettings,
) -> list[Check]:
    found = differences(y, challenger, champion, groups, bootstrap=rules.bootstrap)
    limits: dict[Figure, float] = {
        "auc": -rules.auc_tolerance,
        "log_loss": rules.log_loss_tolerance,
        "ece": rules.calibration_tolerance,
    }
    return [_check(figure, *found[figure], limit) for figure, limit in limits.items()]


def _check(figure: Figure, value: float, end: Interval, limit: float) -> Check:
    passed = end.low >= limit if figure == "auc" else end.high <= limit
    return Check(figure, "champion", value, *end, limit, passed)


def _lacking(y: NDArray[np.int8], groups: NDArray[np.integer], rules: GateSettings) -> str:
    """Say of what there is too little to judge by; empty where there is enough."""
    real, fake, number = int((y == 0).sum()), int((y == 1).sum()), len(np.unique(groups))
    if real and fake and number >= rules.min_groups:
        return ""
    return (
        f"{real} real and {fake} fake videos in {number} groups, expected both in {rules.min_groups} groups at least "
        "(gate.min_groups)"
    )
