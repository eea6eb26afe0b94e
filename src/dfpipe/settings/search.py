"""How the candidates are searched, and by which figure they are ranked."""

from typing import Literal, get_args

from pydantic import Field, field_validator

from dfpipe.settings.section import Section

__all__ = ["OWN_FIGURES", "OwnFigure", "SearchSettings"]

OwnFigure = Literal[
    "video_auc",
    "video_pr_auc",
    "video_eer",
    "video_accuracy",
    "video_balanced_accuracy",
    "video_f1_fake",
    "video_log_loss",
    "video_brier",
    "frame_auc",
    "frame_pr_auc",
    "frame_eer",
    "frame_accuracy",
    "frame_balanced_accuracy",
    "frame_f1_fake",
    "frame_log_loss",
    "frame_brier",
]
OWN_FIGURES: tuple[OwnFigure, ...] = get_args(OwnFigure)
"""Figures of dfpipe's own by which candidates can be ranked, by video or by face."""


class SearchSettings(Section):
    """Which candidates are tried on which rows, and what the best one is best at."""

    method: Literal["grid", "random", "halving"] = "grid"
    """``grid`` tries every combination of every grid; ``random`` as many of them as ``n_iter``, drawn without
    replacement; ``halving`` all of them on few people, then the better ones on more (successive halving)."""
    n_iter: int = Field(20, ge=1)
    """Candidates that ``random`` draws."""
    factor: int = Field(3, ge=2)
    """One in how many candidates ``halving`` keeps in each round, and how many times more people the next has."""
    seed: int = 42
    """Seed of the draws of ``random`` and of the people of ``halving``."""
    scoring: str = "video_auc"
    """What ranks the candidates, averaged over the folds: ``video_auc``, ``video_accuracy``, ``video_log_loss`` and the
    like (docs/metrics.md), the same of frames, or any scorer of scikit-learn by name (``average_precision``,
    ``neg_brier_score``), which sees faces, not videos."""

    @field_validator("scoring")
    @classmethod
    def _known(cls, scoring: str) -> str:
        if scoring not in OWN_FIGURES:
            from sklearn.metrics import get_scorer_names  # noqa: PLC0415 - slow to import

            if scoring not in get_scorer_names():
                raise ValueError(
                    f"train.search.scoring got {scoring!r}, expected one of {', '.join(OWN_FIGURES)}, or a scorer of "
                    "scikit-learn (sklearn.metrics.get_scorer_names)"
                )
        return scoring
