import pickle
import re
import sys
import time
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from sklearn.metrics import get_scorer, roc_auc_score

from dfpipe.errors import TrainingDataError
from dfpipe.models import (
    Candidate,
    FoldTask,
    alike,
    fit,
    fit_bytes,
    grouped_folds,
    refit_and_evaluate,
    run_fold,
    run_here,
    search,
    split_groups,
)
from dfpipe.settings import SearchSettings

FOREST = Candidate("forest", (("n_estimators", 20),), 0)
STUMP = Candidate("forest", (("max_depth", 1), ("n_estimators", 1)), 0)
BOOSTED = Candidate("xgboost", (("max_depth", 2), ("n_estimators", 10)), 0)
BROKEN = Candidate("forest", (("max_features", "nonsense"),), 0)


@pytest.fixture(scope="module")
def folds(data):
    sides = grouped_folds(data.groups, data.video_labels, folds=3, seed=0)
    return [(data.rows_of(train), data.rows_of(valid)) for train, valid in sides]


def test_run_fold_scores_only_the_validation_side(data, folds):
    train, valid = folds[1]
    (result,) = run_fold(data, FoldTask((FOREST,), 1, train, valid))
    assert result.error is None
    assert result.fold == 1
    assert result.seconds > 0
    evaluation = refit_and_evaluate(data, train, valid, FOREST)
    assert result.metrics["video_auc"] == evaluation.video.auc
    assert result.metrics["frame_log_loss"] == evaluation.frame.log_loss
    assert np.array_equal(result.rows, valid)
    assert result.proba.dtype == np.float32
    assert np.array_equal(result.proba, evaluation.proba_frame.astype(np.float32))


def test_search_ranks_by_validation(data, folds):
    result = search(data, folds, [BROKEN, STUMP, BOOSTED, FOREST])
    aucs = [one.mean["video_auc"] for one in result.ranking[:3]]
    assert aucs == sorted(aucs, reverse=True)
    assert result.ranking[0] is result.best
    assert {model: best.candidate.model for model, best in result.best_per_model.items()} == {
        "forest": "forest",
        "xgboost": "xgboost",
    }
    best = result.best
    assert best.mean["video_auc"] == pytest.approx(np.mean([fold.metrics["video_auc"] for fold in best.folds]))
    assert best.std["video_auc"] == pytest.approx(np.std([fold.metrics["video_auc"] for fold in best.folds]))


def test_a_candidate_that_raises_is_a_failed_result(data, folds):
    failed = search(data, folds, [BROKEN, FOREST]).ranking[-1]
    assert failed.candidate == BROKEN
    assert failed.error.startswith("InvalidParameterError: The 'max_features' parameter")
    assert "\n" not in failed.error
    assert failed.mean == failed.std == {}
    assert len(failed.folds) == 3
    assert [len(part) for part in failed.out_of_fold] == [0, 0]


def test_every_row_is_scored_once_by_a_model_that_did_not_see_it(data, folds):
    (result,) = search(data, folds, [FOREST]).ranking
    rows, proba = result.out_of_fold
    assert np.array_equal(rows, np.arange(len(data.y)))
    for train, valid in folds:
        model = fit(FOREST, data, train)
        assert np.array_equal(proba[valid], model.predict_proba(data.X[valid])[:, 1].astype(np.float32))


def test_all_failed_is_an_error(data, folds):
    with pytest.raises(TrainingDataError, match="all 1 candidates failed, the first with InvalidParameterError"):
        search(data, folds, [BROKEN])


def test_ties_go_to_the_lower_log_loss(data, folds):
    unsure = Candidate("forest", (("max_depth", 1), ("n_estimators", 300)), 0)
    result = search(data, folds, [unsure, FOREST])
    assert [one.mean["video_auc"] for one in result.ranking] == [1, 1]
    assert result.best.candidate == FOREST


