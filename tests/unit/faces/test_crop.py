import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dfpipe.errors import SettingsError
from dfpipe.faces import Face, crop_face
from dfpipe.faces.crop import resize
from dfpipe.faces.landmarks import ARCFACE
from dfpipe.settings import CascadeSettings, CropSettings, DlibSettings, ExtractSettings

# Every pixel tells where it stands: column, row, 7.
PICTURE = np.dstack([*np.meshgrid(np.arange(200), np.arange(100)), np.full((100, 200), 7)]).astype(np.uint8)
NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)
SIZES = (320, 299, 224, 160, 150, 112, 100, 17)
INTERPOLATIONS = ("auto", "nearest", "linear", "cubic", "area", "lanczos")


def face_at(box, landmarks=NO_LANDMARKS):
    return Face(np.array(box, np.float32), 0.99, np.asarray(landmarks, np.float32))


def crop(box, *, picture=PICTURE, landmarks=NO_LANDMARKS, size_px=16, **more):
    return crop_face(picture, face_at(box, landmarks), CropSettings(size_px=size_px, **more))


def with_landmarks(x, y, side, *, turn_degrees=0.0):
    """Box and landmarks of a face whose aligned crop without margin is this square, turned about its centre."""
    angle = np.radians(turn_degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return [x, y, x + side, y + side], ((ARCFACE - 0.5) @ turn.T + 0.5) * side + [x, y]


def test_same_size_copies_pixels():
    np.testing.assert_array_equal(crop([20, 30, 36, 46]), PICTURE[30:46, 20:36])


def test_edges_go_to_the_nearest_pixel():
    np.testing.assert_array_equal(crop([20.4, 29.6, 35.6, 46.4]), PICTURE[30:46, 20:36])


def test_margin_grows_every_side():
    np.testing.assert_array_equal(crop([24, 34, 32, 42], margin_fraction=0.5), PICTURE[30:46, 20:36])


def test_what_lies_outside_is_cut_off():
    np.testing.assert_array_equal(crop([-50, -4, 16, 16]), PICTURE[0:16, 0:16])
    np.testing.assert_array_equal(crop([184, 84, 900, 900]), PICTURE[84:100, 184:200])


def test_shrinking_averages():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 200
    assert np.all(crop([0, 0, 64, 64], picture=stripes) == 100)


def test_growing_stays_smooth():
    grown = crop([20, 30, 28, 38], size_px=64)
    assert grown.shape == (64, 64, 3)
    assert np.all(np.diff(grown[:, :, 0].astype(int), axis=1) >= 0)
    assert (grown[..., 0].min(), grown[..., 0].max()) == (20, 27)


@pytest.mark.parametrize("shape", ["box", "square", "aligned"])
def test_the_picture_is_left_as_it_is(shape):
    before = PICTURE.copy()
    box, landmarks = with_landmarks(20, 30, 16)
    crop(box, landmarks=landmarks, shape=shape)[:] = 0
    np.testing.assert_array_equal(PICTURE, before)


@pytest.mark.parametrize("shape", ["box", "square", "aligned"])
@pytest.mark.parametrize("margin_fraction", [0, 2])
@pytest.mark.parametrize(
    "box", [[-20, 10, -5, 30], [200, 0, 220, 20], [10, 100, 20, 130], [50, 50, 50, 60], [9, 9, 2, 2]]
)
def test_a_box_without_pixels(box, margin_fraction, shape):
    landmarks = ARCFACE * 20 + box[:2]
    assert crop(box, landmarks=landmarks, margin_fraction=margin_fraction, shape=shape) is None


@given(
    x=st.integers(-30, 190),
    y=st.integers(-30, 90),
    width=st.integers(40, 90),
    height=st.integers(40, 90),
    size_px=st.integers(16, 64),
    margin=st.floats(0, 1),
)
def test_pixels_come_from_the_box_and_its_margin(x, y, width, height, size_px, margin):
    result = crop([x, y, x + width, y + height], size_px=size_px, margin_fraction=margin)
    assert result.shape == (size_px, size_px, 3)
    assert result.dtype == np.uint8
    for axis, (start, side) in enumerate(((x, width), (y, height))):
        assert result[..., axis].min() >= np.floor(start - side * margin - 1)
        assert result[..., axis].max() <= np.ceil(start + side * (1 + margin))
    assert np.all(result[..., 2] == 7)


@pytest.mark.parametrize("shape", ["box", "square", "aligned"])
@pytest.mark.parametrize("size_px", SIZES)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_every_size_and_interpolation(size_px, interpolation, shape):
    for side in (40, 400):
        picture = np.random.default_rng(3).integers(0, 256, (500, 600, 3), np.uint8)
        box, landmarks = with_landmarks(50, 60, side, turn_degrees=10)
        cut = crop(box, picture=picture, landmarks=landmarks, size_px=size_px, interpolation=interpolation, shape=shape)
        assert (cut.shape, cut.dtype) == ((size_px, size_px, 3), np.uint8)
        assert cut.std() > 1


def test_interpolation_is_opencv_s_of_that_name():
    methods = {"nearest": 0, "linear": 1, "cubic": 2, "area": 3, "lanczos": 4}
    for size_px in (16, 128):
        for name, method in methods.items():
            expected = cv2.resize(PICTURE[10:70, 20:90], (size_px, size_px), interpolation=method)
            np.testing.assert_array_equal(crop([20, 10, 90, 70], size_px=size_px, interpolation=name), expected)


@pytest.mark.parametrize(
    ("from_size", "to_size", "method"),
    [((60, 60), (20, 30), "area"), ((20, 20), (40, 20), "linear"), ((60, 20), (30, 40), "linear")],
)
def test_auto_averages_only_where_both_sides_shrink(from_size, to_size, method):
    picture = np.random.default_rng(4).integers(0, 256, (*from_size, 3), np.uint8)
    width, height = to_size
    auto, named = (resize(picture, width_px=width, height_px=height, interpolation=name) for name in ("auto", method))
    np.testing.assert_array_equal(auto, named)


def test_a_square_grows_the_box_and_stretches_nothing():
    np.testing.assert_array_equal(crop([20, 34, 36, 42], shape="square"), PICTURE[30:46, 20:36])
    np.testing.assert_array_equal(crop([24, 36, 32, 40], shape="square", margin_fraction=0.5), PICTURE[30:46, 20:36])


def test_a_square_beyond_the_picture_is_black_there():
    cut = crop([-4, -4, 12, 12], shape="square")
    np.testing.assert_array_equal(cut[4:, 4:], PICTURE[:12, :12])
    assert not cut[:4].any()
    assert not cut[:, :4].any()
    cut = crop([192, 92, 208, 108], shape="square", size_px=32)
    assert np.all(cut[:16, :16, 2] == 7)
    assert not cut[16:].any()
    assert not cut[:, 16:].any()


@given(
    x=st.floats(-90, 199),
    y=st.floats(-90, 99),
    width=st.floats(0.6, 300),
    height=st.floats(0.6, 300),
    margin=st.floats(0, 2),
    shape=st.sampled_from(["box", "square"]),
)
def test_a_box_with_a_pixel_in_the_picture_gives_a_crop_that_shows_some(x, y, width, height, margin, shape):
    box = np.float32([x, y, x + width, y + height])
    low, high = np.rint(np.clip(box.astype(float), 0, [200, 100, 200, 100])).reshape(2, 2)
    cut = crop(box, margin_fraction=margin, shape=shape)
    assert (cut is not None) == bool((low < high).all())
    if cut is not None:
        assert cut.max() >= 7


def test_an_upright_face_of_the_template_s_size_is_aligned_already():
    box, landmarks = with_landmarks(30, 20, 64)
    np.testing.assert_array_equal(crop(box, landmarks=landmarks, shape="aligned", size_px=64), PICTURE[20:84, 30:94])


@pytest.mark.parametrize("margin_fraction", [0.0, 0.25])
@pytest.mark.parametrize("size_px", [64, 224])
@pytest.mark.parametrize(("side", "turn_degrees"), [(150, 0), (150, 35), (40, -60), (300, 180), (31.7, 90)])
def test_landmarks_of_an_aligned_face_lie_on_the_template(side, turn_degrees, size_px, margin_fraction):
    """Dots drawn on the landmarks are found again where the template says."""
    box, landmarks = with_landmarks(201.3, 155.8, side, turn_degrees=turn_degrees)
    expected = (ARCFACE + margin_fraction) / (1 + 2 * margin_fraction) * size_px
    columns, rows = np.meshgrid(np.arange(700) + 0.5, np.arange(600) + 0.5)
    for point, place in zip(landmarks, expected, strict=True):
        dot = 255 * np.exp(-((columns - point[0]) ** 2 + (rows - point[1]) ** 2) / (2 * (side / 30) ** 2))
        picture = np.repeat(dot[..., None], 3, axis=2).astype(np.uint8)
        cut = crop(
            box,
            picture=picture,
            landmarks=landmarks,
            shape="aligned",
            size_px=size_px,
            margin_fraction=margin_fraction,
        )[..., 0].astype(float)
        grid = np.arange(size_px) + 0.5
        centre = np.array([cut.sum(axis=0) @ grid, cut.sum(axis=1) @ grid]) / cut.sum()
        np.testing.assert_allclose(centre, place, atol=0.15)


@pytest.mark.parametrize("interpolation", [name for name in INTERPOLATIONS if name != "nearest"])
def test_an_aligned_face_that_shrinks_does_not_alias(interpolation):
    stripes = np.zeros((600, 600, 3), np.uint8)
    stripes[:, ::2] = 200
    box, landmarks = with_landmarks(100, 100, 400, turn_degrees=20)
    cut = crop(box, picture=stripes, landmarks=landmarks, shape="aligned", size_px=64, interpolation=interpolation)
    assert np.abs(cut.astype(int) - 100).max() <= 10


def test_an_aligned_face_beyond_the_picture_is_black_there():
    box, landmarks = with_landmarks(-32, 20, 64)
    cut = crop(box, landmarks=landmarks, shape="aligned", size_px=64)
    assert not cut[:, :32].any()
    np.testing.assert_array_equal(cut[:, 32:], PICTURE[20:84, :32])


@pytest.mark.parametrize("far", [1e3, 1e6, 1e9])
def test_landmarks_far_from_their_box_do_no_harm(far):
    assert crop([10, 10, 50, 50], landmarks=ARCFACE * 40 + far, shape="aligned") is None
    cut = crop([10, 10, 50, 50], landmarks=(ARCFACE - 0.5) * far, shape="aligned")
    assert cut is None or cut.shape == (16, 16, 3)
    cut = crop([10, 10, 50, 50], landmarks=(ARCFACE - 0.5) / far + 20, shape="aligned")
    assert cut is None or cut.shape == (16, 16, 3)


def test_landmarks_in_one_place_align_nothing():
    assert crop([10, 10, 50, 50], landmarks=np.full((5, 2), 30), shape="aligned") is None


def test_a_very_wide_picture_can_be_aligned():
    picture = np.full((40, 40_000, 3), 9, np.uint8)
    box, landmarks = with_landmarks(0, -20_000, 40_000)
    for interpolation in INTERPOLATIONS:
        cut = crop(box, picture=picture, landmarks=landmarks, shape="aligned", size_px=320, interpolation=interpolation)
        assert cut.shape == (320, 320, 3)


def test_aligning_needs_landmarks():
    with pytest.raises(SettingsError, match="aligned, which needs landmarks"):
        crop([10, 10, 50, 50], shape="aligned")
    aligned = CropSettings(shape="aligned")
    with pytest.raises(ValidationError, match="aligned needs landmarks, which detector cascade does not give"):
        ExtractSettings(crop=aligned, detector=CascadeSettings())
    assert ExtractSettings(crop=aligned, detector=DlibSettings()).crop == aligned
    assert ExtractSettings(detector=CascadeSettings()).crop == CropSettings()
