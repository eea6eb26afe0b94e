"""What the tests of the real S3 server share."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from playwright.sync_api import sync_playwright
from pydantic import SecretStr

from dfpipe.services.ceph import CONFIGURED, _path_of
from dfpipe.settings import MlflowSettings
from dfpipe.storage import _clients
from dfpipe.testing import FaultyS3, require_service
from dfpipe.tracking import open_tracking

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_ARGUMENTS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


@pytest.fixture
def chromium():
    """A browser without a window."""
    if not CHROMIUM.exists():
        require_service(f"{CHROMIUM} is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def admin(s3_state):
    """Runs the server's own tool, and returns what it says."""

    def run(*arguments):
        argv = (_path_of("radosgw-admin"), *arguments, *CONFIGURED)
        done = subprocess.run(argv, cwd=s3_state / "s3", capture_output=True, text=True, check=True)
        return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else None

    return run


@pytest.fixture
def make_user(s3, admin):
    """Make a user of the server, and return settings with its key; it has no rights but those that buckets give it."""
    made = []

    def make(name, *options):
        user = admin("user", "create", f"--uid={name}", f"--display-name={name}", "--max-buckets=-1", *options)
        made.append(name)
        return with_key(s3, user["keys"][0])

    yield make
    for name in made:
        admin("user", "rm", f"--uid={name}", "--purge-data")


def with_key(s3, key):
    return s3.model_copy(update={"access_key_id": key["access_key"], "secret_access_key": SecretStr(key["secret_key"])})


@pytest.fixture
def set_policy(s3):
    """Put a policy on a bucket, as its owner."""

    def put(bucket, statements):
        client = boto3.client(
            "s3",
            endpoint_url=s3.endpoint_url,
            region_name=s3.region,
            aws_access_key_id=s3.access_key_id,
            aws_secret_access_key=s3.secret_access_key.get_secret_value(),
        )
        policy = {"Version": "2012-10-17", "Statement": statements}
        with closing(client):
            client.put_bucket_policy(Bucket=urlsplit(bucket).netloc, Policy=json.dumps(policy))

    return put


@pytest.fixture
def proxy(s3):
    """The same server, with faults."""
    with FaultyS3(s3) as running:
        yield running


@pytest.fixture
def hurried(monkeypatch):
    """Wait a second, and not longer, for a server that says nothing."""
    monkeypatch.setattr(_clients, "READ_SECONDS", 1)


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """A database with MLflow's tables, which take long to make."""
    folder = tmp_path_factory.mktemp("empty")
    open_tracking(MlflowSettings(experiment="other"), state=folder, artifact_root=str(folder))
    return folder / "mlflow/mlflow.db"


@pytest.fixture(autouse=True)
def no_client_of_an_earlier_test():
    """MLflow keeps its S3 clients for minutes, by server and not by key."""
    yield
    repo = sys.modules.get("mlflow.store.artifact.s3_artifact_repo")
    if repo is not None:
        repo._cached_get_s3_client.cache_clear()
