"""How long work tells whoever listens how far it is.

Work happens in threads of a flow, on workers, or in a plain loop; the listener is a terminal's bars, or nobody.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Listener", "advance", "expect", "listen", "report", "tell"]

Listener = Callable[[str, int, int], None]
"""Called with a stage's name, the steps done so far, and the steps expected in all."""

_lock = threading.Lock()
_listeners: list[Listener] = []
_readers: list[Callable[[str], None]] = []
_counts: dict[str, tuple[int, int]] = {}


@contextmanager
def listen(listener: Listener, *, on_line: Callable[[str], None] | None = None) -> Iterator[None]:
    """Send every change of progress in this process to the listener while the block runs, and every line told.

    The first of several listeners at a time starts from nothing.
    """
    readers = [on_line] if on_line is not None else []
    with _lock:
        if not _listeners:
            _counts.clear()
        _listeners.append(listener)
        _readers.extend(readers)
    try:
        yield
    finally:
        with _lock:
            _listeners.remove(listener)
            for reader in readers:
                _readers.remove(reader)


def expect(stage: str, steps: int) -> None:
    """Say that a stage will take this many steps."""
    _change(stage, lambda done, _: (done, steps))


def advance(stage: str, steps: int = 1) -> None:
    """Say that this many further steps of a stage are done."""
    _change(stage, lambda done, expected: (done + steps, expected))


def report(stage: str, done: int, expected: int) -> None:
    """Say how far a stage is."""
    _change(stage, lambda _done, _expected: (done, expected))


def tell(line: str) -> None:
    """Say what a person at the terminal wants to know while work goes on, such as where to watch it."""
    with _lock:
        for reader in _readers:
            reader(line)


def _change(stage: str, change: Callable[[int, int], tuple[int, int]]) -> None:
    with _lock:
        _counts[stage] = change(*_counts.get(stage, (0, 0)))
        for listener in _listeners:
            listener(stage, *_counts[stage])
