"""Entry point: errors become one line and an exit code.

Exit codes: 0 done; 1 a defect in the program; 2 something the user can mend; 130 interrupted; 143 terminated.
"""

import json
import signal
import sys
from typing import NoReturn

from dfpipe.cli import (  # noqa: F401 - importing them registers their commands
    _commands,
    _cross,
    _forget,
    _models,
    _registry,
    _report,
    _run,
    _store,
)
from dfpipe.cli._app import app, wants_debug, wants_json
from dfpipe.errors import DfpipeError

__all__ = ["main"]

INTERRUPTED = 130
TERMINATED = 143


def main() -> None:
    """Run the command line."""
    # By default the process would end on the spot, and leave the servers and workers of a run behind.
    signal.signal(signal.SIGTERM, _terminate)
    # The same when its terminal is closed, unless it was started to outlive that (nohup).
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _terminate)
    try:
        app()
    except SystemExit as ended:
        # Typer turns Ctrl-C into this code, without a word.
        if ended.code in (INTERRUPTED, TERMINATED):
            _complain("interrupted; what was committed stays, run the same command again to go on", ended.code)
        raise
    except DfpipeError as error:
        if wants_debug():
            raise
        _complain(str(error), 2)
    except Exception as error:
        if wants_debug():
            raise
        words = " ".join(str(error).split())
        _complain(
            f"a defect in dfpipe ({type(error).__name__}: {words}); repeat with --debug and report what it prints",
            1,
        )


def _terminate(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)


def _complain(message: str, code: int) -> NoReturn:
    line = " ".join(message.split())
    if wants_json():
        print(json.dumps({"error": line, "exit_code": code}))  # noqa: T201 - this is the output
    print(f"dfpipe: {line}", file=sys.stderr)  # noqa: T201
    sys.exit(code)
