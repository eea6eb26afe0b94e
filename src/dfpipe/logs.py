"""Log records that say which run, shard and video they are about, one line each.

Ids travel in context variables, which threads of a flow inherit; a video's id comes with the record:
``log.info("...", extra={"video": video_id})``. Nothing is filtered out: what is secret is never put into a record.
"""

import json
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

from dfpipe.settings import LogSettings

__all__ = ["JsonFormatter", "MessageFormatter", "TextFormatter", "about", "run_logs"]

OURS = ("dfpipe", "tasks", "flows")
"""Loggers of the project."""
ORCHESTRATOR = ("prefect.flow_runs", "prefect.task_runs")
"""Loggers of what happens to a run; they reach the run's page by themselves."""
ENGINE = ("distributed", "distributed.client")
"""Loggers of what happens to workers, with handlers that Dask has given them."""
FIELDS = ("run", "shard", "video", "statuses", "seconds")
"""What a record may carry beside its message."""

_ids: ContextVar[dict[str, str] | None] = ContextVar("dfpipe_log_ids", default=None)
_lock = threading.Lock()
_outermost: dict[str, str] | None = None


@contextmanager
def about(**ids: str) -> Iterator[None]:
    """Give all records of the block, and of threads that inherit its context, these ids (``run``, ``shard``)."""
    token = _ids.set((_ids.get() or {}) | ids)
    try:
        yield
    finally:
        _ids.reset(token)


class MessageFormatter(logging.Formatter):
    """The message alone, on one line: control characters are written out, so no name can forge a record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        text = record.getMessage()
        if record.exc_info and record.exc_info[0] is not None:
            text += f": {record.exc_info[0].__name__}: {record.exc_info[1]}"
        return _one_line(text)


class TextFormatter(MessageFormatter):
    """Time in UTC, level, logger, ids and the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        ids = [f"{name}={_one_line(str(value))}" for name, value in _fields(record).items() if name in FIELDS[:3]]
        return " ".join([_time(record), record.levelname, record.name, *ids, super().format(record)])


class JsonFormatter(logging.Formatter):
    """One JSON object, in ASCII: time in UTC, level, logger, message, and of `FIELDS` and exception what there is."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        told: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        told |= _fields(record)
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


@contextmanager
def run_logs(settings: LogSettings, *, run: str, others: Sequence[logging.Handler] = ()) -> Iterator[None]:
    """Write what is logged while the block runs to stderr, as the settings say, under the id of the run.

    Inside another such block only the id is new.

    Parameters
    ----------
    settings
        What is written, and how.
    run
        Id of the flow run.
    others
        Handlers that get the project's records from level info on, too.
    """
    global _outermost  # noqa: PLW0603
    with ExitStack() as stack:
        stack.enter_context(about(run=run))
        with _lock:
            first = _outermost is None
            if first:
                _outermost = {"run": run}
        if first:
            stack.callback(_close)
            handler = logging.StreamHandler(sys.stderr)
            handler.setLevel(settings.level.upper())
            handler.setFormatter(JsonFormatter() if settings.format == "json" else TextFormatter())
            lowest = min(handler.level, logging.INFO)
            for name in OURS:
                stack.enter_context(_taken_over(name, [handler, *others], lowest))
            if settings.format == "json":
                for name in ORCHESTRATOR:
                    stack.enter_context(_taken_over(name, [handler], None))
                for name in ENGINE:
                    stack.enter_context(_given_form(name, handler.formatter))
        yield


def _close() -> None:
    global _outermost  # noqa: PLW0603
    _outermost = None


@contextmanager
def _taken_over(name: str, handlers: Sequence[logging.Handler], level: int | None) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level, logger.propagate
    # Prefect's console, at the root, would write them a second time, in its own format.
    logger.propagate = False
    if level is not None:
        logger.setLevel(level)
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
        logger.propagate = before[1]
        logger.setLevel(before[0])


@contextmanager
def _given_form(name: str, form: logging.Formatter | None) -> Iterator[None]:
    handlers = list(logging.getLogger(name).handlers)
    before = [handler.formatter for handler in handlers]
    for handler in handlers:
        handler.setFormatter(form)
    try:
        yield
    finally:
        for handler, formatter in zip(handlers, before, strict=True):
            handler.setFormatter(formatter)


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    # Threads that libraries have started are of no block.
    told = vars(record) | (_ids.get() or _outermost or {})
    return {name: told[name] for name in FIELDS if name in told}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    from dfpipe.report import printable  # noqa: PLC0415 - reports are made of what logs

    return printable(text)
