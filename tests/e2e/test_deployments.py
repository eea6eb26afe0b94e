"""What deployments/ promises, asked of a real Prefect server, a real worker and the runs that it starts."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil
import pytest
from deltalake import DeltaTable

from dfpipe.synth import write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.services]

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 240
NO_BLOCK = "00000000-0000-0000-0000-000000000000"
VIDEOS = 24


def wait_for(condition, what):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not (found := condition()):
        assert time.monotonic() < give_up, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.1)
    return found


@pytest.fixture(scope="module")
def environment(prefect_url, tmp_path_factory):
    return {
        **os.environ,
        "PREFECT_API_URL": prefect_url,
        "PREFECT_HOME": str(tmp_path_factory.mktemp("home")),
        # Runs import flows from the package that is tested.
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
        "PREFECT_WORKER_QUERY_SECONDS": "1",
    }


@pytest.fixture(scope="module")
def python(environment):
    """Runs Python with these arguments in the checkout."""

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=ROOT,
            env=environment,
            check=False,
            timeout=PATIENCE_SECONDS,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(scope="module")
def api(prefect_url):
    """Calls Prefect's API."""

    def call(path, body=None):
        request = urllib.request.Request(
            f"{prefect_url}{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        give_up = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                # Its database is locked by another writer for too long; nothing of the request was done.
                if error.code != HTTPStatus.SERVICE_UNAVAILABLE or time.monotonic() > give_up:
                    raise
                time.sleep(0.5)

    return call


@pytest.fixture(scope="module")
def deployed(python, api):
    """The pool, the store's queue and all deployments, as docs/schedules.md makes them."""
    python("-m", "prefect", "--no-prompt", "work-pool", "create", "dfpipe", "--type", "process")
    python("-m", "prefect", "--no-prompt", "work-queue", "create", "store", "--pool", "dfpipe", "--limit", "1")
    python("-m", "prefect", "--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    names = ("preprocess/extract", "train/train", "pipeline/pipeline", "maintenance/maintenance")
    return {name: api(f"/deployments/name/{name}") for name in names}


@pytest.fixture(scope="module")
def alerts(deployed, python, tmp_path_factory):
    """What the automations tell a webhook: their subjects."""
    told = []

    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self):
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["text"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Webhook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        block = python(
            "-c",
            "from prefect.blocks.notifications import CustomWebhookNotificationBlock as Block\n"
            f"url = 'http://127.0.0.1:{server.server_port}'\n"
            "hook = Block(name='dfpipe', url=url, json_data={'text': '{{subject}}'})\n"
            "print(hook.save('dfpipe-alerts', overwrite=True))",
        )
        told_to = (ROOT / "deployments" / "automations.yaml").read_text().replace(NO_BLOCK, block)
        file = tmp_path_factory.mktemp("automations") / "automations.yaml"
        # What is usual here is seconds.
        file.write_text(re.sub(r"within: (21600|14400)", "within: 10", told_to))
        python("-m", "prefect", "--no-prompt", "automation", "create", "--from-file", str(file))
        yield told
        server.shutdown()


@pytest.fixture(scope="module")
def worker(deployed, environment, tmp_path_factory):
    """A process worker of the pool; it and all that it started end with the tests."""
    folder = tmp_path_factory.mktemp("worker")
    command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "dfpipe", "--type", "process"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        ) as started,
    ):
        process = psutil.Process(started.pid)
        yield process
        family = process.children(recursive=True)
        process.terminate()
        psutil.wait_procs([process, *family], timeout=30)
        for one in [process, *family]:
            if one.is_running():
                one.kill()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    write_dataset(folder, num_identities=VIDEOS // 2, num_frames=(40, 60), heights=(360,), seed=5, jobs=2)
    return folder


@pytest.fixture
def start(api, deployed, videos, tmp_path):
    """Starts a run of a deployment through the API, on a store of one's own."""
    settings = {
        "source": str(videos),
        "store": str(tmp_path / "store"),
        "videos_per_shard": 2,
        "dask": {"workers": 1},
    }

    def run(name):
        body = {"parameters": {"settings": settings, "until": "faces"}}
        return api(f"/deployments/{deployed[name]['id']}/create_flow_run", body)["id"]

    return run


@pytest.fixture
def state(api):
    return lambda run: api(f"/flow_runs/{run}")["state"]["type"]


@pytest.fixture
def rows(tmp_path):
    def read(table):
        path = tmp_path / "store" / "tables" / table
        return DeltaTable(path).to_pyarrow_table().to_pylist() if (path / "_delta_log").exists() else []

    return read


def working(worker):
    """The flow's process, with its Dask workers and their children."""
    flows = [one for one in worker.children(recursive=True) if one.cmdline()[-2:] == ["-m", "prefect.engine"]]
    # The process of a run that has ended may take a while to end itself.
    flow = max(flows, key=psutil.Process.create_time)
    return flow, flow.children(recursive=True)


def all_gone(family):
    return not [one for one in family if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


def assert_each_once(rows, committed):
    """Every video stands once, and what was committed was not done again."""
    ledger = rows("videos")
    assert len(ledger) == len({row["video_id"] for row in ledger}) == VIDEOS
    assert committed.items() <= {row["video_id"]: row["finished_at"] for row in ledger}.items()
    faces = Counter(row["video_id"] for row in rows("faces"))
    assert faces == {row["video_id"]: row["faces_kept"] for row in ledger if row["faces_kept"]}


def test_every_deployment_is_accepted_and_its_parameters_are_a_form(deployed):
    for deployment in deployed.values():
        assert deployment["work_queue_name"] == "store"
        assert "dfpipe" in deployment["tags"]
        properties = deployment["parameter_openapi_schema"]["properties"]
        assert all(one.get("description") for one in properties.values()), properties
        crop = deployment["parameter_openapi_schema"]["definitions"]["CropSettings"]["properties"]["size_px"]
        assert crop["description"] == "Width and height of a stored crop in pixels."
    crons = {name: [one["schedule"]["cron"] for one in each["schedules"]] for name, each in deployed.items()}
    assert crons == {
        "preprocess/extract": ["0 2 * * *"],
        "train/train": ["0 6 * * 6"],
        "pipeline/pipeline": [],
        "maintenance/maintenance": ["0 5 * * 0"],
    }
    assert all(one["schedule"]["timezone"] for each in deployed.values() for one in each["schedules"])


def test_runs_of_a_store_queue_and_the_next_finishes_what_a_killed_one_left(api, alerts, worker, start, state, rows):
    killed = start("preprocess/extract")
    wait_for(lambda: state(killed) == "RUNNING", "the run's begin")
    following = start("pipeline/pipeline")
    wait_for(lambda: rows("videos"), "the first committed shard")
    flow, others = working(worker)
    # As a run that hangs does; how long it would take by itself depends on the machine.
    flow.send_signal(signal.SIGSTOP)
    wait_for(lambda: any("longer than usual" in one for one in alerts), "the alert of a run that takes long")
    wait_for(lambda: any("has not begun" in one for one in alerts), "the alert of a run that waits")
    # The worker has asked for work many times since.
    assert state(following) == "SCHEDULED"
    flow.send_signal(signal.SIGKILL)
    wait_for(lambda: state(killed) == "CRASHED", "the killed run's end")
    wait_for(lambda: all_gone(others), "the end of its Dask workers")
    committed = {row["video_id"]: row["finished_at"] for row in rows("videos")}
    assert 0 < len(committed) < VIDEOS

    wait_for(lambda: state(following) not in {"SCHEDULED", "PENDING", "RUNNING"}, "the following run's end")
    assert state(following) == "COMPLETED"
    assert_each_once(rows, committed)
    for key, whose in (("run-summary", "id"), ("preprocess-report", "parent_flow_run_id")):
        artifacts = api("/artifacts/filter", {"flow_runs": {whose: {"any_": [following]}}})
        assert key in {one["key"] for one in artifacts}
    wait_for(lambda: any("is Crashed" in one for one in alerts), "the alert of the crash")


def test_a_cancelled_run_stops_its_workers_and_the_next_one_is_clean(api, worker, start, state, rows):
    cancelled = start("preprocess/extract")
    wait_for(lambda: rows("videos"), "the first committed shard")
    flow, others = working(worker)
    api(f"/flow_runs/{cancelled}/set_state", {"state": {"type": "CANCELLING"}})
    wait_for(lambda: all_gone([flow, *others]), "the end of the flow and its Dask workers")
    wait_for(lambda: state(cancelled) == "CANCELLED", "the run's end")
    tasks = api("/task_runs/filter", {"task_runs": {}, "flow_runs": {"id": {"any_": [cancelled]}}})
    # What was broken off is not tried again while somebody waits for its end.
    assert all(one["run_count"] == 1 for one in tasks if one["state"]["type"] != "PENDING"), tasks
    committed = {row["video_id"]: row["finished_at"] for row in rows("videos")}
    assert 0 < len(committed) < VIDEOS

    again = start("preprocess/extract")
    wait_for(lambda: state(again) not in {"SCHEDULED", "PENDING", "RUNNING"}, "the next run's end")
    assert state(again) == "COMPLETED"
    assert_each_once(rows, committed)
