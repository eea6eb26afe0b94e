"""From a folder or bucket to the rows of the catalog."""

import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from dfpipe.catalog import _celebdf, _csv, _dfdc, _ffpp
from dfpipe.catalog._content import content_ids
from dfpipe.catalog._entry import Entry, Reader
from dfpipe.catalog._listing import File, Listing, list_files
from dfpipe.catalog._video import Video
from dfpipe.errors import CatalogError
from dfpipe.storage import Location

__all__ = ["Layout", "read_catalog"]

Layout = Literal["auto", "ffpp", "celebdf", "dfdc", "csv"]

_READERS: dict[str, Reader] = {"ffpp": _ffpp, "celebdf": _celebdf, "dfdc": _dfdc, "csv": _csv}
_NOBODY: Mapping[str, Video] = MappingProxyType({})
_log = logging.getLogger(__name__)


def read_catalog(root: Location, *, layout: Layout = "auto", known: Mapping[str, Video] = _NOBODY) -> list[Video]:
    """List a data set and describe every video in it; no video is downloaded.

    Parameters
    ----------
    root
        Folder or bucket prefix of the data set.
    layout
        How it is laid out; auto finds it out.
    known
        Rows of an earlier catalog by video id; a local file whose size and time of change are as before is not read
        again for its hash.

    Returns
    -------
    list of Video
        By video_id. Videos that are no part of the layout are left out and counted in a warning.

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
    entries = _READERS[name].entries(listing)
    if not entries:
        others = [other for other in _fitting(listing) if other != name]
        raise CatalogError(
            f"no videos of layout {name} under {root.url}, expected {_READERS[name].EXPECTED}; "
            + (f"it looks like {others[0]}, so set layout to that" if others else f"found {_look(listing)}")
        )
    _warn_of_the_rest(listing, name, entries)
    return _videos(listing, entries, known)


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
    names = sorted({path.partition("/")[0] + ("/" if "/" in path else "") for path in listing.files})
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _warn_of_the_rest(listing: Listing, name: str, entries: list[Entry]) -> None:
    taken = {entry.path for entry in entries}
    # FaceForensics++ comes with videos of its masks, which are not meant to be learned from.
    rest = [path for path in listing.videos() if path not in taken and "/masks/" not in path]
    if rest:
        _log.warning(
            "%d videos under %s are no part of layout %s and are left out, the first is %s",
            len(rest),
            listing.root.url,
            name,
            rest[0],
        )


def _videos(listing: Listing, entries: list[Entry], known: Mapping[str, Video]) -> list[Video]:
    by_id: dict[str, Entry] = {}
    for entry in entries:
        other = by_id.setdefault(entry.video_id, entry)
        if other is not entry:
            raise CatalogError(
                f"{other.path} and {entry.path} under {listing.root.url} would both be video {entry.video_id}; "
                "rename or take out one"
            )
    files = [(video_id, listing.files[by_id[video_id].path]) for video_id in sorted(by_id)]
    return [
        _video(by_id[video_id], file, content_id)
        for (video_id, file), content_id in zip(files, content_ids(files, known), strict=True)
    ]


def _video(entry: Entry, file: File, content_id: str) -> Video:
    return Video(
        video_id=entry.video_id,
        url=file.url,
        dataset=entry.dataset,
        label=entry.label,
        manipulation=entry.manipulation,
        compression=entry.compression,
        # 000 of one data set and 000 of another are two people.
        target=f"{entry.dataset}:{entry.target}",
        source=None if entry.source is None else f"{entry.dataset}:{entry.source}",
        split=entry.split,
        size_bytes=file.size_bytes,
        content_id=content_id,
        modified=file.modified,
    )
