"""The servers of `dfpipe up` as a team has them: PostgreSQL, TLS, passwords; all real, and refusing who has none."""

import base64
import datetime
import gc
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg2
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from dfpipe.engine import open_engine
from dfpipe.errors import ServiceError, SettingsError
from dfpipe.services import down, up
from dfpipe.settings import DaskSettings, MlflowSettings, PrefectSettings, TlsSettings
from dfpipe.synth import write_dataset
from dfpipe.testing import free_port, require_service, wait_for
from dfpipe.tracking import find_tracking, open_tracking

pytestmark = [pytest.mark.services, pytest.mark.slow]

HUSH = f"hush0secret{uuid4().hex}"
NOBODY_KNOWS = "hush0secret"


def dfpipe(*arguments, cwd, **variables):
    return subprocess.run(
        [sys.executable, "-m", "dfpipe.cli", *arguments],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def make_authority(folder):
    """An authority of one's own, and one certificate of it that scheduler, workers and clients share."""
    folder.mkdir()
    now = datetime.datetime.now(datetime.UTC)
    pem = serialization.Encoding.PEM

    def sign(subject, key, issuer_key, *, is_authority):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        builder = x509.CertificateBuilder(
            issuer_name=x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")]),
            subject_name=name,
            public_key=key.public_key(),
            serial_number=x509.random_serial_number(),
            not_valid_before=now - datetime.timedelta(days=1),
            not_valid_after=now + datetime.timedelta(days=1),
        ).add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
        return builder.sign(issuer_key, hashes.SHA256()).public_bytes(pem)

    authority, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / "ca.pem").write_bytes(sign("authority", authority, authority, is_authority=True))
    (folder / "cert.pem").write_bytes(sign("dask", key, authority, is_authority=False))
    plain = serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    return TlsSettings(ca_file=folder / "ca.pem", cert=folder / "cert.pem", key=folder / "key.pem")


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    return make_authority(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def databases():
    """URLs of two databases of a PostgreSQL server, which lets in one user by password."""
    programs = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), None)
    if programs is None:
        require_service("PostgreSQL is not installed")
    # It refuses to be run by root, and its user may not look into the folders of pytest.
    user = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    home = Path(tempfile.mkdtemp(prefix="dfpipe-postgresql-"))
    (home / "password").write_text(HUSH)
    os.chown(home, user.pw_uid, user.pw_gid)
    os.chown(home / "password", user.pw_uid, user.pw_gid)
    port = free_port()
    options = {"cwd": home, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    options |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    made = ["--pgdata=data", "--username=dfpipe", "--pwfile=password", "--auth=scram-sha-256", "--no-sync"]
    subprocess.run([programs / "initdb", *made], check=True, **options)
    server = subprocess.Popen(
        [
            *(programs / "postgres", "-D", "data", "-p", str(port), "-c", "listen_addresses=127.0.0.1"),
            *("-c", "unix_socket_directories=", "-c", "fsync=off"),
        ],
        **options,
    )

    def url(database):
        return f"postgresql://dfpipe:{HUSH}@127.0.0.1:{port}/{database}"

    def answers():
        try:
            psycopg2.connect(url("postgres")).close()
        except psycopg2.OperationalError:
            assert server.poll() is None
            return False
        return True

    try:
        wait_for(answers, "PostgreSQL")
        with closing(psycopg2.connect(url("postgres"))) as connection:
            connection.autocommit = True
            for name in ("mlflow", "prefect"):
                connection.cursor().execute(f"CREATE DATABASE {name}")
        yield {"mlflow": url("mlflow"), "prefect": url("prefect")}
    finally:
        # Asked politely it would wait for the last of its clients to go.
        server.send_signal(signal.SIGINT)
        server.wait()
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tls, databases):
    """A folder with a settings file that names all of it."""
    folder = tmp_path_factory.mktemp("team")
    write_dataset(folder / "videos", num_identities=2, seed=3, jobs=1)
    settings = {
        "source": "videos",
        "store": "store",
        "state": "state",
        "mlflow": {"tracking_uri": databases["mlflow"]},
        "prefect": {"database_url": databases["prefect"], "auth": f"team:{HUSH}"},
        "dask": {"workers": 2, "tls": {name: str(file) for name, file in tls}},
    }
    (folder / "dfpipe.yaml").write_text(yaml.safe_dump(settings))
    return folder


PORTS = ("--prefect-port", "--mlflow-port", "--dask-port")


