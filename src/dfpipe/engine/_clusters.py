"""Where an engine's workers come from: a running scheduler, a cluster made for the run, or this machine."""

import importlib
import inspect
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any

import dask
from dask.utils import parse_bytes
from distributed import Client, LocalCluster

from dfpipe import __version__, progress
from dfpipe.engine._engine import MEMORY, Engine
from dfpipe.engine._machine import usable_cores, usable_memory_bytes
from dfpipe.errors import ServiceError, SettingsError
from dfpipe.settings import ClusterSettings, DaskSettings

__all__ = ["find_cluster_class", "open_engine"]

CONNECT_SECONDS = 15


@contextmanager
def open_engine(settings: DaskSettings) -> Iterator[Engine]:
    """Connect to the scheduler in the settings, or make a cluster for the length of the block.

    Raises
    ------
    SettingsError
        The cluster's class cannot be imported, makes no cluster, or does not take the options.
    ServiceError
        Nobody answers at the scheduler's address, the cluster does not start, no worker comes, or workers have
        another dfpipe or Python.
    """
    with dask.config.set(
        {
            # A task that kills its worker is not tried four times; map_then_write gives it its second chance.
            "distributed.scheduler.allowed-failures": 0,
            # No task waits behind another on the same worker: it would share the blame for that one's crash.
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.worker.daemon": True,
            # A worker that is not back after this long would be given up for good; on a busy machine its imports alone
            # take longer than the 15 s that are usual.
            "distributed.deploy.lost-worker-timeout": "365 days",
        }
    ):
        if settings.scheduler is not None:
            try:
                client = Client(settings.scheduler, timeout=CONNECT_SECONDS)
            except (OSError, TimeoutError, ValueError) as error:
                raise ServiceError(
                    f"no Dask scheduler answers at {settings.scheduler}; start one, or set dask.scheduler to null"
                ) from error
            with client:
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
    workers = settings.workers or max(1, usable_cores() // settings.threads)
    memory_bytes = _memory_per_worker(settings.memory_per_worker, workers)
    # Ctrl-C reaches the whole terminal's process group. Workers are ended by this process; on their own they would
    # only cover the screen with tracebacks.
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if here else None
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=settings.threads,
            memory_limit=memory_bytes,
            resources={MEMORY: memory_bytes},
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
    # One thread is one core: BLAS, OpenMP and OpenCV pools in each would fight over the same two.
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
