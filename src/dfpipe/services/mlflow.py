"""The MLflow server: runs, comparisons and registered models, over the database that training writes to."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from dfpipe.services._daemon import Daemon
from dfpipe.services._environment import inherited
from dfpipe.services._manager import HOST, Service, keep

__all__ = ["MLFLOW", "begin_mlflow"]

MLFLOW = Service(name="mlflow", port=5000, health="/health", daemons=("mlflow",))


def begin_mlflow(
    state: Path, port: int, *, backend_uri: str, artifact_root: str, environment: Mapping[str, str]
) -> Iterator[None]:
    """Start the server over a database; it reads artifacts itself, from wherever each run put them.

    Parameters
    ----------
    state, port
        State folder, and port to listen on.
    backend_uri
        Database, such as ``sqlite:////absolute/path/mlflow.db``; a path is made relative to nothing.
    artifact_root
        Folder or ``s3://`` URL for the artifacts of experiments that are created through this server.
    environment
        Variables to add, such as those of `dfpipe.storage.boto_environment` when artifacts lie in S3.
    """
    home = state / "mlflow"
    daemon = Daemon(
        name="mlflow",
        argv=(
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
            *("--default-artifact-root", artifact_root, "--no-serve-artifacts"),
        ),
        environment={
            **inherited(without="MLFLOW_"),
            # Not in the command line, which every user of the machine can read: it may hold a password.
            "MLFLOW_BACKEND_STORE_URI": backend_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Runs evaluations in the background, in processes of their own; nothing here asks for any.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **environment,
        },
        folder=home,
        port=port,
        url=f"http://{HOST}:{port}",
    )
    yield from keep(state, daemon, health=MLFLOW.health)
