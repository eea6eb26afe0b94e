"""What a flow tells a collector of metrics."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

from dfpipe.settings import Settings
from dfpipe.storage import open_location
from dfpipe.telemetry import run_metrics, timed

__all__ = ["measured"]

P = ParamSpec("P")
R = TypeVar("R")

Story = Callable[Concatenate[Settings, P], R]


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
