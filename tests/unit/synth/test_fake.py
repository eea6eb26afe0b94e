import numpy as np
import pytest

from dfpipe.synth.fake import draw_style, lift_face, place_face
from dfpipe.synth.head import Head
from dfpipe.synth.person import draw_person

FACE = np.array([[40, 50], [80, 50], [60, 75], [44, 95], [76, 95]], np.float32)


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (160, 120, 3), dtype=np.uint8)


def test_a_fake_changes_the_face_and_nothing_else():
    frame, rng = picture(), np.random.default_rng(1)
    style = draw_style(rng, strength=0.6)
    before = frame.copy()
    patch = place_face(frame, FACE, lift_face(picture(2), FACE, eye_distance_px=40, style=style), style, rng)
    changed = (frame != before).any(axis=2)
    assert changed[60:90, 50:70].mean() > 0.9
    covered = np.zeros(changed.shape, bool)
    covered[patch.box] = patch.mask > 0
    assert not (changed & ~covered).any()


def test_strength_nought_on_the_own_face_is_nearly_the_same_and_strength_one_is_not():
    head = Head(draw_person(0, 0), unit_px=80).sprite((0, 0))
    eye_distance = float(np.hypot(*(head.landmarks[1] - head.landmarks[0])))
    errors = []
    for strength in (0.0, 0.5, 1.0):
        rng = np.random.default_rng(3)
        style, frame = draw_style(rng, strength=strength), head.rgb.copy()
        donor = lift_face(head.rgb, head.landmarks, eye_distance_px=eye_distance, style=style)
        patch = place_face(frame, head.landmarks, donor, style, rng)
        change = np.abs(frame.astype(int) - head.rgb)[patch.box][patch.mask > 0.9]
        errors.append(float(change.mean()))
    assert errors[0] < 1
    assert errors[0] < errors[1] < errors[2]


def test_each_frame_is_a_little_different():
    rng = np.random.default_rng(4)
    style = draw_style(rng, strength=0.6)
    donor = lift_face(picture(2), FACE, eye_distance_px=40, style=style)
    first, second = picture(), picture()
    place_face(first, FACE, donor, style, rng)
    place_face(second, FACE, donor, style, rng)
    assert (first != second).any()


@pytest.mark.parametrize("shift", [(-500, 0), (0, 500), (-70, -60)], ids=["left of it", "below it", "over a corner"])
def test_a_face_outside_the_picture_does_no_harm(shift):
    rng = np.random.default_rng(5)
    style, frame = draw_style(rng, strength=0.6), picture()
    donor = lift_face(picture(2), FACE, eye_distance_px=40, style=style)
    place_face(frame, FACE + np.array(shift, np.float32), donor, style, rng)
    assert frame.shape == (160, 120, 3)
