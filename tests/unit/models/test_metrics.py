import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit
from scipy.stats import norm
from sklearn import metrics

from dfpipe.errors import TrainingDataError
from dfpipe.models import frame_level, intervals, video_level, video_scores
from dfpipe.models.bootstrap import group_weights
from dfpipe.models.metrics import _figures, differences, equal_mass_bins
from dfpipe.settings import BootstrapSettings


def test_frame_level_by_hand():
    y = np.array([0, 0, 0, 1, 1], np.int8)
    scores = frame_level(y, np.array([0.1, 0.5, 0.2, 0.9, 0.4]))
    assert scores.confusion.tolist() == [[2, 1], [1, 1]]
    assert scores.accuracy == pytest.approx(3 / 5)
    assert scores.balanced_accuracy == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert scores.auc == pytest.approx(5 / 6)
    assert scores.precision_real == pytest.approx(2 / 3)
    assert scores.recall_real == pytest.approx(2 / 3)
    assert scores.precision_fake == pytest.approx(1 / 2)
    assert scores.recall_fake == pytest.approx(1 / 2)
    assert scores.f1_fake == pytest.approx(1 / 2)
    assert scores.log_loss == pytest.approx(-np.log([0.9, 0.5, 0.8, 0.9, 0.4]).mean())


def test_one_class_has_no_auc():
    scores = frame_level(np.ones(3, np.int8), np.array([0.9, 0.8, 0.1]))
    assert math.isnan(scores.auc)
    assert scores.balanced_accuracy == pytest.approx(2 / 3)
    assert scores.confusion.tolist() == [[0, 0], [1, 2]]


def test_names_carry_the_prefix_and_no_counts():
    named = frame_level(np.array([0, 1], np.int8), np.array([0.0, 1.0])).named("video_")
    assert named["video_auc"] == 1
    assert len(named) == 16
    assert all(name.startswith("video_") for name in named)


@pytest.mark.parametrize(
    ("proba", "video", "n", "expected"),
    [
        ([], [], 0, []),
        ([], [], 1, [np.nan]),
        ([0.25, 0.75, 1.0], [0, 0, 2], 3, [0.5, np.nan, 1.0]),
    ],
)
def test_video_scores(proba, video, n, expected):
    scores = video_scores(np.array(proba, np.float64), np.array(video, np.int32), n)
    np.testing.assert_allclose(scores, expected)


def test_video_level_takes_means_not_votes():
    y = np.array([1, 1, 1, 0], np.int8)
    scores = video_level(y, np.array([0.45, 0.45, 0.95, 0.1]), np.array([5, 5, 5, 9]))
    assert scores.accuracy == 1
    assert scores.confusion.sum() == 2


@given(st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=1, max_size=40), st.randoms())
def test_video_level_with_one_face_each_is_frame_level_in_any_order(rows, random):
    y = np.array([label for label, _ in rows], np.int8)
    proba = np.array([score for _, score in rows])
    order = list(range(len(rows)))
    random.shuffle(order)
    frame, video = frame_level(y, proba), video_level(y[order], proba[order], np.array(order))
    np.testing.assert_equal(video.named(""), pytest.approx(frame.named(""), nan_ok=True))
    assert video.confusion.tolist() == frame.confusion.tolist()


ROWS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 20)), min_size=2, max_size=60)


def as_arrays(rows):
    y = np.array([label for label, _ in rows], np.int8)
    # Multiples of a twentieth tie often.
    return y, np.array([score for _, score in rows]) / 20


@given(ROWS)
def test_figures_are_those_of_scikit_learn(rows):
    y, proba = as_arrays(rows)
    scores = frame_level(y, proba)
    called = (proba >= 0.5).astype(int)
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(y, called, labels=[0, 1], zero_division=0)
    assert [scores.precision_real, scores.precision_fake] == pytest.approx(precision.tolist())
    assert [scores.recall_real, scores.recall_fake] == pytest.approx(recall.tolist())
    assert [scores.f1_real, scores.f1_fake] == pytest.approx(f1.tolist())
    assert scores.confusion.tolist() == metrics.confusion_matrix(y, called, labels=[0, 1]).tolist()
    assert scores.log_loss == pytest.approx(metrics.log_loss(y, proba, labels=[0, 1]))
    assert scores.brier == pytest.approx(metrics.brier_score_loss(y, proba, pos_label=1, labels=[0, 1]))
    if len(set(y.tolist())) == 2:
        assert scores.balanced_accuracy == pytest.approx(metrics.balanced_accuracy_score(y, called))
        assert scores.auc == pytest.approx(metrics.roc_auc_score(y, proba))
        assert scores.pr_auc == pytest.approx(metrics.average_precision_score(y, proba))
        false_fake, found, _ = metrics.roc_curve(y, proba, drop_intermediate=False)
        for rate, figure in ((0.01, scores.tpr_at_fpr_1), (0.05, scores.tpr_at_fpr_5)):
            assert figure == pytest.approx(found[false_fake <= rate + 1e-12].max())
        # Where false alarms and misses meet on the polyline, found by bisection along it.
        along = np.linspace(0, len(found) - 1, 20_001)
        gap = np.interp(along, range(len(found)), false_fake) + np.interp(along, range(len(found)), found) - 1
        near = np.interp(along[np.argmin(np.abs(gap))], range(len(found)), false_fake)
        assert scores.eer == pytest.approx(near, abs=2e-3)


