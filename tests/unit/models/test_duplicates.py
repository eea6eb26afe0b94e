"""Copies of the same footage are found by their faces, whatever else is there and in whatever order it comes."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfpipe.models import duplicate_videos, join_groups
from dfpipe.models.duplicates import SIDE_PX

FACES = 4


def footage(seed, faces=FACES):
    """Return pictures of a face that looks like no other's: smooth noise, larger than a thumbnail, and its frames."""
    rng = np.random.default_rng(seed)
    face = cv2.resize(rng.normal(size=(7, 7)), (80, 80), interpolation=cv2.INTER_CUBIC)
    frames = [face + cv2.resize(rng.normal(size=(7, 7)), (80, 80)) * 0.05 for _ in range(faces)]
    return np.clip(np.stack(frames) * 50 + 120, 20, 235)


def thumbnails(frames, *, mirrored=False, right=0, gain=1.0, noise=0.0):
    rng = np.random.default_rng(1)
    seen = frames[:, :, ::-1] if mirrored else frames
    seen = np.roll(seen, right, axis=2)[:, 8:-8, 8:-8] * gain
    small = np.stack([cv2.resize(one, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for one in seen])
    return np.clip(small + rng.normal(size=small.shape) * noise, 0, 255).astype(np.uint8).reshape(len(small), -1)


def pairs_of(videos, groups=None, **options):
    video = np.repeat(np.arange(len(videos)), [len(one) for one in videos])
    groups = np.arange(len(videos)) if groups is None else np.array(groups)
    # As they may lie in a store: in no order.
    order = np.random.default_rng(len(video)).permutation(len(video))
    options = {"max_distance": 0.2, "min_share": 0.5, **options}
    return duplicate_videos(np.concatenate(videos)[order], video[order], groups, **options).tolist()


def test_without_faces_there_are_no_pairs():
    none = duplicate_videos(
        np.empty((0, SIDE_PX**2), np.uint8), np.empty(0, int), np.empty(0, int), max_distance=0.2, min_share=0.5
    )
    assert (none.shape, none.dtype) == ((0, 2), np.int32)


@pytest.mark.parametrize("changes", [{}, {"mirrored": True}, {"right": 2}, {"gain": 0.7}, {"noise": 4}])
def test_copies_are_found_and_others_are_not(changes):
    originals = [thumbnails(footage(seed)) for seed in range(12)]
    assert pairs_of(originals) == []
    assert pairs_of([*originals, thumbnails(footage(5), **changes)]) == [[5, 12]]


def test_a_shift_beyond_what_a_detector_does_is_none():
    assert pairs_of([thumbnails(footage(0)), thumbnails(footage(0), right=8)]) == []


def test_videos_of_one_group_are_not_compared():
    same = thumbnails(footage(0))
    assert pairs_of([same, same, same], groups=[0, 0, 1]) == [[0, 2], [1, 2]]


def test_the_share_is_of_the_video_that_has_more_of_its_faces_in_the_other():
    long, other = footage(0, faces=10), thumbnails(footage(1, faces=2))
    # Two of four faces of the second are of the first, which are two of ten there.
    mixed = np.concatenate([thumbnails(long)[:2], other])
    assert pairs_of([thumbnails(long, noise=1), mixed], min_share=0.5, max_distance=0.03) == [[0, 1]]
    assert pairs_of([thumbnails(long, noise=1), mixed], min_share=0.51, max_distance=0.03) == []


def test_faces_without_contrast_are_like_nothing():
    grey = np.full((FACES, SIDE_PX**2), 128, np.uint8)
    face = thumbnails(footage(0))
    assert pairs_of([grey, grey, np.concatenate([grey, face]), face]) == [[2, 3]]


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 4)), min_size=1, max_size=8), st.randoms())
def test_pairs_are_a_matter_of_two_videos_alone(kinds, random):
    videos = [
        thumbnails(footage(seed)[:faces], mirrored=mirrored, noise=place)
        for place, (seed, mirrored, faces) in enumerate(kinds)
    ]
    pairs = pairs_of(videos)
    order = list(range(len(videos)))
    random.shuffle(order)
    shuffled = pairs_of([videos[place] for place in order])
    assert sorted(sorted((order[one], order[other])) for one, other in shuffled) == pairs
    for one in range(len(videos)):
        for other in range(one + 1, len(videos)):
            assert bool(pairs_of([videos[one], videos[other]])) == ([one, other] in pairs)


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=12).flatmap(
        lambda groups: st.tuples(
            st.just(groups), st.lists(st.tuples(*[st.integers(0, len(groups) - 1)] * 2), max_size=12)
        )
    )
)
def test_joined_groups_hold_the_groups_and_the_pairs_and_no_more(case):
    groups, pairs = (np.array(part, np.int32) for part in case)
    joined = join_groups(groups, pairs.reshape(-1, 2))
    first = list(dict.fromkeys(joined.tolist()))
    assert first == list(range(len(first)))
    # The coarsest relation that has both: found here by spreading marks until nothing changes.
    marks = groups.copy()
    for _ in range(len(groups)):
        for one, other in pairs.reshape(-1, 2):
            marks[np.isin(marks, marks[[one, other]])] = min(marks[[one, other]])
    assert np.array_equal(joined[:, None] == joined, marks[:, None] == marks)
