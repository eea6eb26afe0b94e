"""Your own videos: a metadata.csv beside them.

::

    video,label,identity
    anna.mp4,real,anna
    fakes/anna_as_ben.mp4,fake,anna

``video`` is a path below the root or below its ``videos`` folder; ``label`` is real or fake.
Optional columns: manipulation, target (or identity, which means the same), source, split, compression, dataset. All
others are attributes of the videos, such as skin_tone or lighting, by which a training can give its figures.
Where nobody is named, each video counts as a person of its own. If people recur, training and test then share them and
the figures come out better than they are: name them wherever you can.
"""

import logging
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from dfpipe.catalog._attributes import choose_attributes
from dfpipe.catalog._entry import Entry, as_split
from dfpipe.catalog._listing import Listing
from dfpipe.catalog._rows import find_video, read_columns, read_rows
from dfpipe.catalog._video import Label
from dfpipe.errors import CatalogError

__all__ = ["EXPECTED", "entries", "fits"]

EXPECTED = "a metadata.csv with columns video and label"

_FILE = "metadata.csv"
_PEOPLE = frozenset({"identity", "target", "source"})
_NEEDED = ("video", "label")
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
    longest: dict[str, int] = {}
    for row, _ in read_rows(text, url, needed=_NEEDED):
        total += 1
        longest = {name: max(len(value), longest.get(name, 0)) for name, value in row.items()}
        if find_video(row["video"], there) is None:
            first = first if missing else row["video"]
            missing += 1
    if missing:
        raise CatalogError(
            f"{url} names {missing} of {total} videos that are not there, the first is {first!r}; "
            f"give paths below {listing.root.url} or its videos folder, or take the rows out"
        )
    columns = read_columns(text)
    _check_people(columns, url)
    attributes = choose_attributes(columns, longest, known=_COLUMNS, url=url)
    _warn_of_slips(attributes, url)
    for row, line in read_rows(text, url, needed=_NEEDED):
        path = find_video(row["video"], there)
        assert path is not None  # noqa: S101 - just looked
        yield _entry(row, path, listing.name, f"{url} line {line}", attributes)


def _check_people(columns: list[str], url: str) -> None:
    if {"identity", "target"} <= set(columns):
        raise CatalogError(f"{url} has both an identity and a target column, which mean the same; keep one")
    if _PEOPLE.isdisjoint(columns):
        _log.warning(
            "%s names nobody, so each video counts as a person of its own; if people recur, figures will be too good: "
            "add a column identity",
            url,
        )


def _warn_of_slips(attributes: Iterable[str], url: str) -> None:
    """Say which attributes look like a column that was meant."""
    for column in attributes:
        if meant := get_close_matches(column, sorted(_COLUMNS), n=1, cutoff=0.8):
            _log.warning("%s has a column %s, which is kept as an attribute; did you mean %s?", url, column, meant[0])


def _entry(row: dict[str, str], path: str, name_of_set: str, where: str, attributes: Mapping[str, str]) -> Entry:
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
        attributes={name: row[column] for column, name in attributes.items()},
    )
