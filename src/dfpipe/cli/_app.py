"""What every command shares: options, settings, and two ways of saying things: tables for people, JSON for machines."""

import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table as RichTable

from dfpipe import progress
from dfpipe.errors import SettingsError, UserError
from dfpipe.settings import Settings, load_settings

__all__ = [
    "Config",
    "Debug",
    "Json",
    "Overrides",
    "app",
    "ask",
    "err",
    "out",
    "print_row",
    "print_table",
    "progress_bars",
    "read_settings",
    "say_json",
    "say_json_rows",
    "waiting",
    "wants_debug",
    "wants_json",
]

app = typer.Typer(
    name="dfpipe",
    help="From a bucket of videos to a reviewed deepfake classifier, and again tomorrow for only what changed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

Config = Annotated[
    Path | None,
    typer.Option("--config", "-c", help="Settings file; default: $DFPIPE_CONFIG, else dfpipe.yaml if it is there."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON to stdout.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks and the servers' log lines.")]

DEFAULT_CONFIG = Path("dfpipe.yaml")

MAX_WIDTH = 2**14
"""Characters in the widest table."""


def wants_json() -> bool:
    """Say whether --json was given, also while the command line itself is what is wrong."""
    return "--json" in sys.argv[1:]


def wants_debug() -> bool:
    """Say whether --debug was given."""
    return "--debug" in sys.argv[1:]


def read_settings(config: Path | None, overrides: list[str] | None) -> Settings:
    """Read the settings a command runs with."""
    if config is None and "DFPIPE_CONFIG" in os.environ:
        config = Path(os.environ["DFPIPE_CONFIG"])
    if config is None and DEFAULT_CONFIG.exists():
        config = DEFAULT_CONFIG
    return load_settings(config, overrides=overrides or ())


def say_json(value: Any) -> None:
    """Print a value as JSON to stdout."""
    print(json.dumps(value, default=_plain, indent=2))  # noqa: T201 - this is the output


def say_json_rows(rows: Iterable[Mapping[str, Any]]) -> None:
    """Print rows as a JSON array to stdout, one at a time, as there may be a million."""
    before = "["
    for row in rows:
        print(before, json.dumps(row, default=_plain), sep="\n  ", end="")  # noqa: T201 - this is the output
        before = ","
    print("[]" if before == "[" else "\n]")  # noqa: T201


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def print_row(name: str, text: str) -> None:
    """Print a name and what there is to say of it; never cut, as it may be copied."""
    out.print(f"[bold]{name:<16}[/]{escape(text)}", soft_wrap=True)


def print_table(table: RichTable) -> None:
    """Print a table as wide as it is; its cells are never cut or folded, as they may be copied."""
    width = Measurement.get(out, out.options.update(max_width=MAX_WIDTH), table).maximum
    Console(highlight=False, width=width).print(table, crop=False)


def ask(question: str, *, deed: str) -> None:
    """Ask before something is done that cannot be undone, and go on only if the answer is yes.

    Raises
    ------
    UserError
        The answer is no, or nobody is there to give one.
    KeyboardInterrupt
        Ctrl-C or the end of the input instead of an answer.
    """
    if not sys.stdin.isatty():
        raise SettingsError(f"this {deed}, and nobody can be asked here; repeat with --yes")
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort as error:
        # Typer would end with the exit code of a defect.
        err.print()
        raise KeyboardInterrupt from error
    if not agreed:
        raise UserError("the answer was no, so nothing was done")


@contextmanager
def progress_bars(*, lines: bool = True) -> Iterator[None]:
    """Show the progress of long work on stderr while the block runs: bars where it is a terminal, and lines told.

    Without the lines, what is no terminal gets nothing: stderr may be for machines to read.
    """
    bars = Progress(
        TextColumn("{task.description:>10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=err,
        transient=True,
        disable=not err.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int) -> None:
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total)
        bars.update(tasks[stage], completed=done, total=total)

    def say(line: str) -> None:
        bars.console.print(line, markup=False, soft_wrap=True)

    with bars, progress.listen(show, on_line=say if lines else None):
        yield


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Show that something is awaited, where stderr is a terminal."""
    if not err.is_terminal:
        yield
        return
    with err.status(text):
        yield
