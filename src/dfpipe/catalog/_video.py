"""The row that everything downstream starts from: one video of a data set."""

from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from dfpipe.catalog._batches import BATCH_ROWS

__all__ = ["Label", "Split", "Video", "VideoRef", "to_videos"]

Label = Literal["real", "fake"]
Split = Literal["train", "val", "test"]


@dataclass(frozen=True, slots=True)
class VideoRef:
    """As much of a video as decoding needs to know."""

    video_id: str
    """Unique in the store."""
    url: str
    """Absolute local path or ``s3://`` URL."""
    size_bytes: int
    """Size of the file."""
    content_id: str
    """Hash of the bytes, or the object store's own."""
    attempt: int = 1
    """1, and one more each time that this content is done again under the same settings."""

    @property
    def key(self) -> tuple[str, str, int]:
        """What is done once under one fingerprint: video, content and attempt."""
        return (self.video_id, self.content_id, self.attempt)


@dataclass(frozen=True, slots=True)
class Video:
    """One video of a data set, before anything of it is decoded."""

    video_id: str
    """Unique in the store: ``dataset/manipulation/compression/name``, so 000_003 of four manipulations are four."""
    url: str
    """Where it lies: an absolute local path or an ``s3://`` URL."""
    dataset: str
    """``ffpp``, ``celebdf``, ``dfdc``, or the root folder's name for a plain csv."""
    label: Label
    """Whether the face was manipulated."""
    manipulation: str
    """Method as the data set names it; ``original`` for a real video."""
    compression: str
    """``raw``, ``c23``, ``c40`` where the data set tells, else an empty string."""
    target: str
    """Identity whose body and background are seen."""
    source: str | None
    """Identity whose face was put in, None for a real video or where the data set does not tell."""
    split: Split | None
    """Side on which the data set's official split has it, None where there is none."""
    size_bytes: int
    """Size of the file."""
    content_id: str
    """Hash of the bytes (``blake2b:…``), or the object store's own (``etag:…``); equal means equal content."""
    modified: str
    """What the file system or object store says changed last; only used to spare rehashing."""
    attributes: str | None = None
    """What else the data set tells of it, a JSON object of texts by name; None where it tells nothing."""

    @property
    def identities(self) -> tuple[str, ...]:
        """Everyone who appears: the target, then the source if there is another."""
        if self.source is None or self.source == self.target:
            return (self.target,)
        return (self.target, self.source)

    @property
    def ref(self) -> VideoRef:
        """What travels to a worker: no label, so that nothing there can depend on it."""
        return VideoRef(self.video_id, self.url, self.size_bytes, self.content_id)


def to_videos(catalog: pa.Table) -> list[Video]:
    """Return rows of the catalog as objects, for those who look at videos one by one."""
    return [Video(**row) for batch in catalog.to_batches(BATCH_ROWS) for row in batch.to_pylist()]
