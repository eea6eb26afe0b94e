"""Tracking: trainings and models in MLflow."""

from dfpipe.tracking.connection import Tracking, find_tracking, open_tracking, tracking_uri
from dfpipe.tracking.cross import record_cross
from dfpipe.tracking.decision import carry_out, is_carried_out
from dfpipe.tracking.held_out import HeldOut, read_held_out
from dfpipe.tracking.lineage import (
    READ_BY_TRAINING,
    AffectedTraining,
    find_trainings,
    forgotten_by,
    is_leaky,
    mark_training,
    remove_names,
    versions_in_use,
    versions_of,
    versions_tags,
)
from dfpipe.tracking.reads import TestRead, find_test_reads, note_test_read, test_sha256
from dfpipe.tracking.registry import alias_version, load_champion, run_of
from dfpipe.tracking.sheets import SHEETS, Sheet, has_sheets, read_predictions, record_sheets
from dfpipe.tracking.training import SETTINGS_TAG, TrainingRecord, find_finished, latest_settings, record_training

__all__ = [
    "READ_BY_TRAINING",
    "SETTINGS_TAG",
    "SHEETS",
    "AffectedTraining",
    "HeldOut",
    "Sheet",
    "TestRead",
    "Tracking",
    "TrainingRecord",
    "alias_version",
    "carry_out",
    "find_finished",
    "find_test_reads",
    "find_tracking",
    "find_trainings",
    "forgotten_by",
    "has_sheets",
    "is_carried_out",
    "is_leaky",
    "latest_settings",
    "load_champion",
    "mark_training",
    "note_test_read",
    "open_tracking",
    "read_held_out",
    "read_predictions",
    "record_cross",
    "record_sheets",
    "record_training",
    "remove_names",
    "run_of",
    "test_sha256",
    "tracking_uri",
    "versions_in_use",
    "versions_of",
    "versions_tags",
]
