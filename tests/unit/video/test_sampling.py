from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.settings import (
    EverySampling,
    FpsSampling,
    IndexSampling,
    KeyframeSampling,
    UniformSampling,
    WindowSampling,
)
from dfpipe.video import Sample, choose_frames, every


def steady(num_frames, rate=25.0, start=0.0):
    return [start + index / rate for index in range(num_frames)]


def chosen(strategy, pts_seconds, keyframes=()):
    return choose_frames(strategy, pts_seconds=pts_seconds, keyframes=keyframes)


@pytest.mark.parametrize(
    "strategy",
    [EverySampling(), UniformSampling(), FpsSampling(), KeyframeSampling(), FpsSampling(max_frames=3)],
    ids=lambda strategy: strategy.name,
)
def test_a_video_without_frames(strategy):
    sample = chosen(strategy, [])
    assert (sample.indices, sample.missing) == ((), 0)


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
    strategy = EverySampling(every_frames=every_frames, max_frames=max_frames)
    assert chosen(strategy, steady(num_frames)) == Sample(expected, max_frames, 0)


def test_every_without_a_bound():
    assert every(301, every_frames=30, max_frames=None) == tuple(range(0, 301, 30))


@given(st.integers(0, 10_000), st.integers(1, 500), st.integers(1, 50))
def test_every_stays_inside_and_stops_only_for_a_reason(num_frames, every_frames, max_frames):
    taken = every(num_frames, every_frames=every_frames, max_frames=max_frames)
    assert all(0 <= index < num_frames for index in taken)
    assert all(index == place * every_frames for place, index in enumerate(taken))
    assert len(taken) == max_frames or len(taken) * every_frames >= num_frames


@pytest.mark.parametrize(
    ("num_frames", "number", "expected"),
    [
        (0, 3, ()),
        (1, 3, (0,)),
        (3, 3, (0, 1, 2)),
        (4, 3, (0, 2, 3)),
        (10, 1, (5,)),
        (10, 2, (2, 7)),
        (100, 4, (12, 37, 62, 87)),
    ],
)
def test_uniform(num_frames, number, expected):
    assert chosen(UniformSampling(num_frames=number), steady(num_frames)) == Sample(expected, number, 0)


@given(st.integers(0, 5000), st.integers(1, 300))
def test_uniform_takes_its_number_and_spreads_it(num_frames, number):
    taken = chosen(UniformSampling(num_frames=number), steady(num_frames)).indices
    assert len(taken) == min(num_frames, number)
    if len(taken) > 1:
        gaps = {after - before for before, after in pairwise(taken)}
        assert min(gaps) >= 1
        assert max(gaps) - min(gaps) <= 1
        # As far from the beginning as from the end.
        assert abs(taken[0] - (num_frames - 1 - taken[-1])) <= 1


@pytest.mark.parametrize(
    ("num_frames", "first", "number", "expected"),
    [
        (0, 0, 4, Sample((), 4, 4)),
        (9, 0, 4, Sample((0, 1, 2, 3), 4, 0)),
        (9, 5, 4, Sample((5, 6, 7, 8), 4, 0)),
        (9, 7, 4, Sample((7, 8), 4, 2)),
        (9, 50, 4, Sample((), 4, 4)),
        (9, 7, 10**6, Sample((7, 8), 10**6, 10**6 - 2)),
    ],
)
def test_window(num_frames, first, number, expected):
    assert chosen(WindowSampling(first_frame=first, num_frames=number), steady(num_frames)) == expected


@pytest.mark.parametrize(
    ("num_frames", "positions", "expected"),
    [
        (0, [0], Sample((), 1, 1)),
        (5, [4, 0, 4], Sample((0, 4), 2, 0)),
        (5, [5, 2, 99], Sample((2,), 3, 2)),
    ],
)
def test_indices(num_frames, positions, expected):
    assert chosen(IndexSampling(indices=positions), steady(num_frames)) == expected


