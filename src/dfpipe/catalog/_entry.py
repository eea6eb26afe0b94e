"""What a layout knows of a video from names and small text files alone."""

import logging
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

from dfpipe.catalog._listing import Listing
from dfpipe.catalog._video import Label, Split
from dfpipe.errors import CatalogError

__all__ = ["Entry", "Reader", "as_split", "stem", "warn_of_unknown"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One video as its data set describes it."""

    path: str
    """Relative to the root."""
    dataset: str
    """First part of the video's id, and what keeps its people apart from those of other data sets."""
    name: str
    """Last part of the id."""
    label: Label
    """Whether the face was manipulated."""
    manipulation: str
    """Method, ``original`` for a real video."""
    compression: str = ""
    """``raw``, ``c23``, ``c40`` or an empty string."""
    target: str
    """Who is seen, as the data set names them."""
    source: str | None = None
    """Whose face was put in."""
    split: Split | None = None
    """Side of the official split."""
    attributes: Mapping[str, str] = field(default_factory=dict)
    """What else is told, by name; an empty text tells nothing."""

    @property
    def video_id(self) -> str:
        """``dataset/manipulation/compression/name`` without the empty parts."""
        return "/".join(part for part in (self.dataset, self.manipulation, self.compression, self.name) if part)


class Reader(Protocol):
    """How one layout is recognised and read; each is a module."""

    @property
    def EXPECTED(self) -> str:  # noqa: N802 - a module's constant
        """What the layout looks like, for messages."""

    def fits(self, listing: Listing) -> bool:
        """Tell whether names in the listing have this layout."""

    def entries(self, listing: Listing, lists: Listing) -> Iterator[Entry]:
        """Describe every video of the layout, one by one; the official lists are looked for in the second listing."""


def stem(path: str) -> str:
    """Return the last part of a path without its suffix."""
    return PurePosixPath(path).stem


def warn_of_unknown(lists: str, unknown: Collection[str], total: int, listing: Listing) -> None:
    """Say of how many names in official lists there is no video."""
    if unknown:
        _log.warning(
            "%d of %d names in %s are of no video under %s, the first is %s",
            len(unknown),
            total,
            lists,
            listing.root.url,
            min(unknown),
        )


def as_split(text: str, where: str) -> Split | None:
    """Read the name of a side; an empty text is no side.

    Raises
    ------
    CatalogError
        Another word.
    """
    match text.strip().lower():
        case "":
            return None
        case "train":
            return "train"
        case "val" | "valid" | "validation":
            return "val"
        case "test":
            return "test"
    raise CatalogError(f"{where} has split {text!r}, expected train, val or test; correct it or leave it empty")
