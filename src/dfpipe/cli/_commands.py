"""Commands that start no flow."""

from dataclasses import asdict, astuple
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import filesize
from rich.markup import escape
from rich.table import Table as RichTable

from dfpipe import __version__
from dfpipe.cli._app import (
    Config,
    Debug,
    Json,
    Overrides,
    app,
    err,
    out,
    print_row,
    print_table,
    progress_bars,
    read_settings,
    say_json,
    say_json_rows,
    waiting,
)
from dfpipe.cli._config import to_documented_yaml
from dfpipe.errors import SettingsError
from dfpipe.settings import without_password

if TYPE_CHECKING:
    from dfpipe.status import Aliases, Status

__all__: list[str] = []


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"dfpipe {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """From a bucket of videos to a reviewed deepfake classifier, and again tomorrow for only what changed."""


class Donors(StrEnum):
    """Whose face a pseudo-fake gets."""

    own = "self"
    other = "other"


class SynthLayout(StrEnum):
    """Layouts that synth writes."""

    ffpp = "ffpp"
    celebdf = "celebdf"
    dfdc = "dfdc"


@app.command()
def synth(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write: new, empty, or of an earlier call.")],
    real: Annotated[
        Path | None, typer.Option("--from", metavar="DIR", help="Make pseudo-fakes of the real videos in this folder.")
    ] = None,
    donors: Annotated[
        Donors | None,
        typer.Option(help="With --from: blend the same person's face back in (default), or another person's."),
    ] = None,
    identities: Annotated[int | None, typer.Option(min=1, help="People to invent; default 24.")] = None,
    first_identity: Annotated[
        int | None,
        typer.Option(min=0, help="Number of the first; the same seed with higher numbers gives other people."),
    ] = None,
    layout: Annotated[
        SynthLayout | None, typer.Option(help="Layout to write invented people in; default ffpp.")
    ] = None,
    strength: Annotated[float, typer.Option(min=0, max=1, help="0: hardly visible; 1: coarse.")] = 0.6,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; default: one for each core.")] = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Make labelled videos: invented talking heads, or pseudo-fakes of real videos of your own."""
    from dfpipe import progress
    from dfpipe.engine import usable_cores
    from dfpipe.synth import write_dataset, write_pseudo_fakes

    if real is None and donors is not None:
        raise SettingsError("--donors is for pseudo-fakes of real videos; give --from DIR, or leave it out")
    if real is not None and (identities, first_identity, layout) != (None, None, None):
        raise SettingsError(
            "--identities, --first-identity and --layout are for invented people; leave out with --from"
        )
    jobs = jobs or usable_cores()
    show = partial(progress.report, "videos")
    with progress_bars():
        if real is None:
            report = write_dataset(
                folder,
                num_identities=identities or 24,
                first_identity=first_identity or 0,
                layout=(layout or SynthLayout.ffpp).value,
                strength=strength,
                seed=seed,
                jobs=jobs,
                on_progress=show,
            )
        else:
            report = write_pseudo_fakes(
                real,
                folder,
                donors=(donors or Donors.own).value,
                strength=strength,
                seed=seed,
                jobs=jobs,
                on_progress=show,
            )
    if json_output:
        say_json(asdict(report))
        return
    out.print(f"{report.num_real} real and {report.num_fake} fake videos in {folder}")
    for skipped in report.skipped:
        err.print(f"skipped {skipped.video}: {skipped.reason}", markup=False)
    out.print(f"next: dfpipe run --set source={folder}")


