"""The S3 server itself: what it keeps, through an end and through a crash, and what it keeps to itself."""

import os
import signal
from pathlib import Path

import pytest

from dfpipe.errors import ServiceError
from dfpipe.services import ceph, down, find, missing_programs, s3_access, up
from dfpipe.storage import open_location
from dfpipe.testing import free_port, require_service

pytestmark = [pytest.mark.services, pytest.mark.slow]


def start(state, **options):
    up(state, ["s3"], mlflow_backend="", artifact_root="", **options)
    return s3_access(state).settings


def daemons(state):
    return [int(file.read_text().partition('"pid": ')[2].partition(",")[0]) for file in (state / "run").glob("*.json")]


@pytest.fixture
def state(tmp_path):
    if missing := missing_programs():
        require_service(f"the S3 server's programs are not installed ({', '.join(missing)})")
    # Ceph reads some paths as lists and its configuration has signs of its own; sockets would be too long.
    state = tmp_path / f"it's a # folder; with {'long ' * 20}name"
    state.mkdir()
    yield state
    down(state)


def test_objects_outlive_the_server(state):
    access = start(state, s3_buckets=["first"])
    open_location("s3://first/x", access).write_bytes(b"kept")
    started = daemons(state)
    assert len(started) == 3
    assert down(state) == ["s3"]
    assert all(
        not Path(f"/proc/{pid}/cmdline").exists() or not Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started
    )
    assert find(state, "s3") is None

    moved = free_port()
    again = start(state, ports={"s3": moved}, s3_buckets=["first", "second"])
    assert again.endpoint_url == f"http://127.0.0.1:{moved}"
    assert again.access_key_id == access.access_key_id
    assert open_location("s3://first/x", again).read_bytes() == b"kept"

    for pid in daemons(state):
        os.kill(pid, signal.SIGKILL)
    assert find(state, "s3") is None
    after = start(state, s3_buckets=["third"])
    assert open_location("s3://first/x", after).read_bytes() == b"kept"
    open_location("s3://third/y", after).write_bytes(b"new")

    gateway = find(state, "s3").pid
    os.kill(gateway, signal.SIGKILL)
    rest = set(daemons(state)) - {gateway}
    start(state)
    # Only what was missing is started.
    assert rest < set(daemons(state))


def test_the_key_is_drawn_anew_and_kept_secret(state):
    secret = start(state).secret_access_key.get_secret_value()
    assert len(secret) >= 32
    assert (state / "s3" / "credentials").stat().st_mode & 0o777 == 0o600
    assert (state / "s3").stat().st_mode & 0o777 == 0o700
    for log in (state / "logs").iterdir():
        assert secret not in log.read_text(errors="replace")
    for pid in daemons(state):
        assert secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert secret.encode() not in Path(f"/proc/{pid}/environ").read_bytes()


def test_a_folder_without_a_server_has_no_key(tmp_path):
    with pytest.raises(ServiceError, match=r"no S3 server .*; start it with `dfpipe up --s3`"):
        s3_access(tmp_path)


def test_missing_programs_are_named_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(ceph.shutil, "which", lambda name, path=None: None)
    with pytest.raises(ServiceError, match=r"needs .*radosgw.*apt-get install .*ceph-mon ceph-osd radosgw"):
        start(tmp_path)
    assert down(tmp_path) == []
