"""A cross-evaluation as MLflow shows it: one run, a metric for each cell, the heat map, and the cells as JSON."""

import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

from dfpipe.models.cross import CrossMatrix, cross_figure
from dfpipe.tracking.artifacts import SPLIT_FILE
from dfpipe.tracking.connection import Tracking, expect_answer, tracking_errors
from dfpipe.tracking.lineage import LEAKY_TAG
from dfpipe.tracking.registry import artifact_errors
from dfpipe.tracking.runs import end_broken_off, open_run

__all__ = ["record_cross"]


CROSS_TAG = "dfpipe.cross_fingerprint"
"""Tag of a cross-evaluation with everything that it depends on."""


def record_cross(
    tracking: Tracking, matrix: CrossMatrix, *, split_json: str, fingerprint: str, tags: Mapping[str, str]
) -> str:
    """Write a matrix as a run of its own and return the run's id.

    Whatever earlier tries to record the same matrix have left open is ended as FAILED first.

    Parameters
    ----------
    tracking
        Open connection.
    matrix
        Figures; those of a cell are the metrics ``auc.TRAIN.TEST``, ``auc_low.…`` and ``auc_high.…``.
    split_json
        Who stood where.
    fingerprint
        Of everything that decides the figures.
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
    names = _metric_names(matrix.kinds)
    figures = {
        f"{name}.{names[cell.train]}.{names[cell.test]}": value
        for cell in matrix.cells
        for name, value in (("auc", cell.auc), ("auc_low", cell.low), ("auc_high", cell.high))
        if value is not None
    }
    expect_answer(tracking)
    with tracking_errors("end what broke off in", tracking.uri):
        end_broken_off(tracking, CROSS_TAG, fingerprint)
    about = {
        **tags,
        "dfpipe.cross": matrix.by,
        CROSS_TAG: fingerprint,
        LEAKY_TAG: "false",
        "dfpipe.split_sha256": hashlib.sha256(split_json.encode()).hexdigest(),
    }
    with (
        tracking_errors("record the matrix in", tracking.uri),
        open_run(tracking, f"cross {matrix.by}", tags=about) as run_id,
    ):
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
        with TemporaryDirectory(prefix="dfpipe-") as scratch, artifact_errors("write", f"artifacts of run {run_id}"):
            cross_figure(matrix).savefig(Path(scratch, "cross.png"), dpi=110)
            Path(scratch, "cross.json").write_text(json.dumps(asdict(matrix), indent=1) + "\n", encoding="utf-8")
            Path(scratch, SPLIT_FILE).write_text(split_json, encoding="utf-8")
            tracking.client.log_artifacts(run_id, scratch)
    return run_id


def _metric_names(kinds: Sequence[str]) -> dict[str, str]:
    """Return a name that MLflow takes for a part of a metric's, for each kind another.

    Examples
    --------
    >>> _metric_names(["swap v1.2", "a//b", "換臉", "重演"])
    {'swap v1.2': 'swap v1_2', 'a//b': 'a/b', '換臉': '__', '重演': '___'}
    """
    names: dict[str, str] = {}
    for kind in kinds:
        # MLflow takes a slash for a folder, and no folder without a name.
        name = re.sub(r"//+", "/", re.sub(r"[^\w\-/ ]", "_", kind, flags=re.ASCII))
        while name in names.values():
            name += "_"
        names[kind] = name
    return names