@app.command()
def catalog(
    root: Annotated[str | None, typer.Argument(help="Folder or s3:// URL; default: the setting source.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Read a data set's layout: which videos, which labels, who is in them. Nothing is downloaded or stored."""
    import pyarrow.compute as pc

    from dfpipe.catalog import count_attributes, read_catalog
    from dfpipe.errors import CatalogError
    from dfpipe.models import identity_groups
    from dfpipe.storage import open_location

    settings = read_settings(config, overrides)
    where = root or settings.source
    if where is None:
        raise CatalogError("no folder was named; give one, or set source in the settings")
    with waiting(f"reading {where}"):
        videos = read_catalog(open_location(where, settings.s3), layout=settings.layout)
    if json_output:
        say_json_rows(row for batch in videos.to_batches(10_000) for row in batch.to_pylist())
        return
    kinds = ["dataset", "manipulation", "compression", "label"]
    counts = videos.group_by(kinds).aggregate([([], "count_all")]).sort_by([(kind, "ascending") for kind in kinds])
    table = RichTable("data set", "manipulation", "compression", "label", "videos", box=None)
    for row in counts.to_pylist():
        table.add_row(*(escape(row[kind]) for kind in kinds), str(row["count_all"]))
    out.print(table)
    # Each pair once, however many videos they are seen in together.
    pairs = videos.group_by(["target", "source"]).aggregate([]).to_pydict()
    together = [(one,) if other is None else (one, other) for one, other in zip(*pairs.values(), strict=True)]
    groups = int(identity_groups(together).max()) + 1
    people = len({person for pair in together for person in pair})
    size_gb = pc.sum(videos["size_bytes"]).as_py() / 1e9
    out.print(f"{len(videos)} videos, {size_gb:.3g} GB, {people} people in {groups} groups that share nobody")
    if attributes := count_attributes(videos):
        told = ", ".join(f"{name} ({number} value{'s' * (number > 1)})" for name, number in attributes.items())
        out.print(f"attributes: {told}", markup=False)


@app.command()
def status(
    failures: Annotated[
        bool, typer.Option("--failures", help="List every video that gave no face, with its reason.")
    ] = (False),
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Show the ledger: the catalog's videos by state and reason, under the present settings."""
    from dfpipe.report import printable
    from dfpipe.status import read_aliases, read_status

    settings = read_settings(config, overrides)
    report = read_status(settings)
    with waiting("asking MLflow"):
        aliases = read_aliases(settings)
    if json_output:
        say_json(asdict(report) | {"models": asdict(aliases)})
        return
    out.print(f"store {report.store}, fingerprint {report.fingerprint}", markup=False, soft_wrap=True)
    table = RichTable("status", box=None)
    for heading in ("videos", "frames wanted", "decoded", "missing", "with a face", "without", "faces kept"):
        table.add_column(heading, justify="right")
    for row in report.statuses:
        table.add_row(*(str(value) for value in astuple(row)))
    print_table(table)
    if not report.statuses:
        out.print("no run has written a catalog to this store yet")
    for failure in report.failures if failures else ():
        line = printable(f"{failure.video_id}: {failure.reason}")
        out.print(f"{failure.status:>12}  {line}", soft_wrap=True, markup=False)
    if report.failures and not failures:
        out.print(f"{len(report.failures)} videos were looked at and gave no face; list them with --failures")
    _print_state(report, aliases)


def _print_state(status: "Status", aliases: "Aliases") -> None:
    """Print the last runs, the size of the store and the models, a line for each thing."""
    from dfpipe.report import printable

    for run in status.runs:
        when = f"{run.first_commit:%Y-%m-%d %H:%M} to {run.last_commit:%H:%M} UTC, {run.commits} commits"
        print_row("run", printable(f"{run.run_id}: {when}, dfpipe {run.dfpipe_version or 'unknown'}"))
    if status.sizes:
        total = filesize.decimal(sum(one.size_bytes for one in status.sizes))
        by_table = ", ".join(f"{one.table} {filesize.decimal(one.size_bytes)}" for one in status.sizes)
        print_row("size", f"{total}: {by_table}")
    if aliases.problem is not None:
        print_row("models", f"unknown: {printable(aliases.problem)}")
        return
    told = [f"{alias} is version {version}" for alias, version in aliases.versions.items() if version is not None]
    print_row(f"{aliases.model}", ", ".join(told) or "no champion and no challenger yet")


@app.command("config")
def show_config(
    config: Config = None, overrides: Overrides = None, json_output: Json = False, debug: Debug = False
) -> None:
    """Print the effective settings with what each means, secrets masked; a file to start one's own from."""
    settings = read_settings(config, overrides)
    if json_output:
        say_json(settings.model_dump(mode="json"))
    else:
        print(to_documented_yaml(settings), end="")  # noqa: T201 - this is the output


@app.command()
def up(
    dask: Annotated[
        bool, typer.Option("--dask", help="Also start a Dask scheduler and dask.workers workers, which runs then use.")
    ] = False,
    s3: Annotated[bool, typer.Option("--s3", help="Also start a local S3 server (Ceph's gateway).")] = False,
    prefect_port: Annotated[int | None, typer.Option(help="Port of Prefect; default 4200, or a free one.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Port of MLflow; default 5000, or a free one.")] = None,
    dask_port: Annotated[
        int | None, typer.Option(help="Port of Dask's scheduler; default 8786, or a free one.")
    ] = None,
    s3_port: Annotated[int | None, typer.Option(help="Port of S3; default 8333, or a free one.")] = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Start local servers: Prefect, MLflow, with --dask workers, with --s3 S3. They run on until `dfpipe down`."""
    from dfpipe.cli._servers import keep_prefect, start
    from dfpipe.services import ServiceName, s3_access

    settings = read_settings(config, overrides)
    asked: dict[ServiceName, int | None] = {
        "dask": dask_port,
        "prefect": prefect_port,
        "mlflow": mlflow_port,
        "s3": s3_port,
    }
    ports = {name: port for name, port in asked.items() if port is not None}
    started = []
    with waiting("starting servers; the first time takes up to a minute"):
        if s3:
            started += start(settings, ["s3"], ports=ports, s3_buckets=["dfpipe"])
            if settings.s3.endpoint_url is None:
                # MLflow's pages show pictures out of the store, and need the keys for that.
                settings = settings.model_copy(update={"s3": s3_access(settings.state).settings})
        # Where the settings name a server there is no database that another could show.
        remote = without_password(settings.mlflow.tracking_uri or "")
        shows_remote = remote.startswith(("http://", "https://"))
        names: list[ServiceName] = ["prefect"] if shows_remote else ["prefect", "mlflow"]
        if dask:
            names.append("dask")
        started += start(settings, names, ports=ports)
    keep_prefect(settings)
    s3_env = _write_s3_env(settings.state) if s3 else None
    if json_output:
        say_json([{**asdict(service), "env": s3_env if service.name == "s3" else None} for service in started])
        return
    for service in started:
        pages = f", pages {service.pages}" if service.pages else ""
        out.print(f"{service.name:>8}  {service.url}{pages}  (log {service.log})", soft_wrap=True)
    if shows_remote:
        out.print(f"  mlflow  {remote}, as mlflow.tracking_uri says; none is started", soft_wrap=True)
    if s3_env is not None:
        out.print(f"          bucket s3://dfpipe; its address and keys: source {s3_env}", soft_wrap=True)
    out.print(f"stop them with: dfpipe down{f' -c {config}' if config else ''}", markup=False, soft_wrap=True)


def _write_s3_env(state: Path) -> Path:
    """Write the S3 server's address and keys as settings variables into a file that only its owner can read."""
    from dfpipe.services import s3_access

    access = s3_access(state).settings
    secret = access.secret_access_key.get_secret_value() if access.secret_access_key else ""
    values = {"ENDPOINT_URL": access.endpoint_url, "ACCESS_KEY_ID": access.access_key_id, "SECRET_ACCESS_KEY": secret}
    file = state / "s3" / "env"
    file.touch(mode=0o600)
    file.write_text("".join(f"export DFPIPE_S3__{name}={value}\n" for name, value in values.items()))
    return file


@app.command()
def down(config: Config = None, overrides: Overrides = None, json_output: Json = False, debug: Debug = False) -> None:
    """Stop the local servers that `dfpipe up` started, and nothing else."""
    from dfpipe.services import down as stop

    stopped = stop(read_settings(config, overrides).state)
    if json_output:
        say_json(stopped)
    else:
        out.print(f"stopped {', '.join(stopped)}" if stopped else "nothing was running")


@app.command()
def doctor(config: Config = None, overrides: Overrides = None, json_output: Json = False, debug: Debug = False) -> None:
    """Say what is installed, reachable and writable, and what to do about the rest."""
    from dfpipe.doctor import examine

    findings = examine(read_settings(config, overrides))
    if json_output:
        say_json(findings)
    else:
        marks = {True: "[green]ok[/]", False: "[red]no[/]", None: "[dim]--[/]"}
        table = RichTable("", "", "", box=None, show_header=False)
        for finding in findings:
            detail = escape(finding.detail) + (f"\n[dim]{escape(finding.advice)}[/]" if finding.advice else "")
            table.add_row(marks[finding.ok], finding.name, detail)
        out.print(table)
    if any(finding.ok is False for finding in findings):
        raise typer.Exit(2)
