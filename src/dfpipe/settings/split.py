"""How videos are divided into those that a model learns from and those that it is judged on."""

from pydantic import Field

from dfpipe.settings.section import Section

__all__ = ["SplitSettings"]


class SplitSettings(Section):
    """How videos are divided; always along groups of people who appear together."""

    test_fraction: float = Field(0.25, gt=0, lt=1)
    """Share of the videos of each class held out for the final figures, in whole groups of people."""
    folds: int = Field(3, ge=2)
    """Grouped cross-validation folds inside the rest."""
    seed: int = 42
    """Seed of the division."""
