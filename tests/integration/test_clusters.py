"""Clusters that a run makes for itself, by class path."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import distributed
import psutil
import pytest

from dfpipe.engine import open_engine
from dfpipe.errors import ServiceError, SettingsError
from dfpipe.settings import ClusterSettings, DaskSettings
from dfpipe.testing import free_port, require_service

pytestmark = pytest.mark.slow

HUSH = "hush0secret"


def cluster(class_path, **options):
    return DaskSettings(cluster=ClusterSettings(class_path=class_path, options=options), patience_seconds=120)


def where(_, item):
    return os.getpid(), item


def test_a_cluster_lasts_as_long_as_the_block_also_when_it_fails():
    # Without the closing, the workers live on.
    settings = cluster("distributed.LocalCluster", n_workers=1, threads_per_worker=1, dashboard_address="127.0.0.1:0")
    with pytest.raises(ZeroDivisionError), open_engine(settings) as engine:  # noqa: PT012 - what fails is the block
        [(pid, item)] = engine.run(where, [7])
        assert item == 7
        worker = psutil.Process(pid)
        assert worker.is_running()
        raise ZeroDivisionError
    assert not worker.is_running()


def refuse(settings, kind):
    with pytest.raises(kind) as caught, open_engine(settings):
        pass
    line = str(caught.value)
    assert "\n" not in line
    assert HUSH not in line
    assert caught.value.__cause__ is None or HUSH not in str(caught.value.__cause__)
    return line


@pytest.mark.parametrize(
    ("class_path", "words"),
    [
        ("LocalCluster", "expected one such as dask_kubernetes"),
        ("no_such_package.Cluster", "Python finds no no_such_package; install the package"),
        ("distributed.nowhere.Cluster", "Python finds no distributed.nowhere"),
        ("distributed.NoSuchCluster", "distributed has no NoSuchCluster"),
        ("distributed.__version__", "is no class"),
        ("collections.Counter", "makes no cluster"),
    ],
)
def test_what_is_no_cluster(class_path, words):
    assert words in refuse(cluster(class_path), SettingsError)


def test_options_that_the_class_does_not_take_are_named_and_not_shown():
    line = refuse(cluster("distributed.SpecCluster", password=HUSH), SettingsError)
    assert "unexpected keyword argument 'password'" in line


def test_what_a_class_says_of_its_options_is_not_repeated():
    # "Invalid literal for Fraction: 'hush0secret'" is what it says; repeated or chained, this fails.
    line = refuse(cluster("fractions.Fraction", numerator=HUSH), ServiceError)
    assert line.startswith("fractions.Fraction did not start (ValueError)")


@pytest.fixture
def sshd(tmp_path):
    """An SSH server for this user on loopback, as a plain process: options for asyncssh to reach it."""
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if program is None:
        require_service("sshd is not installed")
    try:
        import asyncssh  # noqa: F401
    except ImportError:
        require_service("asyncssh is not installed")
    for name in ("host", "user"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name],
            check=True,
            stdout=subprocess.DEVNULL,
        )
    shutil.copy(tmp_path / "user.pub", tmp_path / "authorized_keys")
    port = free_port()
    config = tmp_path / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
    )
    if os.geteuid() == 0:
        # Where its unprivileged half lives; the package's service would make it.
        Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen([program, "-D", "-f", config], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert process.poll() is None, "sshd does not start"
                assert time.monotonic() < deadline, "sshd does not answer"
        yield {
            "port": port,
            "username": getpass.getuser(),
            "client_keys": [str(tmp_path / "user")],
            "known_hosts": None,
            "config": None,
        }
    finally:
        process.terminate()
        process.wait()


@pytest.mark.services
def test_ssh(sshd):
    settings = cluster(
        "distributed.SSHCluster",
        hosts=["127.0.0.1", "127.0.0.1"],
        connect_options=sshd,
        worker_options={"nthreads": 2, "resources": {"memory_bytes": 2**30}},
        scheduler_options={"port": 0, "dashboard_address": "127.0.0.1:0"},
        remote_python=sys.executable,
    )
    with open_engine(settings) as engine:
        assert (engine.workers, engine.threads) == (1, 2)
        # Sent by value: the tests are not installed at the other end.
        found = list(engine.run(lambda _, item: (os.getpid(), item), range(4)))
        assert sorted(item for _, item in found) == [0, 1, 2, 3]
        worker = psutil.Process(found[0][0])
        assert any("sshd" in parent.name() for parent in worker.parents()), "the worker was started by the SSH server"
        assert distributed.default_client() is engine._client
    # Its shell and it end with the connection.
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running()


@pytest.mark.services
def test_ssh_that_lets_nobody_in_is_one_line(sshd):
    settings = cluster(
        "distributed.SSHCluster", hosts=["127.0.0.1"], connect_options=sshd | {"client_keys": [], "password": HUSH}
    )
    line = refuse(settings, ServiceError)
    assert line.startswith("distributed.SSHCluster did not start (PermissionDenied)")
