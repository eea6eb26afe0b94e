"""The real Prefect and MLflow servers, as a browser and a training meet them."""

import http.client
import json
import socket
import urllib.request
from pathlib import Path

import mlflow
import pytest

from dfpipe.errors import ServiceError
from dfpipe.services import down, find, up
from dfpipe.testing import free_port

pytestmark = [pytest.mark.services, pytest.mark.slow]


def session_of(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def listening_on(port):
    # Local addresses in hexadecimal, the bytes of the address in reverse; state 0A is listening.
    rows = [row.split() for table in ("tcp", "tcp6") for row in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    return {row[1].partition(":")[0] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}


def fetch(url, *, host=None, body=None):
    headers = {"Content-Type": "application/json"} | ({"Host": host} if host else {})
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read()


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    state = tmp_path_factory.mktemp("state")
    return {
        "state": state,
        "names": ["prefect", "mlflow"],
        "mlflow_backend": f"sqlite:///{state}/mlflow/mlflow.db",
        "artifact_root": str(state / "store" / "mlflow"),
        "ports": {"prefect": free_port(), "mlflow": free_port()},
    }


@pytest.fixture(scope="module")
def servers(options):
    waited = []
    statuses = {
        status.name: status for status in up(**options, on_wait=lambda names, seconds: waited.append(tuple(names)))
    }
    # At the same time, not one after the other.
    assert waited[0] == ("prefect", "mlflow")
    yield statuses
    assert down(options["state"]) == ["prefect", "mlflow"]
    for status in statuses.values():
        assert session_of(status.pid) == []
        assert listening_on(status.port) == set()
    assert down(options["state"]) == []


def test_they_listen_where_asked_and_on_this_machine_only(servers, options):
    for status in servers.values():
        assert status.port == options["ports"][status.name]
        assert listening_on(status.port) == {"0100007F"}


def test_a_second_start_finds_them(servers, options):
    again = up(**options)
    assert [(status.name, status.pid, status.startup_seconds) for status in again] == [
        ("prefect", servers["prefect"].pid, None),
        ("mlflow", servers["mlflow"].pid, None),
    ]
    assert find(options["state"], "mlflow").url == servers["mlflow"].url


def test_everything_is_written_below_the_state_folder(servers, options):
    state = options["state"]
    assert (state / "prefect" / "prefect.db").exists()
    assert (state / "prefect" / "ui" / "v1" / "index.html").exists()
    assert (state / "mlflow" / "mlflow.db").exists()
    assert {file.name for file in (state / "logs").iterdir()} == {"prefect.log", "mlflow.log"}


def test_prefects_pages_know_their_api(servers):
    settings = json.loads(fetch(f"{servers['prefect'].url}/ui-settings"))
    assert settings["api_url"] == f"{servers['prefect'].url}/api"
    assert settings["default_ui"] == "v1"
    told = json.loads(fetch(f"{servers['prefect'].url}/api/admin/settings"))
    assert told["server"]["analytics_enabled"] is False


# MLflow's database client uses what SQLAlchemy means to drop.
def test_mlflow_shows_what_a_training_wrote_to_the_database(servers, options):
    client = mlflow.MlflowClient(options["mlflow_backend"])
    experiment = client.create_experiment("trained", artifact_location=f"{options['artifact_root']}/trained")
    run = client.create_run(experiment).info.run_id
    client.log_text(run, "seen", "report.txt")
    url = servers["mlflow"].url
    assert fetch(f"{url}/get-artifact?path=report.txt&run_uuid={run}") == b"seen"
    made = json.loads(fetch(f"{url}/api/2.0/mlflow/experiments/create", body={"name": "made by the server"}))
    (experiment,) = (one for one in client.search_experiments() if one.experiment_id == made["experiment_id"])
    assert experiment.artifact_location.startswith(options["artifact_root"])


def test_mlflow_answers_this_machine_and_no_other_name(servers):
    port = servers["mlflow"].port
    assert fetch(f"http://localhost:{port}/", host=f"localhost:{port}")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", "/", headers={"Host": "elsewhere.example"})
    assert connection.getresponse().status == 403
    connection.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_pages_open_in_a_browser_and_talk_to_nobody_else(servers, host, chromium):
    asked = []
    page = chromium.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"http://{host}:{servers['prefect'].port}/")
    page.get_by_text("Run a task or flow to get started").wait_for(timeout=60_000)
    page.goto(f"http://{host}:{servers['mlflow'].port}/#/experiments")
    page.get_by_text("Default").first.wait_for(timeout=60_000)
    addresses = ("http://127.0.0.1:", "http://localhost:", "data:", "blob:")
    assert [url for url in asked if not url.startswith(addresses)] == []


def test_a_start_that_fails_names_the_reason(servers, options, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServiceError, match=f"port {port} for prefect is taken"):
            up(**options | {"state": tmp_path, "ports": {"prefect": port}})
    with pytest.raises(ServiceError, match=r"mlflow ended while starting: .*nonsense"):
        up(**options | {"state": tmp_path, "names": ["mlflow"], "mlflow_backend": "nonsense://", "ports": None})
    assert down(tmp_path) == []
