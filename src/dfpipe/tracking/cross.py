"""A cross-evaluation as MLflow shows it: one run, a metric for each cell, the heat map, and the cells as JSON."""

import hashlib
import json
import re
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from dfpipe.models.cross import CrossMatrix, cross_figure
from dfpipe.tracking.artifacts import SPLIT_FILE
from dfpipe.tracking.connection import Tracking, tracking_errors
from dfpipe.tracking.lineage import LEAKY_TAG
from dfpipe.tracking.registry import artifact_errors

__all__ = ["record_cross"]


def record_cross(tracking: Tracking, matrix: CrossMatrix, *, split_json: str, tags: Mapping[str, str]) -> str:
    """Write a matrix as a run of its own and return the run's id.

    Parameters
    ----------
    tracking
        Open connection.
    matrix
        Figures; those of a cell are the metrics ``auc.TRAIN.TEST``, ``auc_low.…`` and ``auc_high.…``.
    split_json
        Who stood where.
    tags
        Further tags of the run.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses.
    StoreError
        Files cannot be written.
    """
    from mlflow.entities import Metric, Param  # noqa: PLC0415 - slow to import

    now = int(time.time() * 1000)
    figures = {
        f"{name}.{_plain(cell.train)}.{_plain(cell.test)}": value
        for cell in matrix.cells
        for name, value in (("auc", cell.auc), ("auc_low", cell.low), ("auc_high", cell.high))
        if value is not None
    }
    with tracking_errors("record the matrix in", tracking.uri):
        run = tracking.client.create_run(
            tracking.experiment_id,
            tags={
                **tags,
                "mlflow.source.name": "dfpipe",
                "dfpipe.cross": matrix.by,
                LEAKY_TAG: "false",
                "dfpipe.split_sha256": hashlib.sha256(split_json.encode()).hexdigest(),
            },
            run_name=f"cross {matrix.by}",
        )
        run_id: str = run.info.run_id
        status = "FAILED"
        try:
            tracking.client.log_batch(
                run_id,
                metrics=[Metric(name, value, now, 0) for name, value in figures.items()],
                params=[
                    Param("by", matrix.by),
                    Param("model", matrix.candidate.model),
                    *(Param(name, str(value)) for name, value in matrix.candidate.params),
                    Param("balance", matrix.candidate.balance),
                ],
            )
            with (
                TemporaryDirectory(prefix="dfpipe-") as scratch,
                artifact_errors("write", f"artifacts of run {run_id}"),
            ):
                cross_figure(matrix).savefig(Path(scratch, "cross.png"), dpi=110)
                Path(scratch, "cross.json").write_text(json.dumps(asdict(matrix), indent=1) + "\n", encoding="utf-8")
                Path(scratch, SPLIT_FILE).write_text(split_json, encoding="utf-8")
                tracking.client.log_artifacts(run_id, scratch)
            status = "FINISHED"
        finally:
            tracking.client.set_terminated(run_id, status)
    return run_id


def _plain(kind: str) -> str:
    """Return a name that MLflow takes for a metric."""
    return re.sub(r"[^\w\-/ ]", "_", kind, flags=re.ASCII)
