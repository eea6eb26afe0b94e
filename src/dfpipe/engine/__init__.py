"""Per-video work on a Dask cluster: the only package that knows Dask.

Arrays stay on the workers. What comes back through the scheduler is small: file references, scores, counts.
"""

from dfpipe.engine._clusters import (
    LocalWorkers,
    find_cluster_class,
    local_workers,
    open_engine,
    program_environment,
)
from dfpipe.engine._engine import MOST_SHARDS_AT_ONCE, Engine
from dfpipe.engine._machine import usable_cores, usable_memory_bytes

__all__ = [
    "MOST_SHARDS_AT_ONCE",
    "Engine",
    "LocalWorkers",
    "find_cluster_class",
    "local_workers",
    "open_engine",
    "program_environment",
    "usable_cores",
    "usable_memory_bytes",
]
