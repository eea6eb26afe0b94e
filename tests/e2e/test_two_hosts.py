"""The commands of infra/compose.yaml over three hosts, and a run of theirs that a pulled cable does not stop.

The hosts are network namespaces, joined by a bridge in a fourth: nothing of it touches the machine's own network. Every
command, port, host name and variable is that of the compose file; what it says to PostgreSQL's and the S3 server's
images is said to Debian's PostgreSQL and Ceph's gateway instead.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml

from dfpipe.services import down, missing_programs
from dfpipe.synth import write_dataset
from dfpipe.testing import require_service, wait_for

# A dozen programs start; on a machine that is busy with others this takes minutes.
pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "infra/compose.yaml").read_text())

HOSTS = {
    "control": ("10.0.0.1", ["prefect-server", "prefect-worker", "deploy", "mlflow", "dask-scheduler", "dfpipe"]),
    "workers": ("10.0.0.2", ["dask-worker"]),
    "data": ("10.0.0.3", ["postgres", "s3", "buckets"]),
}
"""Address of each host, and the services on it."""

HOST_OF = {service: host for host, (_, services) in HOSTS.items() for service in services}

OUTAGE_SECONDS = 20
"""Dask gives a connection up after 30 s of silence (``distributed.comm.timeouts.tcp``)."""

PEOPLE = 12

QUICK = (
    # By the first commit no more than a window of them is under way.
    "videos_per_shard=1",
    "extract.sampling.every_frames=8",
    "train.features=[{name: pixels, size_px: 12}]",
    "train.forest={n_estimators: [20], max_depth: [4]}",
    "train.xgboost=null",
    "train.split.folds=2",
    "train.split.test_fraction=0.4",
    "gate.min_auc_lower_bound=0",
)

START_S3 = """
import sys
from pathlib import Path
from dfpipe.services import ceph, up

# Other hosts are to reach it; of itself it listens on loopback alone.
everywhere = ceph.CONFIGURATION.replace("endpoint={host}:", "endpoint=0.0.0.0:")
assert everywhere != ceph.CONFIGURATION
ceph.CONFIGURATION = everywhere
up(Path(sys.argv[1]), ["s3"], mlflow_backend="", artifact_root="", ports={"s3": int(sys.argv[2])})
"""

UPLOAD = "import s3fs, sys; s3fs.S3FileSystem().put(sys.argv[1] + '/', 'videos/', recursive=True)"

ASK_MLFLOW = """
import urllib.request
url = "http://mlflow:5000/api/2.0/mlflow/registered-models/get?name=dfpipe"
print(urllib.request.urlopen(url, timeout=60).read().decode())
"""

READ = """
import json, sys
from dfpipe.settings import load_settings
from dfpipe.shards import open_tables
from dfpipe.testing import Store

settings = load_settings(sys.argv[1])
for line in sys.stdin:
    table, *columns = line.split()
    rows = Store(open_tables(settings.store, settings.s3), (), {}).rows(table)
    print(json.dumps([[row[name] for name in columns] for row in rows]), flush=True)
