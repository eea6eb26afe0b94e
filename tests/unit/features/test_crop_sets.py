"""Feature sets of single crops against slow plain references, and what must leave them as they are."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dfpipe.features import Faces, columns, compute, stack_maps
from dfpipe.features.cooccurrence import patterns as residual_patterns
from dfpipe.features.dct import coefficient_energies
from dfpipe.features.lbp import patterns
from dfpipe.features.sharpness import blockiness
from dfpipe.features.spectrum import radial_power
from dfpipe.settings import (
    ColourSettings,
    CooccurrenceSettings,
    DctSettings,
    LbpSettings,
    ResidualMapSettings,
    SharpnessSettings,
    SpectrumSettings,
)


def row_of(crop: np.ndarray, chosen) -> np.ndarray:
    return compute(Faces.of_crops([crop]), chosen)[0]


def grey(levels: np.ndarray) -> np.ndarray:
    """A crop whose three channels are these levels, which are its luma too."""
    return np.repeat(np.asarray(levels, np.uint8)[:, :, None], 3, axis=2)


def noise(seed: int, *, size_px: int = 64, lowest: int = 60, highest: int = 200) -> np.ndarray:
    return np.random.default_rng(seed).integers(lowest, highest, (size_px, size_px)).astype(np.uint8)


small_greys = arrays(np.uint8, st.tuples(st.integers(7, 14), st.integers(7, 14)), elements=st.integers(0, 255))


# residual_map


def test_a_residual_map_is_the_resized_crop_less_its_blur_channel_by_channel():
    crop = np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)
    sigma = 0.8
    reach = 8
    line = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = np.outer(line, line) / line.sum() ** 2
    padded = np.pad(crop.astype(float), ((reach, reach), (reach, reach), (0, 0)), mode="reflect")
    expected = np.zeros((20, 20))
    for y, x in product(range(20), repeat=2):
        window = padded[y : y + 2 * reach + 1, x : x + 2 * reach + 1]
        expected[y, x] = (crop[y, x] - (window * kernel[:, :, None]).sum(axis=(0, 1))).mean()
    row = row_of(crop, ResidualMapSettings(size_px=20, sigma_px=sigma))
    np.testing.assert_allclose(row[:-1].reshape(20, 20), expected, atol=0.05)
    assert row[-1] == pytest.approx(np.abs(expected).mean(), rel=1e-3)


def test_a_residual_map_shows_where_the_noise_is():
    levels = np.full((80, 80), 100)
    levels[:20, 60:] = noise(1)[:20, :20]
    found = np.abs(row_of(grey(levels), ResidualMapSettings(size_px=40))[:-1].reshape(40, 40))
    assert found[:10, 30:].mean() > 20 * found[15:, :25].mean() + 1


@pytest.mark.parametrize("frames_there", [0, 7, 20, 25])
def test_maps_are_stacked_to_as_many_frames_as_are_asked(frames_there):
    rows = np.random.default_rng(0).normal(size=(frames_there, 101)).astype(np.float32)
    stack = stack_maps(rows, frames=20)
    assert (stack.shape, stack.dtype) == ((20, 10, 10), np.float32)
    kept = min(frames_there, 20)
    np.testing.assert_array_equal(stack[:kept].reshape(kept, 100), rows[:kept, :-1])
    assert not stack[kept:].any()


@pytest.mark.parametrize("shape", [(3, 100), (3, 1), (101,)])
def test_rows_of_no_square_map_are_not_stacked(shape):
    with pytest.raises(ValueError, match="as residual_map writes them"):
        stack_maps(np.zeros(shape, np.float32))


# spectrum


def plain_spectrum(levels: np.ndarray, bins: int, *, hann: bool) -> np.ndarray:
    """Every frequency by the sum that defines it; mean power by bin."""
    height, width = levels.shape
    lines = [
        0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, side + 1) / (side + 1)) if hann else np.ones(side)
        for side in (height, width)
    ]
    window = np.outer(*lines)
    centred = (levels - (levels * window).sum() / window.sum()) * window
    down, across = np.arange(height)[:, None], np.arange(width)
    powers: list[list[float]] = [[] for _ in range(bins)]
    for v, u in product(range(height), range(width)):
        fy, fx = (min(v, height - v) / height, min(u, width - u) / width)
        radius = math.hypot(fy, fx)
        wave = np.exp(-2j * np.pi * (v * down / height + u * across / width))
        place = math.ceil(radius * 2 * bins - 1e-9) - 1
        if 0 <= place < bins:
            powers[place].append(abs((centred * wave).sum()) ** 2 / (window**2).sum())
    return np.array([np.mean(one) for one in powers])


@pytest.mark.parametrize("shape", [(16, 16), (13, 16), (16, 13), (15, 11)])
@pytest.mark.parametrize("hann", [True, False])
def test_a_spectrum_is_that_of_the_definition(shape, hann):
    levels = noise(0)[: shape[0], : shape[1]].astype(np.float32)
    found = radial_power(levels, bins=5, hann=hann)
    np.testing.assert_allclose(found, plain_spectrum(levels, 5, hann=hann), rtol=1e-4)


@pytest.mark.parametrize("size_px", [64, 101, 224])
@pytest.mark.parametrize("window", ["hann", "none"])
def test_white_noise_has_a_flat_spectrum_at_any_size(size_px, window):
    levels = np.random.default_rng(1).normal(128, 20, (size_px, size_px))
    power = radial_power(levels.astype(np.float32), bins=8, hann=window == "hann")
    np.testing.assert_allclose(power[1:], 400, rtol=0.25)
    row = row_of(grey(np.clip(np.rint(levels), 0, 255)), SpectrumSettings(bins=8, window=window))
    assert np.abs(row[1:]).max() < 0.3


@pytest.mark.parametrize("size_px", [64, 128, 320])
def test_a_wave_shows_in_the_bin_of_its_frequency_whatever_the_size(size_px):
    wave = 128 + 60 * np.sin(2 * np.pi * 0.2 * np.arange(size_px))
    row = row_of(grey(np.rint(np.tile(wave, (size_px, 1)))), SpectrumSettings(bins=16))
    assert row.argmax() == math.ceil(0.2 * 32) - 1


def test_resampling_is_seen_at_high_frequencies():
    import cv2

    levels = noise(2, size_px=128)
    upsampled = cv2.resize(cv2.resize(levels, (64, 64), interpolation=cv2.INTER_AREA), (128, 128))
    real, fake = (row_of(grey(one), SpectrumSettings()) for one in (levels, upsampled))
    assert (fake[-8:] < real[-8:] - 2).all()


@pytest.mark.parametrize("window", ["hann", "none"])
@pytest.mark.parametrize("added", [-60, 55])
def test_brightness_leaves_spectrum_dct_and_cooccurrence_alone(window, added):
    levels = noise(3).astype(int)
    for chosen in (SpectrumSettings(window=window), DctSettings(bands="coefficient"), CooccurrenceSettings()):
        np.testing.assert_allclose(row_of(grey(levels), chosen), row_of(grey(levels + added), chosen), atol=2e-4)


# dct


def test_energies_are_those_of_the_transform_that_defines_them():
    levels = noise(4)[:26, :19].astype(np.float32)
    found = np.zeros((3, 2, 8, 8))
    for down, across, v, u in product(range(3), range(2), range(8), range(8)):
        block = levels[8 * down : 8 * down + 8, 8 * across : 8 * across + 8]
        total = sum(
            block[y, x] * math.cos((2 * y + 1) * v * math.pi / 16) * math.cos((2 * x + 1) * u * math.pi / 16)
            for y, x in product(range(8), repeat=2)
        )
        found[down, across, v, u] = total * (1 if v else 0.5**0.5) * (1 if u else 0.5**0.5) / 4
    expected = (found**2).mean(axis=(0, 1))
    expected[0, 0] = found[..., 0, 0].var()
    np.testing.assert_allclose(coefficient_energies(levels), expected, rtol=1e-4)
    diagonals = [np.mean([expected[v, u] for v, u in product(range(8), repeat=2) if v + u == k]) for k in range(15)]
    row = row_of(grey(levels), DctSettings())
    np.testing.assert_allclose(row, np.log(np.array(diagonals) + 1 / 12), rtol=1e-4)


def test_white_noise_has_its_variance_in_every_coefficient():
    levels = np.random.default_rng(5).normal(128, 20, (320, 320))
    np.testing.assert_allclose(coefficient_energies(levels.astype(np.float32)), 400, rtol=0.2)


# lbp


def plain_histograms(levels: np.ndarray, radius: int, grid: int) -> np.ndarray:
    """Pixel by pixel, neighbour by neighbour, clockwise from the top left."""
    around = [(-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1)]
    uniform = [
        code for code in range(256) if sum((code >> bit & 1) != (code >> (bit + 1) % 8 & 1) for bit in range(8)) <= 2
    ]
    height, width = (side - 2 * radius for side in levels.shape)
    counts = np.zeros((grid, grid, 59))
    for y, x in product(range(height), range(width)):
        centre = levels[y + radius, x + radius]
        code = 0
        for bit, (dy, dx) in enumerate(around):
            if levels[y + radius + dy * radius, x + radius + dx * radius] >= centre:
                code += 2**bit
        counts[y * grid // height, x * grid // width, uniform.index(code) if code in uniform else 58] += 1
    return (counts / counts.sum(axis=2, keepdims=True)).reshape(-1)


@settings(deadline=None, max_examples=20)
@given(levels=small_greys, radius=st.integers(1, 2), grid=st.integers(1, 3))
def test_patterns_are_those_of_the_definition(levels, radius, grid):
    row = row_of(grey(levels), LbpSettings(radius_px=radius, grid=grid))
    np.testing.assert_allclose(row, plain_histograms(levels, radius, grid), atol=1e-6)


@settings(deadline=None, max_examples=20)
@given(levels=arrays(np.uint8, (12, 12), elements=st.integers(0, 40)), curve=st.sets(st.integers(0, 255), min_size=41))
def test_a_rising_change_of_brightness_leaves_the_patterns_alone(levels, curve):
    changed = np.array(sorted(curve), np.uint8)[levels]
    for radius_px in (1, 2):
        np.testing.assert_array_equal(patterns(levels, radius_px=radius_px), patterns(changed, radius_px=radius_px))
    np.testing.assert_array_equal(row_of(grey(levels), LbpSettings()), row_of(grey(changed), LbpSettings()))


def test_a_flat_crop_has_one_pattern():
    row = row_of(grey(np.full((20, 20), 77)), LbpSettings(grid=2)).reshape(4, 59)
    # All neighbours are as bright: pattern 255, the last of the uniform ones.
    assert (row[:, 57] == 1).all()
    assert row.sum() == 4


# cooccurrence


def plain_shares(levels: np.ndarray, chosen: CooccurrenceSettings) -> np.ndarray:
    counts: dict[tuple[int, ...], int] = {}
    lines = [*levels.astype(int).tolist(), *levels.T.astype(int).tolist()]
    for line in lines:
        steps = [
            max(-chosen.truncate, min(chosen.truncate, round((b - a) / chosen.quantum))) for a, b in pairwise(line)
        ]
        for start in range(len(steps) - chosen.order + 1):
            one = tuple(steps[start : start + chosen.order])
            negative = tuple(-step for step in one)
            smallest = min(one, negative, one[::-1], negative[::-1])
            counts[smallest] = counts.get(smallest, 0) + 1
    every = product(range(-chosen.truncate, chosen.truncate + 1), repeat=chosen.order)
    smallest = [
        one
        for one in every
        if one == min(one, one[::-1], *(tuple(-step for step in side) for side in (one, one[::-1])))
    ]
    return np.array([counts.get(one, 0) for one in smallest]) / sum(counts.values())


@settings(deadline=None, max_examples=25)
@given(
    levels=small_greys,
    quantum=st.sampled_from([1.0, 2.0, 3.5]),
    truncate=st.integers(1, 3),
    order=st.integers(2, 4),
)
def test_cooccurrences_are_those_of_the_definition(levels, quantum, truncate, order):
    chosen = CooccurrenceSettings(quantum=quantum, truncate=truncate, order=order)
    np.testing.assert_allclose(row_of(grey(levels), chosen), plain_shares(levels, chosen), atol=1e-6)


def test_there_are_169_classes_as_in_the_paper():
    assert columns(CooccurrenceSettings(truncate=2, order=4)) == 169
    assert len(residual_patterns(2, 4)) == 625


@pytest.mark.parametrize("turn", [np.flipud, np.fliplr, np.transpose, lambda levels: 255 - levels])
def test_mirrors_turns_and_negatives_leave_cooccurrences_alone(turn):
    levels = noise(6)[:40, :30]
    before, after = (row_of(grey(one), CooccurrenceSettings()) for one in (levels, turn(levels)))
    np.testing.assert_array_equal(before, after)
    assert before.max() < 1


def test_a_flat_crop_has_one_class():
    row = row_of(grey(np.full((20, 20), 9)), CooccurrenceSettings())
    assert sorted(row)[-2:] == [0, 1]


# colour


@pytest.mark.parametrize(
    ("rgb", "ycbcr", "hsv"),
    [
        ((255, 0, 0), (76.2, 85.0, 255.5), (0, 1, 1)),
        ((0, 255, 0), (149.7, 43.5, 21.2), (120, 1, 1)),
        ((0, 0, 255), (29.1, 255.5, 107.3), (-120, 1, 1)),
        ((128, 128, 128), (128, 128, 128), (0, 0, 0.502)),
        ((255, 0, 10), (77.4, 89.9, 254.7), (-2.35, 1, 1)),
    ],
)
def test_one_colour_has_its_means_and_no_spread(rgb, ycbcr, hsv):
    row = row_of(np.full((30, 30, 3), rgb, np.uint8), ColourSettings())
    np.testing.assert_allclose(row[:3], ycbcr, atol=1)
    np.testing.assert_allclose(row[3:6], hsv, atol=0.05)
    assert not row[6:].any()


def test_spread_is_that_of_the_textbook():
    import colorsys

    crop = np.random.default_rng(7).integers(0, 256, (12, 12, 3), np.uint8)
    crop[:6, :, 0] //= 3
    values = []
    for red, green, blue in crop.reshape(-1, 3).astype(float):
        luma = 0.299 * red + 0.587 * green + 0.114 * blue
        hue, saturation, value = colorsys.rgb_to_hsv(red / 255, green / 255, blue / 255)
        hue = 360 * hue - (360 if hue > 0.5 else 0)
        values.append((luma, 127.5 + 0.564 * (blue - luma), 127.5 + 0.713 * (red - luma), hue, saturation, value))
    planes = np.array(values).T
    centred = planes - planes.mean(axis=1, keepdims=True)
    skewness = (centred**3).mean(axis=1) / planes.std(axis=1) ** 3
    together = np.corrcoef(planes)
    row = row_of(crop, ColourSettings())
    np.testing.assert_allclose(row[:6], planes.mean(axis=1), rtol=1e-2)
    np.testing.assert_allclose(row[6:12], planes.std(axis=1), rtol=1e-2)
    np.testing.assert_allclose(row[12:18], skewness, atol=1e-2)
    pairs = [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]
    np.testing.assert_allclose(row[18:], [together[pair] for pair in pairs], atol=1e-2)


# sharpness


def test_a_ramp_has_the_gradient_that_it_is_made_of():
    row = row_of(grey(np.tile(np.arange(64) * 3, (64, 1))), SharpnessSettings(edge_level=2.9))
    # At the border the reflected pixels take the gradient away: 62 of 64 columns have it.
    assert row[4] == pytest.approx(3 * 62 / 64)
    assert row[3] == pytest.approx(np.log1p(9 * 62 / 64))
    assert row[7] == 1
    assert not row_of(grey(np.tile(np.arange(64) * 3, (64, 1))), SharpnessSettings(edge_level=3.1))[7:9].any()


def test_the_laplacian_s_variance_is_that_of_white_noise():
    levels = np.random.default_rng(8).normal(128, 10, (320, 320))
    row = row_of(grey(np.rint(levels)), SharpnessSettings())
    # Four neighbours less four times itself: 20 times the variance.
    np.testing.assert_allclose(np.expm1(row[:3]), 20 * 100, rtol=0.05)


def test_a_blurred_middle_is_told_from_a_sharp_rim():
    import cv2

    levels = noise(9, size_px=96)
    levels[24:72, 24:72] = cv2.GaussianBlur(levels, (0, 0), 2)[24:72, 24:72]
    row = row_of(grey(levels), SharpnessSettings())
    assert row[1] < row[2] - 2
    assert row[7] < row[8] / 2


def test_blocks_of_eight_are_seen_in_their_direction_alone():
    levels = np.random.default_rng(10).integers(100, 104, (64, 64))
    levels += 10 * (np.arange(64) // 8 % 2)
    row = row_of(grey(levels), SharpnessSettings())
    assert row[9] > 1
    assert abs(row[10]) < 0.1
    plain = [np.abs(levels[:, x].astype(float) - levels[:, x - 1]).mean() for x in range(1, 64)]
    across = np.mean([value for x, value in enumerate(plain, 1) if x % 8 == 0])
    within = np.mean([value for x, value in enumerate(plain, 1) if x % 8])
    assert blockiness(levels.astype(np.float32)) == pytest.approx(np.log((across + 0.25) / (within + 0.25)), rel=1e-5)
    # Shifted by one, they lie on no multiple of eight.
    assert blockiness(np.roll(levels, 1, axis=1).astype(np.float32)) < 0


def test_a_flat_crop_is_sharp_nowhere():
    assert np.abs(row_of(grey(np.full((40, 40), 200)), SharpnessSettings())).max() < 1e-4
