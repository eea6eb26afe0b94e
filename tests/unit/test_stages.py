"""A fingerprint tells that something differs; the record beside it tells what."""

import dataclasses

import pytest

from dfpipe import extract
from dfpipe.extract import extract_fingerprint
from dfpipe.fingerprint import fingerprint
from dfpipe.settings import (
    CropSettings,
    ExtractSettings,
    IndexSampling,
    MtcnnSettings,
    PixelsSettings,
    ResidualSettings,
    S3Settings,
    UniformSampling,
)
from dfpipe.shards import open_tables
from dfpipe.stages import explain, faces_stage, features_stage, first_reason, read_stage, write_stage


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path), S3Settings())


EXTRACTIONS = [
    ExtractSettings(),
    ExtractSettings(crop=CropSettings(margin_fraction=0.3), min_frames=3),
    ExtractSettings(sampling=IndexSampling(indices=[0, 5]), detector=MtcnnSettings(min_score=1)),
]


@pytest.mark.parametrize("settings", EXTRACTIONS)
def test_a_record_has_all_that_was_hashed_and_nothing_else(tables, settings):
    record = faces_stage(settings)
    assert record.fingerprint == extract_fingerprint(settings)
    write_stage(tables, record)
    assert read_stage(tables, record.fingerprint) == record
    assert read_stage(tables, record.fingerprint).fingerprint == extract_fingerprint(settings)


def test_a_record_of_features_too(tables):
    settings = ResidualSettings(grid=8, sigma_px=2)
    record = features_stage(settings, "f" * 16)
    assert record.fingerprint == fingerprint("features", record.version, settings, "f" * 16)
    write_stage(tables, record)
    assert read_stage(tables, record.fingerprint) == record


@pytest.mark.parametrize(
    ("settings", "plain"),
    [
        (PixelsSettings(size_px=32), {"name": "pixels", "size_px": 32}),
        (PixelsSettings(channels="luma"), {"name": "pixels", "size_px": 64, "channels": "luma"}),
        (ResidualSettings(), {"name": "residual", "sigma_px": 1.0, "grid": 12}),
    ],
)
def test_rows_written_before_there_was_a_choice_of_channels_still_count(settings, plain):
    record = features_stage(settings, "f")
    assert record.fingerprint == fingerprint("features", 2, plain, "f")


def test_another_choice_of_channels_is_told():
    before, now = (features_stage(PixelsSettings(channels=one), "f") for one in ("rgb", "luma"))
    assert explain(before, now) == ["train.features.pixels.channels null -> luma"]


def test_what_nobody_recorded_is_not_known(tables):
    assert read_stage(tables, "0" * 16) is None
    assert first_reason(None, faces_stage(ExtractSettings())) == "settings or code changed"


def test_it_is_written_once(tables, tmp_path):
    record = faces_stage(ExtractSettings())
    write_stage(tables, record)
    file = tmp_path / "stages" / f"{record.fingerprint}.json"
    before = file.stat().st_mtime_ns, file.stat().st_ino
    write_stage(tables, record)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


def changed(**settings):
    return explain(faces_stage(ExtractSettings()), faces_stage(ExtractSettings(**settings)))


def test_nothing_differs_from_itself():
    assert changed() == []


def test_every_setting_that_differs_is_named():
    assert changed(crop=CropSettings(margin_fraction=0.3, size_px=64), min_frames=2) == [
        "extract.crop.margin_fraction 0.0 -> 0.3",
        "extract.crop.size_px 320 -> 64",
        "extract.min_frames 1 -> 2",
    ]


def test_of_another_strategy_only_the_name_is_told():
    assert changed(sampling=UniformSampling()) == ["extract.sampling.name every -> uniform"]


def test_a_section_that_comes_is_told_as_it_is():
    (reason,) = changed(face_video={"size_px": 64})
    assert reason == 'extract.face_video null -> {"max_frames": 380, "size_px": 64}'


def test_long_values_are_cut():
    before = faces_stage(ExtractSettings(sampling=IndexSampling(indices=list(range(100)))))
    now = faces_stage(ExtractSettings(sampling=IndexSampling(indices=list(range(99)))))
    (reason,) = explain(before, now)
    assert len(reason) < 120
    assert "…" in reason


def test_settings_come_before_code_and_code_before_weights(monkeypatch):
    before = faces_stage(ExtractSettings())
    other = dataclasses.replace(before, weights_sha256="0" * 64)
    assert explain(before, other) == ["weights of mtcnn changed"]
    assert first_reason(before, other) == "weights changed"
    monkeypatch.setattr(extract, "VERSION", before.version + 1)
    newer = dataclasses.replace(faces_stage(ExtractSettings()), weights_sha256="0" * 64)
    assert explain(before, newer) == [
        f"code version {before.version} -> {before.version + 1}",
        "weights of mtcnn changed",
    ]
    assert first_reason(before, newer) == "code version changed"
    both = faces_stage(ExtractSettings(min_frames=2))
    assert first_reason(before, both) == "settings changed: extract.min_frames 1 -> 2"


def test_features_of_other_faces():
    before = features_stage(ResidualSettings(grid=8), "a" * 16)
    assert explain(before, features_stage(ResidualSettings(grid=4), "b" * 16)) == [
        "train.features.residual.grid 8 -> 4",
        "computed from other faces",
    ]
