import numpy as np

from dfpipe.synth.track import between

FACE = np.array([[40, 50], [80, 50], [60, 75], [44, 95], [76, 95]], np.float32)
NONE = np.full((5, 2), np.nan, np.float32)


def test_one_look_is_one_frame():
    np.testing.assert_array_equal(between(np.array([0]), FACE[None]), FACE[None])


def test_frames_between_lie_on_a_line():
    filled = between(np.array([0, 4]), np.stack([FACE, FACE + 8]))
    np.testing.assert_allclose(filled - FACE, np.arange(0, 10, 2)[:, None, None] * np.ones((5, 2)), atol=1e-4)


def test_without_a_face_at_either_end_the_frames_between_are_left_alone():
    filled = between(np.array([0, 2, 4, 6]), np.stack([FACE, NONE, FACE, FACE]))
    assert [bool(np.isnan(points).any()) for points in filled] == [False, True, True, True, False, False, False]


def test_a_jump_is_another_face():
    filled = between(np.array([0, 2, 4]), np.stack([FACE, FACE + 100, FACE + 100]))
    assert [bool(np.isnan(points).any()) for points in filled] == [False, True, False, False, False]
