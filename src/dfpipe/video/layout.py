"""What a container's own headers promise, held against the bytes that are there.

Only headers are read, never payload. MPEG-TS promises nothing: a file that breaks off is a shorter video.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from dfpipe.errors import VideoError
from dfpipe.video.containers import Container

__all__ = ["Box", "breaks_off", "mov_boxes"]

SEGMENT, CLUSTER = b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75"

AVI_PARTS = frozenset({b"LIST", b"idx1", b"JUNK"})


@dataclass(frozen=True, slots=True)
class Box:
    """A box on the top level of a mov or mp4 file."""

    kind: bytes
    """Four letters, such as ``moov``."""
    start: int
    """Where its payload starts in the file, in bytes."""
    end: int
    """Where it ends by its own word, in bytes (exclusive); may lie beyond the end of the file."""


def mov_boxes(file: BinaryIO, size_bytes: int) -> Iterator[Box]:
    """Yield the boxes on the top level, up to the end or to what is no box."""
    position = 0
    while position < size_bytes:
        head = _read(file, position, 16)
        size, start = int.from_bytes(head[:4]), position + 8
        if size == 1:
            size, start = int.from_bytes(head[8:]), position + 16
        elif size == 0:
            size = size_bytes - position
        if len(head) < 8 or position + size < start:
            return
        yield Box(head[4:8], start, position + size)
        position += size


def breaks_off(file: BinaryIO, container: Container, size_bytes: int) -> bool:
    """Say whether something that carries frames ends behind the end of the file.

    Declared durations, and sizes that were never filled in, as in live recordings, say nothing. Of mov and mp4 only
    fragmented files can be judged: for others the sample table says where each frame lies.

    Raises
    ------
    VideoError
        ``corrupt`` if what breaks off is the index of a mov or mp4 file, without which nothing can be read.
    """
    match container:
        case "mov":
            return _mov_breaks_off(file, size_bytes)
        case "matroska":
            return _matroska_breaks_off(file, size_bytes)
        case "avi":
            return _avi_breaks_off(file, size_bytes)
        case "mpegts":
            return False


def _mov_breaks_off(file: BinaryIO, size_bytes: int) -> bool:
    boxes = list(mov_boxes(file, size_bytes))
    last = boxes[-1].kind if boxes and boxes[-1].end > size_bytes else b""
    if last == b"moov":
        raise VideoError("corrupt", f"the index breaks off {boxes[-1].end - size_bytes} bytes before its end")
    return last in {b"moof", b"mdat"} and any(box.kind == b"moof" for box in boxes)


def _matroska_breaks_off(file: BinaryIO, size_bytes: int) -> bool:
    position = 0
    while position < size_bytes:
        head = _read(file, position, 12)
        name, head = _ebml_name(head)
        width = 9 - head[0].bit_length() if head and head[0] else 0
        if not name or not 0 < width <= len(head):
            return False
        size = int.from_bytes(head[:width]) & ((1 << 7 * width) - 1)
        start = position + len(name) + width
        if size == (1 << 7 * width) - 1:
            # Unknown, as in live recordings: the parts of a segment may tell their own, those of a cluster do not.
            if name != SEGMENT:
                return False
            position = start
            continue
        if name in (SEGMENT, CLUSTER) and start + size > size_bytes:
            return True
        position = start + size
    return False


def _ebml_name(head: bytes) -> tuple[bytes, bytes]:
    """Cut the name of an element off its head; it is as long as the zeros that it starts with say."""
    length = 9 - head[0].bit_length() if head else 0
    return (head[:length], head[length:]) if 0 < length <= 4 else (b"", b"")


def _avi_breaks_off(file: BinaryIO, size_bytes: int) -> bool:
    position = 0
    # Large files go on in further RIFF chunks.
    while position < size_bytes:
        head = _read(file, position, 8)
        if len(head) < 8 or head[:4] != b"RIFF":
            return False
        end = position + 8 + int.from_bytes(head[4:], "little")
        part = position + 12
        while part < min(end, size_bytes):
            head = _read(file, part, 12)
            size = int.from_bytes(head[4:8], "little")
            if part + 8 + size > size_bytes:
                if head[:4] not in AVI_PARTS:
                    break
                # All ones were never filled in: the recording was not closed.
                return size != 0xFFFFFFFF
            # Chunks start at even places.
            part += 8 + size + size % 2
        # Some writers count the eight bytes of the head as well.
        if end > size_bytes + 8:
            return True
        if end <= position + 12:
            return False
        position = end + end % 2
    return False


def _read(file: BinaryIO, position: int, num_bytes: int) -> bytes:
    file.seek(position, io.SEEK_SET)
    return file.read(num_bytes)