def test_order_and_place_of_the_tasks_do_not_matter(data, folds):
    def backwards_elsewhere(function, items, *, shared, lost):
        function, shared = pickle.loads(pickle.dumps((function, shared)))
        return [pickle.loads(pickle.dumps(function(shared, item))) for item in reversed(items)]

    here = search(data, folds, [FOREST, BOOSTED])
    elsewhere = search(data, folds, [FOREST, BOOSTED], run_tasks=backwards_elsewhere)
    for one, other in zip(here.ranking, elsewhere.ranking, strict=True):
        assert (one.candidate, one.mean) == (other.candidate, other.mean)
    assert [fold.fold for fold in elsewhere.best.folds] == [0, 1, 2]


def noisy(data):
    """Rows on which candidates differ, as none is right about everything."""
    return replace(data, X=data.X + np.random.default_rng(1).normal(scale=2, size=data.X.shape).astype(np.float32))


@pytest.mark.parametrize(
    ("scoring", "better"),
    [
        ("video_accuracy", 1),
        ("video_log_loss", -1),
        ("video_brier", -1),
        ("video_eer", -1),
        ("video_pr_auc", 1),
        ("frame_log_loss", -1),
        ("average_precision", 1),
        ("f1", 1),
    ],
)
def test_candidates_are_ranked_by_the_figure_that_is_asked_for(data, folds, scoring, better):
    grid = [STUMP, BOOSTED, FOREST, Candidate("logistic", (("C", 1e-4),), 0)]
    found = search(noisy(data), folds, grid, settings=SearchSettings(scoring=scoring))
    figures = [better * one.mean[scoring] for one in found.ranking]
    assert figures == sorted(figures, reverse=True)
    assert len(set(figures)) > 1
    assert found.scoring == scoring


def test_a_scorer_of_scikit_learn_sees_the_validation_rows(data, folds):
    data = noisy(data)
    found = search(data, folds, [FOREST], settings=SearchSettings(scoring="neg_brier_score"))
    expected = []
    for train, valid in folds:
        expected.append(get_scorer("neg_brier_score")(fit(FOREST, data, train), data.X[valid], data.y[valid]))
    assert found.best.mean["neg_brier_score"] == pytest.approx(np.mean(expected))


def test_random_search_draws_candidates_without_replacement(data, folds):
    grid = [Candidate("forest", (("max_depth", depth), ("n_estimators", 2)), 0) for depth in range(1, 9)]
    draws = [
        [one.candidate for one in search(data, folds, grid, settings=settings).ranking]
        for settings in (
            SearchSettings(method="random", n_iter=3, seed=0),
            SearchSettings(method="random", n_iter=3, seed=0),
            SearchSettings(method="random", n_iter=3, seed=1),
            SearchSettings(method="random", n_iter=30),
        )
    ]
    assert [len(set(drawn)) for drawn in draws] == [3, 3, 3, 8]
    assert draws[0] == draws[1]
    assert set(draws[0]) != set(draws[2])


def test_halving_gives_the_better_candidates_more_people(data, folds):
    grid = [Candidate("forest", (("max_depth", depth), ("n_estimators", 3)), 0) for depth in range(1, 8)]
    rounds = []

    def run_tasks(function, items, *, shared, lost):
        rounds.append(items)
        return run_here(function, items, shared=shared, lost=lost)

    settings = SearchSettings(method="halving", factor=2, seed=3)
    found = search(noisy(data), folds, [BROKEN, *grid], settings=settings, run_tasks=run_tasks)
    tried = [{candidate for task in tasks for candidate in task.candidates} for tasks in rounds]
    assert [len(candidates) for candidates in tried] == [8, 4, 2, 1]
    assert BROKEN in tried[0]
    for fold, (train, valid) in enumerate(folds):
        learnt = [next(task.train_rows for task in tasks if task.fold == fold) for tasks in rounds]
        people = [set(data.groups[data.video[rows]]) for rows in learnt]
        for fewer, more in pairwise(people):
            assert fewer <= more
        # Never fewer than an SVM's probabilities need.
        assert len(people[0]) == 3
        assert len(people[-1]) > 3
        # Whole groups of people, and never those that judge.
        for rows, groups in zip(learnt, people, strict=True):
            assert np.array_equal(rows, train[np.isin(data.groups[data.video[train]], list(groups))])
            assert not np.intersect1d(rows, valid).size
        assert np.array_equal(learnt[-1], train)
    # Whoever got further stands first, and who did better in a round went on.
    assert [one.round for one in found.ranking] == [3, 2, 1, 1, 0, 0, 0, 0]
    assert [one.share for one in found.ranking] == [1, 1 / 2, 1 / 4, 1 / 4, *[1 / 8] * 4]
    assert found.ranking[-1].candidate == BROKEN


