import numpy as np
import pytest

from dfpipe.errors import LossError, UserError
from dfpipe.report.losses import check_losses, count_losses
from dfpipe.settings import LossSettings


def losses_of(*rows):
    """Count the losses of videos given as (label, manipulation, status, wanted, with a face, with a kept face)."""
    names = ("label", "manipulation", "status", "frames_wanted", "frames_with_face", "frames_with_kept_face")
    columns = [np.array(column) for column in zip(*rows, strict=True)] or [np.array([])] * len(names)
    columns = dict(zip(names, columns, strict=True)) | {"compression": np.array(["c23"] * len(rows))}
    return count_losses(columns | {"dataset": np.array(["d"] * len(rows))})


ROWS = [
    ("real", "original", "ok", 10, 10, 10),
    ("real", "original", "ok", 10, 9, 8),
    ("fake", "swap", "ok", 10, 5, 4),
    ("fake", "swap", "no_face", 10, 0, 0),
    ("fake", "puppet", "ok", 10, 10, 10),
    ("fake", "puppet", "corrupt", 0, 0, 0),
    ("fake", "puppet", "filtered", 0, 0, 0),
    ("fake", "puppet", "pending", 0, 0, 0),
]


def test_of_nothing_nothing_is_lost():
    losses = losses_of()
    assert losses.overall.videos.value is None
    assert (losses.groups, losses.video_gap, losses.frame_gap) == ((), None, None)
    check_losses(losses, LossSettings(max_videos_lost=0, max_frames_lost=0, max_gap=0), where="there")


def test_losses_by_group():
    losses = losses_of(*ROWS)
    groups = {(one.grouping, one.group): one for one in (losses.overall, *losses.groups)}
    found = {
        key: [(share.part, share.whole) for share in (one.videos, one.frames_without_face, one.frames_lost)]
        for key, one in groups.items()
    }
    assert found == {
        ("", "all"): [(2, 6), (16, 50), (18, 50)],
        ("label", "real"): [(0, 2), (1, 20), (2, 20)],
        ("label", "fake"): [(2, 4), (15, 30), (16, 30)],
        ("manipulation", "original"): [(0, 2), (1, 20), (2, 20)],
        ("manipulation", "puppet"): [(1, 2), (0, 10), (0, 10)],
        ("manipulation", "swap"): [(1, 2), (15, 20), (16, 20)],
    }
    assert losses.video_gap.value == -0.5
    assert losses.frame_gap.value == pytest.approx(2 / 20 - 16 / 30)


def test_one_label_has_no_gap():
    losses = losses_of(*ROWS[:2])
    assert (losses.video_gap, losses.frame_gap) == (None, None)
    for sentence in losses.sentences():
        assert "cannot be compared" in sentence
    check_losses(losses, LossSettings(max_gap=0), where="there")


def test_the_gap_in_a_sentence():
    same = losses_of(*(("real", "o", "ok", 10, 9, 9) for _ in range(9)), *(("fake", "m", "ok", 10, 9, 9),) * 9)
    assert same.sentences() == (
        "0.0 % of the real videos and 0.0 % of the fake ones end without a face, a difference of +0.0 points "
        "(95 % interval -29.9 to +29.9), which may be chance.",
        "Real videos lose 10.0 % of their wanted frames and fake ones 10.0 %, a difference of +0.0 points "
        "(95 % interval -9.2 to +9.2), which may be chance.",
    )
    leak = losses_of(*(("real", "o", "ok", 10, 10, 10),) * 50, *(("fake", "m", "ok", 10, 2, 2),) * 50)
    assert leak.sentences()[1] == (
        "Real videos lose 0.0 % of their wanted frames and fake ones 80.0 %, a difference of -80.0 points "
        "(95 % interval -83.3 to -71.9), which a model can mistake for a sign of forgery."
    )


def test_a_line_for_the_terminal():
    assert losses_of(*ROWS).line() == (
        "2 of 6 videos (real 0.0 %, fake 50.0 %), 36.0 % of the wanted frames (real 10.0 %, fake 53.3 %)"
    )
    assert losses_of(ROWS[5]).line() == "1 of 1 videos"


