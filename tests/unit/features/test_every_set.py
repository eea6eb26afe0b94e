"""What holds for every feature set, whatever it looks at."""

from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dfpipe.errors import SettingsError
from dfpipe.features import Faces, block_names, columns, compute, feature_version
from dfpipe.features._compute import SETS
from dfpipe.settings import (
    ColourSettings,
    CooccurrenceSettings,
    DctSettings,
    FaceFeatureSettings,
    FeatureSettings,
    LandmarksSettings,
    LbpSettings,
    PixelsSettings,
    ResidualMapSettings,
    ResidualSettings,
    SharpnessSettings,
    SpectrumSettings,
    TemporalSettings,
)

# Two of each, so small that crops of 16 pixels will do.
SMALL: list[Any] = [
    PixelsSettings(size_px=5),
    PixelsSettings(size_px=20, channels="luma"),
    ResidualSettings(grid=4),
    ResidualMapSettings(size_px=10, sigma_px=0.6),
    ResidualMapSettings(size_px=24, sigma_px=9),
    SpectrumSettings(bins=8),
    SpectrumSettings(bins=3, window="none"),
    DctSettings(),
    DctSettings(bands="coefficient"),
    LbpSettings(grid=3),
    LbpSettings(grid=1, radius_px=3),
    CooccurrenceSettings(),
    CooccurrenceSettings(order=2, truncate=4, quantum=2.5),
    ColourSettings(),
    SharpnessSettings(),
    SharpnessSettings(edge_level=2),
    LandmarksSettings(),
    TemporalSettings(of=LbpSettings(grid=1)),
    TemporalSettings(of=PixelsSettings(size_px=4)),
    TemporalSettings(of=LandmarksSettings()),
]
each_set = pytest.mark.parametrize("chosen", SMALL, ids=str)


def some_faces(crops: list[np.ndarray], *, seed: int = 0, videos: int = 2) -> Faces:
    rng = np.random.default_rng(seed)
    n = len(crops)
    corner = rng.uniform(-20, 400, (n, 1, 2))
    return Faces(
        crops=crops,
        landmarks=(corner + rng.uniform(0, 90, (n, 5, 2))).astype(np.float32),
        boxes=np.concatenate([corner[:, 0], corner[:, 0] + rng.uniform(1, 90, (n, 2))], axis=1).astype(np.float32),
        frame_wh=np.tile(np.float32([640, 360]), (n, 1)),
        video=rng.integers(0, videos, n),
        track=rng.integers(0, 2, n),
        frame_index=rng.permutation(n) * 30,
    )


def some_crops(n: int, *, seed: int = 0, size_px: int = 24) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 256, (n, size_px, size_px, 3), np.uint8))


def taken(faces: Faces, places: np.ndarray) -> Faces:
    names = ("landmarks", "boxes", "frame_wh", "video", "track", "frame_index")
    return Faces([faces.crops[place] for place in places], **{name: getattr(faces, name)[places] for name in names})


def test_every_name_in_the_settings_has_a_module_and_the_other_way_round():
    members = get_args(get_args(FaceFeatureSettings)[0])
    assert {member.model_fields["name"].default for member in members} == set(SETS)
    assert get_args(get_args(FeatureSettings)[0]) == (FaceFeatureSettings, TemporalSettings)
    assert {one.name for one in SMALL} == {*SETS, "temporal"}


@each_set
def test_no_faces_give_no_rows(chosen):
    rows = compute(some_faces([]), chosen)
    assert rows.shape == (0, columns(chosen))
    assert rows.dtype == (np.uint8 if chosen.name == "pixels" else np.float32)


crops_of_any_kind = st.one_of(
    arrays(np.uint8, st.tuples(st.integers(16, 30), st.integers(16, 30), st.just(3))),
    # Of one colour, and black and white: where deviations are none and largest.
    st.tuples(st.integers(16, 30), st.integers(0, 255)).map(lambda it: np.full((it[0], it[0] + 3, 3), it[1], np.uint8)),
    st.integers(16, 30).map(lambda side: (np.indices((side, side, 3)).sum(axis=0) % 2 * 255).astype(np.uint8)),
)


