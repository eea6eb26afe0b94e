"""Objects and files by one name, wherever they lie."""

import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any

import fsspec

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.storage._clients import file_system
from dfpipe.storage._errors import server_codes, storage_errors

__all__ = ["Location", "open_location"]

PUT_BYTES = 5 * 2**30
"""An object of this size is more than S3 takes in one request."""

PUT_SECONDS, SLOWEST_BYTES_A_SECOND = 180.0, 250_000
"""What a put may take before it is given up, all its tries together."""

PAUSES_SECONDS = (1, 2, 4)
"""How long another's put of the same object is waited for."""


@dataclass(frozen=True, slots=True)
class Location:
    """A folder on a file system."""

    fs: Any
    """The fsspec file system."""
    path: str
    """Path of the folder on it, without a trailing slash."""
    url: str
    """The same as an absolute path or URL that settings, tables and people use."""

    @property
    def is_local(self) -> bool:
        """Whether the bytes lie on this machine's file system."""
        return not self.url.startswith("s3://")

    def url_of(self, path: str) -> str:
        """Return the URL of a path that the file system listed."""
        return path if self.is_local else f"s3://{path}"

    def child(self, *names: str) -> "Location":
        """Return the folder or file below this one."""
        tail = "/".join(names)
        return Location(self.fs, f"{self.path}/{tail}", f"{self.url}/{tail}")

    def write_bytes(self, data: bytes) -> None:
        """Write a whole object at this location: it appears complete or not at all."""
        with storage_errors("write", self.url):
            if self.is_local:
                self._put_local(data, Path.replace)
            else:
                self.fs.pipe_file(self.path, data, timeout=_patience_seconds(data))

    def create_bytes(self, data: bytes) -> bool:
        """Write a whole object where there is none.

        Returns
        -------
        bool
            False where a whole one was there already. It may be this one: a request whose answer got lost is sent
            again, and then finds what it has put itself. So whoever needs to know whose bytes they are looks at them.

        Raises
        ------
        StoreError
            It cannot be done, or the object is larger than a bucket takes in one request.
        """
        with storage_errors("write", self.url):
            if not self.is_local:
                return self._create_in_bucket(data)
            try:
                # A link, unlike a rename, is refused where something stands.
                self._put_local(data, lambda partial, target: target.hardlink_to(partial))
            except FileExistsError:
                return False
            return True

    def _create_in_bucket(self, data: bytes) -> bool:
        if len(data) >= PUT_BYTES:
            raise StoreError(
                f"cannot write {self.url}: got {len(data)} bytes, expected fewer than {PUT_BYTES}, the most that S3 "
                "takes in one request; lower shard_bytes"
            )
        for pause_seconds in (*PAUSES_SECONDS, None):
            try:
                # In one request whatever its size: of an object put in parts, servers overlook the condition.
                timeout = _patience_seconds(data)
                self.fs.pipe_file(self.path, data, chunksize=PUT_BYTES, mode="create", timeout=timeout)
            except FileExistsError:
                return False
            except OSError as error:
                codes = server_codes(error)
                # s3fs has no name for the server's refusal.
                if "PreconditionFailed" in codes:
                    return False
                # AWS answers so while another puts the same name, who may still fail.
                if "ConditionalRequestConflict" not in codes or pause_seconds is None:
                    raise
                time.sleep(pause_seconds)
            else:
                return True
        raise AssertionError("the last round returns or raises")

    def check_writable(self) -> None:
        """Write a small object below this location and take it away again.

        Raises
        ------
        StoreError
            It cannot be done.
        """
        probe = self.child(f".dfpipe-writable-{uuid.uuid4().hex}")
        probe.write_bytes(b"written by dfpipe to see whether it can\n")
        with storage_errors("write", self.url):
            probe.fs.rm_file(probe.path)

    def _put_local(self, data: bytes, place: Callable[[Path, Path], object]) -> None:
        target = Path(self.path)
        target.parent.mkdir(parents=True, exist_ok=True)
        # A reader, or the next run after a crash, must never see half of it.
        partial = target.with_name(f".{target.name}.{os.getpid()}-{get_ident()}.partial")
        try:
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            place(partial, target)
        finally:
            partial.unlink(missing_ok=True)

    def read_bytes(self) -> bytes:
        """Read the whole object at this location."""
        with storage_errors("read", self.url):
            data: bytes = self.fs.cat_file(self.path)
            return data


def _patience_seconds(data: bytes) -> float:
    """Return how long a put may take: a server that stops reading is a silence that no other clock counts."""
    return PUT_SECONDS + len(data) / SLOWEST_BYTES_A_SECOND


def open_location(url: str | Path, s3: S3Settings) -> Location:
    """Open a folder by local path, ``file://`` or ``s3://`` URL; nothing is read yet.

    Raises
    ------
    StoreError
        A URL of another scheme, or one that names no bucket.
    """
    text = str(url).rstrip("/") or "/"
    if not str(url).strip() or text in ("s3:", "file:") or text.startswith("s3:///"):
        raise StoreError(f"got {str(url)!r}, which names no place; expected a local path or s3://bucket/folder")
    if text.startswith("s3://"):
        return Location(file_system(s3), text.removeprefix("s3://"), text)
    if "://" in text and not text.startswith("file://"):
        raise StoreError(f"got {text!r}, expected a local path or an s3:// URL")
    path = str(Path(text.removeprefix("file://")).expanduser().absolute())
    return Location(fsspec.filesystem("file"), path, path)
