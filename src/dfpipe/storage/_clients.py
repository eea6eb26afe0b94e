"""The settings, as each of the S3 clients takes them.

All of them take keys from one chain, that of botocore: the settings' own, else the settings' profile, else what the
environment, the AWS files or the machine's role offer.
"""

import os
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

import botocore.session
from botocore.credentials import Credentials, ReadOnlyCredentials
from botocore.exceptions import HTTPClientError, NoCredentialsError
from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem
from s3fs import S3FileSystem as S3fs
from s3fs.core import _error_wrapper as with_s3fs_retries

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.storage._errors import storage_errors

__all__ = ["arrow_file_system", "boto_environment", "delta_options", "file_system"]

ATTEMPTS = 5
"""Times that a request is sent, with exponential backoff and jitter between: seconds for a server that is not there."""

CONNECT_SECONDS = 5
READ_SECONDS = 15
"""How long a server may say nothing."""


class _S3FileSystem(S3fs):  # type: ignore[misc]
    """s3fs with one loop of retries around a request, and one around the reading of an answer's body.

    botocore tries requests again, with jitter and a budget. s3fs would wrap that in one or two loops of its own, which
    turns a server that says nothing into a quarter of an hour; but it alone knows of bodies that break off.
    """

    async def _call_s3(self, method: str, *more: Mapping[str, Any], **arguments: Any) -> Any:
        await self.set_session()
        call = getattr(await self.get_s3(arguments.get("Bucket")), method)
        wanted = self._get_s3_method_kwargs(call, *more, **arguments)
        try:
            return await with_s3fs_retries(call, kwargs=wanted, retries=1)
        except HTTPClientError as error:
            # Under its own name the outer loop would begin all over.
            raise ConnectionError(str(error)) from error
        except PermissionError:
            if method == "head_object":
                # What answers HEAD has no body that could say why; what answers GET has.
                place = {name: arguments[name] for name in ("Bucket", "Key")}
                answer = await self._call_s3("get_object", *more, Range="bytes=0-0", **place)
                answer["Body"].close()
            raise

    async def _cat_file_concurrent(self, *arguments: Any, **more: Any) -> bytes:
        # Objects beyond one block are read in parts, and there s3fs has no loop at all.
        whole: bytes = await with_s3fs_retries(
            super()._cat_file_concurrent, args=arguments, kwargs=more, retries=self.retries
        )
        return whole


def file_system(s3: S3Settings) -> Any:
    """Return the fsspec file system that reaches this server; nothing is sent yet."""
    options: dict[str, Any] = {
        "anon": s3.anonymous,
        "client_kwargs": {"region_name": s3.region},
        "config_kwargs": {
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": READ_SECONDS,
            "retries": {"mode": "standard", "total_max_attempts": ATTEMPTS},
        },
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
    elif s3.profile:
        # A session of its own, which asks for new keys when the old ones end.
        options["profile"] = s3.profile
    system = _S3FileSystem(**options)
    system.retries = ATTEMPTS
    return system


def delta_options(url: str, s3: S3Settings) -> dict[str, str]:
    """Return deltalake's ``storage_options`` for a table under this URL.

    They hold keys, and deltalake cannot renew them: ask again for each table that is opened. Keys that are about to
    expire have been renewed then.

    Raises
    ------
    StoreError
        No keys could be found or renewed, or the environment would spoil them.
    """
    if not url.startswith("s3://"):
        return {}
    options = {
        "AWS_REGION": s3.region,
        "connect_timeout": f"{CONNECT_SECONDS}s",
        # Of a whole request, with its body.
        "timeout": f"{2 * READ_SECONDS}s",
        "max_retries": str(ATTEMPTS - 1),
        "retry_timeout": f"{ATTEMPTS * READ_SECONDS}s",
        "backoff_config.init_backoff": "500ms",
        "backoff_config.max_backoff": "20s",
        "backoff_config.base": "2",
    }
    if s3.endpoint_url:
        options["AWS_ENDPOINT_URL"] = s3.endpoint_url
        options["AWS_ALLOW_HTTP"] = str(s3.endpoint_url.startswith("http://")).lower()
        options["AWS_VIRTUAL_HOSTED_STYLE_REQUEST"] = "false"
    if s3.anonymous:
        options["AWS_SKIP_SIGNATURE"] = "true"
        return options
    with storage_errors("find keys for", url):
        keys = _keys(s3)
    options["AWS_ACCESS_KEY_ID"] = keys.access_key
    options["AWS_SECRET_ACCESS_KEY"] = keys.secret_key
    if keys.token:
        options["AWS_SESSION_TOKEN"] = keys.token
    elif "AWS_SESSION_TOKEN" in os.environ:
        # deltalake adds what it finds there, and no option keeps it from that; an empty one is sent as well.
        raise StoreError(
            "the environment has an AWS_SESSION_TOKEN, which does not belong to the key that the settings name and "
            "would be sent with it; unset it, or remove the key from the settings"
        )
    return options


def arrow_file_system(s3: S3Settings) -> S3FileSystem:
    """Return Arrow's own client, for reading Parquet: several requests at a time, and no byte passes through Python.

    It holds keys that it cannot renew: ask again for each file. Those that are about to expire have been renewed then.
    """
    keys = None if s3.anonymous else _keys(s3)
    return _arrow_client(s3.endpoint_url, s3.region, keys and (keys.access_key, keys.secret_key, keys.token))


@lru_cache(maxsize=4)
def _arrow_client(endpoint_url: str | None, region: str, keys: tuple[str, str, str | None] | None) -> S3FileSystem:
    access_key, secret_key, token = keys or (None, None, None)
    return S3FileSystem(
        anonymous=keys is None,
        access_key=access_key,
        secret_key=secret_key,
        session_token=token,
        region=region,
        endpoint_override=endpoint_url,
        connect_timeout=CONNECT_SECONDS,
        request_timeout=READ_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=ATTEMPTS),
    )


def boto_environment(s3: S3Settings) -> Mapping[str, str]:
    """Return the environment variables by which MLflow's own S3 client reaches the same server."""
    environment = {
        "AWS_DEFAULT_REGION": s3.region,
        "AWS_RETRY_MODE": "standard",
        "AWS_MAX_ATTEMPTS": str(ATTEMPTS),
    }
    if s3.endpoint_url:
        environment["MLFLOW_S3_ENDPOINT_URL"] = s3.endpoint_url
        environment["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"
        environment["AWS_RESPONSE_CHECKSUM_VALIDATION"] = "when_required"
    if s3.access_key_id and s3.secret_access_key:
        environment["AWS_ACCESS_KEY_ID"] = s3.access_key_id
        environment["AWS_SECRET_ACCESS_KEY"] = s3.secret_access_key.get_secret_value()
        if s3.session_token:
            environment["AWS_SESSION_TOKEN"] = s3.session_token.get_secret_value()
    elif s3.profile:
        environment["AWS_PROFILE"] = s3.profile
        # A key that the shell has set would win over the profile; an empty one is none.
        environment |= {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}
    return environment


def _keys(s3: S3Settings) -> ReadOnlyCredentials:
    if s3.access_key_id and s3.secret_access_key:
        token = s3.session_token.get_secret_value() if s3.session_token else None
        return ReadOnlyCredentials(s3.access_key_id, s3.secret_access_key.get_secret_value(), token)
    return _chain(s3.profile).get_frozen_credentials()


@cache
def _chain(profile: str | None) -> Credentials:
    """Return keys that renew themselves when they are about to expire; once for a process."""
    found = botocore.session.Session(profile=profile).get_credentials()
    if found is None:
        raise NoCredentialsError
    return found
