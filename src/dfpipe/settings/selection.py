"""Which videos one run is about; not a setting, as nothing that it decides is part of a fingerprint."""

from datetime import UTC, datetime

from pydantic import Field

from dfpipe.errors import VideoStatus
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
    retry: list[VideoStatus] = Field([])
    """Do again what ended in one of these states."""

    @property
    def since_utc(self) -> datetime | None:
        """The time with its zone."""
        if self.since is None or self.since.tzinfo is not None:
            return self.since
        return self.since.replace(tzinfo=UTC)
