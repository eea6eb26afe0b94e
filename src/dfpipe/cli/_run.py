"""Commands that plan, run and use the pipeline."""

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
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
    err,
    out,
    progress_bars,
    read_settings,
    say_json,
    waiting,
)
from dfpipe.errors import SettingsError
from dfpipe.settings import Settings, Stage

if TYPE_CHECKING:
    from dfpipe.summary import RunSummary
    from dfpipe.verdict import Verdict

__all__: list[str] = []


class Until(StrEnum):
    """Stages at which a run can stop."""

    catalog = "catalog"
    faces = "faces"
    features = "features"
    train = "train"


UntilOption = Annotated[Until, typer.Option("--until", help="Last stage.")]


@app.command()
def plan(
    until: UntilOption = Until.train,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a run would do, and why. Nothing is written to the store and no video is opened."""
    from dfpipe.preview import make_plan

    settings = read_settings(config, overrides)
    with waiting("comparing the source with the store"):
        stages = make_plan(settings, until=until.value)
    if json_output:
        say_json(stages)
        return
    table = RichTable("stage", "to do", "kept", "why", box=None)
    for stage in stages:
        why = ", ".join(f"{number} {reason}" for reason, number in stage.reasons.items()) or "nothing has changed"
        table.add_row(stage.stage, f"{stage.todo} {stage.unit}", str(stage.kept), why)
    out.print(table)


@app.command()
def run(
    until: UntilOption = Until.train,
    at: Annotated[
        str | None,
        typer.Option(metavar="RUN_ID", help="Train on the rows that this training's run read; nothing else is done."),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Run the pipeline: only what has changed since the last run is done."""
    settings = read_settings(config, overrides)
    if at is not None and until is not Until.train:
        raise SettingsError(f"--at trains, and --until {until.value} stops before that; leave out one")
    summary = execute(settings, until.value, at=at)
    if json_output:
        say_json(summary)
    else:
        print_summary(summary)


@app.command()
def predict(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Paths or s3:// URLs of videos.")],
    version: Annotated[str | None, typer.Option(help="Registered version; default: the alias in the settings.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Judge videos with a registered model."""
    settings = read_settings(config, overrides)
    verdicts = score(settings, videos, version=version)
    if json_output:
        say_json([asdict(verdict) for verdict in verdicts])
    else:
        print_verdicts(verdicts)


@app.command()
def demo(
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make videos, run the whole pipeline on them, and judge two that no training saw."""
    from dfpipe.demo import prepare_demo

    with progress_bars():
        prepared = prepare_demo(Path(".dfpipe/demo"))
    settings = read_settings(prepared.config, None)
    summary = execute(settings, "train")
    verdicts = score(settings, [str(path) for path in prepared.unseen], version=None)
    if json_output:
        say_json({"videos_made": prepared.made, "run": summary, "verdicts": [asdict(one) for one in verdicts]})
        return
    print_row("made", f"{prepared.made or 'no'} videos (in {prepared.source})")
    print_summary(summary)
    out.print()
    print_verdicts(verdicts)
    out.print("\n[bold]next[/]")
    for command, purpose in (
        ("make ui", "the run in Prefect, the models in MLflow"),
        (f".venv/bin/dfpipe status -c {prepared.config}", "how every video ended"),
        (f".venv/bin/dfpipe plan -c {prepared.config}", "what a rerun would do"),
        (".venv/bin/dfpipe run --set source=FOLDER_OR_S3_URL", "your own videos"),
    ):
        out.print(f"  {command:<52}{purpose}", soft_wrap=True)


def execute(settings: Settings, until: Stage, *, at: str | None = None) -> "RunSummary":
    """Run the flow against one Prefect API and return its summary."""
    from dfpipe.cli._servers import load_flow, prefect_api

    with prefect_api(settings), progress_bars():
        summary: RunSummary = load_flow("pipeline")(settings, until, at)
    return summary


def score(settings: Settings, videos: list[str], *, version: str | None) -> "list[Verdict]":
    """Judge videos with the registered model."""
    from dfpipe.tracking import forgotten_by, load_champion
    from dfpipe.training import connect_tracking
    from dfpipe.verdict import judge

    names = settings.mlflow
    with waiting("loading the model"):
        tracking = connect_tracking(settings)
        bundle = load_champion(tracking, name=names.registered_model, alias_or_version=version or names.alias)
        receipt_id = forgotten_by(tracking, bundle.name, bundle.version)
    if receipt_id is not None:
        err.print(
            f"warning: version {bundle.version} of {bundle.name} was trained on videos that were forgotten since "
            f"(receipt {receipt_id}); train another with `dfpipe run`",
            soft_wrap=True,
        )
    with waiting("looking at the videos"):
        return [judge(bundle, video, limits=settings.limits, s3=settings.s3) for video in videos]


def print_summary(summary: "RunSummary") -> None:
    """Print what a run found and did, a line for each thing."""
    for name, text in summary.rows():
        print_row(name, text)


def print_row(name: str, text: str) -> None:
    """Print a name and what there is to say of it; never cut, as it may be copied."""
    out.print(f"[bold]{name:<16}[/]{escape(text)}", soft_wrap=True)


def print_verdicts(verdicts: "list[Verdict]") -> None:
    """Print verdicts, one line each; never cut, as paths may be copied."""
    out.print("[bold]verdict  P(fake)  faces   video[/]")
    for one in verdicts:
        score = "" if one.score is None else f"{one.score:.2f}"
        reason = f"  ({one.reason})" if one.reason else ""
        faces = f"{one.faces} of {one.frames}"
        out.print(f"{one.verdict:<9}{score:<9}{faces:<8}{escape(one.video + reason)}", soft_wrap=True)
    if verdicts:
        out.print(f"P(fake): mean over the faces, by {verdicts[0].model}; a model's opinion, not proof", soft_wrap=True)