@pytest.fixture(scope="module")
def servers(folder):
    ports = [part for option in PORTS for part in (option, str(free_port()))]
    started = dfpipe("up", "--dask", "--json", *ports, cwd=folder)
    try:
        assert started.returncode == 0, started.stderr
        assert HUSH not in started.stdout + started.stderr
        yield {service["name"]: service for service in json.loads(started.stdout)}
    finally:
        ended = dfpipe("down", "--json", cwd=folder)
    assert json.loads(ended.stdout) == ["dask", "prefect", "mlflow"]


def all_of(servers, folder):
    sessions = [json.loads(file.read_text())["pid"] for file in (folder / "state" / "run").glob("*.json")]
    assert len(sessions) == len(servers) + 1  # the workers have a record of their own
    return [process for process in psutil.process_iter() if os.getsid(process.pid) in sessions]


def test_nothing_that_others_can_read_holds_a_password(servers, folder, databases):
    lines = [" ".join(process.cmdline()) for process in all_of(servers, folder)]
    assert len(lines) >= 6
    logs = [file.read_text(errors="replace") for file in (folder / "state").rglob("*.log")]
    records = [file.read_text() for file in (folder / "state" / "run").glob("*.json")]
    told = [dfpipe(*command, cwd=folder) for command in (("config",), ("doctor",))]
    assert "**********" in told[0].stdout
    for text in (*lines, *logs, *records, *(one.stdout + one.stderr for one in told)):
        assert NOBODY_KNOWS not in text
    # A database that does not let us in is one line, and it tells no password either.
    wrong = databases["prefect"].replace(HUSH, NOBODY_KNOWS)
    with pytest.raises(ServiceError, match=r"cannot open the database of MLflow .*authentication failed") as caught:
        open_tracking(MlflowSettings(tracking_uri=wrong), state=folder, artifact_root=str(folder))
    assert NOBODY_KNOWS not in str(caught.value)
    settings = PrefectSettings(database_url=SecretStr(wrong))
    with pytest.raises(ServiceError, match=r"prefect ended while starting: .*authentication failed") as caught:
        up(folder / "other", ["prefect"], mlflow_backend="", artifact_root="", prefect=settings)
    assert NOBODY_KNOWS not in str(caught.value) + (folder / "other" / "logs" / "prefect.log").read_text()
    assert down(folder / "other") == []


def test_all_of_them_listen_on_this_machine_only(servers, folder):
    listening = {
        (process.pid, one.laddr.ip)
        for process in all_of(servers, folder)
        for one in process.net_connections("inet")
        if one.status == psutil.CONN_LISTEN
    }
    # Scheduler, the process that starts the workers, two workers, Prefect and MLflow.
    assert len({pid for pid, _ in listening}) >= 6
    assert {address for _, address in listening} == {"127.0.0.1"}


def test_a_second_start_leaves_them_alone(servers, folder):
    before = {process.pid for process in all_of(servers, folder)}
    again = json.loads(dfpipe("up", "--dask", "--json", cwd=folder).stdout)
    assert {service["name"]: service["pid"] for service in again} == {
        name: service["pid"] for name, service in servers.items()
    }
    assert {service["startup_seconds"] for service in again} == {None}
    assert {process.pid for process in all_of(servers, folder)} == before


def environment_of(_, name):
    import dask

    return os.environ.get(name), dask.config.get("distributed.comm.require-encryption"), os.getpid()


def test_dask_lets_in_who_has_a_certificate(servers, folder, tls, tmp_path):
    address = servers["dask"]["url"]
    assert address.startswith("tls://127.0.0.1:")
    with open_engine(DaskSettings(scheduler=address, tls=tls, patience_seconds=60)) as engine:
        assert (engine.workers, engine.threads) == (2, 2)
        workers = engine._client.scheduler_info(n_workers=-1)["workers"].values()
        assert {worker["resources"]["memory_bytes"] == worker["memory_limit"] for worker in workers} == {True}
        scheduler = engine._client.run_on_scheduler(
            lambda dask_scheduler: (dask_scheduler.allowed_failures, dask_scheduler.WORKER_SATURATION)
        )
        assert scheduler == (0, 1.0)
        told = list(engine.run(environment_of, ["OPENCV_FOR_THREADS_NUM"] * 8))
        assert {(threads, encrypted) for threads, encrypted, _ in told} == {("1", True)}
    strangers = make_authority(tmp_path / "theirs")

    def refuses(error, match, address, tls):
        with pytest.raises(error, match=match):
            open_engine(DaskSettings(scheduler=address, tls=tls)).__enter__()
        # A Dask client that never came up closes itself when it is collected, which hangs inside the start of another.
        gc.collect()

    refuses(ServiceError, r"do not trust each other .* use those of one authority", address, strangers)
    refuses(ServiceError, r"asks for certificates and none are set; set dask.tls", address, None)
    plain = address.replace("tls", "tcp")
    with pytest.raises(ValueError, match="expected one with tls://"):
        DaskSettings(scheduler=plain, tls=tls)
    refuses(ServiceError, r"no Dask scheduler answers .* with dask.tls set", plain, None)
    none = tls.model_copy(update={"key": tmp_path / "none.pem"})
    refuses(SettingsError, r"dask.tls.key got .*none.pem'.*No such file", address, none)
    mixed = tls.model_copy(update={"key": strangers.key})
    refuses(SettingsError, r"no certificates with their key .*MISMATCH", address, mixed)


