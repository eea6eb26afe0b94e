"""What makes two files the same content: a hash of the bytes, or the object store's own word for it."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from dfpipe.catalog._listing import File
from dfpipe.catalog._video import Video
from dfpipe.errors import CatalogError

__all__ = ["content_ids"]

# Hashing leaves the interpreter lock alone; more threads than this only make a disk seek.
_THREADS = 4


def content_ids(videos: Sequence[tuple[str, File]], known: Mapping[str, Video]) -> list[str]:
    """Identify the content of each video, reading only local files that `known` does not answer for.

    Parameters
    ----------
    videos
        Video ids with their files.
    known
        Rows of an earlier catalog by video id; one with the same url, size and time of change spares the reading.

    Raises
    ------
    CatalogError
        A file that cannot be read.
    """

    def identify(video: tuple[str, File]) -> str:
        video_id, file = video
        if file.etag:
            return f"etag:{file.etag}-{file.size_bytes}"
        before = known.get(video_id)
        if before and (before.url, before.size_bytes, before.modified) == (file.url, file.size_bytes, file.modified):
            return before.content_id
        return _hash(file.url)

    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(identify, videos))


def _hash(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    except OSError as error:
        raise CatalogError(
            f"cannot read {path}: {error.strerror}; mend the file or its rights, or take it out of the data set"
        ) from error
    return f"blake2b:{digest.hexdigest()}"
