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
    VideoStatus,
)
from dfpipe.shards.tables import ShardFile, Tables, open_tables

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
    "ShardFile",
    "Table",
    "Tables",
    "VideoStatus",
    "open_tables",
]
