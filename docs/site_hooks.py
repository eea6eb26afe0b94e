"""What mkdocs calls while it builds the site: the reference pages, made from the code, and Markdown as GitHub reads it.

Only names that begin with ``on_`` are called; the rest says what the pages hold.
"""

import inspect
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# A warning of a logger below mkdocs fails a strict build.
_log = logging.getLogger("mkdocs.hooks.dfpipe")

SHARED_OPTIONS = ("config", "overrides", "json_output", "debug")
"""Parameters that every command takes; told once."""


def on_files(files: Any, *, config: Any) -> Any:
    """Add the pages that are made from the code."""
    from mkdocs.structure.files import File  # noqa: PLC0415 - only mkdocs itself needs it

    for name, text in (("settings.md", settings_page()), ("command-line.md", command_line_page())):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Read a page as GitHub does, and name files of the checkout instead of linking to what is not in the site."""
    return name_checkout_files(blank_before_lists(markdown), Path(config.docs_dir), page.file.src_uri)


# ------------------------------------------------------------------------------------------------- Markdown

_LINK = re.compile(r"\[([^\]]*)\]\(([^)#:]+)(#[^)]*)?\)")
_STARTS = re.compile(r"(- |\d+\. |\|)")


def name_checkout_files(text: str, docs: Path, uri: str) -> str:
    """Put the path in the checkout in place of a link to a file outside docs/; warn where there is no such file."""

    def named(match: re.Match[str]) -> str:
        path = (docs / uri).parent.joinpath(match[2]).resolve()
        if path.is_relative_to(docs.resolve()):
            return match[0]
        if not path.exists():
            _log.warning("%s links to %s, which is not there", uri, match[2])
            return match[0]
        return f"`{path.relative_to(docs.resolve().parent)}`"

    return _LINK.sub(named, text)


def blank_before_lists(text: str) -> str:
    """Set a list or table that follows a paragraph apart, as Python-Markdown would run the two together."""
    lines: list[str] = []
    fenced = False
    for line in text.splitlines():
        before = lines[-1] if lines else ""
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and _STARTS.match(line) and before.strip() and not _inside(before):
            lines.append("")
        lines.append(line)
    return "\n".join(lines) + "\n"


def _inside(before: str) -> bool:
    return before.startswith((" ", "#")) or _STARTS.match(before) is not None


def table(headings: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Return the lines of a table; a bar in a cell is kept from ending it."""
    lines = [headings, ("---",) * len(headings), *rows]
    return [
        "",
        *("| " + " | ".join(" ".join(c.split()).replace("|", "\\|") for c in line) + " |" for line in lines),
        "",
    ]


# ------------------------------------------------------------------------------------------------- settings


def settings_page() -> str:
    """Return every setting with its type, default and meaning, from the models that read the settings file."""
    from dfpipe.settings import Settings  # noqa: PLC0415 - slow to import

    schema = Settings.model_json_schema()
    lines = [
        "# Settings",
        "",
        "Made from the code. `dfpipe config` prints the same keys with your values, as a file to start from. A key",
        "stands in `dfpipe.yaml`, in a variable (`extract.crop.size_px` is `DFPIPE_EXTRACT__CROP__SIZE_PX`), or behind",
        "`--set` as `KEY=VALUE`; the last of these wins. An unknown key is an error.",
    ]
    for title, meaning, rows in _sections(schema, schema["$defs"], path=""):
        lines += ["", f"## {title}", "", meaning, *table(("key", "type", "default", "meaning"), rows)]
    return "\n".join(lines) + "\n"


_Row = tuple[str, str, str, str]


def _sections(
    model: Mapping[str, Any], defs: Mapping[str, Any], *, path: str, title: str | None = None
) -> Iterator[tuple[str, str, list[_Row]]]:
    """Yield a model's heading, docstring and keys, then those of the models inside it."""
    rows: list[_Row] = []
    inside: list[tuple[str, str | None, Mapping[str, Any]]] = []
    required = model.get("required", ())
    for name, field in model["properties"].items():
        key = f"{path}.{name}" if path else name
        default = "" if name in required else _default(field)
        models = list(_models(field, defs))
        for one, listed in models:
            place = f"{key}[]" if listed else key
            kind = one["properties"].get("name", {}).get("const") or one["properties"].get("rule", {}).get("const")
            label = kind or (one["title"] if len(models) > 1 else None)
            inside.append((place, label and f"`{place}`: {label}", one))
        rows.append((f"`{key}`", _type(field, defs), default, field.get("description", "")))
    yield title or (f"`{path}`" if path else "Top level"), model.get("description", ""), rows
    for place, label, one in inside:
        yield from _sections(one, defs, path=place, title=label)


def _models(field: Mapping[str, Any], defs: Mapping[str, Any], *, listed: bool = False) -> Iterator[tuple[Any, bool]]:
    """Yield the models that a field's value may be, and whether there may be several in a list."""
    if "$ref" in field:
        one = defs[field["$ref"].rsplit("/", 1)[1]]
        if "properties" in one:
            yield one, listed
    for choice in (*field.get("anyOf", ()), *field.get("oneOf", ())):
        yield from _models(choice, defs, listed=listed)
    if isinstance(field.get("items"), dict):
        yield from _models(field["items"], defs, listed=True)


