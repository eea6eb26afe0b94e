"""Short hashes by which a stage recognises its own earlier work."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel

__all__ = ["fingerprint"]

DIGITS = 16
"""Hex digits kept: 64 bits, so that even a million different values meet by chance once in ten million stores."""


def fingerprint(*parts: Any) -> str:
    """Hash settings, versions and hashes into 16 hex digits; equal parts give equal digits on every machine.

    Parameters
    ----------
    parts
        Settings sections and plain JSON values.

    Examples
    --------
    >>> fingerprint("faces", 1, {"b": 2, "a": 1}) == fingerprint("faces", 1, {"a": 1, "b": 2})
    True
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:DIGITS]


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(f"cannot hash a {type(value).__name__}; give settings or plain JSON values")
