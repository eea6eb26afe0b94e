"""dfpipe takes a bucket of videos to a reviewed deepfake classifier, and again tomorrow for only what changed.

The package is a plain library: it starts no server and knows no orchestrator.
``flows`` and ``tasks``, which stand beside it in the wheel, add scheduling, retries and names.
"""

from importlib.metadata import version

__all__ = ["__version__"]

__version__: str = version("dfpipe")
