"""Commands that look after the store: what its tables hold, small files merged, bytes given back."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from rich.table import Table as RichTable

from dfpipe.cli._app import (
    Config,
    Debug,
    Json,
    Overrides,
    app,
    ask,
    err,
    out,
    print_table,
    progress_bars,
    read_settings,
    say_json,
    waiting,
)
from dfpipe.errors import SettingsError, StoreError, UserError
from dfpipe.settings import Settings
from dfpipe.shards.schemas import FILTERED_BY, SCHEMAS, Table
from dfpipe.shards.upkeep import RETENTION_HOURS

if TYPE_CHECKING:
    from dfpipe.shards import Tables
    from dfpipe.shards.upkeep import TableFacts

__all__: list[str] = []

MANY_SMALL_FILES = 16
"""From this number on, small files of one partition are spoken of: a run or two leave fewer."""

MEANINGS: dict[Table, str] = {
    "catalog": "One row per video of the source, replaced as a whole when the source changes.",
    "claims": "Which name of files counts for which video; it makes sure that two runs at one time double nothing.",
    "frames": "The frames that were looked at.",
    "detections": "Every face found, kept or not.",
    "faces": "The faces kept, with their crops.",
    "face_videos": "Clips of the face alone, where `extract.face_video` asks for them.",
    "videos": "The ledger: one row per video content and fingerprint says how it ended.",
    "features": "One row per face and feature set.",
}


@app.command()
def tables(
    describe: Annotated[
        bool, typer.Option("--describe", help="Instead: every column with type and meaning, as Markdown.")
    ] = False,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Say what each table of the store holds under which settings: rows, files, bytes, versions. Nothing is written."""
    if describe:
        if json_output:
            say_json({table: [_column(table, field) for field in SCHEMAS[table]] for table in SCHEMAS})
        else:
            print("\n\n".join(map(_described, SCHEMAS)))  # noqa: T201 - this is the output
        return
    from dfpipe.maintenance import store_tables
    from dfpipe.shards.upkeep import describe_tables

    settings = read_settings(config, overrides)
    store = store_tables(settings)
    with waiting("reading the tables' logs"):
        facts = describe_tables(store, target_bytes=settings.shard_bytes)
        known = _meanings(store, settings)
    if json_output:
        say_json([_as_json(one, known) for one in facts])
        return
    out.print(f"store {store.url}", markup=False, soft_wrap=True)
    if not facts:
        out.print("no run has written to this store yet")
        return
    shown = RichTable("table", "fingerprint", box=None)
    for heading in ("rows", "files", "MB", "median file MB", "versions"):
        shown.add_column(heading, justify="right")
    shown.add_column("newest commit")
    for one in facts:
        commits = [str(one.versions), f"{one.newest_commit:%Y-%m-%d %H:%M}"]
        if not one.partitions:
            shown.add_row(one.table, "", "0", "0", "0", "", *commits)
        for number, part in enumerate(one.partitions):
            shown.add_row(
                "" if number else one.table,
                part.fingerprint or "",
                "" if part.rows is None else str(part.rows),
                str(part.files),
                _mb(part.size_bytes),
                _mb(part.median_file_bytes),
                *(("", "") if number else commits),
            )
    print_table(shown)
    # Below the table and not in it: that would be wider than a terminal.
    for fingerprint in sorted({part.fingerprint for one in facts for part in one.partitions if part.fingerprint}):
        out.print(f"{fingerprint}  {known.get(fingerprint, 'settings not known')}", markup=False, soft_wrap=True)
    small = sum(part.small_files for one in facts for part in one.partitions if part.small_files >= MANY_SMALL_FILES)
    if small:
        out.print(f"{small} files are small, which makes readers slow: merge them with dfpipe compact")


