"""Forgetting: videos and people taken out of a store, and out of what was learned from it as far as that can be."""

import ast
import json
import re
import secrets
import string
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from html import unescape

import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.decisions import remove_reasons
from dfpipe.errors import CatalogError
from dfpipe.forgotten import Forgotten, Kind, load_forgotten, remember_forgotten
from dfpipe.provenance import Provenance, make_provenance
from dfpipe.settings import Settings
from dfpipe.shards import SCHEMAS, Table, Tables, open_tables
from dfpipe.shards.erase import count_rows, erase, find_pairs
from dfpipe.shards.log import VisibleFile
from dfpipe.shards.tables import ROW_TABLES
from dfpipe.storage import open_location, storage_errors
from dfpipe.tracking import AffectedTraining, find_trainings, mark_training, remove_names
from dfpipe.training import find_store_tracking

__all__ = ["Receipt", "Search", "forget", "look_for"]

WORDS_IN_A_NAME = 8
"""Most words of a name that is looked for in sentences."""

UNPRINTABLE = re.compile(r"\\(?:[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U00(?:0[0-9a-f]|10)[0-9a-f]{4})")
"""A character of a name as a report writes it out."""

PEOPLE = ["video_id", "content_id", "target", "source", "size_bytes"]


@dataclass(frozen=True, slots=True)
class Search:
    """What stands in a store of the videos and people that are to be forgotten."""

    videos: tuple[str, ...]
    """video_ids of all that is meant, videos of the same bytes under other names among them."""
    rows: Mapping[Table, int]
    """Rows by table; those of frames, faces and features are as many as these videos have."""
    trainings: tuple[AffectedTraining, ...]
    """Trainings that learned from them, or were judged on them."""
    marks: tuple[tuple[Kind, str], ...]
    """What is to be remembered, so that it does not come back."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was forgotten, in numbers that name nobody."""

    id: str
    """Name of the receipt; stands on the models that it concerns."""
    made_at: str
    """When, in UTC."""
    dfpipe_version: str
    """Version that did it."""
    git_revision: str
    """Commit of the checkout that the code ran from; empty where there is none."""
    videos: int
    """Videos that were forgotten."""
    rows: Mapping[Table, int]
    """Rows deleted, by table."""
    files: int
    """Files whose bytes are gone."""
    size_bytes: int
    """Bytes of those files."""
    log_entries: int
    """Commits and checkpoints of tables that told of these files, and now do not."""
    reports: int
    """Reports that named a video, and now do not."""
    reasons: int
    """Reasons in the history of champions that named one, and are gone now."""
    artifacts: int
    """Files of trainings that named a video, and now do not."""
    trainings: Sequence[AffectedTraining]
    """Trainings that were marked, with their models."""

    @property
    def did_anything(self) -> bool:
        """Whether there was anything left to do."""
        return bool(
            self.videos
            or self.files
            or self.log_entries
            or self.reports
            or self.reasons
            or self.artifacts
            or self.trainings
        )


