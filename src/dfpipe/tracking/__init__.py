"""Tracking: trainings and models in MLflow."""

from dfpipe.tracking.connection import Tracking, find_tracking, open_tracking, tracking_uri
from dfpipe.tracking.cross import record_cross
from dfpipe.tracking.lineage import (
    READ_BY_TRAINING,
    AffectedTraining,
    find_trainings,
    forgotten_by,
    mark_training,
    remove_names,
    versions_in_use,
    versions_of,
    versions_tags,
)
from dfpipe.tracking.reads import TestRead, find_test_reads, note_test_read, test_sha256
from dfpipe.tracking.registry import load_champion, point_alias
from dfpipe.tracking.sheets import SHEETS, Sheet, has_sheets, read_predictions, record_sheets
from dfpipe.tracking.training import SETTINGS_TAG, TrainingRecord, find_finished, latest_settings, record_training

__all__ = [
    "READ_BY_TRAINING",
    "SETTINGS_TAG",
    "SHEETS",
    "AffectedTraining",
    "Sheet",
    "TestRead",
    "Tracking",
    "TrainingRecord",
    "find_finished",
    "find_test_reads",
    "find_tracking",
    "find_trainings",
    "forgotten_by",
    "has_sheets",
    "latest_settings",
    "load_champion",
    "mark_training",
    "note_test_read",
    "open_tracking",
    "point_alias",
    "read_predictions",
    "record_cross",
    "record_sheets",
    "record_training",
    "remove_names",
    "test_sha256",
    "tracking_uri",
    "versions_in_use",
    "versions_of",
    "versions_tags",
]
