"""Sending work to workers, never more of it than they can take up soon."""

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from typing import Any, TypeVar

from distributed import CancelledError, Client, Future, as_completed, wait
from distributed.scheduler import KilledWorker

from dfpipe.errors import DfpipeError, ServiceError, StoppedError, UserError

__all__ = ["MEMORY", "MOST_SHARDS_AT_ONCE", "Engine"]

T = TypeVar("T")
R = TypeVar("R")

LOST = "the connection to the Dask scheduler was lost; see whether it still runs, and run again"

STOPPED = "the run was ended before this was done; run again, and only what is missing is done"

DIED_TWICE = "a Dask worker died twice over the same work; see whether its memory is enough"

LOOK_SECONDS = 2.0
"""Pause between two looks at whether any worker is left."""

MEMORY = "memory_bytes"
"""Resource that workers declare and tasks ask for."""

USABLE = 0.95
"""Share of its limit beyond which Dask ends a worker (``distributed.worker.memory.terminate``)."""

PROCESS_BYTES = 300 * 2**20
"""A worker with all libraries imported and no data: 210 to 240 MiB, and Dask's own."""

TASKS_PER_THREAD = 2
"""Tasks that wait or run for each thread, so that none is idle while news travels to the scheduler and back."""

WRITING_SHARDS = 2
"""Shards that are written and committed while the others keep the threads busy."""

MOST_SHARDS_AT_ONCE = 64
"""Each is a thread and an open task run of the flow's process."""


