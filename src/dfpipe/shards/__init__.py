"""The store: Delta tables of Parquet shards, written whole and committed once."""

from dfpipe.shards.schemas import CATALOG, FACES, FEATURES, FRAMES, LANDMARKS, SCHEMAS, VIDEOS, Table, VideoStatus
from dfpipe.shards.tables import ShardFile, Tables, open_tables

__all__ = [
    "CATALOG",
    "FACES",
    "FEATURES",
    "FRAMES",
    "LANDMARKS",
    "SCHEMAS",
    "VIDEOS",
    "ShardFile",
    "Table",
    "Tables",
    "VideoStatus",
    "open_tables",
]
