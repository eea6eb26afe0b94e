"""Reaching MLflow: a server or a database, one client, no state shared with anything else in the process.

MLflow's fluent functions keep the tracking address and the active run in globals; a flow's threads would meet there.
Everything here goes through a client of its own instead.
"""

import logging
import os
import sqlite3
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dfpipe.errors import ServiceError
from dfpipe.settings import MlflowSettings, without_password

__all__ = [
    "Tracking",
    "expect_answer",
    "find_tracking",
    "importing_mlflow",
    "open_tracking",
    "tracking_errors",
    "tracking_uri",
]

PROBE_SECONDS = 5
POSTGRESQL = "postgresql+psycopg2://"
SQLITE = "sqlite:///"
ROOT_TAG = "dfpipe.artifact_root"


@dataclass(frozen=True, slots=True, eq=False)
class Tracking:
    """An open connection to MLflow."""

    client: Any
    """The ``mlflow.MlflowClient``; safe to use from several threads."""
    uri: str = field(repr=False)
    """Address of the server or database."""
    experiment_id: str
    """Experiment that runs are written to."""
    settings: MlflowSettings
    """Names of the experiment, the registered model and the alias."""

    @property
    def shown_uri(self) -> str:
        """The address without user name and password."""
        return _without_password(self.uri)

    def run_url(self, run_id: str) -> str | None:
        """Return the page of a run on the server; None where there is no server."""
        if not _is_http(self.uri):
            return None
        return f"{_without_user(self.uri).rstrip('/')}/#/experiments/{self.experiment_id}/runs/{run_id}"


def tracking_uri(settings: MlflowSettings, *, state: Path) -> str:
    """Return the address in the settings, or that of the database under the state folder."""
    uri = settings.tracking_uri or f"sqlite:///{state.absolute()}/mlflow/mlflow.db"
    # SQLAlchemy 2.1 takes the bare name for another driver than that of the extra.
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)


def open_tracking(settings: MlflowSettings, *, state: Path, artifact_root: str) -> Tracking:
    """Connect to MLflow and find or create the experiment.

    An experiment that dfpipe made for another artifact root is left alone: the root becomes part of the name then.

    Parameters
    ----------
    settings
        Address and names.
    state
        Local folder for the database where the settings name no address.
    artifact_root
        Folder or ``s3://`` URL for pictures and models. MLflow reaches S3 by the usual variables, see
        `dfpipe.storage.boto_environment`.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses.
    """
    uri = tracking_uri(settings, state=state)
    if settings.tracking_uri is None:
        _make_folder(state / "mlflow")
    client = _connect(uri, settings)
    with tracking_errors("open", uri):
        experiment_id = _experiment(client, settings.experiment, _absolute(artifact_root))
    return Tracking(client, uri, experiment_id, settings)


