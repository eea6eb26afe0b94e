"""The store: Delta tables of Parquet shards, written whole and committed once."""

from dfpipe.shards.schemas import (
    CATALOG,
    CLAIMS,
    DETECTIONS,
    EXTRACTED,
    FACE_VIDEOS,
    FACES,
    FEATURES,
    FRAMES,
    LANDMARKS,
    REJECTIONS,
    SCHEMAS,
    VIDEOS,
    Table,
)
from dfpipe.shards.tables import SettledWork, Tables, VideoKey, open_tables

__all__ = [
    "CATALOG",
    "CLAIMS",
    "DETECTIONS",
    "EXTRACTED",
    "FACES",
    "FACE_VIDEOS",
    "FEATURES",
    "FRAMES",
    "LANDMARKS",
    "REJECTIONS",
    "SCHEMAS",
    "VIDEOS",
    "SettledWork",
    "Table",
    "Tables",
    "VideoKey",
    "open_tables",
]
