"""What makes two files the same content: a hash of the bytes, or the object store's own word for it."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog._batches import BATCH_ROWS
from dfpipe.errors import CatalogError

__all__ = ["content_ids"]

# Hashing leaves the interpreter lock alone; more threads than this only make a disk seek.
_THREADS = 4
_UNTOUCHED = ("url", "size_bytes", "modified")


def content_ids(videos: pa.Table, known: pa.Table | None) -> pa.ChunkedArray:
    """Identify the content of each video, reading only local files that `known` does not answer for.

    Parameters
    ----------
    videos
        Rows with ``video_id``, ``url``, ``size_bytes``, ``modified`` and ``etag``.
    known
        Rows of an earlier catalog; one with the same video_id, url, size and time of change spares the reading.

    Raises
    ------
    CatalogError
        A file that cannot be read.
    """
    size = pc.cast(videos["size_bytes"], pa.string())
    told = pc.binary_join_element_wise("etag:", videos["etag"], "-", size, "")
    ids = pc.if_else(pc.equal(videos["etag"], ""), _unchanged(videos, known), told)
    unread = pc.is_null(ids)
    hashes = pa.chunked_array(_hashes(videos["url"].filter(unread)), pa.string())
    # Null where there is a name already, else the place of the hash among the hashes.
    place = pc.if_else(unread, pc.subtract(pc.cumulative_sum(pc.cast(unread, pa.int64())), 1), None)
    return pc.coalesce(ids, hashes.take(place))


def _unchanged(videos: pa.Table, known: pa.Table | None) -> pa.ChunkedArray:
    """Return the content of every video that lies as it lay, null for the others."""
    if known is None or not known.num_rows:
        return pa.chunked_array([pa.nulls(videos.num_rows, pa.string())])
    row = pc.index_in(videos["video_id"], value_set=known["video_id"])
    content_id = known["content_id"].take(row)
    for name in _UNTOUCHED:
        content_id = pc.if_else(pc.equal(known[name].take(row), videos[name]), content_id, None)
    return content_id


def _hashes(urls: pa.ChunkedArray) -> Iterator[pa.Array]:
    with ThreadPoolExecutor(_THREADS) as pool:
        for start in range(0, len(urls), BATCH_ROWS):
            yield pa.array(list(pool.map(_hash, urls.slice(start, BATCH_ROWS).to_pylist())), pa.string())


def _hash(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16))
    except OSError as error:
        raise CatalogError(
            f"cannot read {path}: {error.strerror}; mend the file or its rights, or take it out of the data set"
        ) from error
    return f"blake2b:{digest.hexdigest()}"