class Engine:
    """A connection to a cluster of workers.

    Parameters
    ----------
    client
        An open Dask client, and at least one worker; whoever opened it closes it.
    patience_seconds
        How long work waits where no worker is left.
    """

    def __init__(self, client: Client, *, patience_seconds: float) -> None:
        self._client = client
        self._patience_seconds = patience_seconds
        self._declared_bytes = _declared_memory(client)
        self._why_gone = LOST
        self._closing = threading.Event()

    @contextmanager
    def watched(self) -> Iterator["Engine"]:
        """Give up the connection where no worker is left for longer than patience lasts.

        Dask itself would wait for ever, and everybody who waits for a result with it.
        """
        watch = threading.Thread(target=self._watch, name="dfpipe-workers-left", daemon=True)
        watch.start()
        try:
            yield self
        finally:
            self._closing.set()
            # A scheduler that hangs hangs its question too; closing the client ends it.
            watch.join(LOOK_SECONDS)

    def _watch(self) -> None:
        seen_at = time.monotonic()
        while not self._closing.wait(min(LOOK_SECONDS, self._patience_seconds / 2)):
            try:
                left = self.workers
            except Exception:  # noqa: BLE001 - the next look may succeed, and without any nobody would be told
                if self._client.status == "running":
                    continue
                return
            now = time.monotonic()
            if left:
                seen_at = now
            elif now - seen_at > self._patience_seconds:
                self._why_gone = (
                    f"no Dask worker has been there for {self._patience_seconds:g} s; see why they end, start some and "
                    "run again, or raise dask.patience_seconds"
                )
                # Whoever waits for a result is told so.
                self._client.close()
                return

    @property
    def dashboard_url(self) -> str | None:
        """Address of the Dask dashboard; None where the scheduler has none."""
        try:
            return str(self._client.dashboard_link)
        except KeyError:
            return None

    @property
    def workers(self) -> int:
        """Workers connected now."""
        return self._count("n_workers")

    @property
    def threads(self) -> int:
        """Threads of all workers connected now, each of which runs one task at a time."""
        return self._count("total_threads")

    def _count(self, what: str) -> int:
        with self._connected():
            return int(self._client.scheduler_info(n_workers=0)[what])

    def shards_at_once(self, videos_per_shard: int) -> int:
        """Return how many shards to have under way at once.

        Enough that every thread has work while some shards are written and committed; few enough that the scheduler
        never holds more than some tasks for each thread and the videos of three shards.

        Parameters
        ----------
        videos_per_shard
            Videos in a usual shard, at least 1.
        """
        busy = math.ceil(TASKS_PER_THREAD * self.threads / videos_per_shard)
        return min(max(1, busy) + WRITING_SHARDS, MOST_SHARDS_AT_ONCE)

    def room_bytes(self, resident_bytes: int) -> int | None:
        """Return what each task may take while all threads are busy; None where a worker sets no limit.

        Parameters
        ----------
        resident_bytes
            What every worker holds for all of its tasks, beside its own process.
        """
        with self._connected():
            workers = self._client.scheduler_info(n_workers=-1)["workers"].values()
        if not all(worker["memory_limit"] for worker in workers):
            return None
        rooms = [
            max(0, int(worker["memory_limit"] * USABLE) - PROCESS_BYTES - resident_bytes) // worker["nthreads"]
            for worker in workers
        ]
        return min(rooms, default=None)

    def run(
        self,
        function: Callable[[Any, T], R],
        items: Iterable[T],
        *,
        shared: Any = None,
        lost: Callable[[T], R] | None = None,
    ) -> Iterator[R]:
        """Call ``function(shared, item)`` for every item on the workers, and yield results as they come.

        Only a few items for each thread are taken at a time. A call whose worker dies is tried once more, alone, after
        all others.

        Parameters
        ----------
        function
            Importable function of two arguments. What it raises is raised here.
        items
            One call each; small, as they travel through the scheduler.
        shared
            The same for every call; sent to each worker once, past the scheduler.
        lost
            What stands in for an item whose call killed its worker twice, alone the second time; without it that is
            an error.

        Raises
        ------
        ServiceError
            The scheduler is gone, no worker is left, or a call's worker died twice.
        """
        with self._connected():
            waiting = iter(items)
            everywhere = self._share(shared)
            ended = as_completed(loop=self._client.loop)
            under_way: dict[Future[R], tuple[T, int]] = {}
            # A dying worker takes down whatever else it held, so guilt is only proven alone.
            suspects: list[T] = []

            def submit(item: T, tries: int) -> None:
                future = self._client.submit(function, everywhere, item, pure=False)
                under_way[future] = (item, tries)
                ended.add(future)

            def fill() -> None:
                room = TASKS_PER_THREAD * max(1, self.threads) - len(under_way)
                for item in islice(waiting, max(0, room)):
                    submit(item, tries=1)
                if not under_way and suspects:
                    submit(suspects.pop(), tries=2)

            try:
                fill()
                for future in ended:
                    item, tries = under_way.pop(future)
                    result, gone = self._outcome(future)
                    if gone:
                        # The shared value may have gone with the last worker that held it.
                        everywhere = self._share(shared)
                        if tries == 1:
                            suspects.append(item)
                            fill()
                            continue
                        if lost is None:
                            raise ServiceError(DIED_TWICE)
                        result = lost(item)
                    # Forgotten by the scheduler before the caller takes its time.
                    del future, item
                    fill()
                    yield result
                    del result
            finally:
                self._cancel([*under_way, everywhere])

    def map_then_write(
        self,
        function: Callable[[T], R],
        items: Sequence[T],
        *,
        write: Callable[[list[R]], Any],
        lost: Callable[[T], R],
        on_done: Callable[[], None],
        task_memory_bytes: int | None = None,
        write_memory_bytes: int | None = None,
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
        task_memory_bytes
            What one call of ``function`` takes. Workers with several threads that declare their memory never run more
            at once than fits; what asks for more than a worker has gets a whole one. Others pay no heed.
        write_memory_bytes
            What ``write`` takes.

        Raises
        ------
        ServiceError
            The scheduler is gone, no worker is left, or the worker of the write died twice.
        """
        with self._connected():
            one = self._ask(task_memory_bytes)
            futures = self._client.map(function, items, pure=False, resources=one)
            results: list[Any] = list(futures)
            tries = [1] * len(results)

            def settle() -> None:
                # A dying worker takes down whatever else it held, so guilt is only proven alone.
                for place, item in enumerate(items):
                    while isinstance(results[place], Future) and self._killed(results[place]):
                        if tries[place] == 1:
                            results[place] = self._client.submit(function, item, pure=False, resources=one)
                            futures.append(results[place])
                        else:
                            results[place] = lost(item)
                        tries[place] += 1

            try:
                for _ in as_completed(list(futures)):
                    on_done()
                settle()

                def submit_write() -> Future[Any]:
                    # Before all other work: until it is done, the results fill the workers' memory.
                    written = self._client.submit(
                        write, results, pure=False, priority=1, resources=self._ask(write_memory_bytes)
                    )
                    futures.append(written)
                    return written

                written = submit_write()
                if self._killed(written):
                    # The results that went with its worker are on their way again; if the whole shard were begun anew,
                    # items would be worked on a third time.
                    settle()
                    written = submit_write()
                    if self._killed(written):
                        raise ServiceError(DIED_TWICE)
                return self._sound(written).result()
            finally:
                # Released as soon as the shard is written, or a long run would fill the workers' memory.
                self._cancel(futures)

    @contextmanager
    def _connected(self) -> Iterator[None]:
        """Say that the scheduler is gone, whatever the client raises when it is used without one."""
        try:
            yield
        except DfpipeError:
            raise
        except Exception as error:
            if self._client.status == "running":
                raise
            raise self._gone() from error

    def _ask(self, memory_bytes: int | None) -> dict[str, float] | None:
        if memory_bytes is None or self._declared_bytes is None:
            return None
        return {MEMORY: min(memory_bytes, self._declared_bytes)}

    def _sound(self, future: Future[Any]) -> Future[Any]:
        """Return a future that has ended well, raise what it ended with otherwise."""
        if future.status == "error":
            raise future.exception()
        if future.status != "finished":
            raise self._gone()
        return future

    def _gone(self) -> UserError:
        # Whoever opened the engine has closed it, as it does where a run is cancelled.
        return StoppedError(STOPPED) if self._closing.is_set() else ServiceError(self._why_gone)

    def _share(self, value: Any) -> Future[Any]:
        give_up_at = time.monotonic() + self._patience_seconds
        while True:
            try:
                future: Future[Any] = self._client.scatter(value, broadcast=True, direct=True, hash=False)
            except (OSError, TimeoutError) as error:
                if self._client.status != "running":
                    raise
                # A worker went while it was told, or none is back yet.
                if time.monotonic() > give_up_at:
                    raise ServiceError(
                        f"Dask workers could not be reached from here for {self._patience_seconds:g} s "
                        f"({type(error).__name__}); let this machine connect to their ports, or raise "
                        "dask.patience_seconds"
                    ) from error
            else:
                return future

    def _lost(self, future: Future[Any]) -> bool:
        """Say whether a future's work went with a worker, the scheduler being alive."""
        return _died(future) or (future.status not in {"finished", "error"} and self._client.status == "running")

    def _killed(self, future: Future[Any]) -> bool:
        """Wait for a future, and say whether its worker died over it; raise what it ended with otherwise.

        One that had ended, and whose result went with a worker, is on its way again.
        """
        # To ask is a question to another thread, for every video of a run.
        while future.status not in {"finished", "error", "cancelled"} and self._client.status == "running":
            # Cancelled with all others when the scheduler is gone, or was and is back; _sound says so.
            with suppress(CancelledError):
                wait(future)
        if _died(future):
            return True
        self._sound(future)
        return False

    def _outcome(self, future: Future[Any]) -> tuple[Any, bool]:
        """Return the result of a future that has ended, and whether it went with a worker instead."""
        if self._lost(future):
            return None, True
        try:
            return self._sound(future).result(), False
        except CancelledError:
            # Done, and gone with its worker on the way here, as was what it was made from.
            if self._client.status != "running":
                raise
            return None, True

    def _cancel(self, futures: Sequence[Future[Any]]) -> None:
        # Those of a scheduler that is gone went with it.
        if self._client.status == "running":
            self._client.cancel(futures, reason="no longer wanted")


def _died(future: Future[Any]) -> bool:
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _declared_memory(client: Client) -> int | None:
    """Return the least memory that workers declare, None where tasks need not or cannot ask for theirs."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    # A worker of one thread runs one task at a time anyhow. And tasks that ask for something are handed out at once:
    # they would wait behind one another on the workers, and share the blame for a crash.
    if all(worker["nthreads"] == 1 for worker in workers):
        return None
    # Where one worker declares nothing, it would get nothing to do.
    if not all(MEMORY in worker["resources"] for worker in workers):
        return None
    return int(min(worker["resources"][MEMORY] for worker in workers))
