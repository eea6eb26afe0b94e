"""What a registered model learned from and what it said of the rest, as its run recorded it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from dfpipe.errors import ModelNotFoundError
from dfpipe.shards.schemas import Table
from dfpipe.tracking.artifacts import PREDICTIONS_FILE, SPLIT_FILE, artifact_copy
from dfpipe.tracking.connection import Tracking, tracking_errors
from dfpipe.tracking.lineage import versions_of
from dfpipe.tracking.registry import find_version

__all__ = ["HeldOut", "read_held_out"]

LEARNT_SIDES = ("train", "val")
"""Sides of a split that a model was fitted to or chosen by."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A registered version with the two sides of its split, by video_id."""

    version: str
    """Registered version."""
    run_id: str
    """Run of its training."""
    learnt: Mapping[str, int]
    """Videos that it learned from, with their group of people in that training."""
    test: Mapping[str, int]
    """Held-out videos, likewise."""
    scores: Mapping[str, float]
    """Its calibrated probability of fake of each held-out video, of ``test``."""
    labels: Mapping[str, str]
    """The truth, ``real`` or ``fake``, as that training knew it."""
    versions: Mapping[Table, int]
    """Versions of the tables that it read."""

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Every video of either side with its group."""
        return [*self.learnt.items(), *self.test.items()]


def read_held_out(tracking: Tracking, version: str, *, store: str) -> HeldOut:
    """Read what the run of a registered version recorded of its split.

    Parameters
    ----------
    tracking
        Open connection; the settings name the registered model.
    version
        Version number.
    store
        URL of the store that it must have been trained on.

    Raises
    ------
    ModelNotFoundError
        No such version, none of dfpipe's, or of another store.
    ServiceError, StoreError
        MLflow or its artifacts cannot be read.
    """
    name = tracking.settings.registered_model
    with tracking_errors("read a model from", tracking.uri):
        found = find_version(tracking, name, version)
    if found is None or not found.run_id:
        raise ModelNotFoundError(
            f"registered model {name!r} has no version {version} of a training in {tracking.shown_uri}; "
            "`dfpipe models history` names those that were decided on"
        )
    versions = versions_of(tracking, found.run_id, store=store)
    with tracking_errors("read a run from", tracking.uri):
        with artifact_copy(tracking, found.run_id, SPLIT_FILE) as file:
            split = json.loads(file.read_bytes()) if file is not None else None
        with artifact_copy(tracking, found.run_id, PREDICTIONS_FILE) as file:
            rows = pq.read_table(file).to_pydict() if file is not None else None
    if split is None or rows is None:
        missing = SPLIT_FILE if split is None else PREDICTIONS_FILE
        raise ModelNotFoundError(
            f"run {found.run_id} of {name} version {version} has no {missing}, so nothing says how it was judged; "
            "train again with `dfpipe run`"
        )
    test = _groups(split, "test")
    return HeldOut(
        version=version,
        run_id=found.run_id,
        learnt={video: group for side in LEARNT_SIDES for video, group in _groups(split, side).items()},
        test=test,
        # Of files from which videos are just being forgotten, one may still have what the other has no more.
        scores={video: one for video, one in zip(rows["video_id"], rows["probability"], strict=True) if video in test},
        labels=dict(zip(rows["video_id"], rows["label"], strict=True)),
        versions=versions,
    )


def _groups(split: Mapping[str, Any], side: str) -> dict[str, int]:
    """Return the group of every video of a side, see `dfpipe.models.split_record`."""
    return {video: entry["group"] for video, entry in split[side].items()}