@pytest.mark.parametrize(
    "bounds",
    [
        {},
        {"max_videos_lost": 2 / 6},
        {"max_frames_lost": 18 / 50},
        {"max_gap": 0.5},
        {"max_videos_lost": 1, "max_frames_lost": 1, "max_gap": 1},
    ],
)
def test_losses_within_their_bounds(bounds):
    check_losses(losses_of(*ROWS), LossSettings(**bounds), where="there")


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        (
            {"max_videos_lost": 0.33},
            "2 of 6 videos ended without a face (0.3333), expected at most losses.max_videos_lost = 0.33",
        ),
        (
            {"max_frames_lost": 0.35},
            "no face was kept of 18 of 50 wanted frames (0.36), expected at most losses.max_frames_lost = 0.35",
        ),
        (
            {"max_gap": 0.43},
            "the share of fake videos that ended without a face is 0.5 above that of real ones, expected at most "
            "losses.max_gap = 0.43; the share of wanted frames that fake videos lost is 0.4333 above that of real "
            "ones, expected at most losses.max_gap = 0.43",
        ),
        (
            {"max_gap": 0.45},
            "the share of fake videos that ended without a face is 0.5 above that of real ones, expected at most "
            "losses.max_gap = 0.45",
        ),
    ],
)
def test_a_bound_that_is_passed(bounds, words):
    with pytest.raises(LossError) as caught:
        check_losses(losses_of(*ROWS), LossSettings(**bounds), where="store/report.md")
    message = str(caught.value)
    assert message.startswith(f"{words}; everything is committed")
    assert "store/report.md" in message
    assert "\n" not in message
    assert isinstance(caught.value, UserError)


def test_every_bound_that_is_passed_is_named():
    with pytest.raises(LossError, match=r"max_videos_lost.*max_frames_lost.*max_gap"):
        check_losses(losses_of(*ROWS), LossSettings(max_videos_lost=0, max_frames_lost=0, max_gap=0), where="there")


@pytest.mark.parametrize(
    "status", ["corrupt", "empty", "truncated", "unsupported", "too_large", "too_long", "timeout", "crashed"]
)
def test_fakes_lost_before_a_frame_was_wanted_of_them_are_told_and_bounded(status):
    """Real videos lose a frame here and there; of the fakes nearly all are lost, and those that are not lose none."""
    real, fake = ("real", "o", "ok", 10, 10, 9), ("fake", "m", "ok", 10, 10, 10)
    losses = losses_of(*(real,) * 50, *(fake,) * 2, *(("fake", "m", status, 0, 0, 0),) * 48)
    assert losses.frame_gap.value == pytest.approx(0.1)
    videos, frames = losses.sentences()
    assert videos == (
        "0.0 % of the real videos and 96.0 % of the fake ones end without a face, a difference of -96.0 points "
        "(95 % interval -98.9 to -84.2), which a model can mistake for a sign of forgery."
    )
    assert frames.startswith("Real videos lose 10.0 % of their wanted frames and fake ones 0.0 %")
    assert "(real 0.0 %, fake 96.0 %)" in losses.line()
    with pytest.raises(LossError, match=r"^the share of fake videos that ended without a face is 0\.96 above"):
        check_losses(losses, LossSettings(max_gap=0.5), where="there")


def test_where_all_fakes_are_lost_their_videos_are_still_compared():
    losses = losses_of(("real", "o", "ok", 10, 10, 10), ("fake", "m", "corrupt", 0, 0, 0))
    assert losses.frame_gap is None
    assert losses.sentences()[0].startswith("0.0 % of the real videos and 100.0 % of the fake ones")
    with pytest.raises(LossError, match="max_gap"):
        check_losses(losses, LossSettings(max_gap=0.99), where="there")


def test_filtered_videos_are_not_lost():
    check_losses(losses_of(ROWS[0], *ROWS[6:]), LossSettings(max_videos_lost=0), where="there")