@given(ROWS, st.integers(0, 3))
def test_figures_of_a_resample_are_those_of_its_rows(rows, seed):
    y, proba = as_arrays(rows)
    (weights,) = group_weights(np.arange(len(y)), samples=1, seed=seed)
    drawn = np.repeat(np.arange(len(y)), weights)
    weighted = _figures(y, proba, weights[None], 0.5)
    repeated = frame_level(y[drawn], proba[drawn]).named("")
    for name in set(repeated) - {"ece"}:  # bins are those of the whole set
        assert weighted[name][0] == pytest.approx(repeated[name], nan_ok=True), name


def test_what_needs_two_classes_is_not_defined_for_one():
    for label in (0, 1):
        scores = frame_level(np.full(4, label, np.int8), np.array([0.1, 0.2, 0.2, 0.9]))
        undefined = {name for name, value in scores.named("").items() if math.isnan(value)}
        assert undefined == {"auc", "pr_auc", "eer", "tpr_at_fpr_1", "tpr_at_fpr_5"}


def test_one_percent_of_twenty_real_videos_is_no_false_alarm_at_all():
    y = np.repeat(np.array([0, 1], np.int8), [20, 10])
    real = np.linspace(0, 0.6, 20)
    fake = np.array([0.5, 0.55, 0.58, 0.59, 0.595, 0.7, 0.7, 0.8, 0.9, 1.0])
    scores = frame_level(y, np.concatenate([real, fake]))
    assert scores.tpr_at_fpr_1 == 0.5
    # One of twenty is 5 %: what lies above the second highest real score counts.
    assert scores.tpr_at_fpr_5 == np.mean(fake > real[-2])
    # The highest is real: nothing is found without a false alarm, and no point between two is made up.
    assert frame_level(y, np.concatenate([real + 0.4, fake * 0.9])).tpr_at_fpr_1 == 0


def test_equal_error_rate_by_hand():
    y = np.array([0, 0, 0, 0, 1, 1], np.int8)
    # Points (0, 0), (0, .5), (.25, .5), (.25, 1): misses fall from .5 to 0 where false alarms stand at .25.
    assert frame_level(y, np.array([0.1, 0.2, 0.3, 0.8, 0.7, 0.9])).eer == pytest.approx(0.25)
    # All tie: one line from (0, 0) to (1, 1).
    assert frame_level(y, np.full(6, 0.3)).eer == pytest.approx(0.5)
    assert frame_level(y, y.astype(float)).eer == 0
    assert frame_level(y, 1.0 - y).eer == 1


def test_calibration_error_by_hand():
    # Ties stay in one bin, so there are two: 0.2 said and 1 of 4 seen; 0.9 said and 3 of 4 seen.
    y = np.array([0, 0, 0, 1, 1, 1, 1, 0], np.int8)
    proba = np.repeat([0.2, 0.9], 4)
    assert frame_level(y, proba).ece == pytest.approx((0.05 + 0.15) / 2)
    assert frame_level(y, proba).brier == pytest.approx(((3 * 0.2**2 + 0.8**2) + (3 * 0.1**2 + 0.9**2)) / 8)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=80))
def test_bins_have_equal_mass_but_for_ties(values):
    proba = np.array(values) / 30
    bins = equal_mass_bins(proba)
    assert sorted(set(bins.tolist())) == list(range(bins.max() + 1))
    for value in set(values):
        assert len(set(bins[proba == value / 30])) == 1
    order = np.argsort(proba, kind="stable")
    assert np.all(np.diff(bins[order]) >= 0)
    if len(set(values)) == len(values):
        sizes = np.bincount(bins)
        assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("proba", [[0.5, np.nan], [0.5, 1.01], [-0.1, 0.5], [0.5]])
def test_what_is_no_probability_is_refused(proba):
    with pytest.raises(TrainingDataError):
        frame_level(np.array([0, 1], np.int8), np.array(proba))
    with pytest.raises(TrainingDataError, match="got 0 labels"):
        frame_level(np.array([], np.int8), np.array([]))


