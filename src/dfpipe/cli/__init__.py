"""The ``dfpipe`` command."""

from dfpipe.cli._main import main

__all__ = ["main"]
