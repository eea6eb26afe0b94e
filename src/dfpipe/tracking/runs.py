"""Runs in MLflow: opened, ended whatever happens, and ended by the next try where nobody could."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from dfpipe.errors import ServiceError
from dfpipe.tracking.connection import Tracking, expect_answer, tracking_errors

__all__ = ["end_broken_off", "open_run"]


@contextmanager
def open_run(
    tracking: Tracking, name: str, *, tags: Mapping[str, str], seconds: float = 0, failed: bool = False
) -> Iterator[str]:
    """Open a run that ended work of so many seconds, and end it as FAILED if asked or if the block raises.

    Where MLflow does not answer any more, the next try to record the same ends it.
    """
    run = tracking.client.create_run(
        tracking.experiment_id,
        start_time=int((time.time() - seconds) * 1000),
        tags={"mlflow.source.name": "dfpipe", **tags},
        run_name=name,
    )
    run_id: str = run.info.run_id
    try:
        yield run_id
    except BaseException:
        # What broke it off is the error to tell, not that its end could not be told to the same server.
        with suppress(ServiceError), tracking_errors("end a run in", tracking.uri):
            expect_answer(tracking)
            tracking.client.set_terminated(run_id, "FAILED")
        raise
    tracking.client.set_terminated(run_id, "FAILED" if failed else "FINISHED")


def end_broken_off(tracking: Tracking, tag: str, fingerprint: str) -> None:
    """End what earlier tries to record the same have left open: a killed process told no end, nor a lost server.

    Parameters
    ----------
    tracking
        Open connection.
    tag, fingerprint
        What the runs of these tries are marked with; their child runs are ended too.
    """
    tries = _search(tracking, f"tags.`{tag}` = '{fingerprint}' AND attributes.status != 'FINISHED'")
    for run in tries:
        children = _search(
            tracking, f"tags.`mlflow.parentRunId` = '{run.info.run_id}' AND attributes.status = 'RUNNING'"
        )
        for one in (*children, run):
            # Should another process be at it just now, it ends its runs as FINISHED all the same.
            if one.info.status == "RUNNING":
                tracking.client.set_terminated(one.info.run_id, "FAILED")


def _search(tracking: Tracking, condition: str) -> list[Any]:
    runs: list[Any] = []
    token: str | None = None
    while True:
        page = tracking.client.search_runs([tracking.experiment_id], condition, page_token=token)
        runs += page
        token = page.token
        if not token:
            return runs
