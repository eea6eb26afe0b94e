"""What a flow tells while it runs: log records on stderr and in its page, and figures to a collector of metrics."""

import logging
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run

from dfpipe.logs import MessageFormatter, run_logs
from dfpipe.settings import Settings
from dfpipe.storage import open_location
from dfpipe.telemetry import run_metrics, timed

__all__ = ["logged", "measured"]

P = ParamSpec("P")
R = TypeVar("R")

Story = Callable[Concatenate[Settings, P], R]


class _RunPage(APILogHandler):
    """Sends records to the page of the run that is under way where they arise; threads of no run have no page."""

    def emit(self, record: logging.LogRecord) -> None:
        if FlowRunContext.get() is not None or TaskRunContext.get() is not None:
            super().emit(record)


def logged(function: Story[P, R]) -> Story[P, R]:
    """Give a flow's records its id, and send the library's to Prefect too."""

    @wraps(function)
    def run(settings: Settings, *arguments: P.args, **options: P.kwargs) -> R:
        page = _RunPage(logging.INFO)
        page.setFormatter(MessageFormatter())
        with run_logs(settings.log, run=str(flow_run.id), others=[page]):
            return function(settings, *arguments, **options)

    return cast("Story[P, R]", run)


def measured(stage: str) -> Callable[[Story[P, R]], Story[P, R]]:
    """Time a flow as a stage, and push the figures of the run when it is the outermost one."""

    def decorate(function: Story[P, R]) -> Story[P, R]:
        @wraps(function)
        def run(settings: Settings, *arguments: P.args, **options: P.kwargs) -> R:
            store = open_location(settings.store, settings.s3).url
            with run_metrics(settings.telemetry, store=store), timed(stage):
                return function(settings, *arguments, **options)

        return cast("Story[P, R]", run)

    return decorate
