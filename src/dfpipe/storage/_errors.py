"""Whatever the storage libraries raise, as one clear line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import ClientError as HttpError
from botocore.exceptions import BotoCoreError, ClientError
from deltalake.exceptions import DeltaError
from pyarrow import ArrowException

from dfpipe.errors import StoreError

__all__ = ["server_codes", "storage_errors"]

KEYS = "s3.access_key_id and s3.secret_access_key"
NOBODY = "nobody answers at the endpoint; check s3.endpoint_url and that the server is up"
SILENT = "the server took the request and gave no answer; check that it is well"
BROKEN = "the server broke off the connection; check that it is well"
FULL = "the store is full or its quota used up; free some, raise the quota, or choose another store"
BUSY = "the server is overloaded and stayed so; try again later, or with fewer dask.workers"
EXPIRED = "the temporary credentials have expired; get new ones, or name an s3.profile that renews them"
DENIED = "access denied; check the key's rights on the bucket"

CODES = {
    "InvalidAccessKeyId": "the server does not know this access key; check s3.access_key_id",
    "SignatureDoesNotMatch": "the secret key does not fit the access key; check s3.secret_access_key",
    "RequestTimeTooSkewed": "this machine's clock is off; set the clock",
    "ExpiredToken": EXPIRED,
    "ExpiredTokenException": EXPIRED,
    "TokenRefreshRequired": EXPIRED,
    "InvalidToken": "the session token does not fit the access key; check s3.session_token",
    "NoSuchBucket": "there is no such bucket; create it or check the name",
    "QuotaExceeded": FULL,
    "InsufficientCapacity": FULL,
    "XMinioStorageFull": FULL,
    "InsufficientStorage": FULL,
    "507": FULL,
    "SlowDown": BUSY,
    "ServiceUnavailable": BUSY,
    "503": BUSY,
    "InternalError": "the server failed several times; look into its logs, or try again later",
    "500": "the server failed several times; look into its logs, or try again later",
    "EntityTooLarge": "the object is larger than the server takes; lower shard_bytes",
    "AccessDenied": DENIED,
    # Answers to HEAD have no body, so the server cannot say which of them it is.
    "403": f"access denied, and why did not arrive; check {KEYS}, their age and rights on the bucket, and the clock",
}
"""What the server's word for an error means."""

PHRASES = {
    "NoCredentials": f"no credentials were found; set {KEYS}, or s3.profile, or s3.anonymous",
    "ProfileNotFound": "the AWS files have no such profile; check s3.profile (or AWS_PROFILE)",
    "CredentialRetrieval": "the keys could not be had; run the credential_process of s3.profile by hand to see why",
    "TokenRetrieval": "the single sign-on has ended; log in again with `aws sso login`",
    "UnauthorizedSSOToken": "the single sign-on has ended; log in again with `aws sso login`",
    "SSOTokenLoad": "there is no single sign-on yet; log in with `aws sso login`",
    # Arrow's words.
    "AWS Error EXPIRED_TOKEN": EXPIRED,
    # Arrow asks by HEAD first; and its client reads the answer to GET together with whatever its memory held behind
    # it, so that the server's word is lost as often as not.
    "AWS Error ACCESS_DENIED": CODES["403"],
    "AWS Error REQUEST_TIME_TOO_SKEWED": CODES["RequestTimeTooSkewed"],
    "AWS Error SLOW_DOWN": BUSY,
    "AWS Error SERVICE_UNAVAILABLE": BUSY,
    # Arrow has room for as many bytes as it asked for, and loses what the server said if that is longer.
    "Failed to flush response stream": "the server refused to give some bytes; look into its logs, or try again later",
    "AWS Error INTERNAL_FAILURE": CODES["InternalError"],
    "AWS Error NETWORK_CONNECTION": NOBODY,
    "TableNotFound": "there is no table; check the store, or run the stage that writes it",
    "Connection reset": BROKEN,
    "Broken pipe": BROKEN,
    "closing transport": BROKEN,
    "ServerDisconnectedError": BROKEN,
    "ConnectionClosedError": BROKEN,
    "ClientPayloadError": BROKEN,
    "ResponseStreamingError": BROKEN,
    "connection closed before message completed": BROKEN,
    "ReadTimeoutError": SILENT,
    "FSTimeoutError": SILENT,
    "operation timed out": SILENT,
    "EndpointConnectionError": NOBODY,
    "Cannot connect": NOBODY,
    "Connect timeout": NOBODY,
    "tcp connect error": NOBODY,
    "dns error": NOBODY,
    "error sending request": NOBODY,
    "PermissionError": "permission denied; check the rights of the path or key, or choose another",
    "Permission denied": "permission denied; check the rights of the path or key, or choose another",
    "No space left": "no space left on the device; free some or choose another store",
    "Disk quota exceeded": "the disk quota is used up; free some or choose another store",
    "File too large": "the file is larger than this process may write; raise `ulimit -f`",
    "Read-only file system": "the file system is read-only; choose another store",
    "FileNotFoundError": "no such file or folder; check the address",
    "NotADirectoryError": "a part of the path is a file; choose another path",
    "FileExistsError": "a file stands where a folder is needed; choose another path",
}
"""What to make of errors that no server named, by what their types and texts contain; the first that fits counts."""


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
    except (OSError, BotoCoreError, ClientError, HttpError, DeltaError, ArrowException) as error:
        raise StoreError(f"cannot {verb} {url}: {_advice(error)}") from error
    except RuntimeError as error:
        # botocore's only word for a profile that gives keys which have ended already.
        if "credentials are still expired" not in str(error):
            raise
        raise StoreError(
            f"cannot {verb} {url}: the new keys have expired already; check the clock and what renews s3.profile"
        ) from error


def server_codes(error: BaseException) -> list[str]:
    """Return what the server called the error, such as ``NoSuchBucket``; empty where it was not the server's."""
    # s3fs wraps botocore's error in an OSError; the code stands only in the cause.
    codes = [str(one.response["Error"].get("Code")) for one in _chain(error) if isinstance(one, ClientError)]
    # deltalake tells the server's answer word by word; Arrow the word where it does not know it, else the status.
    text = str(error)
    told = re.findall(r"(?:<Code>|ExceptionName: )(\w+)", text)
    told += re.findall(r"(?:status code:|HTTP status) (\d+)", text)
    # boto3's uploads quote botocore's error, and do not chain it.
    return codes + told + re.findall(r"\((\w+)\) when calling", text)


def _advice(error: Exception) -> str:
    for code in server_codes(error):
        if code in CODES:
            return CODES[code]
    text = " ".join(f"{type(one).__name__} {one}" for one in _chain(error))
    # deltalake paints its messages and spreads them over lines.
    text = " ".join(re.sub(r"\x1b\[\d*m", "", text).split())
    for sign, advice in PHRASES.items():
        if sign.lower() in text.lower():
            return advice
    return text


def _chain(error: BaseException) -> list[BaseException]:
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in chain:
        chain.append(link)
        # botocore does not chain what its connections raise, but keeps it.
        link = link.__cause__ or getattr(link, "kwargs", {}).get("error")
    return chain
