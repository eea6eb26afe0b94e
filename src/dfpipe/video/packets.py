"""What the packets' timestamps tell before anything is decoded: order, count, and where decoding can start."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Packet", "PacketTable"]


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

    Examples
    --------
    A key frame, then one that is stored before the frame that it is shown after:

    >>> table = PacketTable([Packet(0, True, False), Packet(2, False, False), Packet(1, False, False)])
    >>> table.pts, table.positions[1]
    ([0, 1, 2], 2)
    """

    def __init__(self, packets: Iterable[Packet]) -> None:
        packets = list(packets)
        times = [packet.pts for packet in packets]
        self.num_frames = sum(not packet.is_hidden for packet in packets)
        """Frames that are shown."""
        self.is_complete = None not in times and len(set(times)) == len(times)
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
