import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dfpipe.faces import Face, Quality, measure_quality, open_detector, reject
from dfpipe.settings import LimitSettings, MtcnnSettings, QualitySettings
from dfpipe.video import open_video

NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)
FRONTAL = np.float32([[40, 50], [80, 50], [60, 75], [44, 95], [76, 95]])
NOISE = np.random.default_rng(2).integers(0, 256, (160, 200, 3), np.uint8)
GOOD = Quality(size_px=80, sharpness=50, brightness=120, yaw_degrees=5, touches_border=False)


def measure(box, *, picture=NOISE, landmarks=NO_LANDMARKS):
    return measure_quality(picture, Face(np.float32(box), 0.99, np.float32(landmarks)))


def plain(level):
    return np.full((160, 200, 3), level, np.uint8)


def test_a_plain_picture():
    assert measure([20, 30, 90, 110], picture=plain(80)) == Quality(
        size_px=70, sharpness=0, brightness=80, yaw_degrees=None, touches_border=False
    )


@pytest.mark.parametrize(
    ("box", "touches"),
    [
        ([1, 1, 199, 159], False),
        ([0, 1, 50, 50], True),
        ([1, 0, 50, 50], True),
        ([1, 1, 200, 50], True),
        ([1, 1, 50, 160], True),
        ([-9, -9, 300, 300], True),
        ([250, 10, 280, 40], True),
    ],
)
def test_touching_the_border(box, touches):
    assert measure(box).touches_border is touches


@pytest.mark.parametrize(
    ("box", "size_px"),
    [([10, 10, 50, 90], 40), ([10, 10, 90, 50.5], 40.5), ([-60, 10, 20, 110], 80), ([250, 10, 280, 50], 30)],
)
def test_size_is_the_shorter_side_of_the_whole_box(box, size_px):
    assert measure(box).size_px == size_px


@pytest.mark.parametrize("box", [[-40, 10, -10, 40], [200, 10, 240, 40], [10, 10, 10, 40], [10.1, 10, 10.4, 40]])
def test_a_box_without_pixels_has_no_pixel_measures(box):
    found = measure(box, landmarks=FRONTAL)
    assert (found.sharpness, found.brightness) == (None, None)
    assert found.yaw_degrees is not None


def test_brightness_is_the_mean_grey_of_what_is_seen():
    picture = plain(0)
    picture[:, :50] = (10, 200, 90)
    grey = round(0.299 * 10 + 0.587 * 200 + 0.114 * 90)
    assert measure([-30, 20, 50, 100], picture=picture).brightness == grey
    assert measure([0, 20, 100, 100], picture=picture).brightness == grey / 2


def test_sharpness_is_the_variance_of_the_laplacian_at_112_pixels():
    grey = cv2.cvtColor(NOISE[10:122, 20:132], cv2.COLOR_RGB2GRAY).astype(float)
    around = np.pad(grey, 1, mode="reflect")
    laplacian = around[:-2, 1:-1] + around[2:, 1:-1] + around[1:-1, :-2] + around[1:-1, 2:] - 4 * grey
    assert measure([20, 10, 132, 122]).sharpness == pytest.approx(laplacian.var(), rel=1e-5)


@pytest.mark.parametrize("box", [[20, 10, 132, 122], [20, 10, 60, 60], [0, 0, 200, 160]])
def test_blurring_lowers_the_sharpness(box):
    values = [
        measure(box, picture=NOISE if sigma == 0 else cv2.GaussianBlur(NOISE, (0, 0), sigma)).sharpness
        for sigma in (0, 0.5, 1, 2, 4)
    ]
    assert values == sorted(values, reverse=True)
    assert values[0] > 50 * values[-1]


def test_the_same_face_filmed_larger_is_about_as_sharp():
    fine = cv2.GaussianBlur(NOISE[:112, :112], (0, 0), 2)
    large = cv2.resize(fine, (448, 448), interpolation=cv2.INTER_CUBIC)
    small, big = (
        measure([1, 1, side - 1, side - 1], picture=picture).sharpness for side, picture in ((112, fine), (448, large))
    )
    assert big == pytest.approx(small, rel=0.25)


