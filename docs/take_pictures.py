"""Take the pictures of README and documentation from the demo: run `make demo` and `make ui` first.

usage: .venv/bin/python docs/take_pictures.py PREFECT_URL MLFLOW_URL .dfpipe/demo/store/reports/RUN/report.html
"""

import json
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from mlflow import MlflowClient
from playwright.sync_api import Page, sync_playwright

FOLDER = Path(__file__).parent / "pictures"
CHROMIUM = "/usr/bin/chromium"
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
# MLflow opens on its pages for language models, with an assistant beside them; ours are trainings.
MLFLOW_PREFERENCES = {
    "mlflow.workflowType_v1": '"machine_learning"',
    "mlflow.assistant.panelOpen_v1": "false",
    "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
}


def first_pipeline_run(prefect_url: str) -> str:
    """Return the id of the demo's first flow run, which did everything."""
    body = json.dumps({"flows": {"name": {"any_": ["pipeline"]}}, "sort": "START_TIME_ASC", "limit": 1}).encode()
    request = urllib.request.Request(  # noqa: S310 - a loopback address given by the user
        f"{prefect_url}/api/flow_runs/filter", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        return str(json.load(answer)[0]["id"])


def comparison_page(mlflow_url: str) -> str:
    """Return the page that compares the candidates of the demo's training."""
    client = MlflowClient(mlflow_url)
    experiment = client.get_experiment_by_name("dfpipe-demo")
    children = client.search_runs([experiment.experiment_id], "tags.`dfpipe.rank` != ''")
    runs = urllib.parse.quote(json.dumps([run.info.run_id for run in children]))
    experiments = urllib.parse.quote(json.dumps([experiment.experiment_id]))
    return f"{mlflow_url}/#/compare-runs?runs={runs}&experiments={experiments}"


def take(page: Page, name: str, *, kind: str = "png") -> None:
    """Save what the page shows."""
    FOLDER.mkdir(exist_ok=True)
    page.screenshot(path=str(FOLDER / f"{name}.{kind}"))


def main(prefect_url: str, mlflow_url: str, report: str) -> None:
    """Take all pictures."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{prefect_url}/runs/flow-run/{first_pipeline_run(prefect_url)}")
        page.wait_for_load_state("networkidle")
        page.wait_for_timeout(3000)
        take(page, "prefect-run")
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(
            "".join(
                f"localStorage.setItem({json.dumps(key)}, {json.dumps(value)});"
                for key, value in MLFLOW_PREFERENCES.items()
            )
        )
        page.goto(comparison_page(mlflow_url))
        page.get_by_text("Parallel").first.wait_for()
        page.wait_for_timeout(3000)
        take(page, "mlflow-comparison")
        for scheme, heading in (("light", "dfpipe report"), ("dark", "Example faces")):
            page = browser.new_page(viewport={"width": 1100, "height": 860}, color_scheme=scheme)
            page.goto(Path(report).resolve().as_uri())
            page.get_by_role("heading", name=heading).evaluate("one => one.scrollIntoView()")
            # Photographs take less room as JPEG.
            take(page, f"report-{scheme}", kind="png" if scheme == "light" else "jpg")
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
