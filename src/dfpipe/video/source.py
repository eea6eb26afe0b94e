"""Where a video's bytes come from: the local disk, or a store, of which no more is fetched than is needed.

A mov or mp4 file says in its index where each frame lies, so of a large one only the index and the parts that are
decoded are fetched. Other containers must be read from end to end to know their frames; they are copied first.
"""

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from tempfile import TemporaryFile, gettempdir
from typing import BinaryIO, cast

from dfpipe.errors import VideoError
from dfpipe.storage import Location
from dfpipe.video.containers import HEAD_BYTES, sniff
from dfpipe.video.layout import Box, mov_boxes

__all__ = ["SkimmableFile", "open_source"]

# A second of transfer costs as much as some forty requests: up to here one request for all is the cheaper way.
WHOLE_BYTES = 8 * 2**20
# In the time in which a request is answered about as much could be transferred.
RANGE_BYTES = 2**20
CACHED_RANGES = 16
COPY_BYTES = 8 * 2**20
# A file in pieces has its index in pieces, too: following them would touch every range.
MOST_MEDIA_BOXES = 4


@contextmanager
def open_source(location: Location, *, size_bytes: int, max_bytes: int) -> Iterator[str | BinaryIO]:
    """Make a video's bytes readable for `open_video`; what was needed for it is gone at the end of the block.

    At most 16 MiB of a large object are held in memory. A copy lies in the system's folder for temporary files under
    no name, so that it vanishes with the process.

    Parameters
    ----------
    location
        The video's file or object.
    size_bytes
        Its size as it was listed.
    max_bytes
        Nothing is fetched of anything larger.

    Yields
    ------
    str or BinaryIO
        Local path, or a seekable file.

    Raises
    ------
    VideoError
        ``too_large``.
    OSError
        The object cannot be read, is another than the one that was listed, or there is no room for a copy.
    """
    if size_bytes > max_bytes:
        raise VideoError("too_large", f"got {size_bytes} bytes, expected at most {max_bytes}")
    if location.is_local:
        yield location.path
    elif size_bytes <= WHOLE_BYTES:
        yield io.BytesIO(_read_whole(location, size_bytes))
    else:
        with location.fs.open(
            location.path,
            "rb",
            block_size=RANGE_BYTES,
            cache_type="blockcache",
            cache_options={"maxblocks": CACHED_RANGES},
        ) as remote:
            _check_unchanged(remote.size, size_bytes)
            if media := _media(remote, size_bytes):
                yield cast("BinaryIO", SkimmableFile(remote, media, size_bytes))
                return
        with TemporaryFile() as copy:
            _reserve(copy, size_bytes)
            _copy(location, copy, size_bytes)
            yield copy


class SkimmableFile(io.RawIOBase):
    """A large mov or mp4 file that can be read without its frames.

    Parameters
    ----------
    file
        Seekable, opened for reading; left open.
    media
        The boxes that hold nothing but frames and sound, in rising order.
    size_bytes
        Size of the file.
    """

    def __init__(self, file: BinaryIO, media: Sequence[Box], size_bytes: int) -> None:
        super().__init__()
        self._file, self._media, self._size_bytes = file, media, size_bytes
        self._position = 0
        self._is_blank = False

    @contextmanager
    def skim(self) -> Iterator[None]:
        """Read frames and sound as zeros without fetching them, as long as the block runs."""
        self._is_blank = True
        try:
            yield
        finally:
            self._is_blank = False

    def readable(self) -> bool:
        """Say that the file can be read."""
        return True

    def seekable(self) -> bool:
        """Say that the file can be read in any order."""
        return True

    def tell(self) -> int:
        """Return the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position, given in bytes from the start, from here or from the end."""
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size_bytes}[whence]
        self._position = max(0, start + offset)
        return self._position

    def read(self, size: int = -1) -> bytes:
        """Read at most so many bytes; fewer where frames begin or end while they are skimmed over."""
        start, end = self._position, self._size_bytes
        if size >= 0:
            end = min(end, start + size)
        if start >= end:
            return b""
        if self._is_blank:
            for box in self._media:
                if box.start <= start < box.end:
                    self._position = min(end, box.end)
                    return bytes(self._position - start)
                if start < box.start < end:
                    end = box.start
        self._file.seek(start)
        data = self._file.read(end - start)
        self._position += len(data)
        return data


def _media(file: BinaryIO, size_bytes: int) -> list[Box]:
    """Return the boxes with frames of a mov or mp4 file whose index stands in one place; none of any other file."""
    file.seek(0)
    if sniff(file.read(HEAD_BYTES)) != "mov":
        return []
    media: list[Box] = []
    for box in mov_boxes(file, size_bytes):
        if box.kind == b"moof" or len(media) > MOST_MEDIA_BOXES:
            return []
        if box.kind == b"mdat":
            media.append(box)
    return media


def _read_whole(location: Location, size_bytes: int) -> bytes:
    # Of nothing no part can be asked for. One byte more than listed shows an object that has grown, however large.
    data: bytes = location.fs.cat_file(location.path, start=0, end=size_bytes + 1) if size_bytes else b""
    _check_unchanged(len(data), size_bytes)
    return data


def _check_unchanged(got_bytes: int, size_bytes: int) -> None:
    if got_bytes != size_bytes:
        raise OSError(f"got {got_bytes} bytes, expected {size_bytes}: the object changed since it was listed")


def _reserve(file: BinaryIO, size_bytes: int) -> None:
    """Take the room on the disk before anything is fetched."""
    try:
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    except OSError as error:
        what = f"no room for a copy of {size_bytes} bytes; free some, or set TMPDIR to a larger folder"
        # Without its cause, which would be taken for the store's.
        raise OSError(error.errno, what, gettempdir()) from None


def _copy(location: Location, target: BinaryIO, size_bytes: int) -> None:
    with location.fs.open(location.path, "rb", cache_type="none") as remote:
        while (missing := size_bytes - target.tell()) > 0:
            data = remote.read(min(COPY_BYTES, missing))
            if not data:
                _check_unchanged(target.tell(), size_bytes)
            target.write(data)
    target.seek(0)
