"""From the score of a video to a probability and a verdict, by a rule that saw validation videos only.

The sigmoid is Platt's, with his smoothed targets ("Probabilistic outputs for support vector machines", 1999), fitted to
the log odds of the score: so it can also leave a score as it is, which a sigmoid of the score itself cannot
(Kull, Silva Filho and Flach, "Beta calibration", 2017). Isotonic regression is Zadrozny and Elkan's (2002).
"""

from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from dfpipe.errors import TrainingDataError
from dfpipe.models.kept import Kept
from dfpipe.models.metrics import THRESHOLD
from dfpipe.settings import (
    BalancedThreshold,
    EvaluationSettings,
    FalseAlarmThreshold,
    FixedThreshold,
    ThresholdSettings,
)

__all__ = ["Calibration", "Isotonic", "Sigmoid", "Uncalibrated", "VerdictRule", "calibrate", "fit_rule"]

SMALLEST_ODDS = 1e-6
"""Scores are held this far from 0 and 1, whose log odds are infinite."""


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Uncalibrated(_Value):
    """The score as it is."""

    name: Literal["none"] = "none"
    """Method."""

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the scores."""
        return np.asarray(scores, np.float64)


class Sigmoid(_Value):
    """Logistic in the log odds of the score; slope 1 and intercept 0 leave it as it is."""

    name: Literal["sigmoid"] = "sigmoid"
    """Method."""
    slope: float = Field(ge=0)
    """Below 1 draws scores towards the middle; never negative, so that no order is turned round."""
    intercept: float
    """Log odds that a score of one half is given."""

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability of fake for scores of any shape."""
        return _expit(self.slope * _log_odds(scores) + self.intercept)


class Isotonic(_Value):
    """A rising line through points; level beyond the first and the last."""

    name: Literal["isotonic"] = "isotonic"
    """Method."""
    scores: tuple[float, ...] = Field(min_length=1)
    """Scores at the points, rising."""
    probabilities: tuple[float, ...] = Field(min_length=1)
    """Probabilities there, never falling."""

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability of fake for scores of any shape."""
        return np.asarray(np.interp(scores, self.scores, self.probabilities), np.float64)


Calibration = Annotated[Uncalibrated | Sigmoid | Isotonic, Field(discriminator="name")]


class VerdictRule(Kept):
    """How the score of a video becomes a probability, and from which probability on it is called fake."""

    what: ClassVar[str] = "verdict rule"

    calibration: Calibration = Uncalibrated()
    """From score to probability."""
    threshold: float = THRESHOLD
    """A video is called fake from this probability on."""
    chosen_by: ThresholdSettings = FixedThreshold()
    """Rule by which the threshold was chosen."""
    real_videos: int = 0
    """Real validation videos that both were fitted to; 0 where nothing was fitted."""
    fake_videos: int = 0
    """Fake ones. Probabilities hold where fakes are as frequent as here."""

    def apply(self, scores: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the probability of fake for scores of videos, nan for nan.

        Parameters
        ----------
        scores
            Mean probability of fake over the faces of each video.
        """
        return self.calibration.apply(scores)


def fit_rule(y: NDArray[np.int8], scores: NDArray[np.floating], settings: EvaluationSettings) -> VerdictRule:
    """Fit the calibration and choose the threshold.

    Parameters
    ----------
    y
        Labels of validation videos, shape (n,): 0 real, 1 fake.
    scores
        Their scores by models that had not learned from them, shape (n,).
    settings
        Method and rule.

    Raises
    ------
    TrainingDataError
        One class only.
    """
    real, fake = (int((y == label).sum()) for label in (0, 1))
    if not real or not fake:
        raise TrainingDataError(
            f"got {real} real and {fake} fake validation videos, expected both to fit a calibration and a threshold"
        )
    calibration = calibrate(y, scores, settings.calibration)
    threshold = _choose_threshold(y, calibration.apply(scores), settings.threshold)
    return VerdictRule(
        calibration=calibration,
        threshold=threshold,
        chosen_by=settings.threshold,
        real_videos=real,
        fake_videos=fake,
    )


def calibrate(
    y: NDArray[np.int8], scores: NDArray[np.floating], method: Literal["none", "sigmoid", "isotonic"]
) -> Uncalibrated | Sigmoid | Isotonic:
    """Fit one method of calibration to labels and scores, shape (n,) each; both classes are there."""
    if method == "none":
        return Uncalibrated()
    return _fit_sigmoid(y, scores) if method == "sigmoid" else _fit_isotonic(y, scores)


def _fit_sigmoid(y: NDArray[np.int8], scores: NDArray[np.floating]) -> Sigmoid:
    from scipy.optimize import minimize  # noqa: PLC0415 - slow to import

    odds = _log_odds(scores)
    fake = int(y.sum())
    real = len(y) - fake
    # Platt's targets: where scores divide the classes without error, 0 and 1 would drive the slope to infinity.
    target = np.where(y == 1, (fake + 1) / (fake + 2), 1 / (real + 2))

    def loss(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        line = values[0] * odds + values[1]
        missed = _expit(line) - target
        return float(np.mean(np.logaddexp(0, line) - target * line)), np.array([missed @ odds, missed.sum()]) / len(y)

    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(0, None), (None, None)],
        options={"ftol": 1e-14},
    )
    return Sigmoid(slope=float(found.x[0]), intercept=float(found.x[1]))


def _fit_isotonic(y: NDArray[np.int8], scores: NDArray[np.floating]) -> Isotonic:
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415 - slow to import

    # A few videos without an error do not make certain: one more of each kind may always have come.
    margin = 1 / (len(y) + 2)
    fitted = IsotonicRegression(y_min=margin, y_max=1 - margin).fit(np.asarray(scores, np.float64), y)
    return Isotonic(scores=tuple(fitted.X_thresholds_.tolist()), probabilities=tuple(fitted.y_thresholds_.tolist()))


def _choose_threshold(y: NDArray[np.int8], proba: NDArray[np.float64], rule: ThresholdSettings) -> float:
    match rule:
        case FixedThreshold():
            return rule.value
        case BalancedThreshold():
            cuts, real_called, fake_called = _cuts(y, proba)
            balanced = (1 - real_called + fake_called) / 2
            best = np.flatnonzero(balanced >= balanced.max() - 1e-12)
            # Of equally good ones the nearest to one half, where the probabilities themselves would divide.
            return float(cuts[best[np.argmin(np.abs(cuts[best] - THRESHOLD))]])
        case FalseAlarmThreshold():
            cuts, real_called, _ = _cuts(y, proba)
            return float(cuts[np.flatnonzero(real_called <= rule.rate + 1e-12)[0]])


def _cuts(
    y: NDArray[np.int8], proba: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return every threshold that divides otherwise, rising, and the shares of real and fake at or above each.

    They lie halfway between neighbouring probabilities; the first calls all fake, the last none.
    """
    values = np.unique(proba)
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [np.nextafter(values[-1], np.inf)]])
    sides = [np.sort(proba[y == label]) for label in (0, 1)]
    real, fake = (1 - np.searchsorted(side, cuts) / len(side) for side in sides)
    return cuts, real, fake


def _log_odds(scores: NDArray[np.floating]) -> NDArray[np.float64]:
    bounded = np.clip(np.asarray(scores, np.float64), SMALLEST_ODDS, 1 - SMALLEST_ODDS)
    return np.asarray(np.log(bounded) - np.log1p(-bounded), np.float64)


def _expit(line: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit  # noqa: PLC0415 - slow to import

    return np.asarray(expit(line), np.float64)
