import numpy as np
import pytest

from dfpipe.report.shares import Share, difference, share_of_frames, share_of_videos


def test_nothing_is_known_of_nothing():
    assert share_of_videos(0, 0) == share_of_frames(np.array([], int), np.array([], int)) == Share(0, 0, None, 0, 1)


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [
        # Wilson's limits as published: Newcombe 1998, table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_as_published(part, whole, low, high):
    share = share_of_videos(part, whole)
    assert (share.low, share.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@pytest.mark.parametrize("part", [0, 1, 50, 100])
def test_the_interval_holds_the_share_and_stays_within_0_and_1(part):
    share = share_of_videos(part, 100)
    assert 0 <= share.low <= share.value == part / 100 <= share.high <= 1


def test_frames_that_are_lost_with_their_video_count_as_one():
    """Ten frames a video that share its fate say no more than the video does."""
    lost = np.array([10] * 12 + [0] * 28)
    frames, videos = share_of_frames(lost, np.full(40, 10)), share_of_videos(12, 40)
    assert (frames.low, frames.high) == (pytest.approx(videos.low, abs=0.01), pytest.approx(videos.high, abs=0.01))


def test_where_none_is_lost_a_video_counts_as_one_frame():
    assert share_of_frames(np.zeros(20, int), np.full(20, 100)).high == share_of_videos(0, 20).high


def test_a_single_video_is_one_frame():
    share = share_of_frames(np.array([30]), np.array([60]))
    assert (share.low, share.high) == (pytest.approx(0.0546, abs=5e-5), pytest.approx(0.9454, abs=5e-5))


def test_the_interval_of_frames_is_that_of_a_bootstrap_over_videos():
    rng = np.random.default_rng(0)
    wanted = rng.integers(1, 8, 400)
    lost = rng.binomial(wanted, rng.beta(0.4, 2.0, 400))
    share = share_of_frames(lost, wanted)
    again = rng.integers(0, 400, (4000, 400))
    low, high = np.percentile(lost[again].sum(axis=1) / wanted[again].sum(axis=1), [2.5, 97.5])
    assert (share.low, share.high) == (pytest.approx(low, abs=0.006), pytest.approx(high, abs=0.006))
    naive = share_of_videos(share.part, share.whole)
    assert naive.high - naive.low < 0.75 * (share.high - share.low)


@pytest.mark.parametrize(
    ("first", "second", "value", "low", "high"),
    [
        # Newcombe 1998 (interval estimation for the difference), table II, method 10.
        ((56, 70), (48, 80), 0.2, 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.6, 0.1705, 0.8090),
        ((10, 10), (0, 20), 1.0, 0.6791, 1.0),
    ],
)
def test_difference_as_published(first, second, value, low, high):
    found = difference(share_of_videos(*first), share_of_videos(*second))
    assert found.value == pytest.approx(value)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_a_difference_may_be_chance_where_its_interval_holds_zero():
    assert difference(share_of_videos(5, 50), share_of_videos(6, 50)).may_be_chance
    assert not difference(share_of_videos(5, 50), share_of_videos(30, 50)).may_be_chance
    assert difference(share_of_videos(5, 50), share_of_videos(0, 0)) is None
