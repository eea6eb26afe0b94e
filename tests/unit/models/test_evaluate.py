"""What is fitted to validation videos, what is measured on the others, and for which part of them."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dfpipe.catalog import read_catalog, to_videos
from dfpipe.models import (
    Candidate,
    ColumnBlock,
    Subset,
    TrainingData,
    VerdictRule,
    fit_rule,
    grouped_folds,
    identity_groups,
    refit_and_evaluate,
    rule_of,
    search,
    split_groups,
    video_scores,
)
from dfpipe.models.evaluate import subsets
from dfpipe.settings import BootstrapSettings, EvaluationSettings, S3Settings
from dfpipe.storage import open_location

FOREST = Candidate("forest", (("max_depth", 2), ("n_estimators", 10)), 0)
BOOTSTRAP = BootstrapSettings(samples=100)
SETTINGS = EvaluationSettings(bootstrap=BOOTSTRAP)


@pytest.fixture(scope="module")
def sides(data):
    train, test = split_groups(data.groups, data.video_labels, test_fraction=0.25, seed=0)
    folds = grouped_folds(data.groups, data.video_labels, folds=3, seed=0, videos=train)
    rows = [(data.rows_of(learnt), data.rows_of(held_out)) for learnt, held_out in folds]
    return data.rows_of(train), data.rows_of(test), rows


@pytest.fixture(scope="module")
def result(data, sides):
    return search(data, sides[2], [FOREST]).best


def test_scores_of_validation_come_from_folds_that_held_the_rows_out(data, sides, result):
    train, test, folds = sides
    rows, proba = result.out_of_fold
    assert rows.tolist() == train.tolist()
    assert proba.dtype == np.float32
    for learnt, held_out in folds:
        expected = refit_and_evaluate(data, learnt, held_out, FOREST, settings=SETTINGS).proba_frame
        np.testing.assert_allclose(proba[np.isin(rows, held_out)], expected, rtol=1e-6)
    assert not set(rows.tolist()) & set(test.tolist())


def test_the_rule_is_fitted_to_validation_videos_alone(data, sides, result):
    rule = rule_of(data, result, SETTINGS)
    rows, proba = result.out_of_fold
    videos, member = np.unique(data.video[rows], return_inverse=True)
    assert rule == fit_rule(data.video_labels[videos], video_scores(proba, member, len(videos)), SETTINGS)
    assert rule.real_videos + rule.fake_videos == len(videos)
    # Whatever stands on the test side, the rule is the same.
    others = data.y.copy()
    others[sides[1]] = 1 - others[sides[1]]
    assert rule_of(replace(data, y=others), search(replace(data, y=others), sides[2], [FOREST]).best, SETTINGS) == rule


def test_a_candidate_that_failed_on_a_fold_has_no_scores(data, sides):
    broken = Candidate("forest", (("max_features", "nonsense"),), 0)
    rows, proba = search(data, sides[2], [broken, FOREST]).ranking[-1].out_of_fold
    assert (len(rows), len(proba)) == (0, 0)


def test_videos_are_judged_by_calibrated_scores_at_the_rules_threshold(data, sides, result):
    rule = rule_of(data, result, SETTINGS)
    evaluation = refit_and_evaluate(data, *sides[:2], FOREST, rule=rule, settings=SETTINGS)
    assert evaluation.proba_video.tolist() == rule.apply(evaluation.score_video).tolist()
    assert evaluation.video.accuracy == np.mean((evaluation.proba_video >= rule.threshold) == evaluation.y_video)
    assert evaluation.video.brier == pytest.approx(np.mean((evaluation.proba_video - evaluation.y_video) ** 2))
    assert evaluation.video_uncalibrated.brier != evaluation.video.brier
    assert evaluation.frame == refit_and_evaluate(data, *sides[:2], FOREST, settings=SETTINGS).frame
    assert evaluation.rule == rule
    assert [one.group for one in evaluation.predictions] == evaluation.groups_video.tolist()
    assert refit_and_evaluate(data, *sides[:2], FOREST).rule == VerdictRule()


def parts(**attributes):
    """Ten videos of two people each by two methods, and ten real ones."""
    y = np.repeat(np.array([0, 1, 1], np.int8), 10)
    rng = np.random.default_rng(0)
    proba = np.clip(np.concatenate([rng.uniform(0, 0.6, 10), rng.uniform(0.3, 1, 10), rng.uniform(0.1, 0.7, 10)]), 0, 1)
    known = {"manipulation": np.repeat(["original", "Deepfakes", "FaceSwap"], 10).tolist(), **attributes}
    return y, proba, subsets(y, proba, np.arange(30) % 10, known, threshold=0.5, bootstrap=BOOTSTRAP)


def test_each_methods_fakes_are_told_from_all_real_videos():
    y, proba, found = parts()
    # The real ones against all fakes would be the whole set again.
    assert [(one.value, one.against, one.real_videos, one.fake_videos, one.groups) for one in found] == [
        ("Deepfakes", "all real", 10, 10, 10),
        ("FaceSwap", "all real", 10, 10, 10),
    ]
    assert found[0].scores.auc == pytest.approx(roc_auc_score(y[:20], proba[:20]))
    rows = np.r_[0:10, 20:30]
    assert found[1].scores.auc == pytest.approx(roc_auc_score(y[rows], proba[rows]))
    for one in found:
        assert isinstance(one, Subset)
        assert one.intervals["auc"].low <= one.scores.auc <= one.intervals["auc"].high


def test_a_column_that_both_classes_have_is_compared_within():
    y, proba, found = parts(compression=["c23", "c40"] * 15, dataset=["ffpp"] * 30)
    of = [one for one in found if one.column == "compression"]
    assert [(one.value, one.against, one.real_videos, one.fake_videos) for one in of] == [
        ("c23", "its own", 5, 10),
        ("c40", "its own", 5, 10),
    ]
    assert of[0].scores.auc == pytest.approx(roc_auc_score(y[::2], proba[::2]))
    # One data set alone is the whole.
    assert not [one for one in found if one.column == "dataset"]


def test_the_same_pair_by_four_methods_and_twice_compressed_is_five_videos(tmp_path):
    methods = [*(f"{name}/c23" for name in ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")), "FaceSwap/c40"]
    names = [f"manipulated_sequences/{method}/videos/000_003.mp4" for method in methods]
    names += [f"original_sequences/youtube/c23/videos/{name}.mp4" for name in ("000", "003")]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    videos = to_videos(read_catalog(open_location(str(tmp_path), S3Settings()), layout="ffpp"))
    fakes = [video.video_id for video in videos if video.label == "fake"]
    assert fakes == sorted(f"ffpp/{method}/000_003" for method in methods)
    labels = np.array([video.label == "fake" for video in videos], np.int8)
    groups = identity_groups([video.identities for video in videos])
    data = TrainingData(
        X=labels[:, None].astype(np.float32),
        y=labels,
        video=np.arange(len(videos), dtype=np.int32),
        video_ids=tuple(video.video_id for video in videos),
        groups=groups,
        columns=(ColumnBlock("told", 0, 1),),
    )
    rows = np.arange(len(videos))
    attributes = {name: [getattr(video, name) for video in videos] for name in ("manipulation", "compression")}
    evaluation = refit_and_evaluate(data, rows, rows, FOREST, settings=SETTINGS, attributes=attributes)
    assert evaluation.video.confusion.sum() == len(names)
    assert {(one.value, one.fake_videos, one.real_videos) for one in evaluation.subsets} == {
        ("Deepfakes", 1, 2),
        ("Face2Face", 1, 2),
        ("FaceSwap", 2, 2),
        ("NeuralTextures", 1, 2),
        ("c23", 4, 2),
        ("c40", 1, 2),
    }
