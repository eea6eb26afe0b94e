"""The command that takes videos and people out of a store."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from dfpipe.cli._app import Config, Debug, Json, Overrides, app, ask, out, print_row, read_settings, say_json, waiting
from dfpipe.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfpipe.forget import Receipt, Search
    from dfpipe.shards import Table
    from dfpipe.tracking import AffectedTraining

__all__: list[str] = []


@app.command()
def forget(
    videos: Annotated[
        list[str] | None, typer.Option("--video", metavar="ID", help="A video, by its video_id; may be repeated.")
    ] = None,
    identities: Annotated[
        list[str] | None,
        typer.Option("--identity", metavar="ID", help="A person, as target or source of the catalog; may be repeated."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Take videos, or all videos of a person, out of the store for good, and mark the models trained on them."""
    from dfpipe.forget import forget as take_out
    from dfpipe.forget import look_for

    if not videos and not identities:
        raise SettingsError("nothing was named; say what to forget with --video ID or --identity ID")
    settings = read_settings(config, overrides)
    with waiting("looking for it"):
        found = look_for(settings, videos=videos or (), identities=identities or ())
    if not yes and json_output:
        say_json({"done": False, "videos": found.videos, "rows": found.rows, "trainings": found.trainings})
        return
    if not json_output:
        print_search(found)
    if not yes:
        ask("Forget it all? This cannot be undone.", deed="forgets what is named above for good")
    with waiting("forgetting"):
        receipt = take_out(settings, found)
    if json_output:
        say_json({"done": True, **asdict(receipt)})
    else:
        print_receipt(receipt)


def print_search(found: "Search") -> None:
    """Print what stands in the store, and what happens to it."""
    for video_id in found.videos:
        print_row("to forget", video_id)
    print_row("rows", _count(found.rows))
    for training in found.trainings:
        print_row("to mark", name_training(training))
    out.print(
        "Older versions of these tables that need the files in which they stand cannot be read any more, so that "
        "`dfpipe run --at` has no more rows for trainings that read those versions.",
        soft_wrap=True,
    )


def print_receipt(receipt: "Receipt") -> None:
    """Print what was done and what is left to do."""
    if not receipt.did_anything:
        out.print("nothing was left to do")
        return
    for name, text in (
        ("rows deleted", _count(receipt.rows)),
        ("bytes gone", f"{receipt.size_bytes} in {receipt.files} files; their other rows stand in new files"),
        (
            "names gone",
            f"{receipt.log_entries} log entries, {receipt.reports} reports, {receipt.reasons} reasons, "
            f"{receipt.artifacts} artifacts",
        ),
        ("receipt", f"receipts/{receipt.id}.json in the store; it names nobody"),
    ):
        print_row(name, text)
    for training in receipt.trainings:
        print_row("marked", name_training(training))
    if receipt.trainings:
        out.print("Models keep what they learned: train anew with `dfpipe run`, then delete these in MLflow.")
    out.print("If a run was under way meanwhile, say the same once more when it has ended.", soft_wrap=True)


def _count(rows: "Mapping[Table, int]") -> str:
    return ", ".join(f"{number} of {table}" for table, number in rows.items()) or "none"


def name_training(training: "AffectedTraining") -> str:
    """Return a training and its model in words."""
    model = "" if training.model_name is None else f"{training.model_name} version {training.model_version}, "
    return f"{model}run {training.run_id}: trained or judged on {training.videos} of these videos"