def find_tracking(settings: MlflowSettings, *, state: Path, artifact_root: str) -> Tracking | None:
    """Connect to MLflow as `open_tracking` does, but make nothing: no database and no experiment.

    Returns
    -------
    Tracking or None
        None where there is no experiment yet.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    uri = tracking_uri(settings, state=state)
    # A client makes the database that it is pointed to.
    file = Path(uri.removeprefix("sqlite:///").removeprefix("file://"))
    if urlsplit(uri).scheme in ("", "sqlite", "file") and not file.exists():
        return None
    client = _connect(uri, settings)
    root = _absolute(artifact_root)
    with tracking_errors("open", uri):
        for name in (settings.experiment, f"{settings.experiment} ({root})"):
            experiment = client.get_experiment_by_name(name)
            if experiment is not None and experiment.tags.get(ROOT_TAG, root) == root:
                return Tracking(client, uri, str(experiment.experiment_id), settings)
    return None


def expect_answer(tracking: Tracking) -> None:
    """Make sure that the server answers, where there is one, before its client tries for minutes.

    Raises
    ------
    ServiceError
        Nobody answers.
    """
    if _is_http(tracking.uri):
        _probe(tracking.uri)


def _absolute(artifact_root: str) -> str:
    return artifact_root if "://" in artifact_root else str(Path(artifact_root).absolute())


def _connect(uri: str, settings: MlflowSettings) -> Any:
    if settings.username and settings.password:
        # MLflow's client takes no options, only the environment.
        os.environ["MLFLOW_TRACKING_USERNAME"] = settings.username
        os.environ["MLFLOW_TRACKING_PASSWORD"] = settings.password.get_secret_value()
    if _is_http(uri):
        _probe(uri)
    elif uri.startswith(POSTGRESQL):
        _probe_postgresql(uri)
    elif uri.startswith(SQLITE):
        _probe_sqlite(uri)
    _quiet_environment()
    with importing_mlflow():
        from mlflow import MlflowClient  # noqa: PLC0415 - a second of import, and quietness comes first

    _quiet_loggers()
    # A database's store is imported, and its tables are made, when the first client is.
    with tracking_errors("open", uri), importing_mlflow():
        return MlflowClient(uri, registry_uri=uri)


@contextmanager
def importing_mlflow() -> Iterator[None]:
    """Keep to itself what MLflow warns of while it is imported: its own use of SQLAlchemy and of type hints."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def tracking_errors(verb: str, uri: str) -> Iterator[None]:
    """Turn what MLflow raises inside the block into one clear `ServiceError`.

    Parameters
    ----------
    verb
        What was being done, such as ``"record the training in"``.
    uri
        Address of MLflow.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import
    from requests.exceptions import RequestException  # noqa: PLC0415 - only met together with MLflow

    try:
        yield
    except (MlflowException, RequestException) as error:
        # It may quote the address.
        reason = without_password(" ".join(str(error).split()))
        if getattr(error, "error_code", None) in ("UNAUTHENTICATED", "PERMISSION_DENIED") or "error code 401" in reason:
            raise ServiceError(
                f"MLflow at {_without_password(uri)} does not let us in; set mlflow.username and mlflow.password to "
                "a user of its who may write there"
            ) from error
        raise ServiceError(
            f"cannot {verb} MLflow at {_without_password(uri)}: {reason[:300]}; check mlflow.tracking_uri"
        ) from error


def _experiment(client: Any, name: str, artifact_root: str) -> str:
    experiment = _find_or_create(client, name, artifact_root)
    if experiment.tags.get(ROOT_TAG, artifact_root) != artifact_root:
        # An experiment keeps its files in one place for life; another store needs another experiment.
        experiment = _find_or_create(client, f"{name} ({artifact_root})", artifact_root)
    return str(experiment.experiment_id)


def _find_or_create(client: Any, name: str, artifact_root: str) -> Any:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            client.create_experiment(name, artifact_location=artifact_root, tags={ROOT_TAG: artifact_root})
        except MlflowException as error:
            # Another run may have been faster.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment.lifecycle_stage == "deleted":
        raise ServiceError(
            f"MLflow experiment {name!r} is deleted; restore it, or set mlflow.experiment to another name"
        )
    return experiment


def _probe(uri: str) -> None:
    # The client itself would try for minutes before it gave up.
    import requests  # noqa: PLC0415 - comes with MLflow

    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=PROBE_SECONDS)
    except requests.exceptions.RequestException as error:
        raise ServiceError(
            f"no MLflow server answers at {_without_password(uri)}; start one with `dfpipe up`, "
            "or set mlflow.tracking_uri to null to use a local database"
        ) from error


def _probe_postgresql(uri: str) -> None:
    # MLflow itself would try for minutes before it gave up.
    try:
        import psycopg2  # type: ignore[import-untyped]  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ServiceError(
            f"mlflow.tracking_uri is {_without_password(uri)}, but Python finds no psycopg2; install the extra with "
            "`pip install 'dfpipe[postgresql]'`"
        ) from error
    try:
        psycopg2.connect(uri.replace("+psycopg2", "", 1), connect_timeout=PROBE_SECONDS).close()
    except psycopg2.Error as error:
        reason = without_password(" ".join(str(error).split()))
        raise ServiceError(
            f"cannot open the database of MLflow at {_without_password(uri)}: {reason[:300]}; check "
            "mlflow.tracking_uri, and that the database was made"
        ) from error


def _probe_sqlite(uri: str) -> None:
    # MLflow itself would try for minutes before it gave up.
    try:
        with closing(sqlite3.connect(uri.removeprefix(SQLITE).partition("?")[0], PROBE_SECONDS)) as database:
            database.execute("PRAGMA schema_version")
    except sqlite3.Error as error:
        # Whoever is writing in it will be done.
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise ServiceError(
                f"cannot open the database of MLflow at {uri}: {error}; restore it, or set state or "
                "mlflow.tracking_uri to another place"
            ) from error


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"cannot make {folder} for MLflow's database: {error.strerror}; set state to a folder that can be written"
        ) from error


def _quiet_environment() -> None:
    # Read once, when MLflow is imported: no telemetry, and no links on stdout, which belongs to the command line.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")


def _quiet_loggers() -> None:
    for name in ("alembic", "mlflow.store.db.utils"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _is_http(uri: str) -> bool:
    return uri.startswith(("http://", "https://"))


def _without_password(uri: str) -> str:
    # One that is not written as it should be may have its password anywhere.
    return without_password(_without_user(uri))


def _without_user(uri: str) -> str:
    parts = urlsplit(uri)
    return uri.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1) if "@" in parts.netloc else uri
