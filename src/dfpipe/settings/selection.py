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
    before: datetime | None = None
    """Only videos that were last changed earlier than this time; without a time zone it is UTC."""
    retry: list[VideoStatus] = Field([])
    """Do again what ended in one of these states."""

    @property
    def since_utc(self) -> datetime | None:
        """The first time, with its zone."""
        return _with_zone(self.since)

    @property
    def before_utc(self) -> datetime | None:
        """The last time, with its zone."""
        return _with_zone(self.before)


def _with_zone(time: datetime | None) -> datetime | None:
    return time if time is None or time.tzinfo is not None else time.replace(tzinfo=UTC)
