"""Celeb-DF, versions 1 and 2.

::

    Celeb-real/id0_0000.mp4
    YouTube-real/00000.mp4
    Celeb-synthesis/id0_id1_0000.mp4      target id0, source id1
    List_of_testing_videos.txt            lines such as "1 YouTube-real/00170.mp4"
"""

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from dfpipe.catalog._batches import each
from dfpipe.catalog._entry import Entry, warn_of_unknown
from dfpipe.catalog._listing import Listing
from dfpipe.catalog._video import Split

__all__ = ["EXPECTED", "entries", "fits"]

EXPECTED = "Celeb-real/, YouTube-real/ and Celeb-synthesis/ with videos such as id0_id1_0000.mp4"

_TEST_LIST = "List_of_testing_videos.txt"
_FOLDERS = frozenset({"Celeb-real", "YouTube-real", "Celeb-synthesis"})
_VIDEO = re.compile(
    r"Celeb-real/(?P<celebrity>id\d+)_\d+\.\w+"
    r"|YouTube-real/(?P<unknown>\d+)\.\w+"
    r"|Celeb-synthesis/(?P<target>id\d+)_(?P<source>id\d+)_\d+\.\w+"
)


def fits(listing: Listing) -> bool:
    """Tell whether one of the three folders is there."""
    return not listing.folders().isdisjoint(_FOLDERS)


def entries(listing: Listing, lists: Listing) -> Iterator[Entry]:
    """Describe every video whose path and name follow the scheme."""
    test: set[str] | None = None
    if _TEST_LIST in lists:
        test = {line.split(maxsplit=1)[-1].strip() for line in lists.text(_TEST_LIST).splitlines() if line.strip()}
        warn_of_unknown(lists.url(_TEST_LIST), test - listing.paths(), len(test), listing)
    found = (_entry(path, test) for path in each(listing.videos()))
    return (entry for entry in found if entry is not None)


def _entry(path: str, test: set[str] | None) -> Entry | None:
    match = _VIDEO.fullmatch(path)
    if match is None:
        return None
    side: Split | None = None
    if test is not None:
        side = "test" if path in test else "train"
    fake = match["target"] is not None
    return Entry(
        path=path,
        dataset="celebdf",
        name=PurePosixPath(path).stem,
        label="fake" if fake else "real",
        manipulation="Celeb-synthesis" if fake else "original",
        # Nobody says who the YouTube people are; each counts as one person.
        target=match["target"] or match["celebrity"] or f"youtube:{match['unknown']}",
        source=match["source"],
        split=side,
    )
