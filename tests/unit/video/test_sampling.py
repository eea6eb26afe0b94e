import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.video import every


@pytest.mark.parametrize(
    ("num_frames", "every_frames", "max_frames", "expected"),
    [
        (0, 30, 7, ()),
        (1, 30, 7, (0,)),
        (30, 30, 7, (0,)),
        (31, 30, 7, (0, 30)),
        (300, 30, 7, (0, 30, 60, 90, 120, 150, 180)),
        (300, 30, 1, (0,)),
        (5, 1, 9, (0, 1, 2, 3, 4)),
    ],
)
def test_every(num_frames, every_frames, max_frames, expected):
    assert every(num_frames, every_frames=every_frames, max_frames=max_frames) == expected


@given(st.integers(0, 10_000), st.integers(1, 500), st.integers(1, 50))
def test_every_stays_inside_and_stops_only_for_a_reason(num_frames, every_frames, max_frames):
    taken = every(num_frames, every_frames=every_frames, max_frames=max_frames)
    assert all(0 <= index < num_frames for index in taken)
    assert all(index == place * every_frames for place, index in enumerate(taken))
    assert len(taken) == max_frames or len(taken) * every_frames >= num_frames
