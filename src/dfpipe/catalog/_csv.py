"""Your own videos: a metadata.csv beside them.

::

    video,label,identity
    anna.mp4,real,anna
    fakes/anna_as_ben.mp4,fake,anna

``video`` is a path below the root or below its ``videos`` folder; ``label`` is real or fake.
Optional columns: manipulation, target (or identity, which means the same), source, split, compression, dataset.
Where nobody is named, each video counts as a person of its own. If people recur, training and test then share them and
the figures come out better than they are: name them wherever you can.
"""

import csv
import io
import logging
import posixpath
from collections.abc import Iterator, Set

from dfpipe.catalog._entry import Entry, as_split
from dfpipe.catalog._listing import Listing
from dfpipe.catalog._video import Label
from dfpipe.errors import CatalogError

__all__ = ["EXPECTED", "entries", "fits"]

EXPECTED = "a metadata.csv with columns video and label"

_FILE = "metadata.csv"
_PEOPLE = frozenset({"identity", "target", "source"})
_COLUMNS = _PEOPLE | {"video", "label", "manipulation", "split", "compression", "dataset"}
_LABELS: dict[str, Label] = {"real": "real", "fake": "fake"}
_log = logging.getLogger(__name__)


def fits(listing: Listing) -> bool:
    """Tell whether there is a metadata.csv in the root."""
    return _FILE in listing


def entries(listing: Listing, lists: Listing) -> Iterator[Entry]:  # noqa: ARG001 - its sides stand with the labels
    """Describe every video that the table names."""
    if not fits(listing):
        return
    url, text, there = listing.url(_FILE), listing.text(_FILE), listing.paths()
    # All that is missing is told at once, so the table is read twice rather than held as a million dictionaries.
    total, missing, first = 0, 0, ""
    for row, _ in _rows(text, url):
        total += 1
        if _find(row["video"], there) is None:
            first = first if missing else row["video"]
            missing += 1
    if missing:
        raise CatalogError(
            f"{url} names {missing} of {total} videos that are not there, the first is {first!r}; "
            f"give paths below {listing.root.url} or its videos folder, or take the rows out"
        )
    _warn(text, url)
    for row, line in _rows(text, url):
        path = _find(row["video"], there)
        assert path is not None  # noqa: S101 - just looked
        yield _entry(row, path, listing.name, f"{url} line {line}")


def _rows(text: str, url: str) -> Iterator[tuple[dict[str, str], int]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    try:
        columns = _columns(reader)
        reader.fieldnames = columns
        if not {"video", "label"} <= set(columns):
            raise CatalogError(f"{url} has columns {', '.join(columns)}, expected video and label, separated by commas")
        if {"identity", "target"} <= set(columns):
            raise CatalogError(f"{url} has both an identity and a target column, which mean the same; keep one")
        for row in reader:
            yield {name: value.strip() for name, value in row.items() if isinstance(value, str)}, reader.line_num
    except csv.Error as error:
        raise CatalogError(f"{url} line {reader.line_num} is not comma-separated text: {error}; mend it") from error


def _columns(reader: "csv.DictReader[str]") -> list[str]:
    return [(name or "").strip().lower() for name in reader.fieldnames or []]


def _warn(text: str, url: str) -> None:
    columns = _columns(csv.DictReader(io.StringIO(text, newline="")))
    unread = sorted(set(columns) - _COLUMNS - {""})
    if unread:
        _log.warning("%s has columns that mean nothing to the catalog: %s", url, ", ".join(unread))
    if _PEOPLE.isdisjoint(columns):
        _log.warning(
            "%s names nobody, so each video counts as a person of its own; if people recur, figures will be too good: "
            "add a column identity",
            url,
        )


def _find(video: str, there: Set[str]) -> str | None:
    paths = (posixpath.normpath(video), posixpath.normpath(f"videos/{video}"))
    return next((path for path in paths if path in there), None)


def _entry(row: dict[str, str], path: str, name_of_set: str, where: str) -> Entry:
    label = _LABELS.get(row["label"].lower())
    if label is None:
        raise CatalogError(
            f"{where} has label {row['label']!r}, expected real or fake; data sets disagree on what 0 and 1 mean"
        )
    manipulation = row.get("manipulation") or ("original" if label == "real" else "fake")
    if (manipulation == "original") != (label == "real"):
        raise CatalogError(
            f"{where} is {label} but has manipulation {manipulation!r}, expected "
            f"{'original or nothing' if label == 'real' else 'the method'}; correct one of the two"
        )
    dataset = row.get("dataset") or name_of_set
    if "/" in dataset or ":" in dataset:
        raise CatalogError(
            f"{where} is of data set {dataset!r}, expected a name without / and :; set the dataset column"
        )
    # The whole path, since a/000.mp4 and b/000.mp4 are two videos.
    name = posixpath.splitext(path)[0].removeprefix("videos/")
    return Entry(
        path=path,
        dataset=dataset,
        name=name,
        label=label,
        manipulation=manipulation,
        compression=row.get("compression", ""),
        target=row.get("target") or row.get("identity") or name,
        source=(row.get("source") or None) if label == "fake" else None,
        split=as_split(row.get("split", ""), where),
    )
