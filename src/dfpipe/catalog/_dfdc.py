"""DFDC: folders of videos, each with a metadata.json.

::

    dfdc_train_part_0/metadata.json       {"abc.mp4": {"label": "FAKE", "split": "train", "original": "xyz.mp4"}}
    dfdc_train_part_0/abc.mp4
"""

import json
import logging
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

from dfpipe.catalog._entry import Entry, as_split, stem
from dfpipe.catalog._listing import Listing
from dfpipe.catalog._video import Label
from dfpipe.errors import CatalogError

__all__ = ["EXPECTED", "entries", "fits"]

EXPECTED = "folders with a metadata.json that gives each video's label and original"

_LABELS: dict[str, Label] = {"REAL": "real", "FAKE": "fake"}
_log = logging.getLogger(__name__)


def fits(listing: Listing) -> bool:
    """Tell whether there is a metadata.json anywhere."""
    return bool(_metadata(listing))


def entries(listing: Listing, lists: Listing) -> Iterator[Entry]:  # noqa: ARG001 - its sides stand with the labels
    """Describe every video that a metadata.json names and that is there."""
    there = listing.paths()
    absent: list[str] = []
    for path in _metadata(listing):
        folder = PurePosixPath(path).parent
        for name, facts in _facts(listing, path):
            video = str(folder / name)
            if video in there:
                yield _entry(video, facts, listing.url(path))
            else:
                absent.append(video)
    if absent:
        _log.warning(
            "%d videos named in metadata.json are not under %s, the first is %s",
            len(absent),
            listing.root.url,
            absent[0],
        )


def _metadata(listing: Listing) -> list[str]:
    paths: list[str] = listing.named(r"(^|/)metadata\.json$").to_pylist()
    return paths


def _facts(listing: Listing, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    url = listing.url(path)
    text = listing.text(path)
    try:
        videos = json.loads(text)
    except ValueError as error:
        raise CatalogError(f"{url} is not JSON ({error}); copy it anew") from error
    if not isinstance(videos, dict):
        raise CatalogError(f'{url} holds a {type(videos).__name__}, expected {{"abc.mp4": {{"label": "FAKE"}}}}')
    for name, facts in videos.items():
        if not isinstance(facts, dict):
            raise CatalogError(f'{url} has {facts!r} for {name}, expected {{"label": "FAKE", "original": "xyz.mp4"}}')
        yield name, facts


def _entry(video: str, facts: dict[str, Any], url: str) -> Entry:
    label = _LABELS.get(str(facts.get("label")).upper())
    if label is None:
        raise CatalogError(
            f"{url} gives {PurePosixPath(video).name} the label {facts.get('label')!r}, expected REAL or FAKE; "
            "unlabelled videos can be scored but not learned from"
        )
    original = facts.get("original") if label == "fake" else None
    return Entry(
        path=video,
        dataset="dfdc",
        name=stem(video),
        label=label,
        manipulation="original" if label == "real" else "dfdc",
        # Who gave the face is not told; who is seen is at least the same person in all fakes of one original.
        target=stem(str(original)) if original else stem(video),
        split=as_split(str(facts.get("split") or ""), f"{PurePosixPath(video).name} in {url}"),
    )
