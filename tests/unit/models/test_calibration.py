import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.isotonic import IsotonicRegression

from dfpipe.errors import StoreError, TrainingDataError
from dfpipe.models import VerdictRule, fit_rule, frame_level
from dfpipe.models.calibration import Isotonic, Sigmoid, Uncalibrated, calibrate
from dfpipe.settings import EvaluationSettings, FixedThreshold

METHODS = ["none", "sigmoid", "isotonic"]


def overconfident(seed=0, videos=400):
    """Labels, and scores whose log odds are three times too large."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(size=videos)
    return rng.binomial(1, expit(odds)).astype(np.int8), expit(3 * odds)


def test_sigmoid_undoes_what_was_done_to_the_scores():
    y, scores = overconfident(videos=20_000)
    fitted = calibrate(y, scores, "sigmoid")
    assert fitted.slope == pytest.approx(1 / 3, abs=0.02)
    assert fitted.intercept == pytest.approx(0, abs=0.05)
    # Scores that are right already stay what they are.
    assert calibrate(y, expit(logit(scores) / 3), "sigmoid").slope == pytest.approx(1, abs=0.06)


def test_sigmoid_is_the_minimum_of_platts_loss():
    y, scores = overconfident(videos=60)
    fake, real = y.sum(), (1 - y).sum()
    target = np.where(y == 1, (fake + 1) / (fake + 2), 1 / (real + 2))

    def loss(values):
        p = expit(values[0] * logit(scores) + values[1])
        return -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p))

    best = minimize(loss, [0.5, 0.1], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).x
    fitted = calibrate(y, scores, "sigmoid")
    assert [fitted.slope, fitted.intercept] == pytest.approx(best.tolist(), abs=1e-3)


def test_isotonic_is_that_of_scikit_learn():
    y, scores = overconfident()
    expected = IsotonicRegression(y_min=1 / 402, y_max=401 / 402, out_of_bounds="clip").fit(scores, y)
    new = np.linspace(0, 1, 101)
    np.testing.assert_allclose(calibrate(y, scores, "isotonic").apply(new), expected.predict(new))


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_calibration_mends_probabilities_of_videos_it_has_not_seen(method):
    y, scores = overconfident(seed=1)
    fitted = calibrate(y, scores, method)
    others, unseen = overconfident(seed=2)
    before, after = frame_level(others, unseen), frame_level(others, fitted.apply(unseen))
    assert after.log_loss < before.log_loss - 0.05
    assert after.ece < before.ece / 2
    if method == "sigmoid":
        assert after.auc == before.auc


@given(
    st.lists(st.tuples(st.integers(0, 1), st.floats(0, 1)), min_size=2, max_size=30),
    st.sampled_from(METHODS),
    st.sampled_from(
        [{"name": "fixed", "value": 0.3}, {"name": "balanced_accuracy"}, {"name": "false_alarm_rate", "rate": 0.1}]
    ),
)
def test_any_rule_is_monotone_bounded_and_comes_back_from_json(rows, method, threshold):
    y = np.array([label for label, _ in rows], np.int8)
    scores = np.array([score for _, score in rows])
    settings = EvaluationSettings(calibration=method, threshold=threshold)
    if len(set(y.tolist())) < 2:
        with pytest.raises(TrainingDataError, match="expected both to fit a calibration"):
            fit_rule(y, scores, settings)
        return
    rule = fit_rule(y, scores, settings)
    assert VerdictRule.from_json(rule.to_json()) == rule
    probabilities = rule.apply(np.linspace(0, 1, 50))
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    assert np.all(np.diff(probabilities) >= 0)
    assert (rule.real_videos, rule.fake_videos) == tuple(np.bincount(y, minlength=2).tolist())
    if threshold["name"] == "balanced_accuracy":
        reached = frame_level(y, rule.apply(scores), threshold=rule.threshold).balanced_accuracy
        for other in (*rule.apply(scores), 0.5, 2.0):
            assert reached >= frame_level(y, rule.apply(scores), threshold=other).balanced_accuracy - 1e-12
    if threshold["name"] == "false_alarm_rate":
        called = rule.apply(scores) >= rule.threshold
        assert called[y == 0].mean() <= 0.1
        # The lowest such threshold: one more video called fake, and a real one too many would be.
        rest = rule.apply(scores)[~called]
        if len(rest):
            assert (rule.apply(scores)[y == 0] >= rest.max()).mean() > 0.1
    if threshold["name"] == "fixed":
        assert rule.threshold == 0.3


def test_what_divides_the_classes_is_cut_in_the_middle():
    y = np.array([0, 0, 1, 1], np.int8)
    rule = fit_rule(y, np.array([0.1, 0.2, 0.8, 0.9]), EvaluationSettings(calibration="none"))
    assert rule.threshold == pytest.approx(0.5)


def test_scores_that_are_worse_than_chance_are_not_turned_round():
    y, scores = overconfident()
    fitted = calibrate(y, 1 - scores, "sigmoid")
    assert fitted.slope == 0
    assert fitted.apply(scores)[0] == pytest.approx(y.mean(), abs=0.01)


def test_nothing_fitted_is_the_score_and_one_half():
    rule = VerdictRule()
    assert (rule.calibration, rule.threshold, rule.chosen_by) == (Uncalibrated(), 0.5, FixedThreshold())
    assert rule.apply(np.array([0.1, np.nan])).tolist()[0] == 0.1
    assert np.isnan(Sigmoid(slope=1, intercept=0).apply(np.array([np.nan, 0.5]))).tolist() == [True, False]
    assert Sigmoid(slope=1, intercept=0).apply(np.array([0.25, 0.0, 1.0])) == pytest.approx([0.25, 0, 1], abs=1e-5)
    line = Isotonic(scores=(0.2, 0.4), probabilities=(0.1, 0.9))
    assert line.apply(np.array([0, 0.3, 1])) == pytest.approx([0.1, 0.5, 0.9])


@pytest.mark.parametrize("text", ["", "{", '{"threshold": "x"}', '{"calibration": {"name": "sigmoid", "slope": -1}}'])
def test_what_is_no_rule_is_one_line(text):
    with pytest.raises(StoreError, match="the model's verdict rule cannot be read at") as caught:
        VerdictRule.from_json(text)
    assert "\n" not in str(caught.value)
