"""What a data set tells of its videos beyond what every layout knows: skin tone, lighting, age group and the like.

A video's attributes are one JSON text in the catalog, with the names in order, so that equal attributes are equal texts
and every reader of the table can take them apart.
"""

import json
import logging
import re
from collections.abc import Collection, Iterable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog._video import Video
from dfpipe.errors import SettingsError
from dfpipe.shards.schemas import CATALOG

__all__ = [
    "MAX_ATTRIBUTES",
    "MAX_CHARACTERS",
    "MAX_PARTS",
    "UNKNOWN",
    "attribute_values",
    "attributes_text",
    "choose_attributes",
    "count_attributes",
    "part_of",
    "parts",
]

MAX_ATTRIBUTES = 32
"""Attributes that a file may give; they are read with every plan."""

MAX_CHARACTERS = 100
"""Longest value; what is longer is a text about the video, and no group of videos."""

MAX_PARTS = 30
"""Different values of an attribute by which figures are given; more of them are single people or measurements."""

UNKNOWN = "unknown"
"""Stands for the value of a video that has none, so that the parts add up to the whole."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

_log = logging.getLogger(__name__)


def choose_attributes(
    columns: Iterable[str], longest: Mapping[str, int], *, known: Collection[str], url: str
) -> dict[str, str]:
    """Return the columns of a text file that are attributes, with the attributes' names; warn of those that are not.

    Parameters
    ----------
    columns
        The file's columns.
    longest
        Characters of the longest value of each.
    known
        Columns that mean something else.
    url
        The file, for the warning.

    Examples
    --------
    >>> choose_attributes(["video", "Skin tone"], {"Skin tone": 5}, known={"video"}, url="metadata.csv")
    {'Skin tone': 'skin_tone'}
    """
    chosen: dict[str, str] = {}
    unread: dict[str, str] = {}
    for column in columns:
        if column in known or not column:
            continue
        name = re.sub(r"[\s-]+", "_", column.lower())
        if not NAME.fullmatch(name):
            unread[column] = "a name is up to 40 letters a to z, digits and _"
        elif name in CATALOG.names:
            unread[column] = "the catalog has a column of this name"
        elif name in chosen.values():
            unread[column] = "named twice"
        elif longest.get(column, 0) > MAX_CHARACTERS:
            unread[column] = f"values of up to {longest[column]} characters, where {MAX_CHARACTERS} are the most"
        elif len(chosen) == MAX_ATTRIBUTES:
            unread[column] = f"one more than {MAX_ATTRIBUTES}"
        else:
            chosen[column] = name
    if unread:
        reasons = "; ".join(f"{column[:40]} ({why})" for column, why in unread.items())
        _log.warning("%s has columns that are not kept: %s", url, reasons)
    return chosen


def attributes_text(values: Mapping[str, str]) -> str | None:
    """Return attributes as the catalog keeps them; None where no value is told.

    Examples
    --------
    >>> attributes_text({"skin_tone": "brown", "lighting": ""})
    '{"skin_tone":"brown"}'
    """
    told = {name: value for name, value in values.items() if value}
    return json.dumps(told, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if told else None


def attribute_values(catalog: pa.Table, name: str) -> pa.ChunkedArray:
    """Return an attribute of each video of a catalog, null where it has none."""
    codes = catalog["attributes"].combine_chunks().dictionary_encode()
    # Few texts are different, and only these are taken apart.
    values = [json.loads(text).get(name) for text in codes.dictionary.to_pylist()]
    return pa.chunked_array([pa.array(values, pa.string()).take(codes.indices)])


def count_attributes(catalog: pa.Table) -> dict[str, int]:
    """Return how many different values each attribute has among the videos of a catalog, by name."""
    values: dict[str, set[str]] = {}
    for text in pc.unique(catalog["attributes"].drop_null()).to_pylist():
        for name, value in json.loads(text).items():
            values.setdefault(name, set()).add(value)
    return {name: len(values[name]) for name in sorted(values)}


def part_of(video: Video, name: str) -> str:
    """Return the part of the videos to which one belongs by a column of the catalog or an attribute."""
    if name in CATALOG.names:
        return str(getattr(video, name) or "none")
    return str(json.loads(video.attributes or "{}").get(name, UNKNOWN))


def parts(catalog: pa.Table, names: Sequence[str]) -> dict[str, pa.ChunkedArray]:
    """Return the columns and attributes by which figures are wanted, null where a video has no value.

    Parameters
    ----------
    catalog
        Videos.
    names
        Columns of the catalog, or attributes.

    Raises
    ------
    SettingsError
        A name that no video has, or an attribute with so many values that its parts would be single people.
    """
    found = {}
    for name in dict.fromkeys(names):
        if name in CATALOG.names:
            found[name] = catalog[name]
            continue
        values = found[name] = attribute_values(catalog, name)
        different = pc.count_distinct(values, mode="only_valid").as_py()
        if catalog.num_rows and not different:
            there = ", ".join(count_attributes(catalog)) or "no attributes"
            raise SettingsError(
                f"train.evaluation.by got {name!r}, which none of the {catalog.num_rows} videos has; expected dataset, "
                f"manipulation, compression or split, or of their attributes: {there}"
            )
        if different > MAX_PARTS:
            raise SettingsError(
                f"train.evaluation.by got {name!r}, of which the videos have {different} different values, expected "
                f"{MAX_PARTS} or fewer; put them into bands, such as 20-29, as figures of single people say little"
            )
    return found
