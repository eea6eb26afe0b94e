import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.faces import crop_face

# Every pixel tells where it stands: column, row, 7.
PICTURE = np.dstack([*np.meshgrid(np.arange(200), np.arange(100)), np.full((100, 200), 7)]).astype(np.uint8)


def crop(box, *, size_px=16, margin_fraction=0.0, picture=PICTURE):
    return crop_face(picture, np.array(box, np.float32), size_px=size_px, margin_fraction=margin_fraction)


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


def test_the_picture_is_left_as_it_is():
    before = PICTURE.copy()
    crop([20, 30, 36, 46])[:] = 0
    np.testing.assert_array_equal(PICTURE, before)


@pytest.mark.parametrize(
    "box", [[-20, 10, -5, 30], [200, 0, 220, 20], [10, 100, 20, 130], [50, 50, 50, 60], [9, 9, 2, 2]]
)
def test_a_box_without_pixels(box):
    with pytest.raises(ValueError, match="picture of 200 x 100"):
        crop(box)


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
