"""A child process seen from the parent: started, asked, listened to with a deadline, ended."""

import os
import selectors
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from typing import IO, cast

from dfpipe.isolation.wire import LENGTH, frame

__all__ = ["Child", "ChildError", "ChildLostError", "ChildMemoryError", "ChildTimeoutError"]

TAIL_BYTES = 2000
READ_BYTES = 2**16
LONGEST_WAIT_SECONDS = 3600.0
PATIENCE_SECONDS = 10


class ChildError(Exception):
    """The child is of no more use; the message goes on after "its process"."""


class ChildLostError(ChildError):
    """It ended, or says what makes no sense."""


class ChildMemoryError(ChildError):
    """It got no more memory."""


class ChildTimeoutError(ChildError):
    """The deadline passed."""


class Child:
    """A process that runs `dfpipe.isolation.inside`.

    It ends with `close`, when nobody refers to it any more, with the interpreter, and with the thread that started
    it, so it must not be handed to a thread that lives longer.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            # -P: nothing is imported from the folder one happens to stand in.
            [sys.executable, "-P", "-m", "dfpipe.isolation.inside", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            # It imports what this process imports.
            env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            # A Ctrl-C is for the parent to act on, and the terminal is not for the child.
            start_new_session=True,
        )
        self._requests = cast("IO[bytes]", self._process.stdin)
        self._answers = cast("IO[bytes]", self._process.stdout)
        self._noise = cast("IO[bytes]", self._process.stderr)
        self._is_heard = True
        self._received = bytearray()
        self._said = bytearray()
        for pipe in (self._requests, self._answers, self._noise):
            os.set_blocking(pipe.fileno(), False)
        self._end = weakref.finalize(self, _end, self._process, os.getpid())
        self.videos_done = 0
        """Videos it has answered for."""
        self._started_by = os.getpid()

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs, as a child of this one: a fork of its parent holds the same object."""
        return self._started_by == os.getpid() and self._process.poll() is None

    @property
    def last_words(self) -> str:
        """The end of what it wrote to stderr."""
        return self._said.decode(errors="replace")

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._end()

    def send(self, payload: bytes, *, deadline: float) -> None:
        """Send one frame.

        Parameters
        ----------
        payload
            What to send.
        deadline
            On the clock of `time.monotonic`.

        Raises
        ------
        ChildError
            It could not be sent.
        """
        if self._received:
            raise ChildLostError("said more than it was asked")
        self._said.clear()
        rest = memoryview(frame(payload))
        while rest:
            self._wait(deadline, to_send=True)
            try:
                rest = rest[os.write(self._requests.fileno(), rest) :]
            except BlockingIOError:
                continue
            except BrokenPipeError:
                # What it still had to say, up to the end of its answers, tells why.
                while True:
                    self._wait(deadline)

    def receive(self, *, deadline: float, max_bytes: int) -> bytes:
        """Wait for one frame and return its payload.

        Parameters
        ----------
        deadline
            On the clock of `time.monotonic`.
        max_bytes
            Longest payload that is taken.

        Raises
        ------
        ChildError
            None came.
        """
        while len(self._received) < LENGTH.size:
            self._wait(deadline)
        (length,) = LENGTH.unpack_from(self._received)
        if length > max_bytes:
            raise ChildLostError(f"announced an answer of {length} bytes, more than the {max_bytes} it may give")
        end = LENGTH.size + length
        while len(self._received) < end:
            self._wait(deadline)
        payload = bytes(memoryview(self._received)[LENGTH.size : end])
        del self._received[:end]
        return payload

    def _wait(self, deadline: float, *, to_send: bool = False) -> None:
        """Wait until there was something to read, or with ``to_send`` until something can be written."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._answers, selectors.EVENT_READ)
            if self._is_heard:
                selector.register(self._noise, selectors.EVENT_READ)
            if to_send:
                selector.register(self._requests, selectors.EVENT_WRITE)
            # The kernel counts milliseconds in 32 bits; whoever waits longer asks again.
            ready = selector.select(min(max(0.0, deadline - time.monotonic()), LONGEST_WAIT_SECONDS))
        if not ready and time.monotonic() >= deadline:
            raise ChildTimeoutError("gave no answer in time")
        pipes = [key.fileobj for key, _ in ready]
        if self._noise in pipes:
            self._hear()
        if self._answers in pipes:
            self._read()

    def _read(self) -> None:
        data = _read_some(self._answers)
        if data == b"":
            self._hear()
            raise ChildLostError(self._how_it_ended())
        self._received += data or b""

    def _hear(self) -> None:
        while data := _read_some(self._noise):
            self._said += data
            del self._said[:-TAIL_BYTES]
        self._is_heard = data is None

    def _how_it_ended(self) -> str:
        try:
            status = self._process.wait(1)
        except subprocess.TimeoutExpired:
            return "closed its side of the pipe"
        if status >= 0:
            return f"ended by itself with status {status}"
        names = {int(one): one.name for one in signal.Signals}
        return f"was ended by {names.get(-status, f'signal {-status}')}"


def _read_some(pipe: IO[bytes]) -> bytes | None:
    """Return what is there, None for nothing yet, no bytes for the end."""
    try:
        return os.read(pipe.fileno(), READ_BYTES)
    except BlockingIOError:
        return None


def _end(process: subprocess.Popen[bytes], started_by: int) -> None:
    # A fork of the parent holds the same pipes, but it is not its child to end.
    if os.getpid() == started_by:
        process.kill()
        # One that hangs in the kernel, on a network disk say, ends when that lets it go.
        with suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
