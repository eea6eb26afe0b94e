import io
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from dfpipe.models import (
    Candidate,
    ColumnBlock,
    classification_text,
    confusion_figure,
    grid_figure,
    grouped_folds,
    importance_figure,
    model_card,
    pr_figure,
    refit_and_evaluate,
    reliability_figure,
    roc_figure,
    rule_of,
    scores_figure,
    search,
    split_groups,
    subsets_figure,
)
from dfpipe.models.bootstrap import group_weights
from dfpipe.models.figures import _pr_at_levels, _roc_at_levels, pixel_importance
from dfpipe.models.metrics import equal_mass_bins
from dfpipe.settings import BootstrapSettings, EvaluationSettings, PixelsSettings, ResidualSettings

SETTINGS = EvaluationSettings(bootstrap=BootstrapSettings(samples=100))


def seen(*columns, rows="face", **pixels):
    """What a model was shown: feature sets in these columns, the pixels of a face of 2 x 2 places."""
    options = {"size_px": 2, "channels": "rgb"} | pixels
    sets = {"pixels": PixelsSettings.model_construct(**options), "residual": ResidualSettings()}
    blocks = tuple(ColumnBlock(*block) for block in columns)
    return SimpleNamespace(features=[sets[block.feature] for block in blocks], columns=blocks, rows=rows)


PIXELS = seen(("pixels", 0, 12))
GRID = [
    *(Candidate("forest", (("max_depth", d), ("n_estimators", n)), 0) for d in (1, None) for n in (2, 5)),
    *(Candidate("xgboost", (("n_estimators", n),), 0) for n in (2, 5)),
    Candidate("forest", (("max_features", "nonsense"),), 0),
]


@pytest.fixture(scope="module")
def found(data):
    train, _ = split_groups(data.groups, data.video_labels, test_fraction=0.25, seed=0)
    folds = grouped_folds(data.groups, data.video_labels, folds=2, seed=0, videos=train)
    return search(data, [(data.rows_of(one), data.rows_of(other)) for one, other in folds], GRID)


@pytest.fixture(scope="module")
def evaluations(data, found):
    train, test = split_groups(data.groups, data.video_labels, test_fraction=0.25, seed=0)
    return [
        refit_and_evaluate(
            data,
            data.rows_of(train),
            data.rows_of(test),
            result.candidate,
            rule=rule_of(data, result, SETTINGS),
            settings=SETTINGS,
            attributes={"compression": ["c23", "c23", "c40", "c40"] * 6},
        )
        for result in found.best_per_model.values()
    ]


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_confusion_shows_the_counts(evaluations):
    shown = texts(confusion_figure(evaluations[0]))
    for scores in (evaluations[0].frame, evaluations[0].video):
        for (row, _), count in np.ndenumerate(scores.confusion):
            assert f"{count}\n{count / scores.confusion[row].sum():.0%}" in shown
    assert evaluations[0].candidate.name in shown


@pytest.mark.parametrize(
    ("draw", "name", "figure", "lines"), [(roc_figure, "AUC", "auc", 3), (pr_figure, "PR AUC", "pr_auc", 3)]
)
def test_curves_name_their_area_with_its_interval_and_have_a_band_by_video(evaluations, draw, name, figure, lines):
    drawn = draw(evaluations)
    assert [len(axes.lines) for axes in drawn.axes] == [lines, lines]
    assert [len(axes.collections) for axes in drawn.axes] == [0, 2]
    for one in evaluations:
        value, (low, high) = getattr(one.video, figure), one.video_intervals[figure]
        assert f"{one.candidate.name}\n{name} {value:.3f} ({low:.3f} to {high:.3f})" in texts(drawn)


@pytest.mark.parametrize(("draw", "at_levels"), [(roc_figure, _roc_at_levels), (pr_figure, _pr_at_levels)])
def test_bands_are_the_percentiles_of_the_curves_of_resamples(evaluations, draw, at_levels):
    one = evaluations[1]
    y, proba = one.y_video, one.proba_video
    drawn = group_weights(one.groups_video, samples=100, seed=SETTINGS.bootstrap.seed)
    heights = [
        at_levels(y[rows], proba[rows], np.ones((1, len(rows)), int))[0]
        for rows in (np.repeat(np.arange(len(y)), weights) for weights in drawn)
        if 0 < y[rows].mean() < 1
    ]
    low, high = np.quantile(heights, [0.025, 0.975], axis=0)
    band = draw([one]).axes[1].collections[0].get_paths()[0].vertices
    for level in (0, 25, 50, 100):
        at = band[np.abs(band[:, 0] - level / 100) < 1e-9, 1]
        assert (at.min(), at.max()) == pytest.approx((low[level], high[level]))


