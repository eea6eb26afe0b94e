"""What deployments/prefect.yaml promises, asked of a real Prefect server."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.services]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def prefect(prefect_url, tmp_path_factory):
    environment = {**os.environ, "PREFECT_API_URL": prefect_url, "PREFECT_HOME": str(tmp_path_factory.mktemp("home"))}

    def run(*arguments):
        subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=ROOT,
            env=environment,
            check=True,
            timeout=120,
            capture_output=True,
        )

    return run


def test_every_deployment_is_accepted_and_its_settings_are_a_form(prefect, prefect_url):
    prefect("work-pool", "create", "dfpipe", "--type", "process")
    prefect("deploy", "--all", "--prefect-file", "deployments/prefect.yaml")
    with urllib.request.urlopen(f"{prefect_url}/deployments/name/pipeline/nightly") as answer:
        nightly = json.load(answer)
    assert nightly["concurrency_limit"] is not None or nightly["global_concurrency_limit"]["limit"] == 1
    assert [schedule["schedule"]["cron"] for schedule in nightly["schedules"]] == ["0 2 * * *"]
    form = nightly["parameter_openapi_schema"]
    crop = form["definitions"]["CropSettings"]["properties"]["size_px"]
    assert crop["description"] == "Width and height of a stored crop in pixels."
