"""What the packets' timestamps tell before anything is decoded: order, count, and where decoding can start."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

__all__ = ["Packet", "PacketTable", "is_steady"]


@dataclass(frozen=True, slots=True)
class Packet:
    """The facts of one packet, in the order in which packets are stored and decoded."""

    pts: int | None
    """Presentation time in the stream's units."""
    is_key: bool
    """Marked as a place where decoding can start."""
    is_hidden: bool
    """Decoded but never shown, as the container's edit list asks."""


class PacketTable:
    """Frames by presentation order, and the packets at which decoding can start.

    Parameters
    ----------
    packets
        All packets of the stream in stored order.
    has_true_times
        The container stores presentation times; AVI does not, and what is reported for it is wrong as soon as frames
        are reordered.

    Examples
    --------
    A key frame, then one that is stored before the frame that it is shown after:

    >>> table = PacketTable([Packet(0, True, False), Packet(2, False, False), Packet(1, False, False)])
    >>> table.pts, table.positions[1]
    ([0, 1, 2], 2)
    """

    def __init__(self, packets: Sequence[Packet], *, has_true_times: bool = True) -> None:
        times = [packet.pts for packet in packets]
        self.num_frames = sum(not packet.is_hidden for packet in packets)
        """Frames that are shown."""
        self.is_complete = has_true_times and None not in times and len(set(times)) == len(times)
        """Every packet has a presentation time of its own, so frames can be told apart by it."""
        self.pts = sorted(packet.pts for packet in packets if packet.pts is not None and not packet.is_hidden)
        """Presentation times of the frames that are shown, rising."""
        self.positions = {time: position for position, time in enumerate(times) if time is not None}
        """Place of a packet in stored order, by its presentation time."""
        self._keys = [
            (position, packet.pts)
            for position, packet in enumerate(packets)
            if packet.is_key and packet.pts is not None
        ]

        self.whole_from = self._keys[0][1] if self._keys and self._keys[0][0] > 0 else None
        """Where the stream starts in the middle of a group, the time of its first key frame: what is shown before
        leans on pictures that are not there. None for all other streams."""
        self.keyframes = self._place_keys(packets)
        """Positions of the shown key frames in presentation order, rising; in stored order where times tell nothing."""

    def key_for(self, pts: int) -> int | None:
        """Return the presentation time of the key frame from which the frame shown at ``pts`` can be decoded.

        It is stored and shown no later than that frame: frames that are stored behind a key frame but shown before
        it may lean on what came earlier. None means that decoding must start with the first packet.
        """
        stored_before = bisect_right(self._keys, self.positions[pts], key=lambda key: key[0])
        for position, key_pts in reversed(self._keys[:stored_before]):
            if key_pts <= pts:
                return key_pts if position > 0 else None
        return None

    def _place_keys(self, packets: Sequence[Packet]) -> tuple[int, ...]:
        shown = [packet for packet in packets if not packet.is_hidden]
        if self.is_complete:
            key_times = sorted(packet.pts for packet in shown if packet.is_key and packet.pts is not None)
            return tuple(bisect_left(self.pts, time) for time in key_times)
        return tuple(index for index, packet in enumerate(shown) if packet.is_key)


def is_steady(pts: Iterable[int], *, rounding: int) -> bool:
    """Say whether frames are shown for equal times.

    Parameters
    ----------
    pts
        Presentation times, rising.
    rounding
        By so much may two distances differ that were equal before times were rounded.

    Examples
    --------
    >>> is_steady([0, 33, 67, 100], rounding=1)
    True
    >>> is_steady([0, 33, 100], rounding=1)
    False
    """
    gaps = [after - before for before, after in pairwise(pts)]
    # Where times are counted in few units, one unit more may be a frame left out.
    return not gaps or (max(gaps) - min(gaps) <= rounding and max(gaps) < 2 * min(gaps))