@pytest.mark.parametrize("dtype", ["data", "pixels"])
@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("forest", {}),
        ("forest", {"max_leaf_nodes": 4}),
        ("extra_trees", {}),
        ("xgboost", {}),
        ("xgboost", {"subsample": 0.5, "colsample_bytree": 0.5}),
        ("xgboost", {"early_stopping_rounds": 3}),
        ("lightgbm", {"min_child_samples": 3}),
        ("lightgbm", {"min_child_samples": 3, "subsample": 0.5, "colsample_bytree": 0.5}),
        ("lightgbm", {"min_child_samples": 3, "early_stopping_rounds": 3}),
    ],
)
def test_one_fit_answers_as_separate_fits_do(data, pixels, folds, model, params, dtype):
    rows = noisy(data) if dtype == "data" else pixels
    sizes = (1, 4, 15, 40)
    grid = [Candidate(model, tuple(sorted({"n_estimators": k, **params}.items())), 5) for k in sizes]
    ((*together,),) = alike(grid[::-1])
    assert together == grid
    train, valid = folds[0]
    for result in run_fold(rows, FoldTask(tuple(together), 0, train, valid)):
        (apart,) = run_fold(rows, FoldTask((result.candidate,), 0, train, valid))
        assert result.error is None
        own = fit(result.candidate, rows, train).predict_proba(rows.X[valid])[:, 1]
        assert np.array_equal(result.proba, own.astype(np.float32))
        # Equal, not nearly equal: to the last bit.
        assert dict(result.metrics) == dict(apart.metrics)
        assert np.array_equal(result.proba, apart.proba)


def test_the_seconds_of_one_fit_are_shared_out(data, folds, monkeypatch):
    fits = []
    monkeypatch.setattr(sys.modules[search.__module__], "fit", lambda *args: fits.append(args[0]) or fit(*args))
    grid = [Candidate("forest", (("n_estimators", k),), 0) for k in (10, 100, 400)]
    started = time.perf_counter()
    found = search(data, folds, grid)
    spent = time.perf_counter() - started
    assert fits == [grid[-1]] * 3
    seconds = {dict(one.candidate.params)["n_estimators"]: one.seconds for one in found.ranking}
    assert seconds[10] < seconds[100] < seconds[400]
    assert 0.8 * spent < sum(seconds.values()) < spent


def test_candidates_that_one_fit_cannot_answer_for_stay_apart():
    grid = [
        Candidate("forest", (("max_depth", 2), ("n_estimators", 1)), 0),
        Candidate("forest", (("max_depth", 3), ("n_estimators", 1)), 0),
        Candidate("forest", (("max_depth", 2), ("n_estimators", 2)), 1),
        Candidate("forest", (("max_depth", 2), ("n_estimators", 2)), 0, "upsample"),
        Candidate("extra_trees", (("max_depth", 2), ("n_estimators", 2)), 0),
        Candidate("logistic", (("C", 1.0),), 0),
        Candidate("logistic", (("C", 2.0),), 0),
    ]
    assert alike(grid) == [(one,) for one in grid]


