"""Tracking: trainings and models in MLflow."""

from dfpipe.tracking.connection import Tracking, open_tracking, tracking_uri
from dfpipe.tracking.registry import load_champion, point_alias
from dfpipe.tracking.training import TrainingRecord, find_finished, record_training

__all__ = [
    "Tracking",
    "TrainingRecord",
    "find_finished",
    "load_champion",
    "open_tracking",
    "point_alias",
    "record_training",
    "tracking_uri",
]
