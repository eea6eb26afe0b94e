"""From a folder or bucket to the rows of the catalog."""

import logging
from collections.abc import Iterator, Mapping
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog import _celebdf, _csv, _dfdc, _ffpp
from dfpipe.catalog._attributes import attributes_text
from dfpipe.catalog._batches import as_table
from dfpipe.catalog._beside import read_attributes_file
from dfpipe.catalog._content import content_ids
from dfpipe.catalog._entry import Entry, Reader
from dfpipe.catalog._listing import Listing, list_files
from dfpipe.errors import CatalogError
from dfpipe.shards.schemas import CATALOG
from dfpipe.storage import Location

__all__ = ["Layout", "read_catalog"]

Layout = Literal["auto", "ffpp", "celebdf", "dfdc", "csv"]

_READERS: dict[str, Reader] = {"ffpp": _ffpp, "celebdf": _celebdf, "dfdc": _dfdc, "csv": _csv}
_DESCRIBED = pa.schema(
    [
        pa.field("path", pa.string()),
        *(
            CATALOG.field(name)
            for name in (
                "video_id",
                "dataset",
                "label",
                "manipulation",
                "compression",
                "target",
                "source",
                "split",
                "attributes",
            )
        ),
    ]
)
"""What a layout knows of a video; the listing knows the rest."""

_log = logging.getLogger(__name__)


def read_catalog(
    root: Location, *, layout: Layout = "auto", known: pa.Table | None = None, lists: Location | None = None
) -> pa.Table:
    """List a data set and describe every video in it; no video is downloaded.

    Parameters
    ----------
    root
        Folder or bucket prefix of the data set.
    layout
        How it is laid out; auto finds it out.
    known
        An earlier catalog; a local file whose size and time of change are as before is not read again for its hash.
    lists
        Folder or bucket prefix of the data set's official lists, and of an ``attributes.csv``; None is the root.

    Returns
    -------
    pyarrow.Table
        Schema `CATALOG`, sorted by video_id. Videos that are no part of the layout are left out and counted in a
        warning.

    Raises
    ------
    CatalogError
        A root that is missing, empty, not readable or of no known layout; text files beside the videos that cannot be
        understood; two videos with one id.
    StoreError
        A bucket that cannot be reached or read.
    """
    listing = list_files(root)
    name = _recognise(listing) if layout == "auto" else layout
    lists_listing = listing if lists is None else list_files(lists)
    beside = read_attributes_file(listing, lists_listing)
    entries = _describe(_READERS[name].entries(listing, lists_listing), beside, root)
    if not entries.num_rows:
        others = [other for other in _fitting(listing) if other != name]
        raise CatalogError(
            f"no videos of layout {name} under {root.url}, expected {_READERS[name].EXPECTED}; "
            + (f"it looks like {others[0]}, so set layout to that" if others else f"found {_look(listing)}")
        )
    _warn_of_the_rest(listing, name, entries)
    return _with_files(entries, listing, known)


def _fitting(listing: Listing) -> list[str]:
    return [name for name, reader in _READERS.items() if reader.fits(listing)]


def _recognise(listing: Listing) -> str:
    names = _fitting(listing)
    if len(names) == 1:
        return names[0]
    if names:
        raise CatalogError(f"{listing.root.url} looks like {' and like '.join(names)}, expected one layout; set layout")
    inside = next((folder for folder in sorted(listing.folders()) if _fitting(listing.below(folder))), None)
    if inside is not None:
        raise CatalogError(
            f"{listing.root.url} is of no known layout, but its folder {inside} is; "
            f"give {listing.root.child(inside).url}"
        )
    expected = "; ".join(f"{name}: {reader.EXPECTED}" for name, reader in _READERS.items())
    raise CatalogError(
        f"{listing.root.url} is of no known layout: found {_look(listing)}; expected one of {expected}; "
        "for your own videos write a metadata.csv"
    )


def _look(listing: Listing) -> str:
    names = listing.top()
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _describe(entries: Iterator[Entry], beside: Mapping[str, Mapping[str, str]], root: Location) -> pa.Table:
    """Return the entries as a table sorted by video_id, in which each id stands once."""
    rows = (
        (
            entry.path,
            entry.video_id,
            entry.dataset,
            entry.label,
            entry.manipulation,
            entry.compression,
            # 000 of one data set and 000 of another are two people.
            f"{entry.dataset}:{entry.target}",
            None if entry.source is None else f"{entry.dataset}:{entry.source}",
            entry.split,
            attributes_text({**beside.get(entry.path, {}), **entry.attributes}),
        )
        for entry in entries
    )
    table = as_table(rows, _DESCRIBED).sort_by([("video_id", "ascending"), ("path", "ascending")])
    ids = table["video_id"]
    twice = pc.index(pc.equal(ids.slice(1), ids.slice(0, max(0, len(ids) - 1))), True).as_py()
    if twice >= 0:
        one, other = table["path"].slice(twice, 2).to_pylist()
        raise CatalogError(
            f"{one} and {other} under {root.url} would both be video {ids[twice]}; rename or take out one"
        )
    return table


def _warn_of_the_rest(listing: Listing, name: str, entries: pa.Table) -> None:
    videos = listing.videos()
    # FaceForensics++ comes with videos of its masks, which are not meant to be learned from.
    expected = pc.or_(pc.is_in(videos, value_set=entries["path"]), pc.match_substring(videos, "/masks/"))
    rest = videos.filter(pc.invert(expected))
    if len(rest):
        _log.warning(
            "%d videos under %s are no part of layout %s and are left out, the first is %s",
            len(rest),
            listing.root.url,
            name,
            rest[0],
        )


def _with_files(entries: pa.Table, listing: Listing, known: pa.Table | None) -> pa.Table:
    """Add what the listing says of each video's file."""
    files = listing.files.take(pc.index_in(entries["path"], value_set=listing.files["path"]))
    url = pc.binary_join_element_wise(listing.url(""), entries["path"], "")
    videos = entries.append_column("url", url)
    for name in ("size_bytes", "modified", "etag"):
        videos = videos.append_column(name, files[name])
    videos = videos.append_column("content_id", content_ids(videos, known))
    return videos.select(CATALOG.names).cast(CATALOG).combine_chunks()
