"""What a run says of itself, and when its losses make it fail."""

from pydantic import Field

from dfpipe.settings.section import Section

__all__ = ["LossSettings", "ReportSettings"]


class LossSettings(Section):
    """Bounds on what preprocessing may lose; a run that passes one fails after it has committed everything.

    The losses are those of the whole catalog under the present settings, not of this run alone. Videos that
    ``extract.filter`` turned away (``filtered``) count neither as lost nor as looked at; those whose faces
    ``extract.quality`` all turned away (``no_face``) are lost.
    """

    max_videos_lost: float | None = Field(None, ge=0, le=1)
    """Largest share of the videos looked at that may end without a face; null sets no bound."""
    max_frames_lost: float | None = Field(None, ge=0, le=1)
    """Largest share of the wanted frames of which no face may be kept; null sets no bound. A video that cannot be
    opened wants no frames: it counts above."""
    max_gap: float | None = Field(None, ge=0, le=1)
    """Largest difference between real and fake videos in either of these shares, that of videos and that of frames;
    null sets no bound."""


class ReportSettings(Section):
    """What a run's report shows, and by which prices it reckons costs."""

    faces: int = Field(0, ge=0, le=100)
    """Videos of each label of which the report's page shows a face and the name; 0 shows none. They are drawn evenly
    over data sets, methods and people. `dfpipe forget` takes them out of the pages in the store."""
    price_per_core_hour: float = Field(0.04, ge=0)
    """Price of one core for one hour, in the currency below."""
    currency: str = "USD"
    """Currency of the price."""
