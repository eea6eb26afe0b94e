"""What a fingerprint stands for: the record from which it is hashed, stored once, so that later runs can say why.

A fingerprint tells that something differs, never what. The record beside the tables (``stages/<fingerprint>.json``)
holds the very parts that were hashed, so two of them side by side give the reason in words.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfpipe import extract
from dfpipe.faces import open_detector
from dfpipe.features import feature_version
from dfpipe.fingerprint import fingerprint
from dfpipe.settings import ExtractSettings, FeatureSettings
from dfpipe.shards import Tables
from dfpipe.storage import Location, open_location, storage_errors

__all__ = [
    "StageRecord",
    "explain",
    "faces_stage",
    "features_stage",
    "first_reason",
    "read_stage",
    "read_stages",
    "write_stage",
]

MOST_CHARACTERS = 40
"""Of one value in a reason; a list of frame positions may have a million."""


@dataclass(frozen=True, slots=True)
class StageRecord:
    """The parts of a stage's fingerprint."""

    stage: Literal["faces", "features"]
    """Name of the stage."""
    version: int
    """Version of the code."""
    settings: Mapping[str, Any]
    """Its settings as plain JSON, without where files lie on one machine."""
    weights_sha256: str | None = None
    """Hash of the detector's weights; None for features."""
    detection_fingerprint: str | None = None
    """What the detections depend on, fewer settings than the faces do; None for features. No part of the hash."""
    faces_fingerprint: str | None = None
    """Faces that the features are computed from; None for faces."""

    @property
    def fingerprint(self) -> str:
        """The fingerprint of rows that this stage writes."""
        made_from = self.weights_sha256 if self.stage == "faces" else self.faces_fingerprint
        return fingerprint(self.stage, self.version, self.settings, made_from)

    @property
    def section(self) -> str:
        """Where the settings stand among all settings, with a full stop behind it."""
        return "extract." if self.stage == "faces" else f"train.features.{self.settings['name']}."


def faces_stage(settings: ExtractSettings) -> StageRecord:
    """Describe the faces stage as it is with these settings; reads the detector's weights."""
    return StageRecord(
        stage="faces",
        version=extract.VERSION,
        settings=settings.without_places().model_dump(mode="json"),
        weights_sha256=open_detector(settings.detector).weights_sha256,
        detection_fingerprint=extract.detection_fingerprint(settings),
    )


def features_stage(settings: FeatureSettings, faces_fingerprint: str) -> StageRecord:
    """Describe the features stage for one feature set over one set of crops."""
    return StageRecord(
        stage="features",
        version=feature_version(settings),
        settings=settings.identity(),
        faces_fingerprint=faces_fingerprint,
    )


def write_stage(tables: Tables, record: StageRecord) -> None:
    """Store a record under its fingerprint, once; before the first row that carries the fingerprint.

    Raises
    ------
    StoreError
        The store cannot be written.
    """
    text = json.dumps(asdict(record), sort_keys=True, indent=2)
    _place(tables, record.fingerprint).create_bytes(text.encode() + b"\n")


def read_stage(tables: Tables, fingerprint: str) -> StageRecord | None:
    """Return what a fingerprint stands for; None where an earlier dfpipe wrote its rows without saying so.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    place = _place(tables, fingerprint)
    with storage_errors("read", place.url):
        if not place.fs.exists(place.path):
            return None
    return StageRecord(**json.loads(place.read_bytes()))


def read_stages(tables: Tables) -> dict[str, StageRecord]:
    """Return all records of a store by their fingerprints.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    folder = _folder(tables)
    with storage_errors("read", folder.url):
        files = folder.fs.find(folder.path) if folder.fs.exists(folder.path) else []
    names = (file.rpartition("/")[2].removesuffix(".json") for file in files if file.endswith(".json"))
    return {name: record for name in names if (record := read_stage(tables, name)) is not None}


def explain(before: StageRecord, now: StageRecord) -> list[str]:
    """Say why one fingerprint is not the other: settings first, then code, then weights, then the faces below.

    Examples
    --------
    >>> before = StageRecord("features", 1, {"name": "residual", "grid": 12}, faces_fingerprint="a")
    >>> explain(before, StageRecord("features", 2, {"name": "residual", "grid": 8}, faces_fingerprint="a"))
    ['train.features.residual.grid 12 -> 8', 'code version 1 -> 2']
    """
    reasons = [
        f"{now.section}{key} {_shown(old)} -> {_shown(new)}"
        for key, old, new in _changes(before.settings, now.settings)
    ]
    if before.version != now.version:
        reasons.append(f"code version {before.version} -> {now.version}")
    if before.weights_sha256 != now.weights_sha256:
        reasons.append(f"weights of {now.settings['detector']['name']} changed")
    if before.faces_fingerprint != now.faces_fingerprint:
        reasons.append("computed from other faces")
    return reasons


def first_reason(before: StageRecord | None, now: StageRecord) -> str:
    """Return the first kind of reason that holds, in the words of a plan.

    Parameters
    ----------
    before
        The record of the earlier fingerprint; None where there is none.
    now
        That of the present one.
    """
    if before is None:
        return "settings or code changed"
    settings = list(_changes(before.settings, now.settings))
    if settings:
        return "settings changed: " + ", ".join(explain(before, now)[: len(settings)])
    if before.version != now.version:
        return "code version changed"
    return "weights changed"


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield dotted key, old and new value of what differs."""
    if before.get("name") != now.get("name"):
        # Another detector or strategy: its other keys were never the same settings.
        yield "name", before.get("name"), now.get("name")
        return
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from ((f"{key}.{inner}", one, other) for inner, one, other in _changes(old, new))
        elif old != new:
            yield key, old, new


def _shown(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=False) if not isinstance(value, str) else value
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 1]}…"


def _folder(tables: Tables) -> Location:
    return open_location(tables.url, tables.s3).child("stages")


def _place(tables: Tables, fingerprint: str) -> Location:
    return _folder(tables).child(f"{fingerprint}.json")
