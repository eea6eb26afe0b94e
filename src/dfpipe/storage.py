"""Reaching bytes: local paths and ``s3://`` URLs behind one door, and one place where their errors become ours.

One settings section feeds fsspec (videos, shards), deltalake (tables) and boto3 (MLflow's artifacts) alike.
"""

import os
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import Any

import fsspec
from botocore.exceptions import BotoCoreError, ClientError
from deltalake.exceptions import DeltaError
from pyarrow import ArrowException

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings

__all__ = ["Location", "boto_environment", "delta_options", "open_location", "storage_errors"]

CONNECT_SECONDS = 5
ATTEMPTS = 4


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
                self.fs.pipe_file(self.path, data)

    def create_bytes(self, data: bytes) -> bool:
        """Write a whole object where there is none; say whether it was written, False where one was there already."""
        with storage_errors("write", self.url):
            try:
                if self.is_local:
                    # A link, unlike a rename, is refused where something stands.
                    self._put_local(data, lambda partial, target: target.hardlink_to(partial))
                else:
                    self.fs.pipe_file(self.path, data, mode="create")
            except FileExistsError:
                return False
            except OSError as error:
                # s3fs has no name for the server's refusal.
                if "PreconditionFailed" in f"{error} {error.__cause__}":
                    return False
                raise
        return True

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
        options: dict[str, Any] = {
            "anon": s3.anonymous,
            "client_kwargs": {"region_name": s3.region},
            # An endpoint where nobody answers is told of in seconds; the libraries would try for minutes.
            "config_kwargs": {"connect_timeout": CONNECT_SECONDS, "retries": {"total_max_attempts": ATTEMPTS}},
            # Buckets change under long runs; a stale listing would lose videos.
            "use_listings_cache": False,
        }
        if s3.endpoint_url:
            options["endpoint_url"] = s3.endpoint_url
            # Servers other than AWS often refuse the newer default checksums and host-style buckets.
            options["config_kwargs"] |= {
                "s3": {"addressing_style": "path"},
                "request_checksum_calculation": "when_required",
                "response_checksum_validation": "when_required",
            }
        if s3.access_key_id and s3.secret_access_key:
            options["key"] = s3.access_key_id
            options["secret"] = s3.secret_access_key.get_secret_value()
            if s3.session_token:
                options["token"] = s3.session_token.get_secret_value()
        return Location(fsspec.filesystem("s3", **options), text.removeprefix("s3://"), text)
    if "://" in text and not text.startswith("file://"):
        raise StoreError(f"got {text!r}, expected a local path or an s3:// URL")
    path = str(Path(text.removeprefix("file://")).expanduser().absolute())
    return Location(fsspec.filesystem("file"), path, path)


def delta_options(url: str, s3: S3Settings) -> dict[str, str]:
    """Return deltalake's ``storage_options`` for a table under this URL."""
    if not url.startswith("s3://"):
        return {}
    options = {
        "AWS_REGION": s3.region,
        "connect_timeout": f"{CONNECT_SECONDS}s",
        "max_retries": str(ATTEMPTS - 1),
    }
    if s3.endpoint_url:
        options["AWS_ENDPOINT_URL"] = s3.endpoint_url
        options["AWS_ALLOW_HTTP"] = str(s3.endpoint_url.startswith("http://")).lower()
        options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "false"
    if s3.anonymous:
        options["AWS_SKIP_SIGNATURE"] = "true"
    if s3.access_key_id and s3.secret_access_key:
        options["AWS_ACCESS_KEY_ID"] = s3.access_key_id
        options["AWS_SECRET_ACCESS_KEY"] = s3.secret_access_key.get_secret_value()
        if s3.session_token:
            options["AWS_SESSION_TOKEN"] = s3.session_token.get_secret_value()
    return options


def boto_environment(s3: S3Settings) -> Mapping[str, str]:
    """Return the environment variables by which MLflow's own S3 client reaches the same server."""
    environment = {"AWS_DEFAULT_REGION": s3.region}
    if s3.endpoint_url:
        environment["MLFLOW_S3_ENDPOINT_URL"] = s3.endpoint_url
        environment["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
        environment["AWS_RESPONSE_CHECKSUM_VALIDATION"] = "when_required"
    if s3.access_key_id and s3.secret_access_key:
        environment["AWS_ACCESS_KEY_ID"] = s3.access_key_id
        environment["AWS_SECRET_ACCESS_KEY"] = s3.secret_access_key.get_secret_value()
        if s3.session_token:
            environment["AWS_SESSION_TOKEN"] = s3.session_token.get_secret_value()
    return environment


@contextmanager
def storage_errors(verb: str, url: str) -> Iterator[None]:
    """Turn whatever the storage libraries raise inside the block into one clear `StoreError`.

    Parameters
    ----------
    verb
        What was being done, such as ``"read"``.
    url
        To what.
    """
    try:
        yield
    except StoreError:
        raise
    except (OSError, BotoCoreError, ClientError, DeltaError, ArrowException) as error:
        raise StoreError(f"cannot {verb} {url}: {_advice(error)}") from error


def _advice(error: Exception) -> str:
    # s3fs wraps botocore's error in an OSError; the code stands only in the cause.
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        link = link.__cause__
    text = " ".join(" ".join(f"{type(one).__name__} {one}" for one in chain).split())
    known = {
        "InvalidAccessKeyId": "the server does not know this access key; check s3.access_key_id",
        "SignatureDoesNotMatch": "the secret key does not fit the access key; check s3.secret_access_key",
        "RequestTimeTooSkewed": "this machine's clock is off; set the clock",
        "ExpiredToken": "the temporary credentials have expired; get new ones",
        "NoCredentials": "no credentials were found; set s3.access_key_id and s3.secret_access_key, or s3.anonymous",
        "CredentialRetrieval": "no credentials could be had; set s3.access_key_id and s3.secret_access_key",
        "TableNotFound": "there is no table; check the store, or run the stage that writes it",
        "NoSuchBucket": "there is no such bucket; create it or check the name",
        "EndpointConnectionError": "nobody answers at the endpoint; check s3.endpoint_url and that the server is up",
        "Cannot connect": "nobody answers at the endpoint; check s3.endpoint_url and that the server is up",
        "Connect timeout": "nobody answers at the endpoint; check s3.endpoint_url and that the server is up",
        "error sending request": "nobody answers at the endpoint; check s3.endpoint_url and that the server is up",
        "tcp connect error": "nobody answers at the endpoint; check s3.endpoint_url and that the server is up",
        "AccessDenied": "access denied; check the key's rights on the bucket",
        # Answers to HEAD have no body, so the server cannot say which of them it is.
        "Forbidden": "access denied; check s3.access_key_id, s3.secret_access_key and the key's rights on the bucket",
        "PermissionError": "permission denied; check the rights of the path or key, or choose another",
        "Permission denied": "permission denied; check the rights of the path or key, or choose another",
        "No space left": "no space left on the device; free some or choose another store",
        "Read-only file system": "the file system is read-only; choose another store",
        "FileNotFoundError": "no such file or folder; check the address",
        "NotADirectoryError": "a part of the path is a file; choose another path",
        "FileExistsError": "a file stands where a folder is needed; choose another path",
    }
    for sign, advice in known.items():
        if sign.lower() in text.lower():
            return advice
    return text
