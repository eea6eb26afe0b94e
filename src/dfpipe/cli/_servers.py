"""Which servers a command talks to, and starting those that are missing."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from dfpipe.cli._app import waiting, wants_debug
from dfpipe.errors import ServiceError
from dfpipe.services import OnWait, ServiceName, ServiceStatus, down, find, up
from dfpipe.settings import Settings
from dfpipe.storage import boto_environment
from dfpipe.tracking import tracking_uri
from dfpipe.training import artifact_root

__all__ = ["load_flow", "prefect_api", "start"]


def start(
    settings: Settings,
    names: Sequence[ServiceName],
    *,
    ports: Mapping[ServiceName, int] | None = None,
    s3_buckets: Sequence[str] = (),
    on_wait: OnWait | None = None,
) -> list[ServiceStatus]:
    """Have these local servers running on the settings' own state and store."""
    return up(
        settings.state,
        names,
        mlflow_backend=tracking_uri(settings.mlflow, state=settings.state),
        artifact_root=artifact_root(settings),
        mlflow_environment=boto_environment(settings.s3),
        s3_buckets=s3_buckets,
        ports=ports,
        on_wait=on_wait,
    )


@contextmanager
def prefect_api(settings: Settings) -> Iterator[str]:
    """Point this process at one real Prefect API: that of the settings, of the environment, or a local server.

    A local server that this block had to start is ended with it; without an API named, every process that touches
    Prefect would start a server of its own.

    Yields
    ------
    str
        The API's URL.
    """
    # Its log lines go to the API; on the terminal they would bury ours.
    if not wants_debug():
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    named = settings.prefect.api_url or os.environ.get("PREFECT_API_URL")
    if named:
        os.environ["PREFECT_API_URL"] = named
        yield named
        return
    # Prefect keeps profiles and results in its home; a run writes nowhere but into the state folder.
    os.environ["PREFECT_HOME"] = str((settings.state / "prefect").resolve())
    running = find(settings.state, "prefect")
    ours = running is None
    if running is None:
        with waiting("starting a local Prefect server"):
            running = start(settings, ["prefect"])[0]
    try:
        os.environ["PREFECT_API_URL"] = f"{running.url}/api"
        yield os.environ["PREFECT_API_URL"]
    finally:
        del os.environ["PREFECT_API_URL"]
        if ours:
            down(settings.state, ["prefect"])


def load_flow(name: str) -> Callable[..., Any]:
    """Return a flow by name; flows plug themselves into the command line, which therefore imports none.

    Raises
    ------
    ServiceError
        dfpipe is installed without its flows.
    """
    found = entry_points(group="dfpipe.flows", name=name)
    if not found:
        raise ServiceError(f"flow {name!r} is not installed; install the dfpipe wheel, or `make install` in a checkout")
    flow: Callable[..., Any] = next(iter(found)).load()
    return flow
