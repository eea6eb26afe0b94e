"""Submitting task runs without ever having all of them under way."""

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture

__all__ = ["submit_within"]


def submit_within(
    task: Task[..., Any], calls: Iterable[tuple[Any, ...]], *, window: int
) -> Iterator[PrefectFuture[Any]]:
    """Submit a task run for each call, at most ``window`` of them at once, and yield the runs as they end.

    Neither a call nor its run is kept: a million of them take the memory of a window.

    Parameters
    ----------
    task
        Task to run.
    calls
        Positional arguments, taken one after the other as room becomes free.
    window
        Most runs under way, at least 1. What the caller does with a run that ended is not counted.

    Yields
    ------
    PrefectFuture
        A run that has ended, well or not: ``result()`` tells which.
    """
    ended: SimpleQueue[PrefectFuture[Any]] = SimpleQueue()
    under_way = 0
    for call in calls:
        if under_way == window:
            yield _next(ended)
            under_way -= 1
        task.submit(*call).add_done_callback(ended.put)
        under_way += 1
        del call
    for _ in range(under_way):
        yield _next(ended)


def _next(ended: SimpleQueue[PrefectFuture[Any]]) -> PrefectFuture[Any]:
    future = ended.get()
    # It has ended; this is how a Prefect future learns of its state.
    future.wait()
    return future
