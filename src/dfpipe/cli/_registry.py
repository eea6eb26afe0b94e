"""Commands about which model is the champion."""

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
    out,
    print_table,
    read_settings,
    say_json,
    waiting,
)
from dfpipe.cli._models import models
from dfpipe.errors import PromotionError, SettingsError

if TYPE_CHECKING:
    from dfpipe.decisions import Decision

__all__: list[str] = []

Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; kept in the history, so name nobody.")]


@app.command()
def promote(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Registered version; default: the challenger.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Whatever the gate says; needs --reason.")] = False,
    reason: Reason = "",
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make a model the champion, if the gate lets it pass against the present one."""
    from dfpipe.promotion import promote as ask

    if force and not reason.strip():
        raise SettingsError("--force goes past the gate; say why with --reason TEXT, for the history")
    settings = read_settings(config, overrides)
    with waiting("comparing it with the champion"):
        decision = ask(settings, version, force=force, reason=reason)
    if not decision.promoted:
        raise PromotionError(f"{decision.line()}; `dfpipe promote {decision.version} --force --reason TEXT` overrules")
    tell(decision, json_output=json_output)


@app.command()
def rollback(
    reason: Reason = "",
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make the model the champion that was it before the present one; twice goes back by two."""
    from dfpipe.promotion import rollback as go_back

    settings = read_settings(config, overrides)
    with waiting("looking into the history"):
        decision = go_back(settings, reason=reason)
    tell(decision, json_output=json_output)


@models.command("history")
def show_history(
    config: Config = None, overrides: Overrides = None, json_output: Json = False, debug: Debug = False
) -> None:
    """Show which version was the champion when, and what the gate said of each."""
    from dfpipe.promotion import read_history

    settings = read_settings(config, overrides)
    with waiting("reading the history"):
        decisions = read_history(settings)
    if json_output:
        say_json([decision.model_dump(mode="json") for decision in decisions])
        return
    if not decisions:
        out.print(f"nothing was decided yet on {settings.mlflow.registered_model}", markup=False)
        return
    table = RichTable("", "decided", "by", "version", "champion", "why", box=None, pad_edge=False)
    for decision in decisions:
        table.add_row(
            str(decision.number),
            decision.decided_at,
            decision.action,
            decision.version,
            decision.champion_after or "none",
            escape("\n".join(_why(decision))),
        )
    print_table(table)


def tell(decision: "Decision", *, json_output: bool) -> None:
    """Print what was decided, with the figures."""
    if json_output:
        say_json(decision.model_dump(mode="json"))
        return
    out.print(f"{decision.model}: {decision.line()}", markup=False, soft_wrap=True)
    for check in decision.checks:
        out.print(f"  {check}", markup=False, soft_wrap=True)


def _why(decision: "Decision") -> list[str]:
    said = list(decision.refusals) or [str(check) for check in decision.checks]
    if decision.forced:
        said.insert(0, "forced")
    return [*said, decision.reason] if decision.reason else said
