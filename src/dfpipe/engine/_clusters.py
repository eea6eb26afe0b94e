"""Where an engine's workers come from: a running scheduler, a cluster made for the run, or this machine."""

import importlib
import inspect
import logging
import os
import signal
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Client, LocalCluster
from distributed.security import Security

from dfpipe import __version__, progress
from dfpipe.engine._engine import MEMORY, Engine
from dfpipe.engine._machine import usable_cores, usable_memory_bytes
from dfpipe.errors import ServiceError, SettingsError
from dfpipe.settings import ClusterSettings, DaskSettings, TlsSettings

__all__ = ["LocalWorkers", "find_cluster_class", "local_workers", "open_engine", "program_environment"]

CONNECT_SECONDS = 15

CONFIGURATION = {
    # A task that kills its worker is not tried four times; map_then_write gives it its second chance.
    "distributed.scheduler.allowed-failures": 0,
    # No task waits behind another on the same worker: it would share the blame for that one's crash.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.worker.daemon": True,
    # A worker that is not back after this long would be given up for good; on a busy machine its imports alone
    # take longer than the 15 s that are usual.
    "distributed.deploy.lost-worker-timeout": "365 days",
}

# One thread is one core: BLAS, OpenMP and OpenCV pools in each would fight over the same two.
ONE_THREAD_PER_LIBRARY = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"), "1"
)


@dataclass(frozen=True, slots=True)
class LocalWorkers:
    """Worker processes on this machine."""

    processes: int
    """How many."""
    threads: int
    """Threads of each."""
    memory_bytes: int
    """What each may use."""

    @property
    def resources(self) -> dict[str, float]:
        """What each declares, for tasks that ask for it."""
        return {MEMORY: self.memory_bytes}


