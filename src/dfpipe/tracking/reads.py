"""Every reading of held-out videos, on record in MLflow before it happens.

Whoever looks at the same test often enough finds a model that fits it by chance. So each time that a model is about to
score a test side, a tag of its own is added to the experiment. Tags of an experiment are never written over here, stay
when runs are deleted, and name nobody: a test side is known by the hash of its videos' names.
"""

import hashlib
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

from dfpipe.models.data import TrainingData
from dfpipe.models.specs import Candidate
from dfpipe.models.splits import Rows
from dfpipe.tracking.connection import Tracking, expect_answer, tracking_errors

__all__ = ["TestRead", "find_test_reads", "note_test_read", "test_sha256"]

READ_TAG = "dfpipe.test_read."


@dataclass(frozen=True, slots=True)
class TestRead:
    """One model that was shown a test side."""

    __test__ = False  # not one of pytest's

    at: str
    """When, in UTC."""
    candidate: str
    """The model."""
    fingerprint: str
    """The training that it was of."""


def test_sha256(data: TrainingData, test_rows: Rows) -> str:
    """Return the hash of the names of the videos on the test side, whatever their features are."""
    names = sorted({data.video_ids[video] for video in data.video[test_rows]})
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()


test_sha256.__test__ = False  # type: ignore[attr-defined]  # not one of pytest's


def note_test_read(tracking: Tracking, sha256: str, candidate: Candidate, *, fingerprint: str) -> None:
    """Put on record that a model is about to be shown a test side.

    Parameters
    ----------
    tracking
        Open connection.
    sha256
        The test side, see `test_sha256`.
    candidate
        The model.
    fingerprint
        The training that it is of.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses; then nothing may be read.
    """
    record = {
        "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "candidate": candidate.name,
        "fingerprint": fingerprint,
    }
    expect_answer(tracking)
    # A name of its own each time: two runs at once lose no entry of each other's.
    name = f"{READ_TAG}{sha256}.{secrets.token_hex(8)}"
    with tracking_errors("record a reading of the test in", tracking.uri):
        tracking.client.set_experiment_tag(tracking.experiment_id, name, json.dumps(record))


def find_test_reads(tracking: Tracking, sha256: str) -> list[TestRead]:
    """Return every reading of a test side in this experiment, oldest first.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    with tracking_errors("read an experiment of", tracking.uri):
        tags = tracking.client.get_experiment(tracking.experiment_id).tags
    start = f"{READ_TAG}{sha256}."
    reads = [TestRead(**json.loads(value)) for name, value in tags.items() if name.startswith(start)]
    return sorted(reads, key=lambda read: read.at)
