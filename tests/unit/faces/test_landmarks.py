import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.faces.landmarks import ARCFACE, fit_similarity, yaw_degrees

# Half the distance between the eyes is 1; z points at the camera.
HEAD = np.array([[-1, 0, 0], [1, 0, 0], [0, 1.2, 1], [-0.8, 2.2, 0], [0.8, 2.2, 0]], float)


def turned(yaw, *, roll=0.0, size=20.0, at=(100.0, 80.0)):
    """Landmarks of the head turned to the picture's right, then tilted, seen from afar; angles in degrees."""
    yaw, roll = np.radians([yaw, roll])
    x = HEAD[:, 0] * np.cos(yaw) + HEAD[:, 2] * np.sin(yaw)
    tilt = np.array([[np.cos(roll), -np.sin(roll)], [np.sin(roll), np.cos(roll)]])
    return np.stack([x, HEAD[:, 1]], axis=1) @ tilt.T * size + at


@given(
    st.floats(-85, 85), st.floats(-180, 180), st.floats(1, 500), st.tuples(st.floats(-500, 4000), st.floats(-500, 4000))
)
def test_a_turned_head_tells_its_turn_however_it_is_tilted(yaw, roll, size, at):
    assert yaw_degrees(turned(yaw, roll=roll, size=size, at=at)) == pytest.approx(yaw, abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=5, max_size=5))
def test_a_mirrored_face_turns_the_other_way(points):
    points = np.array(points, float)
    mirrored = (points * [-1, 1] + [100, 0])[[1, 0, 2, 4, 3]]
    yaw = yaw_degrees(points)
    assert -90 <= yaw <= 90
    assert yaw_degrees(mirrored) == pytest.approx(-yaw, abs=1e-3)


def test_points_in_one_place_turn_nowhere():
    assert yaw_degrees(np.full((5, 2), 7.0)) == 0


def test_the_template_faces_the_camera():
    assert abs(yaw_degrees(ARCFACE)) < 2


@given(st.floats(-3.14, 3.14), st.floats(0.01, 100), st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_a_similarity_is_found_again(angle, scale, shift):
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = fit_similarity(ARCFACE, ARCFACE @ turn.T + shift)
    np.testing.assert_allclose(matrix, np.column_stack([turn, shift]), atol=1e-8 * (1 + scale))


def test_no_other_similarity_comes_closer():
    points = ARCFACE + np.array([[0.1, 0], [0, -0.05], [0.02, 0.1], [0, 0], [-0.1, 0.05]])

    def error(matrix):
        return np.sum((points @ matrix[:, :2].T + matrix[:, 2] - ARCFACE) ** 2)

    best = fit_similarity(points, ARCFACE)
    for step in (1e-3, -1e-3):
        for turn in (np.eye(2), np.array([[0, -1], [1, 0]])):
            assert error(best + np.column_stack([turn * step, [0, 0]])) > error(best)
        assert error(best + np.array([[0, 0, step], [0, 0, 0]])) > error(best)


def test_points_in_one_place_have_no_similarity():
    assert np.isnan(fit_similarity(np.ones((5, 2)), ARCFACE)).all()
