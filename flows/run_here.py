"""Running a flow from a command line that ends when the flow does."""

from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from dfpipe.settings import Settings, Stage
from dfpipe.summary import RunSummary
from flows.pipeline import pipeline

__all__ = ["run_pipeline"]

LAST_WORDS_SECONDS = 10


def run_pipeline(settings: Settings, until: Stage) -> RunSummary:
    """Run the pipeline in this process; when it returns or raises, Prefect has every log line and event of it."""
    try:
        return pipeline(settings, until)
    finally:
        # Both send from threads of their own; a server that is stopped before they are done would lose the run's end.
        APILogWorker.drain_all(timeout=LAST_WORDS_SECONDS)
        EventsWorker.drain_all(timeout=LAST_WORDS_SECONDS)
