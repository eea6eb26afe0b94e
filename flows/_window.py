"""Submitting task runs without ever having all of them under way, and going on where some of them fail."""

from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Any

from prefect import Task
from prefect.futures import PrefectFuture

from dfpipe import telemetry
from dfpipe.errors import IncompleteError, UserError

__all__ = ["Ends", "submit_within"]

FAILURES_IN_A_ROW = 12
"""So many tell of something that is the matter with all of them."""


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


class Ends:
    """How task runs ended: what they returned is passed on, what they raised is kept until all are done.

    A run that fails fails alone, with two exceptions: after a defect in the program, or many failures in a row, the
    rest is not begun.
    """

    def __init__(self) -> None:
        self._failures: list[Exception] = []
        self._in_a_row = 0

    def of(self, futures: Iterator[PrefectFuture[Any]]) -> Iterator[Any]:
        """Yield what the runs return that end well."""
        for future in futures:
            result = future.result(raise_on_failure=False)
            if not isinstance(result, Exception):
                self._in_a_row = 0
                yield result
                continue
            self._failures.append(result)
            telemetry.add("dfpipe.run.shards.failed", 1)
            self._in_a_row += 1
            if not isinstance(result, UserError) or self._in_a_row == FAILURES_IN_A_ROW:
                return

    @property
    def gave_up(self) -> bool:
        """Whether the rest was not begun."""
        return self._in_a_row == FAILURES_IN_A_ROW or any(not isinstance(one, UserError) for one in self._failures)

    def check(self, *, of: int, what: str) -> None:
        """Raise what is to be said of the runs that failed.

        Parameters
        ----------
        of, what
            How many runs there were to be, and of what.

        Raises
        ------
        IncompleteError
            Some failed for something that the user can mend.
        Exception
            A defect in the program.
        """
        for failure in self._failures:
            if not isinstance(failure, UserError):
                raise failure
        if self._failures:
            given_up = ", and the rest was given up" if self._in_a_row == FAILURES_IN_A_ROW else ""
            raise IncompleteError(
                f"{len(self._failures)} of {of} {what} failed{given_up}, the first for this: {self._failures[0]}; all "
                "others are committed, and the next run does only what is missing"
            ) from self._failures[0]
