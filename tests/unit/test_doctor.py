"""The doctor names what is wrong and what to do, changes nothing and never raises."""

import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dfpipe import doctor
from dfpipe.doctor import examine, usable_memory_bytes
from dfpipe.settings import load_settings
from dfpipe.testing import free_port


@pytest.fixture(autouse=True)
def no_prefect_elsewhere(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


@pytest.fixture
def ask(tmp_path):
    def ask(*overrides):
        paths = (f"state={tmp_path / 'state'}", f"store={tmp_path / 'store'}")
        settings = load_settings(overrides=[*paths, *overrides], environ={})
        return {finding.name: finding for finding in examine(settings)}

    return ask


@pytest.fixture
def api():
    class Api(BaseHTTPRequestHandler):
        def do_GET(self):
            statuses = {"/api/health": 200, "/health": 200, "/secret/health": 401}
            self.send_response(statuses.get(self.path, 500))
            self.end_headers()

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_a_fresh_machine_is_well_and_stays_untouched(ask, tmp_path):
    findings = ask()
    assert [name for name, finding in findings.items() if finding.ok is False] == []
    assert all("\n" not in finding.detail + finding.advice for finding in findings.values())
    assert "still to be made" in findings["store"].detail
    assert findings["source"].ok is None
    assert "set source" in findings["source"].advice
    assert list(tmp_path.iterdir()) == []


def test_a_standing_store_is_written_and_left_as_it_was(ask, tmp_path):
    (tmp_path / "store").mkdir()
    assert ask()["store"].ok
    assert list((tmp_path / "store").iterdir()) == []


def test_a_store_that_cannot_be_written(ask, tmp_path):
    (tmp_path / "store").write_text("a file")
    finding = ask()["store"]
    assert finding.ok is False
    assert str(tmp_path / "store") in finding.detail
    assert finding.advice


def test_source(ask, tmp_path):
    assert ask(f"source={tmp_path}")["source"].ok
    finding = ask(f"source={tmp_path / 'absent'}")["source"]
    assert finding.ok is False
    assert "absent: no such file or folder" in finding.detail
    assert "expected a local path or an s3:// URL" in ask("source=ftp://there")["source"].detail


@pytest.mark.parametrize(("setting", "path"), [("prefect.api_url", "/api"), ("mlflow.tracking_uri", "")])
def test_servers_that_answer_and_that_do_not(ask, api, setting, path):
    name = setting.partition(".")[0]
    assert ask(f"{setting}={api}{path}")[name].ok
    assert ask(f"{setting}={api}/secret")[name].ok  # asks for a password, so it is there
    assert "answers 500" in ask(f"{setting}={api}/broken")[name].detail
    absent = ask(f"{setting}=http://user:word@127.0.0.1:{free_port()}")[name]
    assert absent.ok is False
    assert setting in absent.advice
    assert "word" not in absent.detail


def test_the_api_in_the_environment_is_asked(ask, api, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", f"{api}/api")
    assert ask()["prefect"].ok


def test_dask(ask):
    with closing(socket.create_server(("127.0.0.1", 0))) as scheduler:
        assert ask(f"dask.scheduler=tcp://127.0.0.1:{scheduler.getsockname()[1]}")["dask"].ok
    assert ask(f"dask.scheduler=tcp://127.0.0.1:{free_port()}")["dask"].ok is False
    assert ask()["dask"].ok is None


def test_missing_programs_are_no_fault(ask, monkeypatch):
    monkeypatch.setattr(doctor, "missing_programs", lambda: ["radosgw"])
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    findings = ask()
    assert {findings[name].ok for name in ("s3 server", "ffmpeg", "chromium")} == {None}
    assert "radosgw" in findings["s3 server"].detail


def test_a_missing_package_is_named(ask, monkeypatch):
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: ["prefect>=3", "no-such-package>=1"])
    assert ask()["packages"].detail == "missing: no-such-package"


def test_whatever_breaks_becomes_a_finding(ask, monkeypatch):
    def broken():
        raise ZeroDivisionError("of\nnote")

    monkeypatch.setattr(doctor, "_cores", broken)
    assert ask()["cores"].detail == "ZeroDivisionError: of note"


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("", {}, 8 * 2**30),
        ("0::/a/b\n", {"a/memory.max": "1073741824\n", "a/b/memory.max": "max\n"}, 2**30),
        ("0::/not/seen\n", {"memory.max": "2147483648\n"}, 2**31),
        ("4:memory:/a\n", {"memory/a/memory.limit_in_bytes": "3221225472\n"}, 3 * 2**30),
        ("4:memory:/\n0::/\n", {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, 8 * 2**30),
    ],
)
def test_memory_is_what_the_control_group_leaves(tmp_path, groups, files, expected):
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/meminfo").write_text("MemTotal:        8388608 kB\nMemFree: 1 kB\n")
    (tmp_path / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        file = tmp_path / "sys/fs/cgroup" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert usable_memory_bytes(root=tmp_path) == expected


def test_weights_that_are_optional_are_no_fault_until_they_are_damaged(ask, tmp_path, monkeypatch):
    monkeypatch.setenv("DFPIPE_MODELS", str(tmp_path / "models"))
    assert ask()["retinaface weights"].ok is None
    assert "dfpipe models fetch retinaface" in ask()["retinaface weights"].advice
    assert "commercial" not in ask()["retinaface weights"].detail
    assert ask()["dlib weights"].detail == "not fetched; not for commercial use (learned from iBUG 300-W)"
    (tmp_path / "models").mkdir()
    (tmp_path / "models/retinaface-frozen_graph.pb").write_bytes(b"half of it")
    assert ask()["retinaface weights"].ok is False
    assert "dfpipe models fetch retinaface" in ask()["retinaface weights"].advice
