"""The Prefect server: flow runs and their pages, in a database under the state folder."""

import sys
from collections.abc import Iterator
from pathlib import Path

from dfpipe.services._daemon import Daemon
from dfpipe.services._environment import inherited
from dfpipe.services._manager import HOST, Service, keep
from dfpipe.settings import PrefectSettings

__all__ = ["PREFECT", "begin_prefect"]

PREFECT = Service(name="prefect", port=4200, health="/api/health", daemons=("prefect",))


def begin_prefect(state: Path, port: int, *, settings: PrefectSettings) -> Iterator[None]:
    """Start the server; its API is ``/api`` below the URL."""
    home = state / "prefect"
    database = f"sqlite+aiosqlite:///{home / 'prefect.db'}"
    if settings.database_url is not None:
        # The driver that comes with Prefect.
        database = settings.database_url.get_secret_value().replace("postgresql://", "postgresql+asyncpg://", 1)
    secrets = {"PREFECT_API_DATABASE_CONNECTION_URL": database}
    if settings.auth is not None:
        secrets["PREFECT_SERVER_API_AUTH_STRING"] = settings.auth.get_secret_value()
    daemon = Daemon(
        name="prefect",
        argv=(sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)),
        environment={
            # A profile or API of the user's own must not reach into this server.
            **inherited(without="PREFECT_"),
            "PREFECT_HOME": str(home),
            # Not in the command line, which every user of the machine can read.
            **secrets,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            # The pages learn the API's address from the settings, not from --port.
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(port),
            # Its pages are unpacked when it starts, by default into the installed package.
            "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            # The second edition of the pages reports to an analytics service even when analytics are off.
            "PREFECT_SERVER_UI_V2_ENABLED": "false",
        },
        folder=home,
        port=port,
        url=f"http://{HOST}:{port}",
    )
    yield from keep(state, daemon, health=PREFECT.health)
