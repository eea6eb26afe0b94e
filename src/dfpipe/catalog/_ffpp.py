"""FaceForensics++, with the Deep Fake Detection (DFD) videos that are handed out beside it.

::

    original_sequences/youtube/c23/videos/000.mp4
    original_sequences/actors/c23/videos/01__exit_phone_room.mp4
    manipulated_sequences/Deepfakes/c23/videos/000_003.mp4                 target_source
    manipulated_sequences/DeepFakeDetection/c23/videos/01_02__exit_phone_room__YVGY8LOK.mp4
    train.json  val.json  test.json    (or in splits/): [["071", "054"], ...]
"""

import json
import re
from collections.abc import Iterator

from dfpipe.catalog._batches import each
from dfpipe.catalog._entry import Entry, warn_of_unknown
from dfpipe.catalog._listing import Listing
from dfpipe.catalog._video import Split
from dfpipe.errors import CatalogError

__all__ = ["EXPECTED", "entries", "fits"]

EXPECTED = "original_sequences/ and manipulated_sequences/ with videos such as Deepfakes/c23/videos/000_003.mp4"

_REAL = re.compile(r"original_sequences/(youtube|actors)/(?P<compression>raw|c\d+)/videos/(?P<name>[^/]+)\.\w+")
_FAKE = re.compile(
    r"manipulated_sequences/(?P<method>[^/]+)/(?P<compression>raw|c\d+)/videos/"
    r"(?P<name>(?P<target>[^_/]+)_(?P<source>[^_/]+)(?P<scene>__[^/]+)?)\.\w+"
)
_SIDES: tuple[Split, ...] = ("train", "val", "test")


def fits(listing: Listing) -> bool:
    """Tell whether one of the two folders is there."""
    return not listing.folders().isdisjoint({"original_sequences", "manipulated_sequences"})


def entries(listing: Listing, lists: Listing) -> Iterator[Entry]:
    """Describe every video whose path and name follow the scheme."""
    split = _official_split(lists)
    unknown = set(split)
    for path in each(listing.videos()):
        entry = _real(path, split) or _fake(path, split)
        if entry is not None:
            unknown -= {entry.target, entry.source}
            yield entry
    warn_of_unknown(lists.url("train.json, val.json and test.json"), unknown, len(split), listing)


def _real(path: str, split: dict[str, Split]) -> Entry | None:
    match = _REAL.fullmatch(path)
    if match is None:
        return None
    name = match["name"]
    actor = match[1] == "actors"
    return Entry(
        path=path,
        dataset="ffpp",
        name=name,
        label="real",
        manipulation="original",
        compression=match["compression"],
        # 01__exit_phone_room: actor 01, who is nobody of the YouTube videos 000 to 999.
        target=_actor(name.partition("__")[0]) if actor else name,
        split=None if actor else split.get(name),
    )


def _fake(path: str, split: dict[str, Split]) -> Entry | None:
    match = _FAKE.fullmatch(path)
    if match is None:
        return None
    target, source = match["target"], match["source"]
    # Only the actors' names tell a scene.
    actors = match["scene"] is not None
    side = split.get(target)
    return Entry(
        path=path,
        dataset="ffpp",
        name=match["name"],
        label="fake",
        manipulation=match["method"],
        compression=match["compression"],
        target=_actor(target) if actors else target,
        source=_actor(source) if actors else source,
        # Two people of different sides: the official split has no place for this video.
        split=side if not actors and side == split.get(source) else None,
    )


def _actor(number: str) -> str:
    return f"actor:{number}"


def _official_split(listing: Listing) -> dict[str, Split]:
    split: dict[str, Split] = {}
    for side in _SIDES:
        for path in (f"{side}.json", f"splits/{side}.json"):
            if path not in listing:
                continue
            text = listing.text(path)
            try:
                pairs = json.loads(text)
                split.update({str(person): side for pair in pairs for person in _pair(pair)})
            except (ValueError, TypeError) as error:
                raise CatalogError(
                    f'{listing.url(path)} is not a list of pairs such as [["071", "054"]] ({error}); '
                    "take the file that comes with the data set"
                ) from error
    return split


def _pair(pair: object) -> list[object]:
    if not isinstance(pair, list):
        raise TypeError(f"got {pair!r}")
    return pair
