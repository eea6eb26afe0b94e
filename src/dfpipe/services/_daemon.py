"""One program that outlives the one that started it: begun, recognised again later, and ended with all its children.

A process is known by its number *and* the moment it started, because numbers are used again.
It leads a session of its own, so that its workers can be found even when it has died and left them behind.
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dfpipe.errors import ServiceError

__all__ = ["Daemon", "Record", "halt", "is_running", "last_words", "launch", "log_of", "recall", "telling_line"]

MARK = "_DFPIPE_SERVICE"


@dataclass(frozen=True, slots=True)
class Daemon:
    """A program to keep running."""

    name: str
    """Names its record and its log."""
    argv: Sequence[str]
    """Command line; anybody on the machine can read it, so it holds no secret."""
    environment: Mapping[str, str]
    """The whole environment."""
    folder: Path
    """Where it runs."""
    port: int
    """Port it listens on."""
    url: str
    """Where it is reached."""
    pages_port: int | None = None
    """Port that answers HTTP, where that is another one."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is written down about a daemon when it starts."""

    pid: int
    """Number of the process, and of the session that it leads."""
    started: int
    """Clock ticks between the machine's boot and its start."""
    boot_id: str
    """The boot that those ticks count from."""
    port: int
    """Port it listens on."""
    url: str
    """Where it is reached."""
    pages_port: int | None = None
    """Port that answers HTTP, where that is another one."""


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int
    session: int
    started: int
    ended: bool
    """A zombie: over, and only waiting for its parent to notice."""


def log_of(state: Path, name: str) -> Path:
    """Return the file that a daemon's output goes to."""
    return state / "logs" / f"{name}.log"


def launch(state: Path, daemon: Daemon) -> Record:
    """Start a daemon apart from this program and its terminal, and write down what it is."""
    log = log_of(state, daemon.name)
    log.parent.mkdir(parents=True, exist_ok=True)
    daemon.folder.mkdir(parents=True, exist_ok=True)
    if log.exists():
        log.replace(log.with_suffix(".previous.log"))
    with log.open("wb") as output:
        process = subprocess.Popen(
            daemon.argv,
            cwd=daemon.folder,
            env={**daemon.environment, MARK: _mark(state, daemon.name)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # It is meant to outlive this object; without this Python warns that it does.
    process.returncode = 0
    born = _look_at(process.pid)
    record = Record(
        pid=process.pid,
        started=born.started if born else 0,
        boot_id=_boot_id(),
        port=daemon.port,
        url=daemon.url,
        pages_port=daemon.pages_port,
    )
    file = _record_of(state, daemon.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(record)), encoding="utf-8")
    partial.replace(file)
    return record


def recall(state: Path, name: str) -> Record | None:
    """Return the record of a daemon that is running, None where there is none or it has ended."""
    record = _read(state, name)
    return record if record is not None and is_running(record) else None


def is_running(record: Record) -> bool:
    """Whether the very process that was recorded is alive."""
    process = _look_at(record.pid)
    return process is not None and not process.ended and _same(process, record)


def halt(state: Path, name: str, *, patience_seconds: float = 15.0) -> bool:
    """End a daemon and everything it started: asked first, forced when it does not listen.

    Returns
    -------
    bool
        Whether there was anything to end.

    Raises
    ------
    ServiceError
        A process that even the kernel cannot end, stuck in a broken device for instance.
    """
    record = _read(state, name)
    if record is None:
        return False
    found = False
    forced_at = time.monotonic() + patience_seconds
    asked: set[int] = set()
    while members := _members(record, _mark(state, name)):
        found = True
        forced = time.monotonic() >= forced_at
        if time.monotonic() >= forced_at + 10:
            raise ServiceError(f"{name} (process {members[0]}) does not end, not even when killed; end it by hand")
        for pid in members:
            # Workers appear while the rest is ending: each is asked once, on its own.
            if forced or pid not in asked:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL if forced else signal.SIGTERM)
                asked.add(pid)
        time.sleep(0.05)
    _record_of(state, name).unlink(missing_ok=True)
    return found


def last_words(log: Path) -> str:
    """Return the line of a log that tells best why its program ended."""
    return telling_line(log.read_text(encoding="utf-8", errors="replace") if log.exists() else "")


def telling_line(text: str) -> str:
    """Return the last line that speaks of an error, else the last one; without colours."""
    lines = [line for raw in text.splitlines() if (line := re.sub(r"\x1b\[[0-9;]*m", "", raw).strip())]
    if not lines:
        return "it said nothing"
    # Servers say goodbye after the reason, and web servers that they give up after the exception that made them.
    wanted = [line for line in lines if re.search(r"error|exception|fail", line, re.IGNORECASE)]
    if wanted and wanted[-1].startswith("ERROR:"):
        exceptions = [line for line in wanted if re.match(r"\w+(\.\w+)*(Error|Exception): ", line)]
        return (exceptions or wanted)[-1]
    return (wanted or lines)[-1]


def _record_of(state: Path, name: str) -> Path:
    return state / "run" / f"{name}.json"


def _read(state: Path, name: str) -> Record | None:
    try:
        return Record(**json.loads(_record_of(state, name).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # Absent or unreadable: nothing may be ended on its word.
        return None


def _mark(state: Path, name: str) -> str:
    return f"{state.absolute()}:{name}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _same(process: _Process, record: Record) -> bool:
    return process.started == record.started and _boot_id() == record.boot_id


def _members(record: Record, mark: str) -> list[int]:
    # A dead child of this very program stays a zombie until somebody waits for it.
    with suppress(ChildProcessError):
        os.waitpid(record.pid, os.WNOHANG)
    leader = _look_at(record.pid)
    if (leader is not None and not _same(leader, record)) or _boot_id() != record.boot_id:
        return []  # the number went to another program
    return [
        process.pid
        for process in _everything()
        if process.session == record.pid
        and not process.ended
        # With the leader gone, the session's number alone proves nothing.
        and (leader is not None or _carries(process.pid, mark))
    ]


def _carries(pid: int, mark: str) -> bool:
    try:
        return f"{MARK}={mark}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


def _everything() -> Iterator[_Process]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (process := _look_at(int(folder.name))) is not None:
            yield process


def _look_at(pid: int) -> _Process | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The second field is the program's name in brackets and may hold anything, blanks and brackets included.
    fields = text[text.rindex(")") + 1 :].split()
    return _Process(pid=pid, session=int(fields[3]), started=int(fields[19]), ended=fields[0] in "ZX")
