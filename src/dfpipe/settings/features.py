"""Feature sets: what models see of a crop."""

from typing import Annotated, Literal

from pydantic import Field

from dfpipe.settings.section import Section

__all__ = ["FeatureSettings", "PixelsSettings", "ResidualSettings"]


class PixelsSettings(Section):
    """The seed's feature: the crop's pixels, flattened."""

    name: Literal["pixels"] = "pixels"
    """Feature set."""
    size_px: int = Field(64, ge=4, le=2048)
    """Side to which the crop is resized (area averaging) before flattening; gives size x size x 3 uint8 columns."""


class ResidualSettings(Section):
    """Noise residual: the crop minus its Gaussian blur, as per-block statistics."""

    name: Literal["residual"] = "residual"
    """Feature set."""
    sigma_px: float = Field(1.0, gt=0)
    """Standard deviation of the Gaussian in crop pixels."""
    grid: int = Field(12, ge=1, le=64)
    """The crop is cut into grid x grid blocks, each described on its own."""


FeatureSettings = Annotated[PixelsSettings | ResidualSettings, Field(discriminator="name")]
