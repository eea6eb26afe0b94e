"""Files of a run: which there are, a copy of one, and one taken away."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dfpipe.tracking.connection import Tracking
from dfpipe.tracking.registry import artifact_errors

__all__ = ["PREDICTIONS_FILE", "SPLIT_FILE", "artifact_copy", "artifact_names", "remove_artifact"]

SPLIT_FILE = "split.json"
"""Side, group and fold of every video of a training, see `dfpipe.models.split_record`."""
PREDICTIONS_FILE = "predictions.parquet"
"""What its best model said of every held-out video."""


def artifact_names(tracking: Tracking, run_id: str) -> set[str]:
    """Return the names of the files and folders that a run has, not of those within folders.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    with artifact_errors("read", f"artifacts of run {run_id}"):
        return {file.path for file in tracking.client.list_artifacts(run_id)}


@contextmanager
def artifact_copy(tracking: Tracking, run_id: str, name: str) -> Iterator[Path | None]:
    """Have a copy of a run's file while the block runs; None where the run has no such file."""
    with TemporaryDirectory(prefix="dfpipe-") as folder:
        present = name in artifact_names(tracking, run_id)
        with artifact_errors("read", f"{name} of run {run_id}"):
            copy = Path(tracking.client.download_artifacts(run_id, name, folder)) if present else None
        yield copy


def remove_artifact(tracking: Tracking, run_id: str, name: str) -> None:
    """Take a file away from a run.

    Raises
    ------
    StoreError
        It cannot be deleted, or is there still.
    """
    from mlflow.store.artifact.artifact_repository_registry import (  # noqa: PLC0415 - slow to import
        get_artifact_repository,
    )

    what = f"{name} of run {run_id}"
    uri = tracking.client.get_run(run_id).info.artifact_uri
    with artifact_errors("delete", what):
        repository: Any = get_artifact_repository(uri, tracking_uri=tracking.uri)
        repository.delete_artifacts(name)
        # A bucket that refuses to delete says so in an answer at which MLflow does not look.
        if name in {file.path for file in tracking.client.list_artifacts(run_id)}:
            raise PermissionError(what)
