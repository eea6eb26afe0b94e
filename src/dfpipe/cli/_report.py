"""Commands that look: at what a store accounts for, and at single videos."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table as RichTable

from dfpipe.cli._app import Config, Debug, Json, Overrides, app, err, out, print_table, read_settings, say_json, waiting
from dfpipe.settings import Settings

if TYPE_CHECKING:
    from dfpipe.probe import Probe
    from dfpipe.tracking import TrainingRecord

__all__: list[str] = []


@app.command()
def report(
    folder: Annotated[
        str | None,
        typer.Option(
            "--out", metavar="FOLDER", help="Also write report.html, report.md and its picture there; may be s3://."
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Also write the page alone, into this file.")
    ] = None,
    run_id: Annotated[
        str | None, typer.Option("--run", metavar="ID", help="Run to speak of; default: the one that wrote last.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Account for the store's videos: losses by group, balance, distributions, throughput and cost."""
    from dfpipe.errors import UserError
    from dfpipe.report import example_faces, make_report, printable, report_sections, to_html, write_report
    from dfpipe.storage import open_location

    settings = read_settings(config, overrides)
    made = make_report(settings, run_id=run_id)
    if run_id is not None and made.run is not None and not made.run.statuses:
        known = (
            f"give one of those that did, newest first: {', '.join(made.runs)}"
            if made.runs
            else "no run has yet: dfpipe run"
        )
        raise UserError(
            printable(f"run {run_id!r} wrote no row that counts under these settings ({made.fingerprint}); {known}")
        )
    written = []
    if folder or html:
        training, faces = _find_training(settings), example_faces(settings)
    if folder:
        written = write_report(made, open_location(folder, settings.s3), training=training, faces=faces)
    if html is not None:
        page = open_location(html.absolute(), settings.s3)
        page.write_bytes(to_html(made, training=training, faces=faces).encode())
        written.append(page.url)
    if json_output:
        say_json(made)
        return
    out.print(f"store {made.store}, fingerprint {made.fingerprint}", markup=False, soft_wrap=True)
    if made.run_id is not None:
        out.print(f"this run: the rows that run {printable(made.run_id)} wrote", markup=False, soft_wrap=True)
    if not made.videos:
        out.print("no run has written a catalog to this store yet")
    for section in report_sections(made):
        out.print(f"\n[bold]{section.title}[/]")
        for note in section.notes:
            out.print(printable(note), markup=False)
        table = RichTable(box=None)
        for index, heading in enumerate(section.header):
            table.add_column(heading, justify="left" if index < section.num_text_columns else "right")
        for row in section.rows:
            table.add_row(*(escape(printable(cell)) for cell in row))
        print_table(table)
    for url in written:
        out.print(f"written {url}", markup=False, soft_wrap=True)


def _find_training(settings: Settings) -> "TrainingRecord | None":
    """Look for the training of these rows; a report can do without the server that knows."""
    from dfpipe.errors import ServiceError
    from dfpipe.training import find_standing_training

    try:
        with waiting("looking for the training"):
            return find_standing_training(settings)
    except ServiceError as error:
        err.print(f"warning: the page tells of no training: {error}", markup=False, soft_wrap=True)
        return None


@app.command()
def probe(
    videos: Annotated[list[str], typer.Argument(metavar="VIDEO...", help="Paths or s3:// URLs of videos.")],
    check: Annotated[bool, typer.Option("--check", help="Decode every frame and count the damaged ones.")] = False,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Tell the facts about videos, from their packets; what cannot be used is named with its reason."""
    from dfpipe.probe import probe_video
    from dfpipe.report import printable

    settings = read_settings(config, overrides)
    with waiting("looking at the videos"):
        probes = [probe_video(video, limits=settings.limits, s3=settings.s3, check=check) for video in videos]
    if json_output:
        say_json([asdict(one) for one in probes])
    else:
        _print_facts(probes)
        for one in probes:
            if one.fault is not None:
                out.print(f"{one.fault:>12}  {printable(f'{one.video}: {one.reason}')}", markup=False, soft_wrap=True)
    if any(one.fault is not None for one in probes):
        raise typer.Exit(2)


def _print_facts(probes: "Sequence[Probe]") -> None:
    """Print a line for every video that could be opened."""
    from dfpipe.report import printable

    table = RichTable("container", "codec", "picture", "pixels", box=None)
    for heading in ("turned", "frames/s", "frames", "key frames", "seconds", "MB"):
        table.add_column(heading, justify="right")
    table.add_column("sound")
    table.add_column("streams", justify="right")
    checked = any(one.damaged_frames is not None for one in probes)
    if checked:
        table.add_column("damaged", justify="right")
    table.add_column("video")
    for one in probes:
        info = one.info
        if info is None:
            continue
        table.add_row(
            info.container,
            info.codec,
            f"{info.width} x {info.height}",
            info.pixel_format,
            str(info.rotation_degrees),
            f"{info.frame_rate:.5g}{' (varies)' if info.is_variable_rate else ''}",
            str(info.num_frames),
            str(len(info.keyframes)),
            f"{info.duration_seconds:.2f}",
            f"{info.size_bytes / 1e6:.2f}",
            "yes" if info.has_audio else "no",
            str(info.num_streams),
            *([str(one.damaged_frames)] if checked else []),
            escape(printable(one.video)),
        )
    if table.row_count:
        print_table(table)
