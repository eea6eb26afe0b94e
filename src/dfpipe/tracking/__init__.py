"""Tracking: trainings and models in MLflow."""

from dfpipe.tracking.connection import Tracking, find_tracking, open_tracking, tracking_uri
from dfpipe.tracking.registry import load_champion, point_alias
from dfpipe.tracking.training import SETTINGS_TAG, TrainingRecord, find_finished, latest_settings, record_training

__all__ = [
    "SETTINGS_TAG",
    "Tracking",
    "TrainingRecord",
    "find_finished",
    "find_tracking",
    "latest_settings",
    "load_champion",
    "open_tracking",
    "point_alias",
    "record_training",
    "tracking_uri",
]
