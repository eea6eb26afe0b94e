"""What a run writes to stderr."""

from typing import Literal

from dfpipe.settings.section import Section

__all__ = ["LogSettings"]


class LogSettings(Section):
    """Lines about a run as it goes; Prefect's page of the run has them at level info too, whatever is chosen here."""

    format: Literal["text", "json"] = "text"
    """One line of text a record, or one JSON object a line; json includes what Prefect says of flow and task runs."""
    level: Literal["debug", "info", "warning", "error"] = "warning"
    """What is written to stderr at least; info has a line for each shard, and for each video that did not end ok."""
