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
    return _FILE in listing.files


def entries(listing: Listing) -> list[Entry]:
    """Describe every video that the table names."""
    if not fits(listing):
        return []
    url = listing.files[_FILE].url
    rows = _rows(listing.text(_FILE), url)
    missing = [row["video"] for row, _ in rows if _find(row["video"], listing) is None]
    if missing:
        raise CatalogError(
            f"{url} names {len(missing)} of {len(rows)} videos that are not there, the first is {missing[0]!r}; "
            f"give paths below {listing.root.url} or its videos folder, or take the rows out"
        )
    return [_entry(row, listing, f"{url} line {line}") for row, line in rows]


def _rows(text: str, url: str) -> list[tuple[dict[str, str], int]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    try:
        columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        if not {"video", "label"} <= set(columns):
            raise CatalogError(f"{url} has columns {', '.join(columns)}, expected video and label, separated by commas")
        if {"identity", "target"} <= set(columns):
            raise CatalogError(f"{url} has both an identity and a target column, which mean the same; keep one")
        rows = [
            ({name: value.strip() for name, value in row.items() if isinstance(value, str)}, reader.line_num)
            for row in reader
        ]
    except csv.Error as error:
        raise CatalogError(f"{url} line {reader.line_num} is not comma-separated text: {error}; mend it") from error
    unread = sorted(set(columns) - _COLUMNS - {""})
    if unread:
        _log.warning("%s has columns that mean nothing to the catalog: %s", url, ", ".join(unread))
    if _PEOPLE.isdisjoint(columns):
        _log.warning(
            "%s names nobody, so each video counts as a person of its own; if people recur, figures will be too good: "
            "add a column identity",
            url,
        )
    return rows


def _find(video: str, listing: Listing) -> str | None:
    paths = (posixpath.normpath(video), posixpath.normpath(f"videos/{video}"))
    return next((path for path in paths if path in listing.files), None)


def _entry(row: dict[str, str], listing: Listing, where: str) -> Entry:
    path = _find(row["video"], listing)
    assert path is not None  # noqa: S101 - entries() has looked
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
    dataset = row.get("dataset") or listing.name
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
