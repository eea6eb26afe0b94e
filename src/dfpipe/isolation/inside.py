"""What runs in the child: `python -m dfpipe.isolation.inside PARENT`, one request after another until stdin ends."""

import ctypes
import gc
import json
import os
import pickle
import resource
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, BinaryIO

import cv2
import pyarrow as pa

from dfpipe.errors import UserError
from dfpipe.faces import open_detector
from dfpipe.isolation.wire import LENGTH, VERSION, encode_rows, read_frame, tells_of_no_memory

__all__ = ["main"]

LIBC = ctypes.CDLL(None, use_errno=True)

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


def main() -> None:
    """Answer requests until there are no more."""
    _die_with(int(sys.argv[1]))
    _go_first_when_memory_is_short()
    _leave_no_core()
    requests, answers = _take_pipes()
    # One video is one core, whatever started this process.
    cv2.setNumThreads(1)
    # Other pools reserve gigabytes ahead, which would count as memory in use.
    pa.set_memory_pool(pa.system_memory_pool())
    _send(answers, [_header("ready", version=VERSION)])
    while (request := read_frame(requests)) is not None:
        _send(answers, _answer(request))
        _tidy_up()


def _answer(request: bytes) -> list[bytes]:
    """Do what is asked, and return the frames that tell how it went."""
    try:
        work, video, options = pickle.loads(request)  # noqa: S301  # from the parent, who may run anything
        # The detector is the child's and not the video's, so its weights do not count as the video's memory.
        open_detector(options["settings"].detector)
        with _memory_bound(options["limits"].max_memory_bytes):
            return [_header("rows"), *encode_rows(resolve_name(work)(video, **options))]
    except Exception as error:  # noqa: BLE001  # all of them are told to the parent
        if _is_lack_of_memory(error):
            return [_header("memory")]
        if isinstance(error, UserError):
            return [_header("error", name=type(error).__name__, message=str(error))]
        return [_header("defect", traceback="".join(traceback.format_exception(error))[-(2**16) :])]


@contextmanager
def _memory_bound(max_bytes: int) -> Iterator[None]:
    """Let the block take that much more memory than the process has now.

    RLIMIT_DATA counts private memory that can be written to. RLIMIT_AS would count addresses: those of every library
    file, and the room that allocators set aside for each thread and never touch, gigabytes of it.
    """
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    bound = _data_bytes() + max_bytes
    resource.setrlimit(resource.RLIMIT_DATA, (bound if hard == resource.RLIM_INFINITY else min(bound, hard), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))


def _data_bytes() -> int:
    """Return how much the kernel counts towards RLIMIT_DATA now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[5]) * resource.getpagesize()


def _tidy_up() -> None:
    """Give back what the last video's pictures took: the allocator keeps hundreds of megabytes of it otherwise."""
    gc.collect()
    # What is left is there to stay: modules, the detector. Looked through after every video, it costs 13 ms each time.
    gc.freeze()
    LIBC.malloc_trim(0)


def _is_lack_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, MemoryError) or tells_of_no_memory(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _die_with(parent: int) -> None:
    """Have the kernel end this process with the thread that started it, however that ends."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        # It was gone before the kernel knew.
        os._exit(0)


def _go_first_when_memory_is_short() -> None:
    # The child is replaced at once; its parent holds other videos' rows.
    Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _leave_no_core() -> None:
    # A core file holds keys and people's pictures. The limit is not heeded where cores are piped to a program.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(PR_SET_DUMPABLE, 0)


def _prctl(option: int, value: int) -> None:
    if LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option}, {value})")


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return the pipes to the parent, and leave nothing in their place that a library could write answers to."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _header(kind: str, **more: Any) -> bytes:
    return json.dumps({"kind": kind, **more}).encode()


def _send(answers: BinaryIO, parts: Sequence[bytes]) -> None:
    for part in parts:
        answers.write(LENGTH.pack(len(part)))
        answers.write(part)
    answers.flush()


if __name__ == "__main__":
    main()