@each_set
@settings(deadline=None, max_examples=15)
@given(crops=st.lists(crops_of_any_kind, min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_rows_are_finite_of_the_width_that_columns_tells_and_the_same_again(chosen, crops, seed):
    rows = compute(some_faces(crops, seed=seed), chosen)
    assert rows.shape == (len(crops), columns(chosen))
    assert np.isfinite(rows).all()
    again = some_faces([crop.copy() for crop in crops], seed=seed)
    np.testing.assert_array_equal(compute(again, chosen), rows)


@each_set
def test_rows_follow_their_faces_into_any_order_and_among_any_others(chosen):
    faces = some_faces(some_crops(12), videos=3)
    rows = compute(faces, chosen)
    assert len(np.unique(rows, axis=0)) > 1
    order = np.random.default_rng(3).permutation(12)
    np.testing.assert_array_equal(compute(taken(faces, order), chosen), rows[order])
    alone = np.flatnonzero(faces.video == 1)
    np.testing.assert_array_equal(compute(taken(faces, alone), chosen), rows[alone])


@pytest.mark.parametrize(
    ("chosen", "least_px", "message"),
    [
        (
            ResidualSettings(grid=12),
            24,
            "a residual grid of 12, expected at least 24 a side; lower the grid or raise ex",
        ),
        (SpectrumSettings(), 64, "a spectrum of 32 bins, expected at least 64 a side; lower"),
        (DctSettings(), 8, "dct, expected at least 8 a side; raise extract.crop.size_px"),
        (
            LbpSettings(grid=4, radius_px=2),
            8,
            "an lbp grid of 4 at radius 2, expected at least 8 a side; lower the grid",
        ),
        (CooccurrenceSettings(order=4), 5, "cooccurrence of order 4, expected at least 5 a side; lower the order"),
        (SharpnessSettings(), 9, "sharpness, expected at least 9 a side"),
    ],
    ids=lambda value: value if isinstance(value, int) else None,
)
def test_crops_that_are_too_small_are_refused_and_the_smallest_are_not(chosen, least_px, message):
    noise = np.random.default_rng(0).integers(0, 256, (least_px, least_px, 3), np.uint8)
    assert np.isfinite(compute(Faces.of_crops([noise]), chosen)).all()
    for small in (noise[1:], noise[:, 1:], noise[:1]):
        with pytest.raises(SettingsError, match=message):
            compute(Faces.of_crops([small]), chosen)


@pytest.mark.parametrize("chosen", [PixelsSettings(size_px=4), ResidualMapSettings(size_px=4), ColourSettings()])
def test_sets_without_a_window_take_a_crop_of_any_size(chosen):
    for shape in ((1, 1), (1, 50), (50, 1)):
        crop = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
        assert np.isfinite(compute(Faces.of_crops([crop]), chosen)).all()


def test_a_temporal_set_is_done_again_when_the_code_of_the_other_is_new(monkeypatch):
    chosen = TemporalSettings(of=DctSettings())
    before = feature_version(chosen)
    monkeypatch.setattr("dfpipe.features.dct.VERSION", 2)
    assert feature_version(chosen) != before


def test_blocks_of_sets_of_one_name_are_told_apart():
    names = block_names(
        [
            TemporalSettings(of=LbpSettings(grid=2)),
            DctSettings(),
            TemporalSettings(of=LbpSettings(grid=3)),
            TemporalSettings(of=DctSettings()),
        ]
    )
    assert len(set(names)) == 4
    assert names[1] == "dct"
    assert names[0] == "temporal(of.name=lbp, of.radius_px=1, of.grid=2)"


def test_arrays_that_do_not_belong_together_are_refused():
    faces = some_faces(some_crops(3))
    with pytest.raises(ValueError, match=r"got boxes of shape \(2, 4\) with 3 crops, expected \(3, 4\)"):
        replace(faces, boxes=faces.boxes[:2])
