"""Bringing servers up together, finding them again, and ending exactly those."""

import fcntl
import http.client
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dfpipe.errors import ServiceError
from dfpipe.services._daemon import Daemon, Record, halt, last_words, launch, log_of, recall

__all__ = [
    "HOST",
    "Begin",
    "OnWait",
    "Service",
    "ServiceStatus",
    "ask",
    "bring_up",
    "expect_running",
    "keep",
    "look_up",
    "take_down",
    "unused_port",
]

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Service:
    """A kind of server, of which a state folder has one."""

    name: str
    """What people call it."""
    port: int
    """Port it takes if that is free and no other is asked for."""
    health: str
    """Path that answers with a status below 500 once it is ready."""
    daemons: tuple[str, ...]
    """Its programs in the order in which they are ended; the first is the one that answers, and has its name."""


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A server that runs and answers."""

    name: str
    """What people call it."""
    url: str
    """Where it answers."""
    port: int
    """The port in that URL."""
    pid: int
    """Process that listens there."""
    log: Path
    """Its output."""
    startup_seconds: float | None
    """How long it took to come up, None when it ran already."""
    pages: str | None = None
    """Its pages, where they are not at the URL."""


Begin = Callable[[Path, int], Iterator[None]]
"""Starts a service in a state folder on a port; yields while there is nothing to do but wait, ends when it is ready."""

OnWait = Callable[[Sequence[str], float], None]
"""Called several times a second with the names still awaited and the seconds since the start."""


def bring_up(
    state: Path,
    begins: Mapping[Service, Begin],
    *,
    ports: Mapping[str, int] | None = None,
    on_wait: OnWait | None = None,
    patience_seconds: float = 180.0,
) -> list[ServiceStatus]:
    """Start the services that do not run yet, all at the same time, and return when every one answers.

    When one fails, those begun here are ended again and those that ran before stay.

    Raises
    ------
    ServiceError
        A port that is taken, a server that ended while starting or did not answer in time.
    """
    state = state.resolve()
    ports = ports or {}
    started_at = time.monotonic()
    ready: dict[Service, ServiceStatus] = {}
    waiting: dict[Service, Iterator[None]] = {}
    with _alone(state):
        reserved: set[int] = set()
        for service, begin in begins.items():
            asked = ports.get(service.name)
            status = _look(state, service)
            if status is None:
                port = _settle_port(state, service, asked, reserved)
                waiting[service] = begin(state, port)
            elif asked in (None, status.port):
                ready[service] = status
            else:
                raise ServiceError(
                    f"{service.name} already runs on port {status.port}, got {asked}; stop it first with `dfpipe down`"
                )
        begun = tuple(waiting)
        try:
            while waiting:
                for service, steps in list(waiting.items()):
                    if next(steps, "ready") == "ready":
                        del waiting[service]
                        record = expect_running(state, service.name)
                        ready[service] = _status(state, service, record, time.monotonic() - started_at)
                if waiting:
                    _still_waiting(state, tuple(waiting), time.monotonic() - started_at, on_wait, patience_seconds)
        except BaseException:
            for service in begun:
                _end(state, service)
            raise
    return [ready[service] for service in begins]


def look_up(state: Path, service: Service) -> ServiceStatus | None:
    """Return a service's status, None when it does not run or does not answer."""
    return _look(state.resolve(), service)


def take_down(state: Path, services: Sequence[Service]) -> list[str]:
    """End the services that were started for this state folder and return the names of those that ran."""
    state = state.resolve()
    if not (state / "run").is_dir():
        return []
    with _alone(state):
        return [service.name for service in services if _end(state, service)]


def keep(state: Path, daemon: Daemon, *, health: str | None = None) -> Iterator[None]:
    """Launch a daemon unless it runs; with a health path, yield until it answers there."""
    record = recall(state, daemon.name) or launch(state, daemon)
    while health is not None and not _answers(record, health):
        expect_running(state, daemon.name)
        yield


def expect_running(state: Path, name: str) -> Record:
    """Return the record of a daemon that is being waited for.

    Raises
    ------
    ServiceError
        It has ended; with the reason from its log.
    """
    record = recall(state, name)
    if record is None:
        log = log_of(state, name)
        raise ServiceError(f"{name} ended while starting: {last_words(log)}; the whole log is {log}")
    return record


def unused_port(*, avoid: Sequence[int] = ()) -> int:
    """Return a port of this machine that nobody listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port: int = probe.getsockname()[1]
        if port not in avoid:
            return port


def _settle_port(state: Path, service: Service, asked: int | None, reserved: set[int]) -> int:
    running = recall(state, service.name)
    for name in service.daemons:
        if recall(state, name) is None:
            # What a dead server left behind may still hold the port.
            halt(state, name)
    if running is not None:
        port = running.port  # begun earlier and not ready yet, or stuck
    elif asked is None:
        port = service.port if service.port not in reserved and _is_free(service.port) else unused_port()
    elif asked in reserved:
        raise ServiceError(f"port {asked} is asked for twice; give {service.name} another one")
    elif not _is_free(asked):
        raise ServiceError(
            f"port {asked} for {service.name} is taken by another program;"
            " choose another one, or name none to get a free one"
        )
    else:
        port = asked
    reserved.add(port)
    return port


def _still_waiting(
    state: Path, services: Sequence[Service], seconds: float, on_wait: OnWait | None, patience_seconds: float
) -> None:
    if seconds > patience_seconds:
        slow = services[0]
        raise ServiceError(
            f"{slow.name} did not answer within {patience_seconds:.0f} s; see {log_of(state, slow.name)},"
            " then `dfpipe down` and try again"
        )
    if on_wait is not None:
        on_wait([service.name for service in services], seconds)
    time.sleep(0.1)


def _look(state: Path, service: Service) -> ServiceStatus | None:
    record = recall(state, service.name)
    # One that answers and has lost the programs it works with is of no use.
    whole = record is not None and all(recall(state, name) for name in service.daemons)
    if record is None or not whole or not _answers(record, service.health):
        return None
    return _status(state, service, record, None)


def _status(state: Path, service: Service, record: Record, startup_seconds: float | None) -> ServiceStatus:
    return ServiceStatus(
        name=service.name,
        url=record.url,
        port=record.port,
        pid=record.pid,
        log=log_of(state, service.name),
        startup_seconds=startup_seconds,
        pages=None if record.pages_port is None else f"http://{HOST}:{record.pages_port}",
    )


def _end(state: Path, service: Service) -> bool:
    ran = [halt(state, name) for name in service.daemons]
    return any(ran)


def ask(record: Record, path: str) -> tuple[int, bytes] | None:
    """Return the status and the body that a daemon answers with at a path; None where it answers nothing."""
    # Not urllib: a proxy named in the environment must not be asked for an address of this machine.
    connection = http.client.HTTPConnection(HOST, record.pages_port or record.port, timeout=2)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _answers(record: Record, path: str) -> bool:
    answer = ask(record, path)
    return answer is not None and answer[0] < 500


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a port is free again while its last connections are still fading.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


@contextmanager
def _alone(state: Path) -> Iterator[None]:
    """Hold the state folder's lock: a second caller waits and then finds what the first one started."""
    folder = state / "run"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
