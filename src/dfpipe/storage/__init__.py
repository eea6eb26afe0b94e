"""Reaching bytes: local paths and ``s3://`` URLs behind one door, and one place where their errors become ours.

One settings section feeds fsspec (videos, shards), deltalake and Arrow (tables) and boto3 (MLflow) alike: the same
server, the same identity, the same patience.
"""

from dfpipe.storage._clients import arrow_file_system, boto_environment, delta_options
from dfpipe.storage._errors import storage_errors
from dfpipe.storage._location import Location, open_location

__all__ = ["Location", "arrow_file_system", "boto_environment", "delta_options", "open_location", "storage_errors"]