def test_intervals_hold_the_figure_and_shrink_with_confidence():
    y, proba, groups = study(np.random.default_rng(3))
    wide = intervals(y, proba, groups, bootstrap=BootstrapSettings(samples=300, confidence=0.99))
    narrow = intervals(y, proba, groups, bootstrap=BootstrapSettings(samples=300, confidence=0.5))
    values = frame_level(y, proba).named("")
    assert wide.keys() == values.keys()
    for name in ("auc", "accuracy", "log_loss", "brier", "pr_auc", "eer"):
        assert wide[name].low < narrow[name].low < values[name] < narrow[name].high < wide[name].high
    assert intervals(y, proba, groups, bootstrap=BootstrapSettings(samples=300, confidence=0.5)) == narrow


def test_intervals_are_the_same_worked_out_in_small_parts(monkeypatch):
    y, proba, groups = study(np.random.default_rng(4))
    whole = intervals(y, proba, groups, bootstrap=BootstrapSettings(samples=100))
    monkeypatch.setattr("dfpipe.models.metrics.CELLS_AT_ONCE", 7 * len(y))
    assert intervals(y, proba, groups, bootstrap=BootstrapSettings(samples=100)) == whole


def test_resamples_without_a_class_are_left_out():
    # Two groups of one class each: every second resample has one class only, and the others are the set itself.
    y = np.array([0, 0, 1, 1], np.int8)
    proba = np.array([0.1, 0.6, 0.4, 0.9])
    found = intervals(y, proba, np.array([0, 0, 1, 1]), bootstrap=BootstrapSettings(samples=100))
    values = frame_level(y, proba).named("")
    assert {name: (pytest.approx(value),) * 2 for name, value in values.items()} == found
    # Nothing is left out where there is but one class to begin with.
    one = intervals(y[:2], proba[:2], np.array([0, 1]), bootstrap=BootstrapSettings(samples=100))
    assert one["accuracy"] == (0, 1)
    assert math.isnan(one["auc"].low)


def test_differences_are_paired():
    y, proba, groups = study(np.random.default_rng(6))
    other = 0.05 + 0.9 * proba
    bootstrap = BootstrapSettings(samples=100)
    found = differences(y, proba, other, groups, bootstrap=bootstrap)
    one, two = (frame_level(y, values).named("") for values in (proba, other))
    assert {name: value for name, (value, _) in found.items()} == {name: one[name] - two[name] for name in one}
    swapped = differences(y, other, proba, groups, bootstrap=bootstrap)
    for name, (value, (low, high)) in found.items():
        assert swapped[name][0] == -value
        assert swapped[name][1] == pytest.approx((-high, -low))
    # What a resample has of easy people helps both models, so the interval is narrower than that of one.
    own, difference = intervals(y, proba, groups, bootstrap=bootstrap)["log_loss"], found["log_loss"][1]
    assert difference.high - difference.low < (own.high - own.low) / 2
    same = differences(y, proba, proba, groups, bootstrap=bootstrap)
    assert set(same.values()) == {(0, (0, 0))}


def test_one_group_has_no_interval():
    y, proba, groups = study(np.random.default_rng(5))
    assert all(
        math.isnan(end)
        for interval in intervals(y, proba, groups * 0, bootstrap=BootstrapSettings()).values()
        for end in interval
    )


def study(rng, *, people=60, videos=5, spread=1.0, noise=0.7, apart=1.2):
    """Videos of real people and of fakes, alike within a person: scores, and who is in them."""
    groups = np.repeat(np.arange(people), videos)
    y = (groups % 2).astype(np.int8)
    line = apart * y + rng.normal(scale=spread, size=people)[groups] + rng.normal(scale=noise, size=len(y))
    return y, expit(line), groups


def test_intervals_over_people_cover_and_those_over_videos_do_not():
    # Scores of a real and of a fake person differ by a normal variable, so the true area is known.
    true = norm.cdf(1.2 / np.sqrt(2 * (1.0**2 + 0.7**2)))
    covered = {"people": 0, "videos": 0}
    studies = 120
    for seed in range(studies):
        y, proba, groups = study(np.random.default_rng(seed))
        for unit, of in (("people", groups), ("videos", np.arange(len(y)))):
            low, high = intervals(y, proba, of, bootstrap=BootstrapSettings(samples=200, seed=seed))["auc"]
            covered[unit] += low <= true <= high
    # 95 % of 120, less two standard errors and what 30 groups a class and 200 resamples cost.
    assert 0.90 <= covered["people"] / studies <= 0.99
    assert covered["videos"] / studies < 0.75