def look_for(settings: Settings, *, videos: Sequence[str] = (), identities: Sequence[str] = ()) -> Search:
    """Look up what stands in the store of some videos and people; nothing is changed.

    Parameters
    ----------
    settings
        Where the store and MLflow are.
    videos
        video_ids.
    identities
        People, as the catalog has them in ``target`` and ``source``.

    Returns
    -------
    Search
        Also finds what was forgotten before and was committed since, by runs that were under way.

    Raises
    ------
    CatalogError
        A video or person that the store does not have and never forgot.
    StoreError, ServiceError
        The store or MLflow cannot be read.
    """
    tables = Tables(open_location(settings.store, settings.s3).url, settings.s3)
    known = load_forgotten(tables)
    people = _read_people(tables)
    asked = known.extended([*_marks("video", videos), *_marks("identity", identities)])
    # By name first, and then whatever has the same content as these: the same bytes are the same pictures.
    named = people.filter(asked.within(people.drop_columns("content_id")))
    by_name = asked.extended(_marks("video", named["video_id"].to_pylist()))
    pairs = find_pairs(tables, lambda rows: by_name.within(rows.select(["video_id"])))
    _check_known(
        videos, {video_id for video_id, _ in pairs}.union(named["video_id"].to_pylist()), known, "video", tables
    )
    _check_known(identities, {*named["target"].to_pylist(), *named["source"].to_pylist()}, known, "identity", tables)
    contents = {content_id for _, content_id in pairs}.union(named["content_id"].to_pylist())
    # All empty files have the same content, and nobody is in it.
    contents -= set(people.filter(pc.equal(people["size_bytes"], 0))["content_id"].to_pylist())
    marks = (
        *_marks("identity", identities),
        *_marks("video", sorted({*videos, *named["video_id"].to_pylist()})),
        *_marks("content", sorted(contents)),
    )
    meant = known.extended(marks)
    pairs = find_pairs(tables, meant.within)
    found = {video_id for video_id, _ in pairs}.union(people.filter(meant.within(people))["video_id"].to_pylist())
    trainings = []
    tracking = find_store_tracking(settings)
    if tracking is not None:
        trainings = find_trainings(tracking, _is_named(meant, found))
    rows = {table: number for table in ROW_TABLES if (number := count_rows(tables, table, pairs))}
    return Search(tuple(sorted(found)), rows, tuple(trainings), marks)


def forget(settings: Settings, search: Search) -> Receipt:
    """Take out of the store what was looked for, and mark the models that were trained on it.

    What is to be forgotten is remembered first, in a list that names nobody. Then everything is made to agree with the
    list. So a call that was broken off, or that came while a run was under way, is made whole by the next one.

    Returns
    -------
    Receipt
        Also left in the store, as ``receipts/<id>.json``, where there was anything to do.

    Raises
    ------
    StoreError, ServiceError
        The store or MLflow cannot be read or written.
    """
    tables = open_tables(settings.store, settings.s3)
    receipt_id = secrets.token_hex(8)
    by = make_provenance(settings, run_id=f"forget-{receipt_id}")
    forgotten = remember_forgotten(tables, search.marks, receipt_id=receipt_id)
    catalog_rows = _forget_in_catalog(tables, forgotten, by)
    erased = erase(tables, forgotten.within, by=by)
    is_named = _is_named(forgotten, set(search.videos))
    reports = _forget_in_reports(tables, is_named)
    reasons = _forget_in_reasons(tables, lambda name: is_named(name) or forgotten.has("identity", name))
    artifacts = 0
    tracking = find_store_tracking(settings)
    if tracking is not None:
        # Marked before the names go by which they are found.
        for training in search.trainings:
            mark_training(tracking, training, receipt_id=receipt_id)
        artifacts = remove_names(tracking, is_named)
    rows: dict[Table, int] = {one.table: one.rows for one in erased} | {"catalog": catalog_rows}
    receipt = Receipt(
        id=receipt_id,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        dfpipe_version=by.dfpipe_version,
        git_revision=by.git_revision,
        videos=len(search.videos),
        rows={table: number for table, number in rows.items() if number},
        files=sum(one.files for one in erased),
        size_bytes=sum(one.size_bytes for one in erased),
        log_entries=sum(one.log_entries for one in erased),
        reports=reports,
        reasons=reasons,
        artifacts=artifacts,
        trainings=search.trainings,
    )
    if receipt.did_anything:
        location = open_location(tables.url, tables.s3).child("receipts", f"{receipt_id}.json")
        location.write_bytes(json.dumps(asdict(receipt), indent=1).encode())
    return receipt


def _forget_in_catalog(tables: Tables, forgotten: Forgotten, by: Provenance) -> int:
    catalog = tables.read("catalog")
    meant = forgotten.within(catalog)
    if meant.true_count:
        kept = catalog.filter(pc.invert(meant)).cast(SCHEMAS["catalog"])
        tables.replace("catalog", kept, by=by)
    return int(meant.true_count)