def test_workers_of_the_run_itself_speak_tls_too(tls):
    with open_engine(DaskSettings(workers=1, tls=tls)) as engine:
        assert engine._client.scheduler.address.startswith("tls://")
        assert list(engine.run(lambda _, item: item + 1, [1])) == [2]


def test_a_run_goes_through_all_of_it(servers, folder, databases):
    refused = dfpipe("run", "--until=faces", "--set=prefect.auth=team:other", cwd=folder)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "does not let us in; set prefect.auth" in refused.stderr
    done = dfpipe("run", "--until=faces", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert HUSH not in done.stdout + done.stderr
    assert f"dashboard at {servers['dask']['pages']}/status" in done.stderr
    with closing(psycopg2.connect(databases["prefect"])) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT state_type, parameters::text FROM flow_run")
        runs = cursor.fetchall()
    assert {state for state, _ in runs} == {"COMPLETED"}
    assert NOBODY_KNOWS not in str(runs)
    asked = urllib.request.Request(f"{servers['prefect']['url']}/api/flow_runs/count", b"{}")
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(asked)
    asked.add_header("Authorization", f"Basic {base64.b64encode(f'team:{HUSH}'.encode()).decode()}")
    assert int(urllib.request.urlopen(asked).read()) == len(runs)


def test_mlflow_shows_what_was_written_to_postgresql(servers, folder, databases):
    where = {"state": folder / "state", "artifact_root": str(folder / "store" / "mlflow")}
    settings = MlflowSettings(tracking_uri=databases["mlflow"])
    assert find_tracking(settings, **where) is None
    tracking = open_tracking(settings, **where)
    run = tracking.client.create_run(tracking.experiment_id).info.run_id
    tracking.client.log_metric(run, "auc", 0.5)
    # A second process finds what the first one made.
    assert find_tracking(settings, **where).experiment_id == tracking.experiment_id
    url = f"{servers['mlflow']['url']}/api/2.0/mlflow/runs/get?run_id={run}"
    with urllib.request.urlopen(url, timeout=60) as answer:
        assert json.loads(answer.read())["run"]["data"]["metrics"][0]["value"] == 0.5


def test_a_missing_driver_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    settings = MlflowSettings(tracking_uri=f"postgresql://me:{NOBODY_KNOWS}@127.0.0.1/mlflow")
    with pytest.raises(ServiceError, match=r"pip install 'dfpipe\[postgresql\]'") as caught:
        open_tracking(settings, state=tmp_path, artifact_root=str(tmp_path))
    assert NOBODY_KNOWS not in str(caught.value)


def test_mlflow_lets_in_who_has_a_password(tmp_path, monkeypatch):
    if find_spec("flask_wtf") is None:
        require_service("Flask-WTF is not installed")
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    login = MlflowSettings(username="team", password=SecretStr(HUSH))
    root = str(tmp_path / "artifacts")
    database = f"sqlite:///{tmp_path}/mlflow.db"
    try:
        (server,) = up(
            tmp_path / "state",
            ["mlflow"],
            mlflow_backend=database,
            artifact_root=root,
            mlflow=login,
            ports={"mlflow": free_port()},
        )
        for settings in (
            MlflowSettings(tracking_uri=server.url),
            MlflowSettings(tracking_uri=server.url, username="team", password=SecretStr(f"{NOBODY_KNOWS}-other")),
        ):
            with pytest.raises(ServiceError, match=r"does not let us in; set mlflow.username") as caught:
                open_tracking(settings, state=tmp_path, artifact_root=root)
            assert NOBODY_KNOWS not in str(caught.value)
            assert "\n" not in str(caught.value)
        tracking = open_tracking(
            login.model_copy(update={"tracking_uri": server.url}), state=tmp_path, artifact_root=root
        )
        run = tracking.client.create_run(tracking.experiment_id).info.run_id
        assert tracking.client.get_run(run).info.status == "RUNNING"
        [process] = [one for one in psutil.process_iter() if one.pid == server.pid]
        assert HUSH not in " ".join(process.cmdline()) + server.log.read_text()
    finally:
        down(tmp_path / "state")
