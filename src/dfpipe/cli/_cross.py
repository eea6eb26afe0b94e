"""The command that trains on one kind of video and tests on every kind."""

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table as RichTable

from dfpipe.cli._app import (
    Config,
    Debug,
    Json,
    Overrides,
    app,
    print_row,
    print_table,
    progress_bars,
    read_settings,
    say_json,
)

if TYPE_CHECKING:
    from dfpipe.crossing import Crossed
    from dfpipe.models.cross import CrossCell

__all__: list[str] = []


class By(StrEnum):
    """Columns of the catalog whose values are set against each other."""

    dataset = "dataset"
    method = "method"
    compression = "compression"


@app.command()
def cross(
    by: Annotated[By, typer.Option("--by", help="What to train on one of and test on all of.")],
    model: Annotated[
        str | None, typer.Option(metavar="KIND", help="Kind of model; default: the best of the settings' grid.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Train on each data set, method or compression, test on every one; only people never seen are judged."""
    from dfpipe import crossing
    from dfpipe.cli._servers import with_local_dask

    settings = with_local_dask(read_settings(config, overrides))
    with progress_bars():
        crossed = crossing.cross(settings, by.value, model=model)
    if json_output:
        say_json(crossed)
    else:
        print_matrix(crossed, confidence=settings.train.evaluation.bootstrap.confidence)


def print_matrix(crossed: "Crossed", *, confidence: float) -> None:
    """Print the matrix: what was learned from down, what was judged on across."""
    matrix = crossed.matrix
    table = RichTable("learned from \\ judged on", *map(escape, matrix.kinds), box=None)
    cells = iter(matrix.cells)
    for kind in matrix.kinds:
        row = [next(cells) for _ in matrix.kinds]
        table.add_row(escape(kind), *(f"{cell.auc:.3f}{interval(cell)}" for cell in row))
    print_table(table)
    for kind, reason in matrix.left_out.items():
        print_row("left out", f"{kind}: {reason}")
    print_row(
        "figures", f"video AUC with {confidence:.0%} intervals over groups of people, none of whom was learned from"
    )
    print_row("model", matrix.candidate.name)
    print_row("run", crossed.url or crossed.run_id)


def interval(cell: "CrossCell") -> str:
    """Say between what a figure lies."""
    return "" if cell.low is None else f" ({cell.low:.3f} to {cell.high:.3f})"