def _forget_in_reports(tables: Tables, is_named: Callable[[str], bool]) -> int:
    """Take the lines of these videos out of the reports that runs left; return how many reports had any."""
    reports = open_location(tables.url, tables.s3).child("reports")
    with storage_errors("list", reports.url):
        paths = [path for path in reports.fs.find(reports.path) if path.endswith((".md", ".html"))]
    rewritten = 0
    for path in paths:
        location = reports.child(path.removeprefix(f"{reports.path}/"))
        lines = location.read_bytes().decode().splitlines(keepends=True)
        kept = [line for line in lines if not any(map(is_named, _cells(line)))]
        if len(kept) < len(lines):
            location.write_bytes("".join(kept).encode())
            rewritten += 1
    return rewritten


def _forget_in_reasons(tables: Tables, is_named: Callable[[str], bool]) -> int:
    """Take the reasons out of the history of champions that name one of these videos or people; return how many."""
    registry = open_location(tables.url, tables.s3).child("registry")
    return remove_reasons(registry, lambda reason: any(map(is_named, _names(reason))))


def _names(reason: str) -> Iterator[str]:
    """Return every name that may stand in a sentence: words and neighbouring words, without marks around them."""
    words = list(re.finditer(r"\S+", reason))
    for place, first in enumerate(words):
        for last in words[place : place + WORDS_IN_A_NAME]:
            name = reason[first.start() : last.end()]
            yield from {name, name.strip(string.punctuation)}


def _cells(line: str) -> list[str]:
    """Return the cells of a line of a table, or the name below a face, as they were before the report escaped them."""
    if line.startswith(("<tr>", "<figure")):
        cells = [unescape(cell) for cell in re.findall(r"<(?:td|figcaption)[^>]*>(.*?)</", line)]
    else:
        cells = re.split(r"(?<!\\)\|", line.strip()) if line.startswith("|") else []
        cells = [unescape(re.sub(r"\\(.)", r"\1", cell.strip())) for cell in cells]
    return [*cells, *(unprinted for cell in cells if (unprinted := _unprinted(cell)) != cell)]


def _unprinted(text: str) -> str:
    """Undo what `dfpipe.report.printable` does to a text."""
    return UNPRINTABLE.sub(lambda found: str(ast.literal_eval(f'"{found[0]}"')), text)


def _read_people(tables: Tables) -> pa.Table:
    """Read who is in which video, from every catalog of which the bytes are there, whether it counts or not.

    A video that is in the source no more stands only in an older catalog.
    """
    location = tables.location("catalog")
    schema = pa.schema([SCHEMAS["catalog"].field(name).with_nullable(True) for name in PEOPLE])
    with storage_errors("list", location.url):
        paths = [path for path in location.fs.find(location.path) if path.endswith(".parquet")]
    people = schema.empty_table()
    for path in paths:
        below = path.removeprefix(f"{location.path}/")
        if not below.startswith("_delta_log/"):
            rows = tables.read_file("catalog", VisibleFile(below, 0, None, None, None), schema)
            people = pa.concat_tables([people, rows]).group_by(PEOPLE, use_threads=False).aggregate([])
    return people.select(PEOPLE)


def _check_known(asked: Sequence[str], found: Collection[str], known: Forgotten, kind: Kind, tables: Tables) -> None:
    for one in asked:
        # One that was forgotten before is not there, and may be asked for again.
        if one not in found and not known.has(kind, one):
            raise CatalogError(
                f"{tables.url} has no {kind} {one!r}; expected a name as `dfpipe catalog --json` shows it under "
                + ("video_id" if kind == "video" else "target or source")
            )


def _marks(kind: Kind, values: Iterable[str]) -> Iterator[tuple[Kind, str]]:
    return ((kind, value) for value in values)


def _is_named(forgotten: Forgotten, videos: Collection[str]) -> Callable[[str], bool]:
    return lambda video_id: video_id in videos or forgotten.has("video", video_id)
