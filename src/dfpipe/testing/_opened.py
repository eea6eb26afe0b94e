"""Counting how often files are opened, by the kernel's own word."""

import ctypes
import os
import struct
import tempfile
import threading
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Self

__all__ = ["Opened"]

IN_OPEN, IN_CLOSE_NOWRITE, IN_ISDIR, IN_Q_OVERFLOW = 0x20, 0x10, 0x4000_0000, 0x4000
HEADER = struct.Struct("iIII")
BUFFER_BYTES = 2**16
PATIENCE_SECONDS = 5.0


class Opened:
    """Counts how often each file below a folder is opened, by whomever: a context while it does (Linux only).

    It is the kernel (inotify) that tells, so nothing in the program that opens has to be changed for it, and an opening
    by a process that is killed a moment later counts too.

    Parameters
    ----------
    folder
        Folder that holds the files, directly or in folders below. Folders that come later are not watched.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._overflow = False

    def counts(self) -> Counter[str]:
        """Return how often each file was opened since the context began, by its path below the folder.

        Raises
        ------
        RuntimeError
            The kernel has told of more than it could keep.
        """
        if self._overflow:
            raise RuntimeError("the kernel lost count of the files that were opened")
        # The kernel tells in order: once it has told of a file of ours, it has told of all that was opened before.
        self._echo.clear()
        self._beacon.read_bytes()
        if not self._echo.wait(PATIENCE_SECONDS):
            raise RuntimeError("the kernel tells of no file that is opened")
        with self._lock:
            return Counter(self._counts)

    def __enter__(self) -> Self:
        self._apart = tempfile.TemporaryDirectory(prefix="dfpipe-opened-")
        self._beacon = Path(self._apart.name) / "beacon"
        self._beacon.touch()
        self._echo = threading.Event()
        libc = ctypes.CDLL(None, use_errno=True)
        self._fd = libc.inotify_init1(os.O_CLOEXEC)
        self._watched: dict[int, Path] = {}
        for folder in (self._beacon.parent, self._folder, *(path for path in self._folder.rglob("*") if path.is_dir())):
            # Without the closings, two openings of one file in a row would be told as one.
            watch = libc.inotify_add_watch(self._fd, os.fsencode(folder), IN_OPEN | IN_CLOSE_NOWRITE)
            if watch < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
            self._watched[watch] = folder
        self._ending = False
        self._reader = threading.Thread(target=self._read, name="opened", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ending = True
        self._beacon.read_bytes()
        self._reader.join()
        os.close(self._fd)
        self._apart.cleanup()

    def _read(self) -> None:
        while True:
            data = os.read(self._fd, BUFFER_BYTES)
            offset = 0
            while offset < len(data):
                watch, mask, _, length = HEADER.unpack_from(data, offset)
                name = data[offset + HEADER.size : offset + HEADER.size + length].rstrip(b"\0")
                offset += HEADER.size + length
                self._overflow |= bool(mask & IN_Q_OVERFLOW)
                if not mask & IN_OPEN or mask & IN_ISDIR or not name:
                    continue
                path = self._watched[watch] / os.fsdecode(name)
                if path == self._beacon:
                    self._echo.set()
                    if self._ending:
                        return
                    continue
                with self._lock:
                    self._counts[str(path.relative_to(self._folder))] += 1
