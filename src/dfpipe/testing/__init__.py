"""What tests of several rooms share; nothing but tests and benchmarks imports this."""

from dfpipe.services._manager import unused_port as free_port
from dfpipe.testing._disturbed import Corpus, DaskCluster, Disturbed, Ended, Kill, Store, disturb, wait_for
from dfpipe.testing._faulty_s3 import Fault, FaultyS3, Rule, Seen
from dfpipe.testing._mlflow import MlflowServer
from dfpipe.testing._opened import Opened
from dfpipe.testing._store import (
    BY,
    as_catalog,
    finish_faces,
    finish_features,
    ledger_row,
    make_row,
    make_video,
    require_service,
    shared_data,
    write_catalog,
    write_features,
)

__all__ = [
    "BY",
    "Corpus",
    "DaskCluster",
    "Disturbed",
    "Ended",
    "Fault",
    "FaultyS3",
    "Kill",
    "MlflowServer",
    "Opened",
    "Rule",
    "Seen",
    "Store",
    "as_catalog",
    "disturb",
    "finish_faces",
    "finish_features",
    "free_port",
    "ledger_row",
    "make_row",
    "make_video",
    "require_service",
    "shared_data",
    "wait_for",
    "write_catalog",
    "write_features",
]
