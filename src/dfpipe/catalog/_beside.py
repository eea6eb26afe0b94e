"""Attributes of the videos of any layout: an attributes.csv in the root, or beside the official lists.

::

    video,skin_tone,lighting
    original_sequences/youtube/c23/videos/000.mp4,brown,dim
"""

from dfpipe.catalog._attributes import choose_attributes
from dfpipe.catalog._entry import warn_of_unknown
from dfpipe.catalog._listing import Listing
from dfpipe.catalog._rows import find_video, read_columns, read_rows
from dfpipe.errors import CatalogError

__all__ = ["read_attributes_file"]

_FILE = "attributes.csv"
_KNOWN = frozenset({"video"})


def read_attributes_file(listing: Listing, lists: Listing) -> dict[str, dict[str, str]]:
    """Return the attributes that the file gives to videos, by their path; nothing where there is no such file.

    Raises
    ------
    CatalogError
        A file that is no table of videos, or names one twice.
    """
    holder = next((one for one in (lists, listing) if _FILE in one), None)
    if holder is None:
        return {}
    url, text, there = holder.url(_FILE), holder.text(_FILE), listing.paths()
    total = 0
    unknown: set[str] = set()
    longest: dict[str, int] = {}
    for row, _ in read_rows(text, url, needed=["video"]):
        total += 1
        longest = {name: max(len(value), longest.get(name, 0)) for name, value in row.items()}
        if find_video(row["video"], there) is None:
            unknown.add(row["video"])
    warn_of_unknown(url, unknown, total, listing)
    names = choose_attributes(read_columns(text), longest, known=_KNOWN, url=url)
    attributes: dict[str, dict[str, str]] = {}
    for row, line in read_rows(text, url, needed=["video"]):
        path = find_video(row["video"], there)
        if path is None:
            continue
        if path in attributes:
            raise CatalogError(f"{url} line {line} names {row['video']} again; keep one of the rows")
        attributes[path] = {name: row[column] for column, name in names.items()}
    return attributes
