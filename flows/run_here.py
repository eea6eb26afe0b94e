"""Running a flow from a process that ends when the flow does."""

from collections.abc import Iterator
from contextlib import contextmanager

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from dfpipe.plan import EVERYTHING
from dfpipe.settings import Selection, Settings, Stage
from dfpipe.summary import RunSummary
from flows.pipeline import pipeline

__all__ = ["last_words", "run_pipeline"]

PATIENCE_SECONDS = 10


@contextmanager
def last_words() -> Iterator[None]:
    """When the block ends, Prefect has every log line and event of the flows that ran in it.

    Both are sent from threads of their own; a server that is stopped before they are done loses the run's end,
    and the process then waits for it in vain.
    """
    try:
        yield
    finally:
        APILogWorker.drain_all(timeout=PATIENCE_SECONDS)
        EventsWorker.drain_all(timeout=PATIENCE_SECONDS)


def run_pipeline(
    settings: Settings, until: Stage, selection: Selection = EVERYTHING, at: str | None = None
) -> RunSummary:
    """Run the pipeline in this process."""
    with last_words():
        return pipeline(settings, until, selection, at)
