import pytest

from dfpipe.video.packets import Packet, PacketTable, is_steady


def packets(*rows):
    """One packet per (pts, marks): K is a key frame, H is hidden."""
    return [Packet(pts, "K" in marks, "H" in marks) for pts, marks in rows]


def test_no_packets():
    table = PacketTable([])
    assert (table.num_frames, table.pts, table.is_complete) == (0, [], True)
    assert (table.keyframes, table.whole_from) == ((), None)


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


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param([(0, "K"), (1, ""), (2, "K")], (0, 2), id="as stored"),
        pytest.param([(0, "K"), (4, "K"), (2, ""), (3, "")], (0, 3), id="stored before what is shown before it"),
        pytest.param([(0, "KH"), (1, "H"), (2, "K"), (3, "")], (0,), id="hidden ones are no frames"),
        pytest.param([(None, "K"), (None, ""), (None, "K")], (0, 2), id="no times: in stored order"),
        pytest.param([(0, ""), (1, "")], (), id="none"),
    ],
)
def test_keyframes(rows, expected):
    assert PacketTable(packets(*rows)).keyframes == expected


def test_times_that_the_container_does_not_store_are_not_used():
    table = PacketTable(packets((0, "K"), (4, "K"), (2, ""), (3, "")), has_true_times=False)
    assert not table.is_complete
    assert table.keyframes == (0, 1)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [([(0, "K"), (1, "")], None), ([(1, ""), (2, ""), (6, "K"), (5, "")], 6), ([(1, ""), (2, "")], None)],
)
def test_where_a_stream_becomes_whole(rows, expected):
    assert PacketTable(packets(*rows)).whole_from == expected


@pytest.mark.parametrize(
    ("pts", "rounding", "expected"),
    [
        ([], 1, True),
        ([5], 1, True),
        ([5, 9], 1, True),
        ([0, 512, 1024], 1, True),
        ([0, 33, 67, 100, 133], 1, True),
        ([0, 33, 68], 1, False),
        ([0, 33, 68], 2, True),
        ([0, 1, 3, 4], 1, False),  # one left out
        ([0, 512, 512, 1024], 600, False),  # two at once
    ],
)
def test_is_steady(pts, rounding, expected):
    assert is_steady(pts, rounding=rounding) == expected
