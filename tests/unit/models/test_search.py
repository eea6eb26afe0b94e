import pickle

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dfpipe.errors import TrainingDataError
from dfpipe.models import (
    Candidate,
    FoldTask,
    grouped_folds,
    refit_and_evaluate,
    run_fold,
    search,
    split_groups,
)

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
    result = run_fold(data, FoldTask(FOREST, 1, train, valid))
    assert result.error is None
    assert result.fold == 1
    assert result.seconds > 0
    evaluation = refit_and_evaluate(data, train, valid, FOREST)
    assert result.metrics["video_auc"] == evaluation.video.auc
    assert result.metrics["frame_log_loss"] == evaluation.frame.log_loss


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


def test_all_failed_is_an_error(data, folds):
    with pytest.raises(TrainingDataError, match="all 1 candidates failed, the first with InvalidParameterError"):
        search(data, folds, [BROKEN])


def test_ties_go_to_the_lower_log_loss(data, folds):
    unsure = Candidate("forest", (("max_depth", 1), ("n_estimators", 300)), 0)
    result = search(data, folds, [unsure, FOREST])
    assert [one.mean["video_auc"] for one in result.ranking] == [1, 1]
    assert result.best.candidate == FOREST


def test_order_and_place_of_the_tasks_do_not_matter(data, folds):
    def backwards_elsewhere(function, items, *, shared):
        function, shared = pickle.loads(pickle.dumps((function, shared)))
        return [pickle.loads(pickle.dumps(function(shared, item))) for item in reversed(items)]

    here = search(data, folds, [FOREST, BOOSTED])
    elsewhere = search(data, folds, [FOREST, BOOSTED], run_tasks=backwards_elsewhere)
    for one, other in zip(here.ranking, elsewhere.ranking, strict=True):
        assert (one.candidate, one.mean) == (other.candidate, other.mean)
    assert [fold.fold for fold in elsewhere.best.folds] == [0, 1, 2]


def test_refit_scores_held_out_videos_once(data):
    train, test = split_groups(data.groups, data.video_labels, test_fraction=0.25, seed=0)
    evaluation = refit_and_evaluate(data, data.rows_of(train), data.rows_of(test), BOOSTED)
    assert [one.video_id for one in evaluation.predictions] == [data.video_ids[video] for video in test]
    assert [one.label for one in evaluation.predictions] == data.video_labels[test].tolist()
    assert {one.frames for one in evaluation.predictions} == {3}
    assert len(evaluation.y_frame) == len(evaluation.proba_frame) == 3 * len(test)
    assert evaluation.video.auc == roc_auc_score(evaluation.y_video, evaluation.proba_video)
    assert evaluation.proba_video[0] == pytest.approx(evaluation.proba_frame[:3].mean())
