"""An MLflow server that goes away and comes back."""

from pathlib import Path

from dfpipe import services
from dfpipe.services._manager import unused_port

__all__ = ["MlflowServer"]


class MlflowServer:
    """A real server that can be stopped and started again at the same address, with what it had.

    Parameters
    ----------
    state
        A folder that exists, for its database and pid file.
    artifact_root
        Where its artifacts go.
    """

    def __init__(self, state: Path, artifact_root: Path) -> None:
        self.state, self.artifact_root, self.port = state, artifact_root, unused_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and return when it answers."""
        services.up(
            self.state,
            ["mlflow"],
            mlflow_backend=f"sqlite:///{self.state}/runs.db",
            artifact_root=str(self.artifact_root),
            ports={"mlflow": self.port},
        )

    def stop(self) -> None:
        """Stop it, if it is up."""
        services.down(self.state)
