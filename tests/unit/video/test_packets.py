import pytest

from dfpipe.video.packets import Packet, PacketTable


def packets(*rows):
    """One packet per (pts, marks): K is a key frame, H is hidden."""
    return [Packet(pts, "K" in marks, "H" in marks) for pts, marks in rows]


def test_no_packets():
    table = PacketTable([])
    assert (table.num_frames, table.pts, table.is_complete) == (0, [], True)


def test_frames_are_counted_and_ordered_as_shown():
    table = PacketTable(packets((0, "K"), (3, ""), (1, ""), (2, ""), (4, "H")))
    assert table.num_frames == 4
    assert table.pts == [0, 1, 2, 3]
    assert table.positions == {0: 0, 3: 1, 1: 2, 2: 3, 4: 4}


@pytest.mark.parametrize("rows", [[(0, "K"), (None, "")], [(0, "K"), (0, "")]])
def test_times_that_are_missing_or_shared_tell_nothing(rows):
    table = PacketTable(packets(*rows))
    assert not table.is_complete
    assert table.num_frames == 2


@pytest.mark.parametrize(
    ("pts", "expected"),
    [
        (0, None),  # the first packet
        (1, None),  # no key frame but the first before it
        (6, 6),  # the key frame itself
        (4, None),  # stored behind key frame 6, shown before it: leans on the group before
        (7, 6),
        (12, 12),
        (10, 6),
    ],
)
def test_key_for(pts, expected):
    table = PacketTable(
        packets((0, "K"), (1, ""), (2, ""), (6, "K"), (4, ""), (7, ""), (8, ""), (12, "K"), (10, ""), (13, ""))
    )
    assert table.key_for(pts) == expected


def test_without_a_mark_decoding_starts_at_the_beginning():
    assert PacketTable(packets((0, ""), (1, ""))).key_for(1) is None
