"""Telling containers apart by their first bytes.

The decoder is told the container instead of guessing it: left to guess, it also takes playlists and scripts for
videos, and those make it open other files and addresses.
"""

from typing import Literal

__all__ = ["HEAD_BYTES", "Container", "sniff"]

Container = Literal["mov", "matroska", "avi", "mpegts"]

MPEGTS_PACKET_BYTES = 188
HEAD_BYTES = 2 * MPEGTS_PACKET_BYTES + 1

# A segment starts with `styp`; some writers put a `uuid` box of their own first.
FIRST_MOV_BOXES = frozenset({b"ftyp", b"styp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"uuid"})


def sniff(head: bytes) -> Container | None:
    """Return the container that starts with these bytes, None for any other.

    Examples
    --------
    >>> sniff(b"RIFF1234AVI LIST")
    'avi'
    >>> sniff(b"#EXTM3U") is None
    True
    """
    if head[4:8] in FIRST_MOV_BOXES:
        return "mov"
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "matroska"
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return "avi"
    if len(head) == HEAD_BYTES and head[::MPEGTS_PACKET_BYTES] == b"GGG":
        return "mpegts"
    return None
