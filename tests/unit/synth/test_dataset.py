import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from dfpipe.catalog import read_catalog, to_videos
from dfpipe.errors import SettingsError
from dfpipe.settings import S3Settings
from dfpipe.storage import open_location
from dfpipe.synth import SynthPlan, write_dataset
from dfpipe.synth.person import SKIN_TONES, draw_person

SMALL = {"num_frames": (5, 8), "heights": (128, 96)}


def hashes(root: Path) -> dict[str, str]:
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize("layout", ["ffpp", "celebdf", "dfdc"])
def test_the_adapters_read_it_like_the_real_thing(tmp_path, layout):
    report = write_dataset(tmp_path / "set", num_identities=5, layout=layout, **SMALL)
    videos = to_videos(read_catalog(open_location(tmp_path / "set", S3Settings())))
    assert {video.dataset for video in videos} == {layout}
    assert sum(video.label == "real" for video in videos) == report.num_real == 5
    assert sum(video.label == "fake" for video in videos) == report.num_fake == (4 if layout == "celebdf" else 5)
    assert report.num_written == len(videos)


def test_same_seed_same_bytes_with_any_number_of_processes(tmp_path):
    for name, jobs in (("one", 1), ("two", 2)):
        write_dataset(tmp_path / name, num_identities=4, seed=3, jobs=jobs, **SMALL)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    write_dataset(tmp_path / "other", num_identities=4, seed=4, **SMALL)
    other = hashes(tmp_path / "other")
    assert not {value for name, value in hashes(tmp_path / "one").items() if name.endswith(".mp4")} & set(
        other.values()
    )


def test_an_interrupted_run_is_finished_and_not_redone(tmp_path):
    write_dataset(tmp_path, num_identities=2, **SMALL)
    before = hashes(tmp_path)
    lost = tmp_path / "original_sequences/youtube/c23/videos/001.mp4"
    lost.unlink()
    assert write_dataset(tmp_path, num_identities=2, **SMALL).num_written == 1
    assert hashes(tmp_path) == before
    assert write_dataset(tmp_path, num_identities=2, **SMALL).num_written == 0


def test_twins_differ_in_the_face_and_share_length_and_size(tmp_path):
    write_dataset(tmp_path, num_identities=2, **SMALL)
    real = decode(tmp_path / "original_sequences/youtube/c23/videos/000.mp4").astype(int)
    fake = decode(tmp_path / "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4")
    assert real.shape == fake.shape
    height, width = real.shape[1:3]
    change = np.abs(real - fake).mean(axis=(0, 3))
    face = change[int(height * 0.35) : int(height * 0.6), int(width * 0.42) : int(width * 0.58)]
    assert face.mean() > 3
    assert change[:, : width // 8].mean() < 0.3


def test_higher_numbers_are_other_people_under_other_names(tmp_path):
    write_dataset(tmp_path, num_identities=2, first_identity=30, **SMALL)
    names = {path.name for path in tmp_path.rglob("*.mp4")}
    assert names == {"030.mp4", "031.mp4", "030_031.mp4", "031_030.mp4"}
    assert not np.array_equal(draw_person(0, 30).skin, draw_person(0, 2).skin)


def test_encodings_are_of_many_kinds(tmp_path):
    write_dataset(tmp_path, num_identities=16, num_frames=(6, 6), heights=(64, 96))
    rates, reordered = set(), set()
    for path in tmp_path.rglob("original_sequences/**/*.mp4"):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rates.add(stream.average_rate)
            packets = [packet for packet in container.demux(stream) if packet.size]
            reordered.add(any(packet.pts != packet.dts for packet in packets))
            assert "creation_time" not in {**container.metadata, **stream.metadata}
    assert len(rates) == 4
    assert reordered == {True, False}


def test_skin_tones_take_turns():
    assert [draw_person(9, i).skin_tone for i in range(8)] == [*SKIN_TONES, *SKIN_TONES]


@pytest.mark.parametrize(
    "wrong",
    [
        {"num_identities": 0},
        {"strength": 2.0},
        {"seed": -1},
        {"first_identity": -1},
        {"num_frames": (5, 4)},
        {"heights": ()},
        {"heights": (361,)},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_options_have_bounds(wrong):
    with pytest.raises(SettingsError, match="expected"):
        SynthPlan(**{"num_identities": 2, **wrong})
