"""The process manager, on real servers of a few lines."""

import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from contextlib import closing, suppress
from pathlib import Path

import psutil
import pytest

from dfpipe.errors import ServiceError
from dfpipe.services import down
from dfpipe.services._daemon import Daemon, halt, launch, log_of, recall, telling_line
from dfpipe.services._environment import inherited
from dfpipe.services._manager import Service, bring_up, keep, look_up, take_down
from dfpipe.testing import free_port

SERVER = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
STUBBORN_WORKER = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("worker").touch()
time.sleep(600)
"""
WITH_WORKER = f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {STUBBORN_WORKER!r}])\n{SERVER}"


def kind(name="web"):
    return Service(name=name, port=free_port(), health="/", daemons=(name,))


def daemon(state, name, port, code=SERVER):
    return Daemon(
        name=name,
        argv=(sys.executable, "-c", code, str(port)),
        environment=dict(os.environ),
        folder=state / name,
        port=port,
        url=f"http://127.0.0.1:{port}",
    )


def running(service, code=SERVER):
    def begin(state, port):
        yield from keep(state, daemon(state, service.name, port, code), health=service.health)

    return {service: begin}


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return probe.connect_ex(("127.0.0.1", port)) != 0


def session_of(pid):
    members = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            if os.getsid(process.pid) == pid and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process.pid)
    return members


def until(condition):
    patience = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.01)


@pytest.fixture
def state(tmp_path):
    yield tmp_path
    for record in (tmp_path / "run").glob("*.json"):
        halt(tmp_path, record.stem, patience_seconds=0)


def test_a_server_comes_up_once_and_goes_whole(state):
    web = kind()
    (first,) = bring_up(state, running(web))
    assert urllib.request.urlopen(first.url).status == 200
    assert first.startup_seconds > 0
    assert os.getsid(first.pid) == first.pid  # not ours: it outlives the terminal
    (second,) = bring_up(state, running(web))
    assert (second.pid, second.url, second.startup_seconds) == (first.pid, first.url, None)
    assert look_up(state, web).pid == first.pid

    assert take_down(state, [web]) == ["web"]
    assert session_of(first.pid) == []
    assert is_free(first.port)
    assert look_up(state, web) is None
    assert take_down(state, [web]) == []


def test_the_usual_port_if_free_else_another(state):
    web = kind()
    with closing(socket.create_server(("127.0.0.1", web.port))):
        (status,) = bring_up(state, running(web))
        assert status.port != web.port
    take_down(state, [web])
    (status,) = bring_up(state, running(web))
    assert status.port == web.port


def test_a_taken_port_is_refused_before_anything_starts(state):
    web, other = kind(), kind("other")
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=rf"port {port} for web is taken .* choose another"):
            bring_up(state, running(other) | running(web), ports={"web": port})
    assert recall(state, "other") is None
    with pytest.raises(ServiceError, match="asked for twice"):
        bring_up(state, running(other) | running(web), ports={"web": web.port, "other": web.port})


def test_a_running_server_is_not_moved(state):
    web = kind()
    (status,) = bring_up(state, running(web))
    with pytest.raises(ServiceError, match=f"already runs on port {status.port}"):
        bring_up(state, running(web), ports={"web": free_port()})
    assert look_up(state, web).pid == status.pid


def test_a_server_that_dies_says_why_and_takes_the_others_begun_with_it(state):
    before, web, broken = kind("before"), kind(), kind("broken")
    bring_up(state, running(before))
    code = (
        "import sys\nprint('starting')\nprint('\\x1b[31mdatabase error: locked\\x1b[0m', file=sys.stderr)\nprint('bye')"
    )
    with pytest.raises(ServiceError, match=r"broken ended while starting: database error: locked; .*broken\.log"):
        bring_up(state, running(before) | running(web) | running(broken, code))
    assert recall(state, "web") is None
    assert recall(state, "broken") is None
    assert look_up(state, before) is not None


def test_a_server_that_never_answers_is_ended(state):
    web = kind()
    with pytest.raises(ServiceError, match="web did not answer within 0 s"):
        bring_up(state, running(web, "import time; time.sleep(600)"), patience_seconds=0.3)
    assert recall(state, "web") is None


def test_an_interrupted_start_leaves_nothing(state):
    web, seen = kind(), []

    def interrupt(names, seconds):
        seen.append((list(names), recall(state, "web").pid))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring_up(state, running(web, "import time; time.sleep(600)"), on_wait=interrupt)
    ((names, pid),) = seen
    assert names == ["web"]
    assert session_of(pid) == []


def test_two_starts_at_once_make_one_server(state):
    web, pids = kind(), []
    threads = [threading.Thread(target=lambda: pids.append(bring_up(state, running(web))[0].pid)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pids) == 3
    assert len(set(pids)) == 1


@pytest.mark.parametrize("changed", [{"started": 1}, {"boot_id": "another"}])
def test_a_number_used_again_is_left_alone(state, changed):
    web = kind()
    record = launch(state, daemon(state, "web", free_port()))
    file = state / "run" / "web.json"
    true = json.loads(file.read_text())
    file.write_text(json.dumps(true | changed))
    assert recall(state, "web") is None
    assert take_down(state, [web]) == []
    assert session_of(record.pid) == [record.pid]
    file.write_text(json.dumps(true))


def test_workers_that_do_not_listen_are_forced(state):
    record = launch(state, daemon(state, "web", free_port(), WITH_WORKER))
    until((state / "web" / "worker").exists)
    assert len(session_of(record.pid)) == 2
    assert halt(state, "web", patience_seconds=0.3)
    assert session_of(record.pid) == []


def test_workers_of_a_dead_server_are_found(state):
    web = kind()
    record = launch(state, daemon(state, "web", web.port, WITH_WORKER))
    until((state / "web" / "worker").exists)
    os.kill(record.pid, signal.SIGKILL)
    os.waitpid(record.pid, 0)
    (worker,) = session_of(record.pid)
    assert recall(state, "web") is None
    assert halt(state, "web", patience_seconds=0.3)
    assert not Path(f"/proc/{worker}").exists() or session_of(record.pid) == []


def test_a_stranger_in_a_dead_servers_session_is_left_alone(state, tmp_path):
    record = launch(state, daemon(state, "web", free_port(), WITH_WORKER))
    until((state / "web" / "worker").exists)
    os.kill(record.pid, signal.SIGKILL)
    os.waitpid(record.pid, 0)
    # The same session seen from another state folder: the number fits, the mark does not.
    other = tmp_path / "other"
    (other / "run").mkdir(parents=True)
    (other / "run" / "web.json").write_text((state / "run" / "web.json").read_text())
    assert not halt(other, "web")
    assert len(session_of(record.pid)) == 1


def test_an_unreadable_record_ends_nothing(state):
    (state / "run").mkdir()
    for text in ("", "[]", '{"pid": 1}'):
        (state / "run" / "web.json").write_text(text)
        assert recall(state, "web") is None
        assert take_down(state, [kind()]) == []


def test_a_service_that_lost_a_program_is_not_taken_for_whole(state):
    pair = Service(name="web", port=free_port(), health="/", daemons=("web", "helper"))

    def begin(state, port):
        yield from keep(state, daemon(state, "web", port), health=pair.health)
        yield from keep(state, daemon(state, "helper", free_port()))

    (first,) = bring_up(state, {pair: begin})
    assert look_up(state, pair).pid == first.pid
    helper = recall(state, "helper")
    os.killpg(helper.pid, signal.SIGKILL)
    until(lambda: recall(state, "helper") is None)
    assert look_up(state, pair) is None
    (again,) = bring_up(state, {pair: begin})
    assert again.pid == first.pid  # only what was missing is started
    assert recall(state, "helper").pid != helper.pid
    assert take_down(state, [pair]) == ["web"]


def test_the_log_before_is_kept(state):
    for word in ("first", "second"):
        record = launch(state, daemon(state, "web", free_port(), f"print({word!r})"))
        until(lambda: not session_of(record.pid))  # noqa: B023
    assert log_of(state, "web").read_text() == "second\n"
    assert log_of(state, "web").with_suffix(".previous.log").read_text() == "first\n"


def test_ending_nothing_makes_no_folder(tmp_path):
    assert down(tmp_path / "absent") == []
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it said nothing"),
        ("\n \n", "it said nothing"),
        ("one\ntwo\n", "two"),
        ("ValueError: no\nServer stopped!\n", "ValueError: no"),
        ("\x1b[31mfailed\x1b[0m\n", "failed"),
        ("a.b.DbError: refused\nraise error\nERROR:    Startup failed.\nServer stopped!\n", "a.b.DbError: refused"),
        ("ERROR:    Startup failed.\nServer stopped!\n", "ERROR:    Startup failed."),
    ],
)
def test_telling_line(text, expected):
    assert telling_line(text) == expected


def test_a_users_own_settings_do_not_reach_a_server(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("AWS_PROFILE", "mine")
    environment = inherited(without="PREFECT_")
    assert "PREFECT_API_URL" not in environment
    assert environment["AWS_PROFILE"] == "mine"
