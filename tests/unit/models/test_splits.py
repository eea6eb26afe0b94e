import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sklearn.model_selection import train_test_split

from dfpipe.errors import TrainingDataError
from dfpipe.models import (
    check_disjoint,
    grouped_folds,
    identity_groups,
    on_two_sides,
    random_rows,
    split_groups,
)

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


@pytest.mark.parametrize(
    ("train", "test", "contents", "message"),
    [
        ([0], [2], ["x", "y", "x"], r"content x stands on two sides of the split \(in video a and in c\)"),
        ([2], [1], ["x", "y", "z"], r"identity ann stands on two sides of the split \(in video c and in b\)"),
        ([0], [1], ["x", "y", "z"], r"group 7 stands on two sides of the split \(in video a and in b\)"),
    ],
)
def test_the_refusal_names_the_videos(train, test, contents, message):
    with pytest.raises(TrainingDataError, match=message):
        check_disjoint(
            np.array(train),
            np.array(test),
            groups=np.array([7, 7, 8], np.int32),
            identities=[("bob",), ("ann", "cleo"), ("ann",)],
            contents=contents,
            video_ids=["a", "b", "c"],
        )


def test_all_that_is_on_two_sides_is_told():
    shared = on_two_sides(
        np.array([0, 1]),
        np.array([2, 3]),
        groups=np.zeros(4, np.int32),
        identities=[("ann",), ("bob",), ("bob", "ann"), ("cleo",)],
        contents=["x", "y", "z", "y"],
    )
    assert shared == {"content": ["y"], "identity": ["ann", "bob"], "group": ["0"]}


@st.composite
def stratified_groups(draw, *, pure):
    """Videos in groups, with a class and a method each; in pure ones all videos of a group are of one stratum."""
    number = draw(st.integers(2, 25))
    rows = []
    for group in range(number):
        kind = draw(st.sampled_from([(0, "original"), (1, "Deepfakes"), (1, "FaceSwap"), (1, "NeuralTextures")]))
        for _ in range(draw(st.integers(1, 6))):
            if not pure:
                kind = draw(st.sampled_from([(0, "original"), (1, "Deepfakes"), (1, "FaceSwap")]))
            rows.append((group, *kind))
    groups, labels, methods = zip(*rows, strict=True)
    return np.array(groups, np.int32), np.array(labels, np.int8), list(methods)


def strata_of(labels, methods, smallest):
    """Stratum of each video: its class and method, or its class's rest where the method has too few videos."""
    kinds = list(zip(labels.tolist(), methods, strict=True))
    return [kind if kinds.count(kind) >= smallest else (kind[0], None) for kind in kinds]


def side_numbers(groups, labels, methods, sides, fraction, seed):
    """Side of each video, and the share that each side should have."""
    if sides == 2:
        _, test = split_groups(groups, labels, test_fraction=fraction, seed=seed, strata=methods)
        return np.isin(np.arange(len(groups)), test).astype(int), [1 - fraction, fraction]
    side = np.full(len(groups), -1)
    for number, (_, valid) in enumerate(grouped_folds(groups, labels, folds=sides, seed=seed, strata=methods)):
        side[valid] = number
    return side, [1 / sides] * sides


@given(stratified_groups(pure=True), st.integers(2, 4), st.floats(0.1, 0.5), st.integers(0, 3))
def test_no_side_misses_its_share_of_a_method_by_more_than_the_largest_group(case, sides, fraction, seed):
    groups, labels, methods = case
    assume(servable_sides(groups, labels) >= sides)
    side, shares = side_numbers(groups, labels, methods, sides, fraction, seed)
    assert not (side < 0).any()
    strata = strata_of(labels, methods, 1 / min(shares))
    for stratum in set(strata):
        of_it = np.array([one == stratum for one in strata])
        # A class's rest is of several methods, but a group is of one.
        largest = max(np.bincount(groups[of_it]))
        for number, share in enumerate(shares):
            assert abs((of_it & (side == number)).sum() - share * of_it.sum()) <= largest + 1e-9
    assert all(set(labels[side == number]) == {0, 1} for number in range(sides))


@given(stratified_groups(pure=False), st.integers(2, 3), st.floats(0.1, 0.5), st.integers(0, 3))
def test_moving_no_group_brings_the_sides_nearer_to_their_shares(case, sides, fraction, seed):
    groups, labels, methods = case
    assume(servable_sides(groups, labels) >= sides)
    side, shares = side_numbers(groups, labels, methods, sides, fraction, seed)
    assert all(len(set(side[groups == group])) == 1 for group in set(groups))
    strata = strata_of(labels, methods, 1 / min(shares))

    def distance(side):
        return sum(
            (np.mean(side[np.array([one == stratum for one in strata])] == number) - share) ** 2
            for stratum in set(strata)
            for number, share in enumerate(shares)
        )

    now = distance(side)
    for group in set(groups):
        for other in range(sides):
            moved = np.where(groups == group, other, side)
            if all(set(labels[moved == number]) == {0, 1} for number in range(sides)):
                assert distance(moved) >= now - 1e-8


def test_every_side_gets_every_method_of_a_set_like_faceforensics():
    # 100 pairs of people; each pair has two real videos and two fakes by each of four methods, but a method lacks some.
    pairs, rng = np.arange(100), np.random.default_rng(0)
    rows = [
        (pair, int(method != "original"), method)
        for pair in pairs
        for method in ("original", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")
        for _ in range(2)
        if method != "FaceSwap" or rng.random() < 0.1
    ]
    groups, labels, methods = (np.array(column) for column in zip(*rows, strict=True))
    _, test = split_groups(groups, labels.astype(np.int8), test_fraction=0.25, seed=0, strata=methods)
    for method in set(methods):
        assert abs(np.mean(np.isin(np.flatnonzero(methods == method), test)) - 0.25) < 0.03
    unaware = split_groups(groups, labels.astype(np.int8), test_fraction=0.25, seed=0)[1]
    assert abs(np.mean(np.isin(np.flatnonzero(methods == "FaceSwap"), unaware)) - 0.25) > 0.03


def test_a_hundred_methods_of_a_video_each_do_not_upset_the_classes():
    labels = (np.arange(200) % 2).astype(np.int8)
    methods = ["original" if not label else f"method {number}" for number, label in enumerate(labels)]
    _, test = split_groups(np.arange(200, dtype=np.int32), labels, test_fraction=0.25, seed=0, strata=methods)
    assert np.bincount(labels[test]).tolist() == [25, 25]


def test_random_rows_are_those_of_scikit_learn():
    y = (np.arange(50) % 2).astype(np.int8)
    train, test, folds = random_rows(y, test_fraction=0.2, folds=5, seed=42)
    expected_train, expected_test = train_test_split(np.arange(50), test_size=0.2, random_state=42)
    assert test.tolist() == sorted(expected_test)
    assert train.tolist() == sorted(expected_train)
    assert [valid.tolist() for _, valid in folds] == [sorted(expected_train[k : k + 8]) for k in range(0, 40, 8)]
    assert all(sorted([*learnt, *valid]) == train.tolist() for learnt, valid in folds)


@pytest.mark.parametrize(
    ("labels", "message"),
    [([0, 1, 0], r"got 3 faces, expected enough for 3 folds"), ([0] * 40 + [1], r"of \d+ faces has only one of the")],
)
def test_too_few_random_rows_are_refused(labels, message):
    with pytest.raises(TrainingDataError, match=message):
        random_rows(np.array(labels, np.int8), test_fraction=0.2, folds=3, seed=42)
