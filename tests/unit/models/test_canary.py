"""A set in which there is nothing to learn: whoever scores well on it has cheated."""

import numpy as np
import pytest

from dfpipe.models import Candidate, ColumnBlock, TrainingData, random_rows, refit_and_evaluate, split_groups

FOREST = Candidate("forest", (("n_estimators", 40),), 0)


@pytest.fixture(scope="module")
def canary():
    """Frames of one video look alike and labels are drawn by lot: all there is to know is which video a frame is of."""
    rng = np.random.default_rng(0)
    videos, frames, columns = 400, 7, 24
    labels = rng.permutation(np.arange(videos) % 2).astype(np.int8)
    centres = rng.normal(size=(videos, columns))
    noise = rng.normal(scale=0.2, size=(videos * frames, columns))
    return TrainingData(
        X=(np.repeat(centres, frames, axis=0) + noise).astype(np.float32),
        y=np.repeat(labels, frames),
        video=np.repeat(np.arange(videos, dtype=np.int32), frames),
        video_ids=tuple(map(str, range(videos))),
        groups=np.arange(videos, dtype=np.int32) // 2,
        columns=(ColumnBlock("noise", 0, columns),),
    )


def test_random_frames_find_what_is_not_there(canary):
    train, test, _ = random_rows(canary.y, test_fraction=0.2, folds=2, seed=42)
    evaluation = refit_and_evaluate(canary, train, test, FOREST)
    assert evaluation.frame.auc > 0.9
    assert evaluation.video.auc > 0.9


def test_groups_see_through_it(canary):
    train, test = split_groups(canary.groups, canary.video_labels, test_fraction=0.5, seed=0)
    evaluation = refit_and_evaluate(canary, canary.rows_of(train), canary.rows_of(test), FOREST)
    assert abs(evaluation.frame.auc - 0.5) < 0.1
    assert abs(evaluation.video.auc - 0.5) < 0.1