def test_curves_by_hand():
    y = np.array([0, 0, 1, 1], np.int8)
    proba = np.array([0.1, 0.8, 0.7, 0.9])
    once = np.ones((1, 4), int)
    (roc,), (pr,) = _roc_at_levels(y, proba, once), _pr_at_levels(y, proba, once)
    # One fake above all; then a real one; then the other fake.
    assert roc[[0, 49, 50, 100]] == pytest.approx([0.5, 0.99, 1, 1])
    assert pr[[0, 50, 51, 100]] == pytest.approx([1, 1, 2 / 3, 2 / 3])


def test_reliability_shows_what_was_said_and_what_was_seen(evaluations):
    one = evaluations[0]
    figure = reliability_figure(one)
    _, before, calibrated = figure.axes[0].lines
    for line, proba, scores in (
        (before, one.score_video, one.video_uncalibrated),
        (calibrated, one.proba_video, one.video),
    ):
        said, seen = line.get_data()
        bins = equal_mass_bins(proba)
        for number in range(bins.max() + 1):
            assert said[number] == pytest.approx(proba[bins == number].mean())
            assert seen[number] == pytest.approx(one.y_video[bins == number].mean())
        assert scores.ece == pytest.approx(np.average(np.abs(said - seen), weights=np.bincount(bins)))
        assert f"ECE {scores.ece:.3f}, Brier {scores.brier:.3f}" in line.get_label()


def test_scores_are_counted_by_class(evaluations):
    one = evaluations[0]
    figure = scores_figure(one)
    for axes, y in zip(figure.axes, (one.y_frame, one.y_video), strict=True):
        heights = [sum(patch.get_height() for patch in bars) for bars in axes.containers]
        assert heights == [(y == 0).sum(), (y == 1).sum()]
    assert f"threshold {one.rule.threshold:.3f}" in texts(figure)


def test_grid_shows_every_candidate_that_did_not_fail(found):
    figure = grid_figure(found)
    forest, xgboost, _ = figure.axes
    shown = texts(figure)
    for result in found.ranking:
        if result.error is None:
            assert f"{result.mean['video_auc']:.3f}" in shown
    assert (len(forest.texts), len(xgboost.texts)) == (4, 2)
    assert [label.get_text() for label in forest.get_xticklabels()] == ["1", "None"]
    assert forest.get_title() == "forest"
    only = search_result(found, keep=1)
    assert grid_figure(only) is None


def search_result(found, *, keep):
    from dfpipe.models import SearchResult

    return SearchResult(found.ranking[:keep])


@pytest.mark.parametrize(
    ("scoring", "best", "colours", "label"),
    [
        ("video_auc", 0.7, "viridis", "validation video auc"),
        ("frame_log_loss", 0.5, "viridis_r", "validation frame log loss (lower is better)"),
        # A scorer of scikit-learn's, which turns every loss into a score.
        ("neg_brier_score", 0.7, "viridis", "validation neg brier score"),
    ],
)
def test_the_grid_shows_what_ranks_and_of_a_further_axis_the_best(scoring, best, colours, label):
    from dfpipe.models import CandidateResult, FoldResult, SearchResult

    values = {(1, "a"): 0.5, (1, "b"): 0.6, (2, "a"): 0.6, (2, "b"): 0.9, (3, "a"): 0.2}
    points = {(("depth", depth), ("word", word), ("leaf", 1)): value for (depth, word), value in values.items()}
    points[(("depth", 1), ("word", "a"), ("leaf", 2))] = 0.7
    results = [
        CandidateResult(one, (FoldResult(one, 0, {"video_accuracy": 1.0, scoring: value}, 0.0, None),))
        for params, value in points.items()
        for one in [Candidate("forest", params, 0)]
    ]
    figure = grid_figure(SearchResult(tuple(results), scoring))
    (image,) = figure.axes[0].images
    # Depth across, the words down; one leaf or two come to one cell; (3, b) was not tried.
    assert image.get_array().filled(np.nan).ravel() == pytest.approx([best, 0.6, 0.2, 0.6, 0.9, np.nan], nan_ok=True)
    assert image.get_cmap().name == colours
    assert figure.axes[-1].get_ylabel() == label