"""


def ip(*arguments):
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


class Network:
    """Hosts with an address and a cable each, which lead to one switch."""

    def __init__(self, folder):
        self.name = f"dfpipe-{os.getpid()}"
        self.made = []
        self.names = folder
        services = "".join(f"{address} {' '.join(services)}\n" for address, services in HOSTS.values())
        for host, (address, _) in HOSTS.items():
            # As in a container, each takes its own name for its address.
            (folder / host).write_text(f"127.0.0.1 localhost\n{address} {socket.gethostname()}\n{services}")

    def __enter__(self):
        try:
            switch = self.add("switch")
            ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", switch, "link", "set", "bridge", "up")
            for host, (address, _) in HOSTS.items():
                space = self.add(host)
                ip("link", "add", "eth0", "netns", space, "type", "veth", "peer", "name", host, "netns", switch)
                ip("-n", space, "address", "add", f"{address}/24", "dev", "eth0")
                ip("-n", space, "link", "set", "lo", "up")
                ip("-n", space, "link", "set", "eth0", "up")
                ip("-n", switch, "link", "set", host, "master", "bridge", "up")
        except subprocess.CalledProcessError as error:
            self.__exit__()
            # A right that a sandbox may not give, and no program that could be installed.
            pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
        return self

    def __exit__(self, *_):
        for space in self.made:
            # Whatever still runs there would keep it alive without a name.
            for pid in map(int, ip("netns", "pids", space).split()):
                with suppress(psutil.NoSuchProcess):
                    psutil.Process(pid).kill()
            ip("netns", "delete", space)

    def add(self, host):
        space = f"{self.name}-{host}"
        ip("netns", "add", space)
        self.made.append(space)
        return space

    def start(self, host, *command, **options):
        """Start a program on a host, where services have names; the process is the program's own."""
        named = 'mount --bind "$0" /etc/hosts && exec "$@"'
        return subprocess.Popen(
            ["ip", "netns", "exec", f"{self.name}-{host}", "sh", "-c", named, self.names / host, *command],
            text=True,
            **options,
        )

    def run(self, host, *command, **options):
        process = self.start(host, *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
        said, _ = process.communicate(timeout=300)
        assert process.returncode == 0, said
        return said

    def pull(self, host):
        """Pull a host's cable out of the switch."""
        ip("-n", f"{self.name}-switch", "link", "set", host, "down")
        assert "NO-CARRIER" in ip("-n", f"{self.name}-{host}", "link", "show", "eth0")

    def plug_in(self, host):
        ip("-n", f"{self.name}-switch", "link", "set", host, "up")


class Composed:
    """The services of the compose file, as plain processes."""

    def __init__(self, network, folder):
        self.network = network
        self.folder = folder
        self.running = []
        self.app = folder / "app"
        shutil.copytree(ROOT / "deployments", self.app / "deployments")
        shutil.copy(ROOT / "infra/compose.dfpipe.yaml", self.app / "dfpipe.yaml")

    def here(self, service, text):
        """Return a text of the compose file with what a container has for itself put below our folder."""
        below = {
            "/run/secrets": self.folder / "secrets",
            "/var/lib/dfpipe": self.folder / "state",
            "/app": self.app,
            "/tmp": self.folder / service,
        }
        return re.sub(rf"(?<![\w.])({'|'.join(below)})(?=$|[/:])", lambda found: str(below[found[1]]), text)

    def environment(self, service):
        (self.folder / service).mkdir(exist_ok=True)
        path = f"{Path(sys.executable).parent}{os.pathsep}{ROOT / 'infra'}{os.pathsep}{os.environ['PATH']}"
        said = COMPOSE["services"][service].get("environment", {})
        kept = {name: os.environ[name] for name in ("PYTHONPATH", "LANG") if name in os.environ}
        return {
            **kept,
            "PATH": path,
            "HOME": str(self.folder / service),
            "DO_NOT_TRACK": "true",
            **{name: self.here(service, value) for name, value in said.items()},
        }

    def options(self, service):
        return {"cwd": self.app, "env": self.environment(service)}

    def start(self, *services):
        """Start services at the same time, and wait until they are healthy."""
        for service in services:
            said = COMPOSE["services"][service]
            command = [self.here(service, word) for word in said["command"]]
            for _ in range(said.get("deploy", {}).get("replicas", 1)):
                with self.log(service).open("a") as out:
                    process = self.network.start(
                        HOST_OF[service], "entrypoint", *command, stdout=out, stderr=out, **self.options(service)
                    )
                self.running.append((service, process))
        for service in services:
            wait_for(lambda service=service: self.healthy(service), service)

    def log(self, service):
        return self.folder / f"{service}.log"

    def healthy(self, service):
        for name, process in self.running:
            assert process.poll() is None, f"{name} ended: {self.log(name).read_text()[-2000:]}"
        # In the time that the image's health check has.
        time.sleep(1)
        check = self.network.start(HOST_OF[service], "healthy", stderr=subprocess.DEVNULL, **self.options(service))
        return check.wait(timeout=60) == 0

    def complete(self, service, command=None):
        """Run a service that ends, and return what it said."""
        words = command or [self.here(service, word) for word in COMPOSE["services"][service]["command"]]
        return self.network.run(HOST_OF[service], "entrypoint", *words, **self.options(service))

    def stop(self):
        for _, process in reversed(self.running):
            process.terminate()
        for _, process in reversed(self.running):
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    if os.geteuid() != 0:
        pytest.skip("network namespaces are made by root")
    if shutil.which("ip") is None:
        require_service("ip is not installed (Debian's iproute2)")
    with Network(tmp_path_factory.mktemp("network")) as made:
        yield made


@pytest.fixture(scope="module")
def postgres(network):
    """Password of a PostgreSQL server in the place of the image's."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        require_service("PostgreSQL is not installed (Debian's postgresql)")
    as_user = ("runuser", "-u", "postgres", "--")
    password = "rehearsal"
    user = COMPOSE["services"]["postgres"]["environment"]["POSTGRES_USER"]
    # Where its user can go; the tests' own folders are root's.
    with tempfile.TemporaryDirectory(prefix="dfpipe-postgres-") as name:
        home = Path(name)
        (home / "password").write_text(password)
        for path in (home, home / "password"):
            shutil.chown(path, "postgres")
        data = home / "data"
        subprocess.run(
            [
                *(*as_user, found[-1] / "initdb", "-D", data, "-U", user, "-A", "scram-sha-256", "-E", "UTF8"),
                f"--pwfile={home / 'password'}",
            ],
            check=True,
            capture_output=True,
            cwd=home,
        )
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all 10.0.0.0/24 scram-sha-256\n")
        options = ("-h", "0.0.0.0", "-k", home, "-c", "fsync=off")
        server = network.start(
            "data", *as_user, found[-1] / "postgres", "-D", data, *options, stderr=subprocess.DEVNULL, cwd=home
        )
        ask = {"env": {"PGPASSWORD": password, "PATH": os.environ["PATH"]}}
        psql = ("psql", "-h", "postgres", "-U", user, "-q", "postgres")
        try:

            def answers():
                assert server.poll() is None, "PostgreSQL ended"
                quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
                return network.start("control", *psql, "-c", "SELECT 1", **quiet, **ask).wait(timeout=60) == 0

            wait_for(answers, "PostgreSQL")
            network.run("control", *psql, "-f", ROOT / "infra/databases.sql", **ask)
            yield password
        finally:
            # The server's children and it; `runuser` stands between.
            for process in psutil.Process(server.pid).children():
                process.send_signal(2)
            server.wait(timeout=60)


@pytest.fixture(scope="module")
def s3(network, tmp_path_factory):
    """File with the key of an S3 server in the place of the image's."""
    if missing := missing_programs():
        require_service(f"the S3 server's programs are not installed ({', '.join(missing)})")
    state = tmp_path_factory.mktemp("s3")
    port = COMPOSE["services"]["s3"]["ports"][0].rpartition(":")[2]
    try:
        network.run("data", sys.executable, "-c", START_S3, state, port)
        yield state / "s3/credentials"
    finally:
        down(state)


@pytest.fixture(scope="module")
def composed(network, postgres, s3, tmp_path_factory):
    folder = tmp_path_factory.mktemp("composed")
    (folder / "secrets").mkdir()
    (folder / "secrets/postgres-password").write_text(postgres)
    shutil.copy(s3, folder / "secrets/s3-credentials")
    composed = Composed(network, folder)
    try:
        composed.complete("buckets")
        composed.start("dask-scheduler", "prefect-server", "mlflow")
        composed.start("prefect-worker", "dask-worker")
        composed.complete("deploy")
        yield composed
    finally:
        composed.stop()


class Reader:
    """Reads tables from beside the S3 server, whatever cable is pulled."""

    def __init__(self, composed):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = (sys.executable, "-c", READ, composed.app / "dfpipe.yaml")
        self.process = composed.network.start("data", *command, **pipes, **composed.options("buckets"))

    def __call__(self, table, *columns):
        self.process.stdin.write(f"{' '.join((table, *columns))}\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def committed(self):
        """Return how many rows the ledger has; asked in a loop, this leaves the machine to the run."""
        time.sleep(0.3)
        return len(self("videos", "video_id"))

    def close(self):
        self.process.kill()
        self.process.communicate()


def test_a_run_outlives_a_pulled_cable(network, composed, tmp_path):
    write_dataset(tmp_path / "made", num_identities=PEOPLE, num_frames=(24, 30), heights=(144,), seed=5, jobs=1)
    composed.complete("buckets", [sys.executable, "-c", UPLOAD, str(tmp_path / "made")])
    quick = [f"--set={one}" for one in QUICK]
    settings = composed.complete("dfpipe", ["dfpipe", "config", "--json", *quick])
    read = Reader(composed)
    command = ("prefect", "deployment", "run", "pipeline/pipeline", "--param", f"settings={settings}", "--watch")
    run = network.start(
        "control", *command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **composed.options("dfpipe")
    )
    try:
        wait_for(lambda: read.committed() or run.poll() is not None, "the first commit")
        network.pull("workers")
        try:
            assert run.poll() is None, run.communicate()
            time.sleep(OUTAGE_SECONDS)
            assert run.poll() is None, run.communicate()
            assert read.committed() < 2 * PEOPLE, "something is left to do"
        finally:
            network.plug_in("workers")
        said, _ = run.communicate(timeout=600)
        assert run.returncode == 0, said
    finally:
        run.kill()
        run.wait()
    ledger = read("videos", "video_id", "status")
    assert Counter(status for _, status in ledger) == {"ok": 2 * PEOPLE}
    assert len({video for video, _ in ledger}) == 2 * PEOPLE
    faces = Counter(map(tuple, read("faces", "video_id", "frame_index")))
    assert set(faces.values()) == {1}
    assert {video for video, _ in faces} == {video for video, _ in ledger}
    read.close()
    assert all(process.poll() is None for _, process in composed.running), "no service ended meanwhile"
    # Its records are in PostgreSQL, by the MLflow server, which answers to this name.
    model = json.loads(composed.complete("dfpipe", [sys.executable, "-c", ASK_MLFLOW]))["registered_model"]
    assert [version["version"] for version in model["latest_versions"]] == ["1"]
