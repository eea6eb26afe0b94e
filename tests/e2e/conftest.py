"""The command line as a person uses it, against one Prefect server for all tests."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class CommandLine:
    """Runs dfpipe in a folder of its own."""

    folder: Path
    environment: dict[str, str]

    def __call__(self, *arguments: str, code: int | None = 0, **environment: str) -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "dfpipe.cli", *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert code is None or done.returncode == code, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="session")
def command_line(prefect_url):
    def at(folder: Path) -> CommandLine:
        folder.mkdir(parents=True, exist_ok=True)
        return CommandLine(folder, {"DFPIPE_PREFECT__API_URL": prefect_url, "PREFECT_HOME": str(folder / "prefect")})

    return at


@pytest.fixture
def dfpipe(command_line, tmp_path):
    return command_line(tmp_path)
