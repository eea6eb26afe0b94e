"""Per-video work on a Dask cluster: the only package that knows Dask.

Arrays stay on the workers. What comes back through the scheduler is small: file references, scores, counts.
"""

from dfpipe.engine._clusters import find_cluster_class, open_engine
from dfpipe.engine._engine import MOST_SHARDS_AT_ONCE, Engine
from dfpipe.engine._machine import usable_cores, usable_memory_bytes

__all__ = ["MOST_SHARDS_AT_ONCE", "Engine", "find_cluster_class", "open_engine", "usable_cores", "usable_memory_bytes"]
