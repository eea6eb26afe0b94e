"""A real S3 server on this machine: a Ceph cluster of one monitor, one disk and one gateway.

Its three programs come from Debian packages and need no root.
Everything they write lies in the ``s3`` folder of the state, the objects in one sparse file that takes what is stored.
Requests are signed and checked as anywhere; the key is drawn when the cluster is made.
"""

import configparser
import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from dfpipe.errors import ServiceError
from dfpipe.services._daemon import Daemon, recall, telling_line
from dfpipe.services._environment import inherited
from dfpipe.services._manager import HOST, Service, expect_running, keep, look_up, unused_port
from dfpipe.settings import S3Settings

__all__ = ["S3", "S3Access", "begin_s3", "missing_programs", "s3_access"]

S3 = Service(name="s3", port=8333, health="/", daemons=("s3", "s3-osd", "s3-mon"))

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "rados", "radosgw", "radosgw-admin")
INSTALL = "apt-get install -y --no-install-recommends ceph-mon ceph-osd radosgw"
USER = "dfpipe"
REGION = "us-east-1"
DISK_BYTES = 64 * 2**30

# Relative too: given whole, a path with a blank in it would be taken for two.
CONFIGURED = ("-c", "./ceph.conf")

CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = v2:{host}:{mon_port}/0
public_addr = {host}
cluster_addr = {host}
ms_bind_msgr1 = false
# The three trust each other: loopback only, one user. S3 requests are signed and checked all the same.
auth_cluster_required = none
auth_service_required = none
auth_client_required = none
# Paths are relative to where they run, so that the folder may have any name and be moved.
chdir =
run_dir = .
crash_dir = ./crash
# No admin socket: its name may be no longer than 107 bytes, and nobody asks it anything.
admin_socket =
# To the log that the program was started with, and nowhere else.
log_file =
log_to_stderr = true
err_to_stderr = true
debug_rocksdb = 1/5
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 4
osd_pool_default_pgp_num = 4
osd_pool_default_pg_autoscale_mode = off
osd_crush_chooseleaf_type = 0
mon_allow_pool_size_one = true
mon_warn_on_pool_no_redundancy = false
[mon]
mon_data = ./mon
mon_cluster_log_file = ./cluster.log
# By default map changes wait for a second each, and every new pool is several.
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
# By default the monitor ends itself when the disk is 95 % full.
mon_data_avail_warn = 2
mon_data_avail_crit = 1
auth_allow_insecure_global_id_reclaim = false
[osd]
osd_data = ./osd
osd_objectstore = bluestore
bluestore_block_create = true
bluestore_block_size = {disk_bytes}
bluestore_cache_autotune = false
bluestore_cache_size = 134217728
osd_op_num_shards = 2
osd_op_num_threads_per_shard = 2
[client]
log_to_stderr = false
[client.rgw.s3]
log_to_stderr = true
rgw_data = ./rgw
# Without tcp_nodelay every small request takes 40 ms more.
rgw_frontends = beast endpoint={host}:{port} tcp_nodelay=1
# The gateway alone insists on an encrypted monitor, which takes the keys that are not used here.
ms_mon_client_mode = crc
rgw_thread_pool_size = 64
rgw_dynamic_resharding = false
rgw_run_sync_thread = false
# Seconds until the space of deleted objects is free; by default hours.
rgw_gc_obj_min_wait = 120
rgw_gc_processor_period = 120
"""


@dataclass(frozen=True, slots=True)
class S3Access:
    """How the local S3 server is reached."""

    settings: S3Settings
    """Endpoint and key, as the rest of dfpipe takes them."""
    credentials: Path
    """File with the key, in the form that AWS tools read (``AWS_SHARED_CREDENTIALS_FILE``)."""


def missing_programs() -> list[str]:
    """Return the programs of the S3 server that are not installed here."""
    return [name for name in PROGRAMS if _which(name) is None]


def s3_access(state: Path) -> S3Access:
    """Return how the running server of this state folder is reached.

    Raises
    ------
    ServiceError
        It does not run.
    """
    state = state.resolve()
    running = look_up(state, S3)
    if running is None:
        raise ServiceError(f"no S3 server of {state} answers; start it with `dfpipe up --s3`")
    return S3Access(settings=_settings(state, running.url), credentials=_credentials_of(state))


def begin_s3(state: Path, port: int, *, buckets: Sequence[str] = ()) -> Iterator[None]:
    """Start the server with the objects that it had, and create the buckets that it lacks.

    Raises
    ------
    ServiceError
        Programs that are not installed, or one that ended while starting.
    """
    if missing := missing_programs():
        raise ServiceError(f"the S3 server needs {', '.join(missing)}, not found here; run `{INSTALL}` as root")
    yield from _Cluster(state, port).begin(buckets)


class _Cluster:
    def __init__(self, state: Path, port: int) -> None:
        self.state = state
        self.home = state / "s3"
        self.port = port
        self.environment = {**inherited(without="CEPH_"), "LC_ALL": "C.UTF-8"}

    def begin(self, buckets: Sequence[str]) -> Iterator[None]:
        self.home.mkdir(parents=True, exist_ok=True)
        self.home.chmod(0o700)
        monitor = recall(self.state, "s3-mon")
        if monitor is None:
            mon_port = unused_port(avoid=(self.port,))
            yield from self._configure(mon_port)
        else:
            mon_port = monitor.port
        yield from keep(self.state, self._daemon("s3-mon", mon_port, "ceph-mon", "-f", "-i", "a"))
        if recall(self.state, "s3-osd") is None:
            yield from self._make_disk()
            # After a crash the monitor still takes the dead one for alive, and the gateway would stall on it.
            yield from self._run("s3-mon", "ceph", "osd", "down", "0")
        yield from keep(self.state, self._daemon("s3-osd", mon_port, "ceph-osd", "-f", "-i", "0"))
        yield from self._make_key()
        if recall(self.state, "s3") is None:
            yield from self._cut_off_dead_gateway()
        gateway = self._daemon("s3", self.port, "radosgw", "-f", "-n", "client.rgw.s3")
        yield from keep(self.state, gateway, health=S3.health)
        yield from self._create_buckets(buckets)

    def _daemon(self, name: str, port: int, program: str, *arguments: str) -> Daemon:
        return Daemon(
            name=name,
            argv=(_path_of(program), *arguments, *CONFIGURED),
            environment=self.environment,
            folder=self.home,
            port=port,
            url=f"http://{HOST}:{port}",
        )

    def _configure(self, mon_port: int) -> Iterator[None]:
        # Written anew at every start: the ports are free ones.
        identity = self.home / "fsid"
        fsid = identity.read_text(encoding="ascii") if identity.exists() else str(uuid.uuid4())
        (self.home / "ceph.conf").write_text(
            CONFIGURATION.format(fsid=fsid, host=HOST, mon_port=mon_port, port=self.port, disk_bytes=DISK_BYTES),
            encoding="utf-8",
        )
        for folder in ("crash", "rgw"):
            (self.home / folder).mkdir(exist_ok=True)
        address = f"[v2:{HOST}:{mon_port}/0]"
        map_file = "monmap"
        yield from self._run(
            None, "monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, map_file
        )
        if identity.exists():
            yield from self._run(None, "ceph-mon", "-i", "a", "--inject-monmap", map_file)
        else:
            shutil.rmtree(self.home / "mon", ignore_errors=True)
            yield from self._run(None, "ceph-mon", "-i", "a", "--mkfs", "--monmap", map_file)
            # Last, so that what was interrupted is made again.
            identity.write_text(fsid, encoding="ascii")

    def _make_disk(self) -> Iterator[None]:
        made = self.home / "disk-made"
        if made.exists():
            return
        shutil.rmtree(self.home / "osd", ignore_errors=True)
        (self.home / "osd").mkdir()
        # The same at each attempt: the monitor keeps the one it was told first.
        fsid = (self.home / "fsid").read_text(encoding="ascii")
        disk = str(uuid.uuid5(uuid.UUID(fsid), "osd.0"))
        yield from self._run("s3-mon", "ceph", "osd", "new", disk, "0")
        yield from self._run(None, "ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        made.touch()

    def _make_key(self) -> Iterator[None]:
        file = _credentials_of(self.state)
        if file.exists():
            return
        # The server draws the key and prints it; in a command line everybody could read it.
        create = ("user", "create", f"--uid={USER}", f"--display-name={USER}", "--max-buckets=0")
        text = yield from self._run("s3-osd", "radosgw-admin", *create)
        key = json.loads(text)["keys"][0]
        partial = file.with_suffix(".partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as output:
            output.write(
                f"[default]\naws_access_key_id = {key['access_key']}\naws_secret_access_key = {key['secret_key']}\n"
            )
        partial.replace(file)

    def _cut_off_dead_gateway(self) -> Iterator[None]:
        # For 30 s a killed gateway counts as listening, and each new bucket waits 10 s for its answer.
        listening = ("rados", "-p", "default.rgw.control", "listwatchers", "notify.0")
        text = yield from self._run("s3-osd", *listening, may_fail=True)
        for line in text.splitlines():
            address = line.removeprefix("watcher=").split()[0]
            yield from self._run("s3-mon", "ceph", "osd", "blocklist", "add", address, "120")

    def _create_buckets(self, buckets: Sequence[str]) -> Iterator[None]:
        import boto3  # noqa: PLC0415  # a fifth of a second that only this needs
        from botocore.config import Config  # noqa: PLC0415
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        access = _settings(self.state, f"http://{HOST}:{self.port}")
        secret = access.secret_access_key
        client = boto3.client(
            "s3",
            endpoint_url=access.endpoint_url,
            region_name=access.region,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            config=Config(s3={"addressing_style": "path"}, proxies={}, retries={"total_max_attempts": 3}),
        )
        try:
            for bucket in buckets:
                client.create_bucket(Bucket=bucket)
                yield
            # Also without buckets: the key must be good before anybody is told of it.
            client.list_buckets()
        except (BotoCoreError, ClientError, ValueError) as error:
            raise ServiceError(f"the S3 server runs but its buckets could not be made: {error}") from error
        finally:
            client.close()

    def _run(
        self, needs: str | None, program: str, *arguments: str, may_fail: bool = False
    ) -> Generator[None, None, str]:
        # Run a tool to its end and return what it printed; the daemon that it needs may die meanwhile.
        with tempfile.TemporaryFile("w+", encoding="utf-8") as output, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                (_path_of(program), *arguments, *(() if program == "monmaptool" else CONFIGURED)),
                cwd=self.home,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
            try:
                while process.poll() is None:
                    if needs is not None:
                        expect_running(self.state, needs)
                    yield
            finally:
                process.kill()
                process.wait()
            output.seek(0)
            errors.seek(0)
            text = output.read()
            if process.returncode != 0 and not may_fail:
                said = telling_line(errors.read())
                raise ServiceError(f"making the S3 server failed in `{program} {arguments[0]}`: {said}")
            return text if process.returncode == 0 else ""


def _settings(state: Path, url: str) -> S3Settings:
    credentials = configparser.ConfigParser(interpolation=None)
    credentials.read(_credentials_of(state), encoding="utf-8")
    section = credentials["default"]
    return S3Settings(
        endpoint_url=url,
        region=REGION,
        access_key_id=section["aws_access_key_id"],
        secret_access_key=SecretStr(section["aws_secret_access_key"]),
    )


def _credentials_of(state: Path) -> Path:
    return state / "s3" / "credentials"


def _which(program: str) -> str | None:
    # Debian keeps some of them where only root's PATH looks.
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin")))


def _path_of(program: str) -> str:
    path = _which(program)
    if path is None:
        raise ServiceError(f"{program} is not installed; run `{INSTALL}` as root")
    return path
