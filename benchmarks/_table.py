"""What every benchmark prints: where it ran, and its tables, for a terminal or as GitHub-flavoured Markdown.

from _table import add_options, machine, show

parser = argparse.ArgumentParser()
add_options(parser)                       # --rounds and --markdown
options = parser.parse_args()
show("ms a face", ("detector", "ms"), rows, note=machine(), markdown=options.markdown)
"""

import argparse
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["add_options", "machine", "show"]


def add_options(parser: argparse.ArgumentParser, *, rounds: int = 5) -> None:
    """Give a benchmark the options that all of them have."""
    parser.add_argument("--rounds", type=int, default=rounds, help="measure this often and take medians (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print tables as GitHub-flavoured Markdown")


def machine() -> str:
    """Return the processor, the cores this process may use, the load of the last minute and the Python in one line."""
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    processor = names[0] if names else platform.machine()
    cores = len(os.sched_getaffinity(0))
    return (
        f"{processor}, {cores} of {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"Python {platform.python_version()}"
    )


def show(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], *, note: str = "", markdown: bool = False
) -> None:
    """Print one table to stdout; all columns but the first are numbers and stand on the right."""
    if markdown:
        print(_markdown(title, columns, rows, note))
        return
    # Wide enough that a table in a pipe or a log is not folded.
    console = Console(width=None if os.isatty(1) else 160)
    table = Table()
    for position, column in enumerate(columns):
        table.add_column(column, justify="right" if position else "left")
    for row in rows:
        table.add_row(*row)
    console.print(f"[bold]{title}[/bold]", soft_wrap=True)
    console.print(table)
    if note:
        console.print(note, soft_wrap=True)
    console.print()


def _markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    lines = [f"**{title}**", "", line(columns), "|---" + "|---:" * (len(columns) - 1) + "|", *map(line, rows), ""]
    return "\n".join([*lines, note, ""] if note else lines)


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.is_file() else []
