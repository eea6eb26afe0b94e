"""Sheets of faces among the figures of a training, and which videos each of them shows.

``sheets.json`` lies beside the pictures: by it `dfpipe forget` finds those that show somebody. It is there before any
of them is, so that no picture is ever without it.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from dfpipe.tracking.artifacts import PREDICTIONS_FILE, artifact_copy, artifact_names, remove_artifact
from dfpipe.tracking.connection import Tracking, tracking_errors
from dfpipe.tracking.registry import artifact_errors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SHEETS", "Sheet", "has_sheets", "read_predictions", "record_sheets", "remove_sheets"]

SHEETS = ("examples_real.png", "examples_fake.png", "mistakes.png")
"""Every picture of this kind."""

SHEETS_FILE = "sheets.json"


@dataclass(frozen=True, slots=True, eq=False)
class Sheet:
    """A picture of faces."""

    figure: "Figure"
    """The picture."""
    video_ids: Sequence[str]
    """Every video that it shows or names."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """What stands in ``sheets.json``."""

    drawn_by: str = ""
    """Hash of what the sheets were drawn by."""
    sheets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Videos on each sheet."""


def read_predictions(tracking: Tracking, run_id: str) -> pa.Table:
    """Read what the best model of a training said of the held-out videos, without those that were forgotten since.

    Raises
    ------
    ServiceError, StoreError
        MLflow or its artifacts cannot be read.
    """
    with (
        tracking_errors("read a training in", tracking.uri),
        artifact_errors("read", f"{PREDICTIONS_FILE} of run {run_id}"),
        artifact_copy(tracking, run_id, PREDICTIONS_FILE) as file,
    ):
        if file is None:
            raise FileNotFoundError(f"run {run_id} has no {PREDICTIONS_FILE}; delete it in MLflow and train anew")
        return pq.read_table(file)


def has_sheets(tracking: Tracking, run_id: str, *, drawn_by: str) -> bool:
    """Say whether a training has all sheets that were drawn of it by the same settings.

    Raises
    ------
    ServiceError, StoreError
        MLflow or its artifacts cannot be read.
    """
    with tracking_errors("read a training in", tracking.uri):
        shown = _read_shown(tracking, run_id)
        return shown.drawn_by == drawn_by and shown.sheets.keys() <= artifact_names(tracking, run_id)


def record_sheets(tracking: Tracking, run_id: str, sheets: Mapping[str, Sheet], *, drawn_by: str) -> None:
    """Put sheets in the place of those that a training has.

    Parameters
    ----------
    tracking
        Open connection.
    run_id
        The training's run.
    sheets
        By name, one of `SHEETS`.
    drawn_by
        Hash of what they were drawn by.

    Raises
    ------
    ServiceError, StoreError
        MLflow or its artifacts cannot be read or written.
    """
    with tracking_errors("record sheets in", tracking.uri), TemporaryDirectory(prefix="dfpipe-") as scratch:
        for name in artifact_names(tracking, run_id).intersection(SHEETS):
            remove_artifact(tracking, run_id, name)
        shown = _Shown(drawn_by, {name: sorted(set(sheet.video_ids)) for name, sheet in sheets.items()})
        _write_shown(tracking, run_id, shown)
        for name, sheet in sheets.items():
            sheet.figure.savefig(Path(scratch, name))
        with artifact_errors("write", f"sheets of run {run_id}"):
            tracking.client.log_artifacts(run_id, scratch)


def remove_sheets(tracking: Tracking, run_id: str, names: Collection[str], is_meant: Callable[[str], bool]) -> int:
    """Take away the sheets of a run that show a video that is meant, and its name; return the number of files changed.

    Parameters
    ----------
    tracking
        Open connection.
    run_id
        Any run.
    names
        Its artifacts.
    is_meant
        Says of a video_id whether it is.

    Raises
    ------
    StoreError
        Files cannot be read, written or deleted.
    """
    if not {SHEETS_FILE, *SHEETS}.intersection(names):
        return 0
    shown = _read_shown(tracking, run_id)
    # A picture of which nothing says whom it shows may show anybody.
    gone = [name for name in SHEETS if name in names and name not in shown.sheets]
    gone += [name for name, video_ids in shown.sheets.items() if any(map(is_meant, video_ids))]
    for name in gone:
        if name in names:
            remove_artifact(tracking, run_id, name)
    if not gone:
        return 0
    # No longer what was drawn by the settings: a run that finds this training may draw what is left anew.
    kept = {name: video_ids for name, video_ids in shown.sheets.items() if name not in gone}
    _write_shown(tracking, run_id, _Shown("", kept))
    return len(gone) + 1


def _read_shown(tracking: Tracking, run_id: str) -> _Shown:
    with artifact_copy(tracking, run_id, SHEETS_FILE) as file:
        return _Shown() if file is None else _Shown(**json.loads(file.read_bytes()))


def _write_shown(tracking: Tracking, run_id: str, shown: _Shown) -> None:
    with TemporaryDirectory(prefix="dfpipe-") as scratch, artifact_errors("write", f"{SHEETS_FILE} of run {run_id}"):
        file = Path(scratch, SHEETS_FILE)
        file.write_text(json.dumps(asdict(shown), indent=1) + "\n", encoding="utf-8")
        tracking.client.log_artifact(run_id, str(file))
