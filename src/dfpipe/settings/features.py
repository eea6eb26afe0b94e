"""Feature sets: what models see of a face."""

from typing import Annotated, Any, Literal

from pydantic import Field

from dfpipe.settings.section import Section

__all__ = [
    "ColourSettings",
    "CooccurrenceSettings",
    "DctSettings",
    "FaceFeatureSettings",
    "FeatureSection",
    "FeatureSettings",
    "LandmarksSettings",
    "LbpSettings",
    "PixelsSettings",
    "ResidualMapSettings",
    "ResidualSettings",
    "SharpnessSettings",
    "SpectrumSettings",
    "TemporalSettings",
]


class FeatureSection(Section):
    """What all feature sets have."""

    @property
    def needs_landmarks(self) -> bool:
        """Whether it looks at where the face and its landmarks lie in the frame, and not at the crop alone."""
        return False

    def identity(self) -> dict[str, Any]:
        """Return the options that make the fingerprint of its rows, as plain JSON."""
        return self.model_dump(mode="json")


class PixelsSettings(FeatureSection):
    """The seed's feature: the crop's pixels, flattened."""

    name: Literal["pixels"] = "pixels"
    """Feature set."""
    size_px: int = Field(64, ge=4, le=2048)
    """Side to which the crop is resized (area averaging) before flattening; gives size x size uint8 columns for each
    channel."""
    channels: Literal["rgb", "luma", "red", "green", "blue"] = "rgb"
    """All three colours, their luma (ITU-R BT.601), or one of them."""

    def identity(self) -> dict[str, Any]:
        """Return the options without the channels where they are rgb: rows were written before there was a choice."""
        options = super().identity()
        if self.channels == "rgb":
            del options["channels"]
        return options


class ResidualSettings(FeatureSection):
    """Noise residual: the crop minus its Gaussian blur, as per-block statistics."""

    name: Literal["residual"] = "residual"
    """Feature set."""
    sigma_px: float = Field(1.0, gt=0)
    """Standard deviation of the Gaussian in crop pixels."""
    grid: int = Field(12, ge=1, le=64)
    """The crop is cut into grid x grid blocks, each described on its own."""


class ResidualMapSettings(FeatureSection):
    """Noise residual as a map: the resized crop minus its Gaussian blur, mean over the channels."""

    name: Literal["residual_map"] = "residual_map"
    """Feature set."""
    size_px: int = Field(100, ge=4, le=2048)
    """Side to which the crop is resized (area averaging) before it is blurred."""
    sigma_px: float = Field(1.0, gt=0, le=100)
    """Standard deviation of the Gaussian in pixels of the resized crop."""


class SpectrumSettings(FeatureSection):
    """Power spectrum of the crop's luma, averaged over all directions."""

    name: Literal["spectrum"] = "spectrum"
    """Feature set."""
    bins: int = Field(32, ge=2, le=512)
    """Equal bins of spatial frequency from 0 to 0.5 cycles per pixel; a crop needs twice as many pixels a side."""
    window: Literal["hann", "none"] = "hann"
    """Fade the crop out towards its edges, whose jump from one side to the other else fills all frequencies."""


class DctSettings(FeatureSection):
    """Energies of the discrete cosine transform in blocks of 8 x 8 pixels, as JPEG and H.264's kin use it."""

    name: Literal["dct"] = "dct"
    """Feature set."""
    bands: Literal["diagonal", "coefficient"] = "diagonal"
    """One band for each diagonal of the zigzag order (15), or for each coefficient (64)."""


class LbpSettings(FeatureSection):
    """Histograms of uniform local binary patterns with eight neighbours."""

    name: Literal["lbp"] = "lbp"
    """Feature set."""
    radius_px: int = Field(1, ge=1, le=16)
    """Distance of the neighbours, along rows, columns and diagonals of pixels."""
    grid: int = Field(4, ge=1, le=32)
    """The crop is cut into grid x grid cells, each with a histogram of 59 bins."""


class CooccurrenceSettings(FeatureSection):
    """Co-occurrences of neighbouring noise residuals, one submodel of the spatial rich model of steganalysis."""

    name: Literal["cooccurrence"] = "cooccurrence"
    """Feature set."""
    quantum: float = Field(1.0, gt=0, le=64)
    """Levels of the residual that count as one step."""
    truncate: int = Field(2, ge=1, le=4)
    """Steps beyond this many to either side count as this many."""
    order: int = Field(4, ge=2, le=4)
    """Neighbouring residuals that are looked at together."""


class ColourSettings(FeatureSection):
    """Mean, deviation, skewness and correlations of the channels of YCbCr and HSV."""

    name: Literal["colour"] = "colour"
    """Feature set."""


class SharpnessSettings(FeatureSection):
    """How sharp the crop is, inside and outside, and how blocky."""

    name: Literal["sharpness"] = "sharpness"
    """Feature set."""
    edge_level: float = Field(16.0, gt=0, le=255)
    """Gradient, in levels per pixel, above which a pixel counts as an edge."""


class LandmarksSettings(FeatureSection):
    """Geometry of the five landmarks, and where the face lies in the frame."""

    name: Literal["landmarks"] = "landmarks"
    """Feature set."""

    @property
    def needs_landmarks(self) -> bool:
        """True."""
        return True


FaceFeatureSettings = Annotated[
    PixelsSettings
    | ResidualSettings
    | ResidualMapSettings
    | SpectrumSettings
    | DctSettings
    | LbpSettings
    | CooccurrenceSettings
    | ColourSettings
    | SharpnessSettings
    | LandmarksSettings,
    Field(discriminator="name"),
]
"""Sets of which a row tells of one face alone."""


class TemporalSettings(FeatureSection):
    """How much another feature set changes from one sampled frame to the next, over each person's track."""

    name: Literal["temporal"] = "temporal"
    """Feature set."""
    of: FaceFeatureSettings = ResidualSettings()
    """The set whose changes are looked at; it need not be listed itself."""

    @property
    def needs_landmarks(self) -> bool:
        """Whether the set that it is of does."""
        return self.of.needs_landmarks


FeatureSettings = Annotated[FaceFeatureSettings | TemporalSettings, Field(discriminator="name")]
"""All sets."""
