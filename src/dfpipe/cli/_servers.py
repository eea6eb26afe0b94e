"""Which servers a command talks to, and starting those that are missing."""

import base64
import fcntl
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import entry_points
from typing import Any

from dfpipe.cli._app import waiting, wants_debug
from dfpipe.errors import ServiceError
from dfpipe.services import OnWait, ServiceName, ServiceStatus, down, find, up
from dfpipe.settings import Settings, without_password
from dfpipe.storage import boto_environment
from dfpipe.tracking import tracking_uri
from dfpipe.training import artifact_root

__all__ = ["keep_prefect", "load_flow", "prefect_api", "start", "with_local_dask"]

PATIENCE_SECONDS = 10
PREFECT_USERS = "prefect.users"
"""Lock that every run holds while it uses the local server."""
PREFECT_FOR_RUNS = "prefect.for-runs"
"""Stands while the local server was started by a run and ends with the last one."""


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
        mlflow=settings.mlflow,
        prefect=settings.prefect,
        dask=settings.dask,
        s3_buckets=s3_buckets,
        ports=ports,
        on_wait=on_wait,
    )


def with_local_dask(settings: Settings) -> Settings:
    """Return the settings with the scheduler of `dfpipe up --dask` in them, if it runs and no other place is named.

    Raises
    ------
    ServiceError
        It runs without TLS, and the settings want TLS.
    """
    if settings.dask.scheduler is not None or settings.dask.cluster is not None:
        return settings
    running = find(settings.state, "dask")
    if running is None:
        return settings
    if settings.dask.tls is not None and not running.url.startswith("tls://"):
        raise ServiceError(
            f"dask.tls is set, but the scheduler of `dfpipe up --dask` at {running.url} was started without; "
            "`dfpipe down`, then `dfpipe up --dask`"
        )
    return settings.model_copy(update={"dask": settings.dask.model_copy(update={"scheduler": running.url})})


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
    os.environ.setdefault("DO_NOT_TRACK", "1")
    # Prefect keeps profiles and results in its home; a run writes nowhere but into the state folder.
    os.environ.setdefault("PREFECT_HOME", str((settings.state / "prefect").resolve()))
    # It makes its home but not the folders above, and warns.
    settings.state.mkdir(parents=True, exist_ok=True)
    if settings.prefect.auth is not None:
        os.environ["PREFECT_API_AUTH_STRING"] = settings.prefect.auth.get_secret_value()
    named = settings.prefect.api_url or os.environ.get("PREFECT_API_URL")
    if named:
        _expect_answer(named)
        os.environ["PREFECT_API_URL"] = named
        yield named
        return
    with _local_prefect(settings) as url:
        _expect_answer(f"{url}/api")
        os.environ["PREFECT_API_URL"] = f"{url}/api"
        try:
            yield os.environ["PREFECT_API_URL"]
        finally:
            del os.environ["PREFECT_API_URL"]


@contextmanager
def _local_prefect(settings: Settings) -> Iterator[str]:
    """Use the server of `dfpipe up`, or one that lasts until the last of the runs that share it has ended."""
    folder = settings.state / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / PREFECT_USERS).open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        running = find(settings.state, "prefect")
        if running is None:
            with waiting("starting a local Prefect server"):
                running = start(settings, ["prefect"])[0]
            (folder / PREFECT_FOR_RUNS).touch()
        try:
            yield running.url
        finally:
            # Only the last one gets the lock for itself.
            with suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if (folder / PREFECT_FOR_RUNS).exists():
                    down(settings.state, ["prefect"])
                    keep_prefect(settings)


def keep_prefect(settings: Settings) -> None:
    """Let the local Prefect server run on when runs end, as `dfpipe up` promises."""
    (settings.state / "run" / PREFECT_FOR_RUNS).unlink(missing_ok=True)


def _expect_answer(api_url: str) -> None:
    # The path of its health is open to everybody, this one is not.
    request = urllib.request.Request(f"{api_url.rstrip('/')}/admin/version")  # noqa: S310
    if auth := os.environ.get("PREFECT_API_AUTH_STRING"):
        # Not to where an answer may send us on.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(auth.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS):  # noqa: S310
            return
    except urllib.error.HTTPError as error:
        # It answers. Prefect's cloud takes another kind of key and says no in other words: that is left to Prefect.
        if error.code == http.client.UNAUTHORIZED and b"exception_message" in error.read():
            raise ServiceError(
                f"the Prefect API at {without_password(api_url)} does not let us in; set prefect.auth to the "
                "user:password that it was started with (PREFECT_SERVER_API_AUTH_STRING)"
            ) from error
        return
    except (OSError, ValueError) as error:
        raise ServiceError(
            f"no Prefect API answers at {without_password(api_url)}; start one with `dfpipe up`, or set "
            "prefect.api_url to null for a local server"
        ) from error


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
