import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dfpipe.errors import TrainingDataError
from dfpipe.models import check_disjoint, grouped_folds, identity_groups, split_groups

casts = st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=3).map(tuple), max_size=30)


@st.composite
def labelled_groups(draw):
    videos = draw(st.integers(1, 40))
    groups = draw(st.lists(st.integers(0, 15), min_size=videos, max_size=videos))
    labels = draw(st.lists(st.integers(0, 1), min_size=videos, max_size=videos))
    return np.array(groups, np.int32), np.array(labels, np.int8)


def servable_sides(groups, labels):
    kinds = [set(labels[groups == group].tolist()) for group in np.unique(groups)]
    return kinds.count({0, 1}) + min(kinds.count({0}), kinds.count({1}))


@pytest.mark.parametrize(
    ("identities", "groups"),
    [
        ([], []),
        ([("ann",)], [0]),
        ([("ann",), ("bob",)], [0, 1]),
        ([("ann", "bob"), ("bob", "cleo"), ("cleo",), ("dan",)], [0, 0, 0, 1]),
        ([("ann",), ("bob",), ("ann", "bob")], [0, 0, 0]),
        ([(), ()], [0, 1]),
    ],
)
def test_identity_groups(identities, groups):
    assert identity_groups(identities).tolist() == groups


@given(casts)
def test_groups_are_the_finest_that_keep_people_together(cast):
    groups = identity_groups(cast)
    assert groups.dtype == np.int32
    assert list(dict.fromkeys(groups.tolist())) == list(range(len(set(groups.tolist()))))
    # Walk from every video to all that can be reached over shared people.
    for start, group in enumerate(groups):
        reached, people = {start}, set(cast[start])
        while more := {v for v, who in enumerate(cast) if people & set(who)} - reached:
            reached |= more
            people |= {person for video in more for person in cast[video]}
        assert reached == set(np.flatnonzero(groups == group).tolist())


@given(labelled_groups(), st.floats(0.05, 0.95), st.integers(0, 5))
def test_split_is_a_partition_along_groups(case, fraction, seed):
    groups, labels = case
    assume(servable_sides(groups, labels) >= 2)
    train, test = split_groups(groups, labels, test_fraction=fraction, seed=seed)
    assert sorted([*train, *test]) == list(range(len(groups)))
    assert not set(groups[train]) & set(groups[test])
    assert set(labels[train]) == set(labels[test]) == {0, 1}
    check_disjoint(train, test, groups=groups)
    again = split_groups(groups, labels, test_fraction=fraction, seed=seed)
    assert all(np.array_equal(one, other) for one, other in zip((train, test), again, strict=True))


@given(labelled_groups(), st.integers(2, 5), st.integers(0, 5))
def test_folds_are_a_partition_along_groups(case, folds, seed):
    groups, labels = case
    assume(servable_sides(groups, labels) >= folds)
    made = grouped_folds(groups, labels, folds=folds, seed=seed)
    assert len(made) == folds
    assert sorted(video for _, valid in made for video in valid) == list(range(len(groups)))
    for train, valid in made:
        assert sorted([*train, *valid]) == list(range(len(groups)))
        assert not set(groups[train]) & set(groups[valid])
        assert set(labels[train]) == set(labels[valid]) == {0, 1}


@given(labelled_groups(), st.integers(2, 5))
def test_too_few_groups_or_one_class_are_refused(case, folds):
    groups, labels = case
    assume(servable_sides(groups, labels) < folds)
    with pytest.raises(TrainingDataError, match=r"expected both classes|groups of people .* fewer folds"):
        grouped_folds(groups, labels, folds=folds, seed=0)


def test_folds_of_some_videos_keep_their_indices():
    groups, labels = np.arange(12, dtype=np.int32) // 2, (np.arange(12) % 2).astype(np.int8)
    videos = np.array([0, 1, 4, 5, 10, 11])
    made = grouped_folds(groups, labels, folds=3, seed=1, videos=videos)
    assert sorted(video for _, valid in made for video in valid) == videos.tolist()
    assert all(set(train) <= set(videos) for train, _ in made)


@pytest.mark.parametrize("seed", range(5))
def test_shares_and_classes_are_near_what_was_asked(seed):
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 60, 400).astype(np.int32)
    labels = (rng.random(400) < 0.7).astype(np.int8)
    _, test = split_groups(groups, labels, test_fraction=0.25, seed=seed)
    for label in (0, 1):
        assert abs((labels[test] == label).sum() / (labels == label).sum() - 0.25) < 0.05
    for _, valid in grouped_folds(groups, labels, folds=5, seed=seed):
        assert abs(labels[valid].mean() - labels.mean()) < 0.07
        assert abs(len(valid) - 80) < 12


def test_seeds_differ():
    groups, labels = np.arange(40, dtype=np.int32) // 2, (np.arange(40) % 2).astype(np.int8)
    tests = {tuple(split_groups(groups, labels, test_fraction=0.25, seed=seed)[1]) for seed in range(10)}
    assert len(tests) > 5
    assert {len(test) for test in tests} == {10}


def test_a_giant_group_stays_in_training():
    groups = np.array([0] * 30 + [1] * 4 + [2] * 4, np.int32)
    labels = (np.arange(38) % 2).astype(np.int8)
    train, _ = split_groups(groups, labels, test_fraction=0.25, seed=0)
    assert 0 in groups[train]


def test_the_message_counts_what_there_is():
    with pytest.raises(TrainingDataError, match=r"got 3 real and 0 fake videos.*add fake videos"):
        split_groups(np.arange(3, dtype=np.int32), np.zeros(3, np.int8), test_fraction=0.5, seed=0)
    with pytest.raises(TrainingDataError, match=r"got 0 real and 0 fake"):
        split_groups(np.array([], np.int32), np.array([], np.int8), test_fraction=0.5, seed=0)
    groups, labels = np.array([0, 0, 1, 2], np.int32), np.array([0, 1, 1, 1], np.int8)
    with pytest.raises(TrainingDataError, match=r"3 groups of people \(1 with real and fake videos, 0 .*, 2 with fake"):
        split_groups(groups, labels, test_fraction=0.5, seed=0)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([0, 1], [1, 2], "video 1"),
        ([0], [1], "group 7"),
        ([1], [2], "identity ann"),
    ],
)
def test_what_stands_on_both_sides_is_refused(train, test, message):
    with pytest.raises(TrainingDataError, match=message):
        check_disjoint(
            np.array(train),
            np.array(test),
            groups=np.array([7, 7, 8], np.int32),
            identities=[("bob",), ("ann", "cleo"), ("ann",)],
        )


def test_disjoint_sides_pass():
    check_disjoint(np.array([0]), np.array([1]), groups=np.array([0, 1], np.int32), identities=[("a",), ("b",)])
