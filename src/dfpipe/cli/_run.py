"""Commands that plan, run and use the pipeline."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer
from pydantic import ValidationError
from rich import filesize
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
    print_row,
    progress_bars,
    read_settings,
    say_json,
    waiting,
)
from dfpipe.errors import SettingsError, VideoStatus
from dfpipe.settings import Selection, Settings, Stage

if TYPE_CHECKING:
    from dfpipe.preview import Estimate, StagePlan
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
VideosOption = Annotated[
    list[str] | None,
    typer.Option("--videos", metavar="PATTERN", help="Only these ids or patterns, as 'ffpp/*/c23/*'; may be repeated."),
]
DatasetOption = Annotated[
    list[str] | None, typer.Option("--dataset", metavar="NAME", help="Only this data set; may be repeated.")
]
SinceOption = Annotated[
    str | None,
    typer.Option("--since", metavar="DATE", help="Only videos changed then or later, as 2026-11-24 or with a time."),
]
BeforeOption = Annotated[
    str | None,
    typer.Option("--before", metavar="DATE", help="Only videos changed earlier, as 2026-11-25 or with a time."),
]
RetryOption = Annotated[
    list[str] | None,
    typer.Option(
        "--retry",
        metavar="STATUS",
        help=f"Do again the videos that ended so ({', '.join(get_args(VideoStatus))}); may be repeated.",
    ),
]


@app.command()
def plan(
    until: UntilOption = Until.train,
    videos: VideosOption = None,
    datasets: DatasetOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    retry: RetryOption = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Say what a run would do, and why. Nothing is written to the store and no video is opened."""
    from dfpipe.preview import make_plan

    settings = read_settings(config, overrides)
    selection = read_selection(videos, datasets, since, before, retry)
    with waiting("comparing the source with the store"):
        stages = make_plan(settings, until=until.value, selection=selection)
    if json_output:
        say_json(stages)
    else:
        print_plan(stages)


@app.command()
def run(
    until: UntilOption = Until.train,
    videos: VideosOption = None,
    datasets: DatasetOption = None,
    since: SinceOption = None,
    before: BeforeOption = None,
    retry: RetryOption = None,
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
    selection = read_selection(videos, datasets, since, before, retry)
    if at is not None and (until is not Until.train or selection != Selection()):
        raise SettingsError(
            "--at only trains, on the rows of an earlier training; leave out --until and what narrows a run"
        )
    summary = execute(settings, until.value, selection, at=at)
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
    summary = execute(settings, "train", Selection())
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


def read_selection(
    videos: Sequence[str] | None,
    datasets: Sequence[str] | None,
    since: str | None,
    before: str | None,
    retry: Sequence[str] | None,
) -> Selection:
    """Turn the options that narrow a run into a selection."""
    try:
        return Selection.model_validate(
            {
                "videos": videos or [],
                "datasets": datasets or [],
                "since": since,
                "before": before,
                "retry": retry or [],
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        if first["loc"][0] in {"since", "before"}:
            expected = "a date such as 2026-11-24 or a time such as 2026-11-24T06:30"
        else:
            expected = f"one of {', '.join(get_args(VideoStatus))}"
        raise SettingsError(f"--{first['loc'][0]} got {first['input']!r}, expected {expected}") from error


def execute(settings: Settings, until: Stage, selection: Selection, *, at: str | None = None) -> "RunSummary":
    """Run the flow against one Prefect API and return its summary."""
    from dfpipe.cli._servers import load_flow, prefect_api, with_local_dask

    settings = with_local_dask(settings)
    with prefect_api(settings), progress_bars(lines=settings.log.format == "text"):
        summary: RunSummary = load_flow("pipeline")(settings, until, selection, at)
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


def print_plan(stages: "Sequence[StagePlan]") -> None:
    """Print a plan: a line for each stage, and below it what there is to say of it."""
    table = RichTable("stage", "to do", "kept", "why", box=None, pad_edge=False)
    for stage in stages:
        # There is but one training; of all else it is told how much of it has which reason.
        lines = [reason if stage.stage == "train" else f"{number} {reason}" for reason, number in stage.reasons.items()]
        lines = lines or ["nothing has changed"]
        rest = {reason: number for reason, number in stage.stays.items() if reason != "done"}
        if rest:
            lines.append("kept: " + ", ".join(f"{number} {reason}" for reason, number in stage.stays.items()))
        if stage.gone:
            lines.append(f"{stage.gone} gone from the source; nothing of them is deleted")
        if stage.estimate is not None:
            lines.append(in_words(stage.estimate))
        todo = f"{stage.todo} {stage.unit}"
        table.add_row(stage.stage, todo, str(stage.kept), escape("\n".join(lines)))
    out.print(table)


def in_words(estimate: "Estimate") -> str:
    """Say what a stage would take."""
    reads = f"reads {filesize.decimal(estimate.read_bytes)}"
    if estimate.cpu_seconds is None or estimate.write_bytes is None:
        return f"{reads}; what it takes is not known before the first run"
    time = f"about {duration(estimate.cpu_seconds)} of processor time"
    if estimate.seconds is not None and estimate.workers != 1:
        time += f", {duration(estimate.seconds)} on {estimate.workers} workers"
    return f"{time}; {reads}, writes {filesize.decimal(estimate.write_bytes)}"


def duration(seconds: float) -> str:
    """Say how long something takes, to two figures or so."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    if seconds < 100 * 60:
        return f"{seconds / 60:.0f} min"
    if seconds < 48 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"


def print_summary(summary: "RunSummary") -> None:
    """Print what a run found and did, a line for each thing."""
    for name, text in summary.rows():
        print_row(name, text)


def print_verdicts(verdicts: "list[Verdict]") -> None:
    """Print verdicts, one line each; never cut, as paths may be copied."""
    out.print("[bold]verdict  P(fake)  faces   video[/]")
    for one in verdicts:
        probability = "" if one.probability is None else f"{one.probability:.2f}"
        reason = f"  ({one.reason})" if one.reason else ""
        faces = f"{one.faces} of {one.frames}"
        out.print(f"{one.verdict:<9}{probability:<9}{faces:<8}{escape(one.video + reason)}", soft_wrap=True)
    if verdicts:
        made = (
            f"mean over the faces, calibrated, by {verdicts[0].model}; called fake from {verdicts[0].threshold:.2f} on"
        )
        out.print(f"P(fake): {made}; a model's opinion, not proof", soft_wrap=True)
