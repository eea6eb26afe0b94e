"""Reading the settings from a file, the environment and ``--set``, and saying in one line what is wrong with them."""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from dfpipe.errors import SettingsError
from dfpipe.settings.root import Settings
from dfpipe.settings.section import Address

__all__ = ["load_settings"]

ENV_PREFIX = "DFPIPE_"
# Read by other parts of the project, not settings of a run.
ENV_NOT_SETTINGS = frozenset(
    {"DFPIPE_CONFIG", "DFPIPE_GIT_REVISION", "DFPIPE_MODELS", "DFPIPE_SHARED_DATA", "DFPIPE_REQUIRE_SERVICES"}
)
MEMBER = re.compile(r"<[^>]*>\.")


def load_settings(
    path: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the settings from a file, the environment and overrides, in rising order of weight.

    Parameters
    ----------
    path
        YAML file; None reads none.
    overrides
        ``key=value`` strings, nested keys joined by dots, values in YAML.
    environ
        Variables; those that start with ``DFPIPE_`` are settings.

    Raises
    ------
    SettingsError
        A file that cannot be read, a key that does not exist, or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read_file(Path(path))
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in ENV_NOT_SETTINGS:
            keys = name.removeprefix(ENV_PREFIX).lower().split("__")
            _place(values, keys, _parse(environ[name], name), name)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise SettingsError(f"--set got {override!r}, expected key=value such as extract.crop.size_px=224")
        _place(values, key.strip().split("."), _parse(text, f"--set {key}"), f"--set {key}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"cannot read settings file {path}: {error.strerror}; give the path of a YAML file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # The parser's own words quote the line, which may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" from line {mark.line + 1} on" if mark else ""
        raise SettingsError(
            f"{path} cannot be read as YAML{where}; check indentation, quotes and brackets, and save it as UTF-8"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} holds a {type(values).__name__}, expected keys and values such as 'source: videos'"
        )
    return values


def _parse(text: str, name: str) -> Any:
    if _is_secret(name):
        # Letter by letter: a password may look like a number, a date or a comment.
        return None if text in {"", "null"} else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        if _hides(name):
            # The parser's own words quote the value.
            raise SettingsError(f"{name} got a hidden value, which is not a YAML value; quote it") from None
        raise SettingsError(f"{name} got {text!r}, which is not a YAML value; quote it") from error


def _place(values: dict[str, Any], keys: Sequence[str], value: Any, name: str) -> None:
    for key in keys[:-1]:
        nested = values.setdefault(key, {})
        if nested is None:
            nested = values[key] = {}
        if not isinstance(nested, dict):
            raise SettingsError(f"{name} goes below {key!r}, which holds a {type(nested).__name__} and no further keys")
        values = nested
    values[keys[-1]] = value


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in ("secret", "token")) or _path(key) in SECRETS


def _hides(key: str) -> bool:
    """Say whether the value of a key may hold a secret, as written in the settings, a variable or ``--set``."""
    path = _path(key)
    return _is_secret(key) or path in ADDRESSES or path in HOLDERS or "dask.cluster" in path


def _path(key: str) -> str:
    return key.removeprefix("--set ").removeprefix(ENV_PREFIX).strip().lower().replace("__", ".")


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    written, known = _written(first["loc"])
    key = ".".join(written)
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r}{_hint(known)}"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    value = first["input"]
    if first["type"] == "union_tag_invalid":
        return f"setting '{key}.name' got {first['ctx']['tag']!r}, expected one of {first['ctx']['expected_tags']}"
    if isinstance(value, (dict, list)) and key != "s3":
        got = f"a {type(value).__name__}"
    else:
        got = "a hidden value" if _hides(key) else repr(value)
    # Of a key that takes several kinds of values there is an error for each.
    words = [one["msg"] for one in error.errors() if _written(one["loc"])[0] == written]
    told = ", or ".join(
        [words[0][0].lower() + words[0][1:], *(one.removeprefix("Input should be ") for one in words[1:])]
    )
    return f"setting {key!r} got {got}: {told}"


def _written(location: Sequence[str | int]) -> tuple[list[str], list[str]]:
    """Return a location as it was written in the settings, and as `_keys` names it.

    pydantic's own also tells which member of a union was tried; nobody wrote that there.
    """
    written: list[str] = []
    known: list[str] = []
    kind: Any = Settings
    for part in location:
        members = _members(kind)
        if isinstance(part, int):
            written.append(str(part))
            known.append("*")
            kind = get_args(_bare(kind))[0]
        elif len(members) > 1 and part in members:
            known.append(f"<{part}>")
            kind = members[part]
        elif part in {"str", "int", "float", "bool"} or part.startswith(("literal[", "constrained-")):
            continue
        else:
            written.append(part)
            known.append(part)
            section = next(iter(members.values()), None)
            field = section.model_fields.get(part) if section is not None else None
            kind = field.annotation if field is not None else None
    return written, known


def _hint(location: Sequence[str]) -> str:
    known = list(_keys(Settings))
    *parents, name = location
    folder = "".join(f"{part}." for part in parents)
    # A key beside it; else any key of the tree that looks like it; else the same last word (crop.size_px for size_px).
    beside = [key.removeprefix(folder) for key in known if key.startswith(folder)]
    near = (
        [folder + match for match in difflib.get_close_matches(name, beside, n=1)]
        or difflib.get_close_matches(folder + name, known, n=1)
        or [key for key in known if key.rpartition(".")[2] == name]
    )
    if not near:
        return "; `dfpipe config` prints every key"
    # Inside a list there is no path to give.
    best = near[0].rpartition(".")[2] if "*" in near[0] else MEMBER.sub("", near[0])
    return f"; did you mean {best!r}?"


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of every key; ``*`` stands for a place in a list, ``<name>`` for which of several sections."""
    return (path for path, _ in _fields(kind, prefix))


def _fields(kind: Any, prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    bare = _bare(kind)
    if get_origin(bare) is list:
        yield from _fields(get_args(bare)[0], f"{prefix}*.")
    members = _members(kind)
    for member, section in members.items():
        folder = f"{prefix}<{member}>." if len(members) > 1 else prefix
        for name, field in section.model_fields.items():
            yield folder + name, field
            yield from _fields(field.annotation, f"{folder}{name}.")


def _members(kind: Any) -> dict[str, type[BaseModel]]:
    """Return the sections that a key may hold, by the name that tells them apart."""
    bare = _bare(kind)
    if isinstance(bare, type) and issubclass(bare, BaseModel):
        name = bare.model_fields.get("name")
        return {str(name.default) if name is not None else "": bare}
    if get_origin(bare) in {Union, UnionType}:
        return {name: section for one in get_args(bare) for name, section in _members(one).items()}
    return {}


def _bare(kind: Any) -> Any:
    """Return a type without what is annotated to it."""
    return _bare(get_args(kind)[0]) if get_origin(kind) is Annotated else kind


SECRETS = frozenset(path for path, field in _fields(Settings) if SecretStr in get_args(field.annotation))
"""Keys of which every letter is hidden."""
ADDRESS = FieldInfo.from_annotation(Address).metadata  # type: ignore[arg-type]  # takes what is annotated, too
ADDRESSES = frozenset(path for path, field in _fields(Settings) if field.metadata == ADDRESS)
"""Keys that may have a password in the middle."""
HOLDERS = frozenset(path.rpartition(".")[0] for path in SECRETS)
"""Sections of these; whatever was written in the place of a whole one may be a secret."""
