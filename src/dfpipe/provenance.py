"""Who wrote something: the run, its settings, and the code; stands in every commit of a table and in every training."""

import os
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dfpipe import __version__
from dfpipe.fingerprint import fingerprint
from dfpipe.settings import Settings

__all__ = ["Provenance", "make_provenance"]

PLACES: Any = dict.fromkeys(("s3", "prefect", "dask", "state", "telemetry", "log"), True) | {
    "mlflow": {"tracking_uri", "username", "password"}
}
"""Settings that change with the place at which the same is done."""


@dataclass(frozen=True, slots=True)
class Provenance:
    """What made a commit."""

    run_id: str
    """Run of the flow, or the command where no flow ran."""
    settings_hash: str = ""
    """Hash of all settings, without secrets and addresses of servers."""
    git_revision: str = ""
    """Commit of the checkout that the code runs from, with ``+changes`` where files differ from it; empty where
    there is no checkout and ``DFPIPE_GIT_REVISION`` is not set."""
    dfpipe_version: str = __version__
    """Version of the package."""

    def as_metadata(self) -> dict[str, str]:
        """Return it as a table's commit holds it."""
        return {name: value for name, value in asdict(self).items() if value}


def make_provenance(settings: Settings, *, run_id: str) -> Provenance:
    """Describe a run with these settings by the code that is running."""
    told = settings.model_dump(mode="json", exclude=PLACES)
    return Provenance(run_id=run_id, settings_hash=fingerprint("settings", told), git_revision=_git_revision())


@cache
def _git_revision() -> str:
    named = os.environ.get("DFPIPE_GIT_REVISION")
    if named:
        return named
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return ""
    try:
        revision = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.SubprocessError):
        return ""
    return revision + ("+changes" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],  # noqa: S607 - where git is, is the machine's choice
        capture_output=True,
        text=True,
        check=True,
        timeout=10,
    )
    return done.stdout.strip()
