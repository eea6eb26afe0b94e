"""The environment that servers are started in."""

import os

__all__ = ["inherited"]


def inherited(*, without: str) -> dict[str, str]:
    """Return this program's environment less the variables of one program, set for a log instead of a terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(without)}
    return {**kept, "NO_COLOR": "1", "COLUMNS": "200", "DO_NOT_TRACK": "true"}
