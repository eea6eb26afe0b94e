import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dfpipe.errors import SettingsError
from dfpipe.features import Faces, columns, feature_version
from dfpipe.features import compute as compute_features
from dfpipe.features.residual import block_statistics
from dfpipe.settings import FeatureSettings, PixelsSettings, ResidualSettings

RESIDUAL = ResidualSettings(sigma_px=1.0, grid=8)


def compute(crops: list[np.ndarray], chosen: FeatureSettings) -> np.ndarray:
    return compute_features(Faces.of_crops(crops), chosen)


def noisy(seed: int, *, deviation: float, size_px: int = 320) -> np.ndarray:
    """Grey picture of white noise, the same in all three channels."""
    noise = np.random.default_rng(seed).normal(128, deviation, (size_px, size_px, 1))
    return np.repeat(np.clip(np.rint(noise), 0, 255).astype(np.uint8), 3, axis=2)


def resampled_centre(crop: np.ndarray) -> np.ndarray:
    """The middle half taken down to half the resolution and back up."""
    quarter = crop.shape[0] // 4
    middle = (slice(quarter, 3 * quarter),) * 2
    faked = crop.copy()
    small = cv2.resize(crop[middle], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    faked[middle] = cv2.resize(small, (2 * quarter, 2 * quarter), interpolation=cv2.INTER_LINEAR)
    return faked


def grids(row: np.ndarray, grid: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Deviation and mean absolute value by block, and the two inner-outer differences."""
    return row[: grid**2].reshape(grid, grid), row[grid**2 : -2].reshape(grid, grid), row[-2:]


EVERY = [PixelsSettings(size_px=16), PixelsSettings(size_px=64), RESIDUAL, ResidualSettings(sigma_px=2.5, grid=5)]


@pytest.mark.parametrize("chosen", EVERY, ids=str)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_shape_and_type(chosen: FeatureSettings, count: int):
    rows = compute([noisy(seed, deviation=9) for seed in range(count)], chosen)
    assert rows.shape == (count, columns(chosen))
    assert rows.dtype == (np.uint8 if chosen.name == "pixels" else np.float32)
    assert feature_version(chosen) >= 1


@pytest.mark.parametrize("chosen", EVERY, ids=str)
def test_a_row_depends_on_its_own_crop_alone(chosen: FeatureSettings):
    crops = [noisy(seed, deviation=20) for seed in range(3)]
    together = compute(crops, chosen)
    for crop, row in zip(crops, together, strict=True):
        np.testing.assert_array_equal(compute([crop], chosen)[0], row)
    assert len(np.unique(together, axis=0)) == 3


def test_pixels_are_averaged_areas_in_rgb_order():
    crop = np.zeros((8, 8, 3), np.uint8)
    crop[:4, 4:] = (200, 100, 50)
    crop[4:, :4, 1] = np.arange(4) * 40
    row = compute([crop], PixelsSettings(size_px=4))[0].reshape(4, 4, 3)
    assert row[0, 3].tolist() == [200, 100, 50]
    assert row[3, 0].tolist() == [0, 20, 0]
    assert row[3, 1].tolist() == [0, 100, 0]


def test_pixels_of_the_crop_s_own_size_are_the_crop():
    crop = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    np.testing.assert_array_equal(compute([crop], PixelsSettings(size_px=32))[0], crop.reshape(-1))


def test_one_channel_is_that_of_the_three():
    crop = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    three = compute([crop], PixelsSettings(size_px=16))[0].reshape(16, 16, 3)
    for place, channel in enumerate(("red", "green", "blue")):
        row = compute([crop], PixelsSettings(size_px=16, channels=channel))[0]
        np.testing.assert_array_equal(row, three[:, :, place].reshape(-1))
    luma = compute([crop], PixelsSettings(size_px=16, channels="luma"))[0]
    np.testing.assert_allclose(luma, (three @ [0.299, 0.587, 0.114]).reshape(-1), atol=0.51)


@pytest.mark.parametrize("level", [0, 7, 255])
def test_residual_of_one_colour_is_zero(level):
    crop = np.full((320, 320, 3), level, np.uint8)
    assert np.abs(compute([crop], RESIDUAL)).max() < 1e-4
    assert block_statistics(crop, sigma_px=1, grid=8).max() < 1e-3


@pytest.mark.parametrize("deviation", [4, 16])
@pytest.mark.parametrize("sigma_px", [0.8, 2.0])
def test_residual_of_white_noise_has_the_deviation_that_theory_gives(deviation, sigma_px):
    # x - k*x for white x of deviation s: variance s² (1 - 2 k(0) + sum k²)
    line = np.exp(-(np.arange(-20, 21) ** 2) / (2 * sigma_px**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    expected = np.sqrt((deviation**2 + 1 / 12) * (1 - 2 * kernel.max() + (kernel**2).sum()))
    measured = block_statistics(noisy(1, deviation=deviation), sigma_px=sigma_px, grid=4)
    np.testing.assert_allclose(measured[0], expected, rtol=0.05)
    # Of a normal distribution the mean absolute value is sqrt(2/pi) deviations.
    np.testing.assert_allclose(measured[1], expected * np.sqrt(2 / np.pi), rtol=0.05)


@pytest.mark.parametrize(("channel", "weight"), [(0, 0.299), (1, 0.587), (2, 0.114)], ids=["red", "green", "blue"])
def test_residual_of_one_colour_s_noise_is_its_share_of_luma(channel, weight):
    crop = np.full((320, 320, 3), 128, np.uint8)
    crop[..., channel] = noisy(3, deviation=16)[..., 0]
    grey = block_statistics(noisy(3, deviation=16), sigma_px=1, grid=2)
    np.testing.assert_allclose(block_statistics(crop, sigma_px=1, grid=2), weight * grey, rtol=1e-3)


@pytest.mark.parametrize("deviation", [4, 12, 30])
def test_a_resampled_centre_stands_out_whatever_the_noise(deviation):
    real = noisy(2, deviation=deviation)
    row_real, row_fake = compute([real, resampled_centre(real)], RESIDUAL)
    for blocks_real, blocks_fake in zip(grids(row_real)[:2], grids(row_fake)[:2], strict=True):
        assert np.abs(blocks_real).max() < 0.3
        centre = blocks_fake[2:6, 2:6]
        rim = np.concatenate([blocks_fake[0], blocks_fake[-1], blocks_fake[:, 0], blocks_fake[:, -1]])
        assert centre.max() < rim.min() - 0.5
    assert (grids(row_fake)[2] < -0.5).all()
    assert (np.abs(grids(row_real)[2]) < 0.1).all()


def test_the_overall_level_of_noise_hardly_matters():
    quiet, loud = compute([noisy(5, deviation=5), noisy(5, deviation=25)], RESIDUAL)
    assert np.abs(quiet - loud).max() < 0.05


def test_blocks_stand_row_by_row():
    crop = np.full((320, 320, 3), 100, np.uint8)
    crop[40:80, 80:120] = noisy(6, deviation=20)[:40, :40]
    deviation, size, _ = grids(compute([crop], RESIDUAL)[0])
    assert np.unravel_index(deviation.argmax(), deviation.shape) == (1, 2)
    assert np.unravel_index(size.argmax(), size.shape) == (1, 2)


def test_a_grid_without_a_middle_has_no_difference():
    assert compute([noisy(7, deviation=9)], ResidualSettings(grid=1))[0].tolist() == [0, 0, 0, 0]
    assert compute([noisy(7, deviation=9)], ResidualSettings(grid=2))[0][-2:].tolist() == [0, 0]


def test_blocks_smaller_than_two_pixels_are_refused():
    with pytest.raises(SettingsError, match="got crops of 100 x 100 pixels for a residual grid of 64, expected at lea"):
        compute([noisy(8, deviation=9, size_px=100)], ResidualSettings(grid=64))


@settings(deadline=None, max_examples=40)
@given(
    crop=arrays(np.uint8, st.tuples(st.integers(16, 40), st.integers(16, 40), st.just(3))),
    grid=st.integers(1, 8),
    sigma_px=st.floats(0.3, 5),
)
def test_residual_is_finite_and_repeatable(crop, grid, sigma_px):
    chosen = ResidualSettings(sigma_px=sigma_px, grid=grid)
    row = compute([crop], chosen)
    assert np.isfinite(row).all()
    np.testing.assert_array_equal(row, compute([crop.copy()], chosen))
    assert np.median(row[0, : grid**2]) == pytest.approx(0, abs=1e-6)