@pytest.mark.parametrize("balance", ["upsample", "weights", "none"])
def test_what_a_fold_holds_out_is_never_learnt_from(data, folds, balance):
    train, valid = folds[0]
    candidate = replace(FOREST, balance=balance)
    (before,) = run_fold(data, FoldTask((candidate,), 0, train, valid))
    X = data.X.copy()
    X[valid] = X[valid][::-1]
    (after,) = run_fold(replace(data, X=X), FoldTask((candidate,), 0, train, valid))
    assert np.array_equal(after.proba, before.proba[::-1])
    assert np.array_equal(before.rows, valid)


def test_a_candidate_that_does_not_fit_into_memory_is_not_tried(data, folds):
    grid = [Candidate("xgboost", (("max_depth", depth), ("n_estimators", 3)), 0) for depth in (2, 12)]
    rows = max(len(train) for train, _ in folds)
    room = (fit_bytes(grid[0], data, rows) + fit_bytes(grid[1], data, rows)) // 2
    found = search(data, folds, grid, memory_bytes=room)
    assert found.best.candidate == grid[0]
    assert re.match(
        r"not tried: fitting 48 rows of 12 columns needs \d+ MiB beside the rows, and a worker's thread has",
        found.ranking[1].error,
    )
    with pytest.raises(TrainingDataError, match="all 2 candidates failed, the first with not tried"):
        search(data, folds, grid, memory_bytes=1)


def test_a_fit_that_kills_its_worker_is_a_failed_candidate(data, folds):
    def run_tasks(function, items, *, shared, lost):
        return [lost(item) if item.candidates == (BOOSTED,) else function(shared, item) for item in items]

    found = search(data, folds, [BOOSTED, FOREST], run_tasks=run_tasks)
    assert found.best.candidate == FOREST
    assert "its worker died twice over it" in found.ranking[1].error


def test_people_in_more_videos_than_a_fold_has_stay_together(data):
    crowd = replace(data, groups=np.where(np.arange(24) < 14, 0, data.groups + 1).astype(np.int32))
    sides = grouped_folds(crowd.groups, crowd.video_labels, folds=3, seed=0)
    found = search(crowd, [(crowd.rows_of(train), crowd.rows_of(valid)) for train, valid in sides], [FOREST])
    assert np.array_equal(found.best.out_of_fold[0], np.arange(len(data.y)))
    assert [0 in crowd.groups[valid] for _, valid in sides].count(True) == 1


def test_fewer_people_than_folds_are_refused(data):
    with pytest.raises(TrainingDataError, match=r"got 8 groups .* both classes in each of 9 validation folds"):
        grouped_folds(data.groups, data.video_labels, folds=9, seed=0)


@pytest.mark.parametrize("side", [0, 1])
def test_a_fold_of_one_class_is_refused(data, folds, side):
    broken = [list(fold) for fold in folds]
    broken[1][side] = broken[1][side][data.y[broken[1][side]] == 1]
    with pytest.raises(TrainingDataError, match=r"side of fold 1 has 0 real and \d+ fake rows, expected both classes"):
        search(data, broken, [FOREST])


def test_refit_scores_held_out_videos_once(data):
    train, test = split_groups(data.groups, data.video_labels, test_fraction=0.25, seed=0)
    evaluation = refit_and_evaluate(data, data.rows_of(train), data.rows_of(test), BOOSTED)
    assert [one.video_id for one in evaluation.predictions] == [data.video_ids[video] for video in test]
    assert [one.label for one in evaluation.predictions] == data.video_labels[test].tolist()
    assert {one.frames for one in evaluation.predictions} == {3}
    assert len(evaluation.y_frame) == len(evaluation.proba_frame) == 3 * len(test)
    assert evaluation.video.auc == roc_auc_score(evaluation.y_video, evaluation.proba_video)
    assert evaluation.proba_video[0] == pytest.approx(evaluation.proba_frame[:3].mean())