@app.command()
def compact(
    target_bytes: Annotated[
        int | None, typer.Option(min=1, help="Size of a good file in bytes; default: the setting shard_bytes.")
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Merge the small files that short runs leave into files near a size. Safe while runs go on."""
    from dfpipe.maintenance import compact_store, is_empty
    from dfpipe.provenance import make_provenance

    settings = read_settings(config, overrides)
    with waiting("reading the tables' logs"):
        empty = is_empty(settings)
    done = []
    if not empty:
        with progress_bars():
            done = compact_store(
                settings, target_bytes=target_bytes, by=make_provenance(settings, run_id="dfpipe compact")
            )
    if json_output:
        say_json(done)
        return
    if empty:
        out.print("no run has written to this store yet")
        return
    shown = _count_table("table", "files", "MB", "files after", "MB after")
    for one in done:
        if one.files_before:
            before, after = _mb(one.bytes_before), _mb(one.bytes_after)
            shown.add_row(one.table, str(one.files_before), before, str(one.files_after), after)
    print_table(shown)
    merged = sum(one.bytes_merged for one in done)
    if merged:
        out.print(f"the {_mb(merged)} MB that were merged stay for readers of earlier versions until dfpipe vacuum")
    else:
        out.print("there was nothing to merge")


@app.command()
def vacuum(
    retention_hours: Annotated[
        int, typer.Option(min=0, help="Files stay for so many hours after they ceased to be part of a table.")
    ] = RETENTION_HOURS,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FINGERPRINT",
            help="First take what was written under it, and features made of it, out of every table; may be repeated.",
        ),
    ] = None,
    drop_unused: Annotated[
        bool, typer.Option("--drop-unused", help="The same for every fingerprint but those of the present settings.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before something is dropped.")] = False,
    config: Config = None,
    overrides: Overrides = None,
    json_output: Json = False,
    debug: Debug = False,
) -> None:
    """Delete files that no table speaks of any more: merged, replaced, dropped, or left by runs that died."""
    from dfpipe.maintenance import store_tables, vacuum_store
    from dfpipe.provenance import make_provenance
    from dfpipe.shards import open_tables, upkeep

    if drop and drop_unused:
        raise SettingsError("--drop and --drop-unused exclude each other; give one of them")
    settings = read_settings(config, overrides)
    store = store_tables(settings)
    with waiting("reading the tables' logs"):
        facts = upkeep.describe_tables(store, target_bytes=settings.shard_bytes)
        unwanted = _unwanted(facts, store, settings, drop or [], drop_unused=drop_unused)
    if unwanted and not dry_run:
        _ask(facts, unwanted, store, settings, yes=yes)
    if retention_hours < RETENTION_HOURS and not dry_run:
        err.print(
            f"files that left their table more than {retention_hours} hours ago go: whoever reads right now, or reads"
            f" an earlier version, may miss them. Runs are safe",
            soft_wrap=True,
        )
    dropped, found = [], []
    if facts:
        by = make_provenance(settings, run_id="dfpipe vacuum")
        with progress_bars():
            if unwanted and not dry_run:
                dropped = upkeep.drop(open_tables(settings.store, settings.s3), unwanted, by=by)
            found = vacuum_store(settings, retention_hours=retention_hours, dry_run=dry_run, by=by)
    if json_output:
        say_json({"fingerprints": sorted(unwanted), "dropped": dropped, "vacuumed": found, "dry_run": dry_run})
        return
    if not facts:
        out.print("no run has written to this store yet")
        return
    if unwanted:
        verb = "would drop" if dry_run else "dropped"
        files = [part for one in facts for part in one.partitions if part.fingerprint in unwanted]
        out.print(
            f"{verb} {', '.join(sorted(unwanted))}: {sum(part.files for part in files)} files,"
            f" {_mb(sum(part.size_bytes for part in files))} MB; their bytes go {retention_hours} hours later",
            soft_wrap=True,
        )
    shown = _count_table("table", "files", "MB", "would go" if dry_run else "gone", "MB", "left", "MB")
    for each in found:
        shown.add_row(
            each.table,
            str(each.files_before),
            _mb(each.bytes_before),
            str(each.files),
            _mb(each.size_bytes),
            str(each.files_before - each.files),
            _mb(each.bytes_before - each.size_bytes),
        )
    print_table(shown)


def _fingerprints(facts: "Iterable[TableFacts]") -> set[str]:
    return {part.fingerprint for one in facts for part in one.partitions if part.fingerprint is not None}


def _present(settings: Settings) -> dict[str, str]:
    """Return the fingerprints of the present settings, with what each stands for."""
    from dfpipe.extract import extract_fingerprint
    from dfpipe.plan import feature_fingerprint

    faces = extract_fingerprint(settings.extract)
    features = {
        feature_fingerprint(one, faces): f"present features: {one.name}" for one in settings.train.needed_features
    }
    return {faces: "present faces"} | features


def _meanings(store: "Tables", settings: Settings) -> dict[str, str]:
    """Say of fingerprints which settings they stand for, as far as that is known."""
    from dfpipe.stages import StageRecord, read_stages

    def told(record: StageRecord) -> str:
        chosen = record.settings
        if record.stage == "features":
            return f"features: {chosen['name']} of {record.faces_fingerprint}"
        crop = chosen["crop"]
        return (
            f"faces: {chosen['detector']['name']}, sampling {chosen['sampling']['name']},"
            f" crop {crop['shape']} {crop['size_px']} px"
        )

    known = {fingerprint: told(record) for fingerprint, record in read_stages(store).items()}
    try:
        present = _present(settings)
    except UserError:
        # The detector's weights are not on this machine, and a look at a store needs none.
        return known
    return known | {
        fingerprint: f"present {known.get(fingerprint, name.removeprefix('present '))}"
        for fingerprint, name in present.items()
    }


def _unwanted(
    facts: "Sequence[TableFacts]", store: "Tables", settings: Settings, named: Sequence[str], *, drop_unused: bool
) -> set[str]:
    """Return the fingerprints to drop: those named with the features made of them, or all but the present ones."""
    from dfpipe.plan import feature_fingerprint
    from dfpipe.stages import read_stages

    existing = _fingerprints(facts)
    if drop_unused:
        return existing - _present(settings).keys()
    unknown = [one for one in named if one not in existing]
    if unknown:
        raise StoreError(
            f"nothing in {store.url} was written under {', '.join(unknown)};"
            f" expected of {', '.join(sorted(existing)) or 'none, as it is empty'} (dfpipe tables lists them)"
        )
    made_of = {feature_fingerprint(feature, faces) for faces in named for feature in settings.train.needed_features}
    made_of |= {features for features, record in read_stages(store).items() if record.faces_fingerprint in named}
    return {*named, *(made_of & existing)}


def _ask(facts: "Sequence[TableFacts]", unwanted: set[str], store: "Tables", settings: Settings, *, yes: bool) -> None:
    """Ask whether the fingerprints shall go."""
    if yes:
        return
    known = _meanings(store, settings)
    rows: defaultdict[str, list[str]] = defaultdict(list)
    for one in facts:
        for part in one.partitions:
            if part.fingerprint in unwanted:
                rows[part.fingerprint or ""].append(f"{one.table} {_mb(part.size_bytes)} MB")
    for fingerprint, held in sorted(rows.items()):
        meaning = f" ({known[fingerprint]})" if fingerprint in known else ""
        err.print(f"{fingerprint}{meaning}: {', '.join(held)}", markup=False, soft_wrap=True)
    ask(f"drop {len(unwanted)} fingerprints from {store.url}?", deed="drops what the lines above name")


def _as_json(facts: "TableFacts", known: dict[str, str]) -> dict[str, Any]:
    told = asdict(facts)
    for part in told["partitions"]:
        part["settings"] = known.get(part["fingerprint"])
    return told | {name: told[name].isoformat() for name in ("oldest_commit", "newest_commit")}


def _count_table(first: str, *others: str) -> RichTable:
    shown = RichTable(first, box=None)
    for heading in others:
        shown.add_column(heading, justify="right")
    return shown


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.2f}"


def _column(table: Table, column: pa.Field) -> dict[str, Any]:
    return {
        "column": column.name,
        "type": str(column.type).replace("element: ", ""),
        "nullable": column.nullable,
        # deltalake itself writes the catalog, with statistics on every column.
        "statistics": table == "catalog" or column.name in FILTERED_BY,
        "meaning": column.metadata[b"doc"].decode(),
    }


def _described(table: Table) -> str:
    lines = [f"### {table}", MEANINGS[table], "", "| column | type | statistics | meaning |", "|---|---|---|---|"]
    for field in SCHEMAS[table]:
        told = _column(table, field)
        kind = f"{told['type']}, may be null" if told["nullable"] else told["type"]
        skips = "partition" if field.name == "fingerprint" else "yes" if told["statistics"] else ""
        lines.append(f"| `{told['column']}` | {kind} | {skips} | {told['meaning']} |")
    return "\n".join(lines)
