import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.models.bootstrap import group_weights


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.integers(0, 5))
def test_as_many_groups_are_drawn_as_there_are_and_each_whole(groups, seed):
    groups = np.array(groups)
    names, member, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    drawn = list(group_weights(groups, samples=7, seed=seed))
    assert len(drawn) == 7
    for weight in drawn:
        of_group = np.bincount(member, weight) / sizes
        assert of_group.sum() == len(names)
        assert of_group[member].tolist() == weight.tolist()


def test_every_group_is_drawn_as_often_as_any_other():
    drawn = sum(group_weights(np.array([0, 0, 1, 2, 2, 2]), samples=3000, seed=0)) / 3000
    assert np.abs(drawn - 1).max() < 0.06
