"""The gate: a better model passes, a worse one never does, and what cannot be compared does not pass."""

import numpy as np
import pytest

from dfpipe.models.gate import decide
from dfpipe.settings import BootstrapSettings, GateSettings

FEW = BootstrapSettings(samples=200)
RULES = GateSettings(bootstrap=FEW)


def world(seed, groups=40, videos=4):
    """Labels and groups of videos; half of each group's are fake."""
    return np.tile([0, 1], groups * videos // 2), np.repeat(np.arange(groups), videos), np.random.default_rng(seed)


def model(y, groups, random, *, signal, common):
    """Probabilities of a calibrated model; part of its errors is `common` to all models, and alike within a group."""
    evidence = signal * (2 * y - 1) + common + random.normal(scale=0.5, size=len(y))
    return 1 / (1 + np.exp(-2 * signal * evidence / (1.25 * common.var() + 0.25)))


def passes(seed, challenger, champion):
    y, groups, random = world(seed)
    common = random.normal(size=40)[groups] * 0.5 + random.normal(size=len(y)) * 0.8
    scores = [model(y, groups, random, signal=signal, common=common) for signal in (challenger, champion)]
    return decide(y, scores[0], groups, RULES, champion=scores[1]).passed


def test_a_better_model_nearly_always_passes():
    assert sum(passes(seed, 2.0, 1.0) for seed in range(30)) >= 28


def test_a_worse_model_never_passes():
    assert not any(passes(seed, 1.0, 2.0) for seed in range(30))


def test_a_model_below_the_bound_is_no_champion_even_without_a_rival():
    y, groups, random = world(0)
    guess = decide(y, random.random(len(y)), groups, RULES)
    assert not guess.passed
    assert [check.name for check in guess.checks] == ["auc"]
    assert guess.reasons[0].startswith("video AUC is 0.")
    good = decide(y, y * 0.6 + 0.2, groups, RULES)
    assert good.passed
    assert good.reasons == ()
    strict = decide(y, np.where(np.arange(len(y)) % 7, y, 1 - y) * 0.6, groups, GateSettings(min_auc_lower_bound=0.95))
    assert not strict.passed


@pytest.mark.parametrize("seed", range(5))
def test_the_same_scores_are_not_worse(seed):
    y, groups, random = world(seed, groups=8)
    scores = np.clip(y * 0.3 + random.random(len(y)) * 0.7, 0, 1)
    strictest = GateSettings(
        bootstrap=FEW, min_auc_lower_bound=0, auc_tolerance=0, log_loss_tolerance=0, calibration_tolerance=0
    )
    verdict = decide(y, scores, groups, strictest, champion=scores)
    assert verdict.passed
    assert [(check.value, check.low, check.high) for check in verdict.checks[1:]] == [(0, 0, 0)] * 3


@pytest.mark.parametrize(
    ("spoil", "worse"),
    [
        (lambda p: 1 - p, {"auc_difference", "log_loss_difference", "ece_difference"}),
        # The same order, far too sure of itself.
        (lambda p: p**8 / (p**8 + (1 - p) ** 8), {"log_loss_difference", "ece_difference"}),
    ],
)
def test_each_figure_can_refuse(spoil, worse):
    y, groups, random = world(1)
    champion = model(y, groups, random, signal=1.0, common=random.normal(size=len(y)))
    verdict = decide(y, spoil(champion), groups, RULES, champion=champion)
    assert {check.name for check in verdict.checks[1:] if not check.passed} == worse
    assert len(verdict.reasons) >= len(worse)


def test_a_tolerance_is_what_decides():
    y, groups, random = world(2)
    champion = model(y, groups, random, signal=1.5, common=random.normal(size=len(y)) * 0.8)
    worse = np.where(random.random(len(y)) < 0.04, 0.5, champion)
    differences = decide(y, worse, groups, RULES, champion=champion).checks[1:]
    auc, loss, calibration = differences
    assert auc.low < 0 < loss.high
    just = {
        "auc_tolerance": -auc.low,
        "log_loss_tolerance": max(loss.high, 0),
        "calibration_tolerance": max(calibration.high, 0),
    }
    assert decide(y, worse, groups, GateSettings(bootstrap=FEW, **just), champion=champion).passed
    for name in ("auc_tolerance", "log_loss_tolerance"):
        tighter = GateSettings(bootstrap=FEW, **just | {name: just[name] * 0.99})
        assert not decide(y, worse, groups, tighter, champion=champion).passed


def test_what_cannot_be_compared_does_not_pass():
    y, groups, _ = world(0, groups=4)
    good = y * 0.6 + 0.2
    told = decide(y, good, groups, RULES, hindrance="its run is gone")
    assert not told.passed
    assert told.reasons == ("it cannot be compared with the champion: its run is gone",)
    assert told.checks[0].passed
    only_real = np.where(y == 0, good, np.nan)
    one_group = np.where(groups == 0, good, np.nan)
    for champion, words in ((only_real, "8 real and 0 fake videos in 4 groups"), (one_group, "2 fake videos in 1 gro")):
        verdict = decide(y, good, groups, RULES, champion=champion)
        assert not verdict.passed
        assert words in verdict.reasons[0]
        assert (verdict.videos, verdict.compared_videos) == (16, 0)
    half = decide(y, good, groups, RULES, champion=np.where(groups < 2, good, np.nan))
    assert half.passed
    assert (half.groups, half.compared_videos, half.compared_groups) == (4, 8, 2)


@pytest.mark.parametrize("videos", [0, 3])
def test_nobody_left_to_judge_by_does_not_pass(videos):
    verdict = decide(np.ones(videos, int), np.ones(videos), np.arange(videos), RULES, champion=np.ones(videos))
    assert not verdict.passed
    assert verdict.checks == ()
    assert f"0 real and {videos} fake videos in {videos} groups" in verdict.reasons[0]
    assert "gate.min_groups" in verdict.reasons[0]


def test_the_order_of_the_videos_does_not_matter():
    y, groups, random = world(3, groups=10)
    scores = np.round(random.random((2, len(y))), 1)
    order = random.permutation(len(y))
    one = decide(y, scores[0], groups, RULES, champion=scores[1])
    other = decide(y[order], scores[0][order], groups[order], RULES, champion=scores[1][order])
    for left, right in zip(one.checks, other.checks, strict=True):
        assert (left.low, left.value, left.high) == pytest.approx((right.low, right.value, right.high))
