"""Which videos one run is about; not a setting, as nothing that it decides is part of a fingerprint."""

from datetime import UTC, datetime
from typing import Self, get_args

from pydantic import Field, model_validator

from dfpipe.errors import VideoFault
from dfpipe.settings.section import Section

__all__ = ["Selection"]


class Selection(Section):
    """Narrows a run to some of the catalog's videos, and says which of the finished ones are wanted again."""

    videos: list[str] = Field([])
    """Ids, or patterns such as ffpp/*/c23/*; empty is all."""
    datasets: list[str] = Field([])
    """Data sets; empty is all."""
    since: datetime | None = None
    """Only videos that were last changed at this time or later; without a time zone it is UTC."""
    retry: list[str] = Field([], json_schema_extra={"examples": ["timeout", "crashed"]})
    """Do again what ended in one of these states."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        known = ("ok", "no_face", *get_args(VideoFault))
        unknown = [status for status in self.retry if status not in known]
        if unknown:
            raise ValueError(f"no video ends as {', '.join(unknown)}; expected {', '.join(known)}")
        return self

    @property
    def since_utc(self) -> datetime | None:
        """The time with its zone."""
        if self.since is None or self.since.tzinfo is not None:
            return self.since
        return self.since.replace(tzinfo=UTC)

    @property
    def is_all(self) -> bool:
        """Whether it leaves no video out."""
        return not self.videos and not self.datasets and self.since is None
