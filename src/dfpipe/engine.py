"""Per-video work on a Dask cluster: the only module that knows Dask.

Arrays stay on the workers. What comes back through the scheduler is small: file references, scores, counts.
"""

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import dask
from distributed import Client, Future, LocalCluster, as_completed, wait
from distributed.scheduler import KilledWorker

from dfpipe.errors import ServiceError
from dfpipe.settings import DaskSettings

__all__ = ["Engine", "open_engine"]

T = TypeVar("T")
R = TypeVar("R")

CONNECT_SECONDS = 15


class Engine:
    """A connection to a cluster of workers.

    Parameters
    ----------
    client
        An open Dask client; whoever opened it closes it.
    """

    def __init__(self, client: Client) -> None:
        self._client = client

    @property
    def dashboard_url(self) -> str:
        """Address of the Dask dashboard."""
        return str(self._client.dashboard_link)

    @property
    def workers(self) -> int:
        """Workers connected now."""
        return len(self._client.scheduler_info(n_workers=-1)["workers"])

    def run(self, function: Callable[[Any, T], R], items: Sequence[T], *, shared: Any = None) -> Iterator[R]:
        """Call ``function(shared, item)`` for every item on the workers, and yield results as they come.

        Parameters
        ----------
        function
            Importable function of two arguments.
        items
            One call each; small, as they travel through the scheduler.
        shared
            The same for every call; sent to each worker once, past the scheduler.
        """
        everywhere = self._client.scatter(shared, broadcast=True, direct=True, hash=False)
        futures = [self._client.submit(function, everywhere, item, pure=False) for item in items]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            self._client.cancel(futures, reason="no longer wanted")

    def map_then_write(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        write: Callable[[list[R]], Any],
        lost: Callable[[T], R],
        on_done: Callable[[], None],
    ) -> Any:
        """Call the function for every item on the workers, then write all results together on one of them.

        The results of ``function`` go from worker to worker; only what ``write`` returns comes back.

        Parameters
        ----------
        function
            Importable function of one item. What it raises is raised here.
        items
            One task each.
        write
            Importable function of the list of results, in the order of the items.
        lost
            What stands in for an item whose task killed its worker twice, alone the second time.
        on_done
            Called once for every item whose task has ended.
        """
        futures = self._client.map(function, items, pure=False)
        try:
            for _ in as_completed(futures):
                on_done()
            results: list[Any] = []
            for item, future in zip(items, list(futures), strict=True):
                if future.status == "error" and isinstance(future.exception(), KilledWorker):
                    # A dying worker takes down whatever else it held, so guilt is only proven alone.
                    again = self._client.submit(function, item, pure=False)
                    futures.append(again)
                    wait(again)
                    crashed = again.status == "error" and isinstance(again.exception(), KilledWorker)
                    results.append(lost(item) if crashed else self._sound(again))
                else:
                    results.append(self._sound(future))
            return self._client.submit(write, results, pure=False).result()
        finally:
            # Released as soon as the shard is written, or a long run would fill the workers' memory.
            self._client.cancel(futures, reason="shard ended")

    @staticmethod
    def _sound(future: Future[Any]) -> Future[Any]:
        if future.status == "error":
            raise future.exception()
        return future


@contextmanager
def open_engine(settings: DaskSettings) -> Iterator[Engine]:
    """Connect to the scheduler in the settings, or start workers on this machine for the length of the block.

    Raises
    ------
    ServiceError
        Nobody answers at the scheduler's address.
    """
    with dask.config.set(
        {
            # A task that kills its worker is not tried four times; map_then_write gives it its second chance.
            "distributed.scheduler.allowed-failures": 0,
            # No task waits behind another on the same worker: it would share the blame for that one's crash.
            "distributed.scheduler.worker-saturation": 1.0,
            "distributed.worker.daemon": True,
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
                yield Engine(client)
            return
        with _one_thread_per_library(), _local_cluster(settings) as cluster, Client(cluster) as client:
            yield Engine(client)


@contextmanager
def _local_cluster(settings: DaskSettings) -> Iterator[LocalCluster]:
    # Ctrl-C reaches the whole terminal's process group. Workers are ended by this process; on their own they would
    # only cover the screen with tracebacks.
    here = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN) if here else None
    try:
        cluster = LocalCluster(
            n_workers=settings.workers or usable_cores(),
            threads_per_worker=1,
            memory_limit=settings.memory_per_worker,
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


def usable_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0))


@contextmanager
def _one_thread_per_library() -> Iterator[None]:
    # One worker is one core: BLAS, OpenMP and OpenCV pools in each would fight over the same two.
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
