"""Settings as YAML that explains itself: every key with the sentence that stands in its model."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import BaseModel

__all__ = ["to_documented_yaml"]


def to_documented_yaml(settings: BaseModel) -> str:
    """Return the settings as YAML, a comment above every key, secrets masked."""
    return "\n".join(_lines(settings, settings.model_dump(mode="json"), indent="")) + "\n"


def _lines(section: BaseModel, values: Mapping[str, Any], *, indent: str) -> Iterator[str]:
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if indent == "" and isinstance(value, BaseModel):
            yield ""
        yield from (f"{indent}# {line.strip()}" for line in (field.description or "").splitlines())
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:"
            yield from _lines(value, values[name], indent=indent + "  ")
        elif isinstance(value, list) and any(isinstance(item, BaseModel) for item in value):
            yield f"{indent}{name}:"
            for item, plain in zip(value, values[name], strict=True):
                first, *rest = [line for line in _lines(item, plain, indent=indent + "    ") if line.strip()]
                # The dash takes the place of two blanks in front of the entry's first comment or key.
                yield f"{indent}  - {first.strip()}"
                yield from rest
        else:
            # Every JSON scalar and flow list is YAML as it stands; what is left out of the dump is null.
            yield f"{indent}{name}: {json.dumps(values.get(name), ensure_ascii=False)}"
