"""Feature sets that look at where a face lies, and at a track's faces together."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfpipe.errors import SettingsError
from dfpipe.features import Faces, compute
from dfpipe.settings import LandmarksSettings, PixelsSettings, SpectrumSettings, TemporalSettings

FRONTAL = np.array([[40.0, 50], [80, 50], [60, 75], [44, 95], [76, 95]])
GEOMETRY = LandmarksSettings()
IN_BOX, DISTANCES, ROLL, MOUTH_ROLL, YAW, ANGLES, MISFIT, IN_FRAME = (
    slice(0, 10),
    slice(10, 20),
    20,
    21,
    22,
    slice(23, 25),
    25,
    slice(26, 30),
)


def face(points, box=(20, 10, 100, 130), frame_wh=(200, 260)) -> Faces:
    crop = np.zeros((16, 16, 3), np.uint8)
    return replace(
        Faces.of_crops([crop]),
        landmarks=np.array([points], np.float32),
        boxes=np.array([box], np.float32),
        frame_wh=np.array([frame_wh], np.float32),
    )


def turned(points, degrees, about=(60, 70)):
    angle = np.radians(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return (np.array(points) - about) @ turn.T + about


def test_a_frontal_face():
    row = compute(face(FRONTAL), GEOMETRY)[0]
    np.testing.assert_allclose(row[:2], [20 / 80, 40 / 120])
    # Over the root mean square distance from the middle, which the sums of squares give.
    spread = np.sqrt(((FRONTAL - FRONTAL.mean(axis=0)) ** 2).sum() / 5)
    assert row[DISTANCES][0] == pytest.approx(40 / spread)
    assert row[DISTANCES][9] == pytest.approx(32 / spread)
    assert row[[ROLL, MOUTH_ROLL, YAW]].tolist() == [0, 0, 0]
    between_eyes = 2 * np.degrees(np.arctan(20 / 25))
    np.testing.assert_allclose(row[ANGLES], [between_eyes, 2 * np.degrees(np.arctan(16 / 20))], rtol=1e-5)
    np.testing.assert_allclose(row[IN_FRAME], [60 / 200, 70 / 260, 80 / 200, 120 / 260])


def test_a_face_on_the_template_has_no_misfit_and_another_has():
    from dfpipe.faces.landmarks import ARCFACE

    assert compute(face(turned(ARCFACE * 80, 25)), GEOMETRY)[0, MISFIT] == pytest.approx(0, abs=1e-5)
    aside = FRONTAL + np.array([[0, 0], [0, 0], [30, 0], [0, 0], [0, 0]])
    before, after = (compute(face(points), GEOMETRY)[0, MISFIT] for points in (FRONTAL, aside))
    assert after > before + 0.2


@settings(deadline=None)
@given(scale=st.floats(0.1, 20), shift=st.tuples(st.floats(-500, 500), st.floats(-500, 500)))
def test_scale_and_place_change_nothing_but_the_place_in_the_frame(scale, shift):
    before = compute(face(FRONTAL), GEOMETRY)[0]
    moved = np.array(shift)
    box = np.array([20, 10, 100, 130]) * scale + np.tile(moved, 2)
    after = compute(face(FRONTAL * scale + moved, box=box, frame_wh=(200 * scale, 260 * scale)), GEOMETRY)[0]
    np.testing.assert_allclose(after[:26], before[:26], atol=0.02)
    np.testing.assert_allclose(after[28:], before[28:], rtol=1e-3)


@pytest.mark.parametrize("degrees", [-170, -30, 10, 90, 179])
def test_a_turn_in_the_picture_is_the_roll_and_nothing_else_of_the_shape(degrees):
    # With a mouth askew, whose direction passes 180 degrees before that of the eyes does.
    askew = FRONTAL + np.array([[0, 0], [0, 0], [3, 0], [0, 0], [0, 4]])
    before, after = (compute(face(points), GEOMETRY)[0] for points in (askew, turned(askew, degrees)))
    assert after[ROLL] == pytest.approx(degrees, abs=1e-3)
    shape = [*range(10, 20), MOUTH_ROLL, YAW, 23, 24, MISFIT]
    np.testing.assert_allclose(after[shape], before[shape], atol=1e-3)


@settings(deadline=None)
@given(
    points=st.lists(st.floats(-1e4, 1e4, width=32), min_size=10, max_size=10),
    box=st.lists(st.floats(-1e4, 1e4, width=32), min_size=4, max_size=4),
)
def test_any_landmarks_and_any_box_give_numbers(points, box):
    row = compute(face(np.reshape(points, (5, 2)), box=box), GEOMETRY)
    assert np.isfinite(row).all()


def test_landmarks_in_one_place_have_no_shape():
    row = compute(face(np.full((5, 2), 50.0)), GEOMETRY)[0]
    assert not row[10:26].any()
    assert np.isfinite(row).all()


def test_what_is_not_known_is_refused():
    unknown = np.full((5, 2), np.nan)
    for chosen in (GEOMETRY, TemporalSettings(of=GEOMETRY)):
        with pytest.raises(SettingsError, match=r"without landmarks for .* choose another extract"):
            compute(face(unknown), chosen)
    with pytest.raises(SettingsError, match="frames of unknown size"):
        compute(face(FRONTAL, frame_wh=(np.nan, np.nan)), GEOMETRY)


# temporal

PIXELS = PixelsSettings(size_px=4, channels="red")


def flat_faces(levels, *, video, track, frame_index) -> Faces:
    crops = [np.full((8, 8, 3), level, np.uint8) for level in levels]
    return replace(
        Faces.of_crops(crops), video=np.array(video), track=np.array(track), frame_index=np.array(frame_index)
    )


def test_differences_stay_within_one_person_of_one_video_and_follow_the_frames():
    faces = flat_faces(
        [10, 200, 40, 12, 9, 90, 20],
        video=[0, 0, 0, 0, 1, 1, 2],
        track=[0, 1, 0, 0, 0, 0, 0],
        frame_index=[0, 0, 60, 30, 5, 3, 0],
    )
    rows = compute(faces, TemporalSettings(of=PIXELS))
    # 10, 12, 40 in the order of the frames: differences 2 and 28.
    expected = [(15, 13, 0), (0, 0, 1), (15, 13, 0), (15, 13, 0), (81, 0, 0), (81, 0, 0), (0, 0, 1)]
    np.testing.assert_allclose(rows[:, [0, 16, 32]], expected)
    assert rows.shape == (7, 33)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 255)), min_size=1, max_size=12))
def test_changes_are_those_of_a_plain_loop(entries):
    frames = list(np.random.default_rng(len(entries)).permutation(len(entries)))
    video, track, levels = zip(*entries, strict=True)
    rows = compute(flat_faces(levels, video=video, track=track, frame_index=frames), TemporalSettings(of=PIXELS))
    for place, (own_video, own_track, _) in enumerate(entries):
        members = [one for one in range(len(entries)) if (video[one], track[one]) == (own_video, own_track)]
        in_time = [levels[one] for one in sorted(members, key=lambda one: frames[one])]
        jumps = [abs(after - before) for before, after in pairwise(in_time)]
        expected = (np.mean(jumps), np.std(jumps), 0) if jumps else (0, 0, 1)
        np.testing.assert_allclose(rows[place, [0, 16, 32]], expected, rtol=1e-5, atol=1e-4)


def test_a_face_that_does_not_change_has_no_changes():
    crop = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    faces = replace(Faces.of_crops([crop] * 3), video=np.zeros(3, int), frame_index=np.arange(3))
    assert not compute(faces, TemporalSettings(of=SpectrumSettings())).any()