def local_workers(settings: DaskSettings) -> LocalWorkers:
    """Return the workers that the settings ask for on this machine; they share what this process may use.

    Raises
    ------
    SettingsError
        The memory is no size.
    """
    processes = settings.workers or max(1, usable_cores() // settings.threads)
    return LocalWorkers(processes, settings.threads, _memory_per_worker(settings.memory_per_worker, processes))


def program_environment(settings: DaskSettings) -> dict[str, str]:
    """Return the variables that schedulers and workers need which are started as programs.

    Raises
    ------
    SettingsError
        A certificate or key cannot be read.
    """
    values: dict[str, object] = dict(CONFIGURATION)
    if settings.tls is not None:
        _security(settings.tls)
        values |= {
            "distributed.comm.require-encryption": True,
            "distributed.comm.tls.ca-file": settings.tls.ca_file.absolute(),
        }
        for role in ("scheduler", "worker", "client"):
            for name, file in (("cert", settings.tls.cert), ("key", settings.tls.key)):
                values[f"distributed.comm.tls.{role}.{name}"] = file.absolute()
    names = {key: "DASK_" + key.upper().replace(".", "__").replace("-", "_") for key in values}
    return {**ONE_THREAD_PER_LIBRARY, **{names[key]: str(value) for key, value in values.items()}}


@contextmanager
def open_engine(settings: DaskSettings) -> Iterator[Engine]:
    """Connect to the scheduler in the settings, or make a cluster for the length of the block.

    Raises
    ------
    SettingsError
        The cluster's class cannot be imported, makes no cluster, or does not take the options; a certificate or key
        cannot be read.
    ServiceError
        Nobody answers at the scheduler's address, or it and we do not trust each other; the cluster does not start, no
        worker comes, or workers have another dfpipe or Python.
    """
    with dask.config.set(CONFIGURATION):
        if settings.scheduler is not None:
            with _connect(settings.scheduler, settings.tls) as client:
                _check_workers(client, settings)
                with _announced(client, settings) as engine:
                    yield engine
        elif settings.cluster is not None:
            with closing(_make_cluster(settings.cluster)) as cluster, Client(cluster) as client:
                _check_workers(client, settings)
                with _announced(client, settings) as engine:
                    yield engine
        else:
            with (
                _one_thread_per_library(),
                _local_cluster(settings) as cluster,
                Client(cluster) as client,
                _announced(client, settings) as engine,
            ):
                yield engine


def _connect(address: str, tls: TlsSettings | None) -> Client:
    security = None if tls is None else _security(tls)
    try:
        return Client(address, timeout=CONNECT_SECONDS, security=security)
    except TypeError as error:
        # Dask finds no certificates in its own settings either.
        raise ServiceError(
            f"the Dask scheduler at {address} asks for certificates and none are set; set dask.tls to its authority's"
        ) from error
    except (OSError, TimeoutError, ValueError) as error:
        if any(isinstance(one, ssl.SSLError) for one in (error, error.__cause__)):
            raise ServiceError(
                f"the Dask scheduler at {address} and the certificates in dask.tls do not trust each other "
                f"({getattr(error.__cause__ or error, 'reason', error)}); use those of one authority on both sides"
            ) from error
        raise ServiceError(
            f"no Dask scheduler answers at {address}; start one, or set dask.scheduler to null. One that listens with "
            "TLS answers at tls://…, with dask.tls set"
        ) from error


def _security(tls: TlsSettings) -> Security:
    security = Security(
        require_encryption=True,
        tls_ca_file=str(tls.ca_file.absolute()),
        **{
            f"tls_{role}_{name}": str(file.absolute())
            for role in ("scheduler", "worker", "client")
            for name, file in (("cert", tls.cert), ("key", tls.key))
        },
    )
    # Dask reads them when it connects, and what it says then does not name the file.
    for name, file in (("ca_file", tls.ca_file), ("cert", tls.cert), ("key", tls.key)):
        try:
            file.read_bytes()
        except OSError as error:
            raise SettingsError(
                f"dask.tls.{name} got {str(file)!r}, which cannot be read ({error.strerror}); expected a PEM file"
            ) from error
    try:
        security.get_connection_args("client")
    except OSError as error:
        raise SettingsError(
            "the files in dask.tls are no certificates with their key "
            f"({getattr(error, 'reason', None) or error}); expected PEM files, and a key that belongs to the "
            "certificate and has no passphrase"
        ) from error
    return security


@contextmanager
def _announced(client: Client, settings: DaskSettings) -> Iterator[Engine]:
    engine = Engine(client, patience_seconds=settings.patience_seconds)
    where = f"; dashboard at {engine.dashboard_url}" if engine.dashboard_url else ""
    progress.tell(f"Dask workers: {engine.workers}, threads: {engine.threads}{where}")
    with engine.watched():
        yield engine


def _check_workers(client: Client, settings: DaskSettings) -> None:
    """Wait for the first of the workers that somebody else started, and see that all there are fit."""
    try:
        client.wait_for_workers(1, timeout=settings.patience_seconds)
    except TimeoutError as error:
        raise ServiceError(
            f"no worker has come to the Dask scheduler in {settings.patience_seconds:g} s; start some, or raise "
            "dask.patience_seconds"
        ) from error
    here = f"dfpipe {__version__} on Python {sys.version_info[0]}.{sys.version_info[1]}"
    found: Any = client.get_versions(packages=["dfpipe"])
    for who, told in [("the Dask scheduler", found["scheduler"]), *found["workers"].items()]:
        python = ".".join(told["packages"]["python"].split(".")[:2])
        version = told["packages"]["dfpipe"]
        there = f"{f'dfpipe {version}' if version else 'no dfpipe'} on Python {python}"
        if there != here:
            name = who if who.startswith("the ") else f"the Dask worker at {who}"
            raise ServiceError(f"{name} has {there}, expected {here} as in this process; install the same on both")


def _make_cluster(settings: ClusterSettings) -> Any:
    """Make the cluster that the settings describe.

    Options may hold passwords, and an error of somebody else's class may quote them: what it says is not repeated,
    nor is it chained to ours.
    """
    make = find_cluster_class(settings.class_path)
    options = settings.options.get_secret_value()
    try:
        # Written in C, it may have none to look at.
        with suppress(ValueError):
            inspect.signature(make).bind(**options)
    except TypeError as error:
        # It names arguments and no values.
        raise SettingsError(f"{settings.class_path} does not take dask.cluster.options: {error}") from None
    try:
        cluster = make(**options)
    except Exception as error:  # noqa: BLE001 - anybody's class may raise anything
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        words = str(cause) if isinstance(cause, ImportError) else getattr(cause, "strerror", None)
        raise ServiceError(
            f"{settings.class_path} did not start ({type(cause).__name__}{f': {words}' if words else ''}); make it in "
            "Python with the same options to see all that it says, which may hold secrets"
        ) from None
    if not callable(getattr(cluster, "close", None)) or not isinstance(
        getattr(cluster, "scheduler_address", None), str
    ):
        raise SettingsError(
            f"dask.cluster.class_path got {settings.class_path!r}, which makes no cluster; expected a class such as "
            "dask_kubernetes.operator.KubeCluster or distributed.SSHCluster"
        )
    return cluster


def find_cluster_class(path: str) -> Callable[..., Any]:
    """Import the class of a cluster, or the function that makes one.

    Raises
    ------
    SettingsError
        There is none of that name; its package may be missing.
    """
    module, _, name = path.rpartition(".")
    expected = "expected one such as dask_kubernetes.operator.KubeCluster or distributed.SSHCluster"
    if not module:
        raise SettingsError(f"dask.cluster.class_path got {path!r}, {expected}")
    try:
        found = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise SettingsError(
            f"dask.cluster.class_path got {path!r}, but Python finds no {missing}; install the package that brings "
            f"{missing.partition('.')[0]}, or mend the path"
        ) from error
    except ImportError as error:
        raise SettingsError(f"dask.cluster.class_path got {path!r}, which cannot be imported: {error}") from error
    except AttributeError as error:
        raise SettingsError(f"dask.cluster.class_path got {path!r}, but {module} has no {name}; {expected}") from error
    if not callable(found):
        raise SettingsError(f"dask.cluster.class_path got {path!r}, which is no class; {expected}")
    return found  # type: ignore[no-any-return]


@contextmanager
def _local_cluster(settings: DaskSettings) -> Iterator[LocalCluster]:
    workers = local_workers(settings)
    security = None if settings.tls is None else _security(settings.tls)
    # Ctrl-C reaches the whole terminal's process group. Workers are ended by this process; on their own they would
    # only cover the screen with tracebacks.
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if here else None
    try:
        cluster = LocalCluster(
            n_workers=workers.processes,
            threads_per_worker=workers.threads,
            memory_limit=workers.memory_bytes,
            resources=workers.resources,
            security=security,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",
            # Workers that end with the run are no news.
            silence_logs=logging.CRITICAL,
        )
    finally:
        if here:
            signal.signal(signal.SIGINT, before)
    with cluster:
        yield cluster


def _memory_per_worker(text: str, workers: int) -> int:
    available = usable_memory_bytes()
    if text == "auto":
        return available // workers
    try:
        asked = parse_bytes(text)
    except ValueError:
        asked = 0
    # A number without a unit is bytes, and so few are a slip.
    if asked < 2**20:
        raise SettingsError(f"dask.memory_per_worker got {text!r}, expected auto or a size such as 2GiB")
    # What the machine does not have would only be promised.
    return min(asked, available)


@contextmanager
def _one_thread_per_library() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in ONE_THREAD_PER_LIBRARY}
    os.environ.update(ONE_THREAD_PER_LIBRARY)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
