import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.models.bootstrap import group_resamples, group_weights


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 5))
def test_weights_count_the_resamples(groups, seed):
    groups = np.array(groups)
    drawn = list(group_resamples(groups, samples=7, seed=seed))
    weights = list(group_weights(groups, samples=7, seed=seed))
    assert len(weights) == 7
    for resample, weight in zip(drawn, weights, strict=True):
        assert np.bincount(resample, minlength=len(groups)).tolist() == weight.tolist()


def test_groups_are_drawn_whole():
    groups = np.array([0, 0, 1, 2, 2, 2])
    for weight in group_weights(groups, samples=50, seed=0):
        assert len(set(weight[:2])) == len(set(weight[3:])) == 1
        assert weight[0] + weight[2] + weight[3] == 3