def test_importance_lies_where_the_signal_is(data, evaluations):
    for one in evaluations:
        places = pixel_importance(one.model, PIXELS)
        assert places.shape == (2, 2)
        assert places.sum() == pytest.approx(1)
        # The first column alone tells fakes from real ones: the first colour of the first place.
        assert places.argmax() == 0
        assert places[0, 0] == pytest.approx(
            one.model.feature_importances_[:3].sum() / one.model.feature_importances_.sum()
        )


@pytest.mark.parametrize(
    ("preprocessing", "columns_of_place"),
    [
        (PIXELS, [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10, 11]]),
        (seen(("residual", 0, 9), ("pixels", 9, 12), size_px=1), [[9, 10, 11]]),
        (seen(("residual", 0, 8), ("pixels", 8, 12), channels="luma"), [[8], [9], [10], [11]]),
        # Four statistics of three colours of the one place, and of one colour of it.
        (seen(("pixels", 0, 12), size_px=1, rows="video"), [list(range(12))]),
        (seen(("residual", 0, 8), ("pixels", 8, 12), size_px=1, channels="red", rows="video"), [[8, 9, 10, 11]]),
    ],
)
def test_every_column_counts_at_its_place(data, preprocessing, columns_of_place):
    line = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.X, data.y)
    weights = np.abs(line[-1].coef_[0])
    expected = [weights[columns].sum() / weights.sum() for columns in columns_of_place]
    assert pixel_importance(line, preprocessing).ravel() == pytest.approx(np.array(expected))


def test_no_picture_without_importance_or_pixels(evaluations):
    assert pixel_importance(object(), PIXELS) is None
    assert importance_figure(evaluations[0], seen(("residual", 0, 12))) is None
    assert importance_figure(evaluations[0], PIXELS) is not None


def test_subsets_are_drawn_with_their_counts(evaluations):
    one = evaluations[0]
    shown = texts(subsets_figure(one))
    assert len(one.subsets) == 2
    for part in one.subsets:
        assert f"compression {part.value}\n{part.real_videos} real, {part.fake_videos} fake" in shown


def test_pictures_are_pngs_of_a_readable_size_and_pyplot_keeps_none(evaluations, found):
    from matplotlib import pyplot

    one = evaluations[0]
    for figure, width in (
        (confusion_figure(one), 900),
        (roc_figure(evaluations), 900),
        (pr_figure(evaluations), 900),
        (reliability_figure(one), 600),
        (scores_figure(one), 900),
        (grid_figure(found), 900),
        (importance_figure(one, PIXELS), 600),
        (subsets_figure(one), 900),
    ):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=110)
        assert buffer.getvalue().startswith(b"\x89PNG")
        assert figure.get_size_inches()[0] * 110 > width
    assert pyplot.get_fignums() == []


def test_report_names_classes_and_counts(evaluations):
    report = classification_text(evaluations[0])
    assert "held-out faces, called fake from 0.5 on" in report
    assert f"held-out videos, called fake from {evaluations[0].rule.threshold:.4g} on" in report
    for word in ("precision", "recall", "f1-score", "support", "real", "fake", "macro avg"):
        assert word in report
    assert str(len(evaluations[0].y_frame)) in report


def test_the_card_says_what_was_measured_and_names_no_video(evaluations, data):
    one = evaluations[0]
    card = model_card(one, data={"split": "ab12"}, test_reads=3, trainings=2)
    for name in ("auc", "ece"):
        value, (low, high) = getattr(one.video, name), one.video_intervals[name]
        assert f"| {value:.3f} ({low:.3f} to {high:.3f}) |" in card
    assert "| split | ab12 |" in card
    assert "3, by 2 trainings" in card
    assert "sigmoid" in card
    assert f"Called fake from {one.rule.threshold:.4g} on" in card
    assert "too narrow" in card
    assert "compression c40" in card
    assert not [video for video in data.video_ids if video in card]
    assert "Leaky" not in card
    assert "**Leaky split" in model_card(one, data={}, test_reads=1, trainings=1, leaky=True)