@given(st.integers(0, 250), st.integers(1, 100))
def test_a_brighter_picture_is_brighter(level, more):
    picture = np.minimum(NOISE, level)
    brighter = cv2.add(picture, np.full_like(picture, more))
    assert (
        measure([20, 10, 132, 122], picture=brighter).brightness
        > measure([20, 10, 132, 122], picture=picture).brightness
    )


@pytest.mark.parametrize(("nose", "sign"), [(52, -1), (60, 0), (68, 1)])
def test_yaw_is_positive_where_the_nose_points_right(nose, sign):
    landmarks = FRONTAL.copy()
    landmarks[2, 0] = nose
    yaw = measure([20, 10, 132, 122], landmarks=landmarks).yaw_degrees
    assert np.sign(yaw) == sign
    assert abs(yaw) == pytest.approx(np.degrees(np.arctan2(abs(nose - 60), 20)), abs=1e-3)


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({}, None),
        ({"min_size_px": 80}, None),
        ({"min_size_px": 80.1}, "small"),
        ({"min_sharpness": 50}, None),
        ({"min_sharpness": 50.1}, "blurred"),
        ({"min_brightness": 120}, None),
        ({"min_brightness": 121}, "dark"),
        ({"max_brightness": 120}, None),
        ({"max_brightness": 119}, "bright"),
        ({"max_yaw_degrees": 5}, None),
        ({"max_yaw_degrees": 4.9}, "turned"),
        ({"allow_border": False}, None),
        # The first reason counts.
        ({"min_size_px": 90, "min_sharpness": 60}, "small"),
        ({"min_sharpness": 60, "min_brightness": 130}, "blurred"),
    ],
)
def test_reject(bounds, reason):
    assert reject(GOOD, QualitySettings(**bounds)) == reason


@pytest.mark.parametrize("yaw", [30, -30])
def test_both_sides_can_be_too_far(yaw):
    turned = Quality(80, 50, 120, yaw, touches_border=False)
    assert reject(turned, QualitySettings(max_yaw_degrees=20)) == "turned"


def test_a_face_at_the_border_is_rejected_where_that_is_not_allowed():
    at_border = Quality(80, 50, 120, 5, touches_border=True)
    assert reject(at_border, QualitySettings()) is None
    assert reject(at_border, QualitySettings(allow_border=False)) == "border"
    assert reject(at_border, QualitySettings(allow_border=False, max_yaw_degrees=1)) == "turned"


def test_what_is_not_known_breaks_no_bound():
    unknown = Quality(80, None, None, None, touches_border=True)
    bounds = QualitySettings(min_sharpness=1e9, min_brightness=255, max_brightness=255, max_yaw_degrees=0)
    assert reject(unknown, bounds) is None


def test_bounds_that_leave_no_brightness():
    with pytest.raises(ValidationError, match=r"min_brightness is 200 and max_brightness is 100; no face fits"):
        QualitySettings(min_brightness=200, max_brightness=100)


def test_a_real_face_and_its_mirror_image(clips):
    with open_video(str(clips / "asl" / "again.mkv"), limits=LimitSettings()) as video:
        (frame,) = video.frames([0])
    mirrored = np.ascontiguousarray(frame.image[:, ::-1])
    (face, *_), (twin, *_) = open_detector(MtcnnSettings()).detect([frame.image, mirrored])
    found, other = measure_quality(frame.image, face), measure_quality(mirrored, twin)
    assert found.size_px > 50
    assert not found.touches_border
    assert found.brightness == pytest.approx(other.brightness, abs=5)
    assert abs(found.yaw_degrees) < 25
    assert found.yaw_degrees == pytest.approx(-other.yaw_degrees, abs=8)
    blurred = measure_quality(cv2.GaussianBlur(frame.image, (0, 0), 3), face)
    assert blurred.sharpness < found.sharpness / 2
