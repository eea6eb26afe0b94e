"""What all tests share: real servers, each started once by the first test that asks for it, and no deadlines."""

import os
import sys
from contextlib import closing
from uuid import uuid4

import boto3
import pytest
from hypothesis import settings

from dfpipe.services import down, missing_programs, s3_access, up
from dfpipe.storage import open_location
from dfpipe.testing import free_port, require_service, shared_data

# The machines are shared: how long one example takes says nothing.
settings.register_profile("dfpipe", deadline=None)
settings.load_profile("dfpipe")

_BROKEN = []


def pytest_internalerror(excrepr):
    _BROKEN.append(str(excrepr))


def pytest_unconfigure(config):
    """Say again what broke first: when a process of tests breaks, the last lines say only that none is left."""
    if _BROKEN and not hasattr(config, "workerinput"):
        sys.stdout.write(f"what broke first:\n{_BROKEN[0]}\n")


@pytest.fixture(scope="session")
def s3_state(tmp_path_factory):
    """State folder of a running S3 server."""
    if missing := missing_programs():
        require_service(f"the S3 server's programs are not installed ({', '.join(missing)})")
    state = tmp_path_factory.mktemp("s3")
    up(state, ["s3"], mlflow_backend="", artifact_root="", ports={"s3": free_port()})
    yield state
    down(state)


@pytest.fixture(scope="session")
def s3(s3_state):
    """Settings that reach that server."""
    return s3_access(s3_state).settings


@pytest.fixture
def bucket(s3):
    """URL of an empty bucket of one's own."""
    name = f"test-{uuid4().hex}"
    client = boto3.client(
        "s3",
        endpoint_url=s3.endpoint_url,
        region_name=s3.region,
        aws_access_key_id=s3.access_key_id,
        aws_secret_access_key=s3.secret_access_key.get_secret_value(),
    )
    with closing(client):
        client.create_bucket(Bucket=name)
    yield f"s3://{name}"
    open_location(f"s3://{name}", s3).fs.rm(name, recursive=True)


@pytest.fixture(scope="session")
def prefect_url(tmp_path_factory):
    """API of a running Prefect server."""
    state = tmp_path_factory.mktemp("prefect")
    (server,) = up(state, ["prefect"], mlflow_backend="", artifact_root="", ports={"prefect": free_port()})
    yield f"{server.url}/api"
    down(state)


@pytest.fixture(scope="session")
def clips():
    """Folder of real videos of real people."""
    folder = shared_data()
    if folder is not None:
        return folder
    if "DFPIPE_SHARED_DATA" in os.environ:
        pytest.fail("DFPIPE_SHARED_DATA names no folder")
    pytest.skip("no real clips here; DFPIPE_SHARED_DATA names a folder with asl/ and noface/")