@pytest.mark.parametrize(
    ("most", "expected"),
    [(None, Sample((0, 12, 24), None, 0)), (2, Sample((0, 12), 2, 0)), (9, Sample((0, 12, 24), 9, 0))],
)
def test_keyframes(most, expected):
    assert chosen(KeyframeSampling(max_frames=most), steady(30), [0, 12, 24]) == expected


@pytest.mark.parametrize(
    ("pts_seconds", "rate", "expected"),
    [
        pytest.param([], 1, (), id="no frames"),
        pytest.param([7.0], 1, (0,), id="one frame"),
        pytest.param(steady(75), 1, (0, 25, 50), id="steady"),
        pytest.param(steady(76), 1, (0, 25, 50, 75), id="one frame more"),
        pytest.param(steady(75, start=0.08), 1, (0, 25, 50), id="first frame not at 0"),
        pytest.param(steady(75, start=-0.5), 1, (0, 25, 50), id="first frame before 0"),
        pytest.param(steady(10), 10, (0, 2, 5, 7), id="between two frames the one that is still shown"),
        pytest.param(steady(4), 1000, (0, 1, 2, 3), id="faster than the video: each frame once"),
        pytest.param(steady(4), 1e-3, (0,), id="slower than the video is long"),
        pytest.param([0, 0.1, 0.2, 3.5, 3.6], 1, (0, 2, 4), id="a long still: seen at 1, 2 and 3 s"),
        pytest.param([0, 0.9], 1, (0, 1), id="the last frame is shown for a while"),
        pytest.param([0.0, 0.033, 0.067, 0.1, 0.133, 0.167], 30, (0, 1, 2, 3, 4, 5), id="rounded to milliseconds"),
        pytest.param([0.0, 0.0, 0.0], 5, (2,), id="times unknown"),
    ],
)
def test_fps(pts_seconds, rate, expected):
    assert chosen(FpsSampling(frames_per_second=rate, max_frames=None), pts_seconds) == Sample(expected, None, 0)
    assert chosen(FpsSampling(frames_per_second=rate, max_frames=2), pts_seconds) == Sample(expected[:2], 2, 0)


@given(
    gaps=st.lists(st.integers(2, 4000), max_size=60),
    start=st.integers(-5000, 5000),
    rate=st.sampled_from([0.3, 1.0, 7.5, 30.0]),
)
def test_fps_is_what_one_sees_when_looking(gaps, start, rate):
    milliseconds = [start]
    for gap in gaps:
        milliseconds.append(milliseconds[-1] + gap)
    pts_seconds = [time / 1000 for time in milliseconds]
    end = pts_seconds[-1] + max(0.002, (pts_seconds[-1] - pts_seconds[0]) / max(1, len(gaps)))
    seen = set()
    for look in range(int((end - pts_seconds[0]) * rate) + 2):
        instant = pts_seconds[0] + look / rate + 1e-3
        if instant < end:
            seen.add(max(index for index, time in enumerate(pts_seconds) if time <= instant + 1e-9))
    # Where look and frame fall together within rounding, either may be right.
    taken = set(chosen(FpsSampling(frames_per_second=rate), pts_seconds).indices)
    for index in taken ^ seen:
        edges = [*pts_seconds[index : index + 2], end]
        assert any(
            abs((edge - pts_seconds[0] - 1e-3) * rate - round((edge - pts_seconds[0] - 1e-3) * rate)) < 1e-6
            for edge in edges
        )


@given(
    strategy=st.sampled_from(
        [
            EverySampling(every_frames=3),
            UniformSampling(num_frames=6),
            WindowSampling(first_frame=4, num_frames=9),
            FpsSampling(frames_per_second=9),
            KeyframeSampling(),
            IndexSampling(indices=[30, 2, 2, 7]),
        ]
    ),
    num_frames=st.integers(0, 40),
)
def test_what_is_chosen_exists_rises_and_balances(strategy, num_frames):
    sample = chosen(strategy, steady(num_frames), range(0, num_frames, 5))
    assert list(sample.indices) == sorted(set(sample.indices))
    assert all(0 <= index < num_frames for index in sample.indices)
    if sample.asked is not None:
        assert len(sample.indices) + sample.missing <= sample.asked
