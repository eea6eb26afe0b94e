"""What a real run writes, read line by line."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from dfpipe.synth import write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.services]

MARK = "hush"
SECRETS = {
    "s3": {"access_key_id": "id", "secret_access_key": f"{MARK}-s3"},
    "mlflow": {
        "username": "me",
        "password": f"{MARK}-mlflow-password",
        "tracking_uri": f"http://me:{MARK}@127.0.0.1:1",
    },
    "dask": {
        "cluster": {
            "class_path": "distributed.LocalCluster",
            "options": {"n_workers": 1, "threads_per_worker": 1, "env": {"TOKEN": f"{MARK}-dask"}},
        }
    },
}


def messages_in_prefect(run_ids):
    from prefect import get_client
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    with get_client(sync_client=True) as client:
        found = client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=list(run_ids))))
    return [one.message for one in found]


def test_lines_have_ids_and_no_secrets(prefect_url, tmp_path):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    write_dataset(tmp_path / "videos", num_identities=2, num_frames=(12, 12), heights=(360,), jobs=2)
    broken = min((tmp_path / "videos").rglob("*.mp4"))
    broken.write_bytes(b"no video")
    settings = SECRETS | {
        "source": str(tmp_path / "videos"),
        "store": str(tmp_path / "out" / "store"),
        "state": str(tmp_path / "out" / "state"),
        "prefect": {"api_url": prefect_url, "auth": f"me:{MARK}-prefect"},
        "log": {"format": "json", "level": "debug"},
    }
    (tmp_path / "dfpipe.yaml").write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-m", "dfpipe.cli", "run", "--until", "faces", "-c", str(tmp_path / "dfpipe.yaml")],
        capture_output=True,
        text=True,
        env=os.environ | {"PREFECT_LOGGING_LEVEL": "DEBUG"},
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all({"time", "level", "logger", "message", "run"} <= line.keys() for line in lines)

    (failure,) = [line for line in lines if "video" in line]
    assert failure["video"] in failure["message"]
    assert failure["level"] == "info"
    (shard,) = [line for line in lines if "statuses" in line]
    assert shard["shard"] == failure["shard"]
    assert shard["run"] == failure["run"]
    assert sum(shard["statuses"].values()) == len(list((tmp_path / "videos").rglob("*.mp4")))
    assert shard["seconds"] > 0
    assert {line["logger"] for line in lines} >= {"prefect.flow_runs", "prefect.task_runs", "dfpipe.steps"}

    with temporary_settings({PREFECT_API_URL: prefect_url}):
        told = messages_in_prefect({line["run"] for line in lines})
    assert {failure["message"], shard["message"]} <= set(told)

    written = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert any(path.name.startswith("report") for path in written)
    assert MARK not in done.stderr + done.stdout + "\n".join(told)
    assert [path for path in written if MARK.encode() in path.read_bytes()] == []
