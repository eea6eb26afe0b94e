"""The MLflow server: runs, comparisons and registered models, over the database that training writes to."""

import secrets
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from pydantic import SecretStr

from dfpipe.errors import ServiceError
from dfpipe.services._daemon import Daemon
from dfpipe.services._environment import inherited
from dfpipe.services._manager import HOST, Service, keep
from dfpipe.settings import MlflowSettings

__all__ = ["MLFLOW", "begin_mlflow"]

MLFLOW = Service(name="mlflow", port=5000, health="/health", daemons=("mlflow",))


def begin_mlflow(
    state: Path,
    port: int,
    *,
    backend_uri: str,
    artifact_root: str,
    environment: Mapping[str, str],
    login: MlflowSettings,
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
    login
        User and password of the administrator; without them the server asks nobody who they are.

    Raises
    ------
    ServiceError
        Asking for passwords needs a package that is not installed.
    """
    home = state / "mlflow"
    asks = _asking(home, login.username, login.password) if login.username and login.password else {}
    daemon = Daemon(
        name="mlflow",
        argv=(
            *(sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
            *("--default-artifact-root", artifact_root, "--no-serve-artifacts"),
            *(("--app-name", "basic-auth") if asks else ()),
        ),
        environment={
            **inherited(without="MLFLOW_"),
            # Not in the command line, which every user of the machine can read: it may hold a password.
            "MLFLOW_BACKEND_STORE_URI": backend_uri,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            # Runs evaluations in the background, in processes of their own; nothing here asks for any.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **environment,
            **asks,
        },
        folder=home,
        port=port,
        url=f"http://{HOST}:{port}",
    )
    yield from keep(state, daemon, health=MLFLOW.health)


def _asking(home: Path, username: str, password: SecretStr) -> dict[str, str]:
    """Write what MLflow's own basic authentication is told in a file, and return what it is told in variables."""
    if find_spec("flask_wtf") is None:
        raise ServiceError(
            "mlflow.username is set, but an MLflow server that asks for passwords needs Flask-WTF, not found here; "
            "install the extra with `pip install 'dfpipe[auth]'`, or set mlflow.username and mlflow.password to null"
        )
    home.mkdir(parents=True, exist_ok=True)
    file = home / "auth.ini"
    # Who is not the administrator sees what it is given. A percent sign would be taken for the start of a name.
    users = f"sqlite:///{home / 'auth.db'}".replace("%", "%%")
    file.write_text(
        f"[mlflow]\ndefault_permission = NO_PERMISSIONS\ndatabase_uri = {users}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
        encoding="utf-8",
    )
    return {
        "MLFLOW_AUTH_CONFIG_PATH": str(file),
        "MLFLOW_AUTH_ADMIN_USERNAME": username,
        "MLFLOW_AUTH_ADMIN_PASSWORD": password.get_secret_value(),
        # Signs the forms of its pages; one for all processes of this start.
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
    }