def _default(field: Mapping[str, Any]) -> str:
    # What a section holds stands in its own table.
    default = field.get("default")
    if field.get("type") == "object" and not default:
        # A mapping of secrets shows itself as a text.
        return "`{}`"
    return "see below" if isinstance(default, dict) else f"`{json.dumps(default, ensure_ascii=False)}`"


_BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
_WORDS = {"null": "`null`", "object": "mapping"}
_FORMATS = {"password": "secret", "path": "path", "date-time": "time"}


def _type(field: Mapping[str, Any], defs: Mapping[str, Any]) -> str:
    if "$ref" in field:
        one = defs[field["$ref"].rsplit("/", 1)[1]]
        return "section" if "properties" in one else _type(one, defs)
    if choices := (*field.get("anyOf", ()), *field.get("oneOf", ())):
        return " or ".join(dict.fromkeys(_type(choice, defs) for choice in choices))
    if values := (*field.get("enum", ()), *([field["const"]] if "const" in field else ())):
        return ", ".join(f"`{value}`" for value in values)
    kind = field.get("type", "anything")
    if kind == "array":
        return f"list of {_type(field['items'], defs)}" if isinstance(field.get("items"), dict) else "list"
    words = [_FORMATS.get(field.get("format", ""), _WORDS.get(kind, kind))]
    words += [f"{sign} {field[bound]}" for bound, sign in _BOUNDS.items() if bound in field]
    return " ".join(words)


# ------------------------------------------------------------------------------------------------- command line


def command_line_page() -> str:
    """Return every command with its arguments and options, and the exit codes, from what reads the command line."""
    commands = dict(walk_commands())
    shared = {
        one.name: _option(command, one)
        for command in commands.values()
        for one in command.params
        if one.name in SHARED_OPTIONS
    }
    lines = [
        "# Command line",
        "",
        "Made from the code; `dfpipe COMMAND --help` prints the same.",
        "",
        "## Exit codes",
        *table(("code", "meaning"), [(f"`{code}`", meaning) for code, meaning in exit_codes()]),
        "## Options of every command",
        "",
        "What each command takes of these stands at its end.",
        *table(("option", "default", "meaning"), [shared[name] for name in SHARED_OPTIONS]),
    ]
    for name, command in commands.items():
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        own = [one for one in command.params if one not in arguments and one.name not in SHARED_OPTIONS]
        also = [f"`{one.opts[0]}`" for one in command.params if one.name in SHARED_OPTIONS]
        usage = " ".join([name, *(_argument(one) for one in arguments)])
        lines += ["", f"## {name}", "", "    " + usage, "", inspect.cleandoc(command.help or "")]
        if arguments:
            lines += table(("argument", "meaning"), [(f"`{_argument(one)}`", one.help or "") for one in arguments])
        if own:
            lines += table(("option", "default", "meaning"), [_option(command, one) for one in own])
        if also:
            lines += ["", "Also " + ", ".join(also) + "."]
    return "\n".join(lines) + "\n"


def _argument(argument: Any) -> str:
    name = argument.metavar or argument.name.upper()
    return name if argument.required or name.startswith("[") else f"[{name}]"


def walk_commands() -> Iterator[tuple[str, Any]]:
    """Yield every command that can be run with its full name."""
    import typer  # noqa: PLC0415

    from dfpipe.cli import _main  # noqa: PLC0415 - slow to import

    def below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if not hasattr(command, "commands"):
            yield name, command
            return
        for word, one in command.commands.items():
            yield from below(one, f"{name} {word}")

    yield from below(typer.main.get_command(_main.app), "dfpipe")


def exit_codes() -> list[tuple[str, str]]:
    """Return the codes with what they mean, from the sentence in the module that gives them."""
    from dfpipe.cli import _main  # noqa: PLC0415 - slow to import

    told = re.search(r"Exit codes: (.+)\.", inspect.getdoc(_main) or "", re.DOTALL)
    if told is None:
        raise LookupError(
            "dfpipe.cli._main says nothing of exit codes in its docstring; expected 'Exit codes: 0 done; …'"
        )
    code_and_meaning = [re.split(r"\s+", one.strip(), maxsplit=1) for one in told[1].split(";")]
    return [(code, meaning) for code, meaning in code_and_meaning]


def _option(command: Any, option: Any) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    if option.is_flag:
        return names, "", option.help or ""
    context = command.make_context(command.name, [], resilient_parsing=True)
    value = f"`{option.metavar or option.display_type(context)}`"
    default = option.default
    told = "" if default in (None, "") or callable(default) else f"`{getattr(default, 'value', default)}`"
    return (
        f"{names} {value}",
        told,
        (option.help or "") + ("" if option.default is not None or not option.required else " Required."),
    )
