"""Pseudo-fakes of videos that stand in for a user's own."""

import csv
import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from dfpipe.catalog import read_catalog, to_videos
from dfpipe.errors import CatalogError, SettingsError
from dfpipe.settings import S3Settings
from dfpipe.storage import open_location
from dfpipe.synth import write_dataset, write_pseudo_fakes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Four readable videos of three people in a folder and a subfolder, one without a face, one that is no video."""
    made, own = tmp_path_factory.mktemp("made"), tmp_path_factory.mktemp("own")
    write_dataset(made, num_identities=4, num_frames=(12, 12), heights=(240,))
    reals = sorted((made / "original_sequences/youtube/c23/videos").iterdir())
    (own / "more").mkdir()
    for real, name in zip(reals, ("anna.mp4", "ben.mp4", "cleo.mp4", "more/anna.mp4"), strict=True):
        real.rename(own / name)
    (own / "broken.mp4").write_bytes(b"not a video")
    write_grey(own / "wall.mp4")
    (own / "identities.csv").write_text("video,identity\nanna.mp4,anna\nmore/anna.mp4,anna\nben.mp4,ben\n")
    return own


def write_grey(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=320, height=240, pix_fmt="yuv420p")
        frame = av.VideoFrame.from_ndarray(np.full((360, 320), 128, np.uint8), format="yuv420p")
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


def rows(out: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((out / "metadata.csv").read_text().splitlines()))


def decode(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]).astype(int)


def test_each_face_gets_a_twin_and_the_rest_is_told(own, tmp_path):
    steps = []
    report = write_pseudo_fakes(own, tmp_path, on_progress=lambda done, total: steps.append((done, total)))
    assert (report.num_real, report.num_fake, report.num_written, report.layout) == (4, 4, 8, "csv")
    reasons = {one.video: one.reason for one in report.skipped}
    assert reasons.keys() == {"broken.mp4", "wall.mp4"}
    assert reasons["wall.mp4"] == "no face found"
    assert reasons["broken.mp4"]
    assert steps[-1] == (12, 12)
    assert steps == sorted(steps)
    real, fake = decode(tmp_path / "videos/ben.mp4"), decode(tmp_path / "videos/ben_fake.mp4")
    assert real.shape == fake.shape
    change = np.abs(real - fake).mean(axis=(0, 3))
    assert change.max() > 10
    assert np.median(change) < 1


def test_the_catalog_reads_who_is_who(own, tmp_path):
    write_pseudo_fakes(own, tmp_path / "pseudo")
    videos = to_videos(read_catalog(open_location(tmp_path / "pseudo", S3Settings())))
    people = {video.url.rpartition("/")[2]: video.identities for video in videos}
    assert people["anna.mp4"] == people["more__anna_fake.mp4"] == ("pseudo:anna",)
    assert people["cleo_fake.mp4"] == ("pseudo:cleo.mp4",)
    assert sum(video.label == "fake" for video in videos) == 4


def test_faces_of_others_are_named_as_their_source(own, tmp_path):
    write_pseudo_fakes(own, tmp_path, donors="other")
    fakes = [row for row in rows(tmp_path) if row["label"] == "fake"]
    assert len(fakes) == 4
    assert all(row["target"] != row["source"] for row in fakes)


def test_same_seed_same_bytes_and_nothing_is_redone(own, tmp_path):
    digests = []
    for name, jobs in (("one", 1), ("two", 2)):
        write_pseudo_fakes(own, tmp_path / name, jobs=jobs)
        files = sorted((tmp_path / name).rglob("*.*"))
        digests.append([(path.name, hashlib.sha256(path.read_bytes()).hexdigest()) for path in files])
    assert digests[0] == digests[1]
    assert write_pseudo_fakes(own, tmp_path / "one").num_written == 0


def test_what_the_user_can_mend_is_one_clear_line(own, tmp_path):
    with pytest.raises(CatalogError, match="not a folder"):
        write_pseudo_fakes(tmp_path / "missing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CatalogError, match="no videos under"):
        write_pseudo_fakes(tmp_path / "empty", tmp_path / "out")
    (tmp_path / "walls").mkdir()
    (tmp_path / "walls/metadata.csv").write_text("video,label\nwall.mp4,fake\n")
    write_grey(tmp_path / "walls/wall.mp4")
    with pytest.raises(CatalogError, match="names fakes"):
        write_pseudo_fakes(tmp_path / "walls", tmp_path / "out")
    (tmp_path / "walls/metadata.csv").unlink()
    with pytest.raises(CatalogError, match="no face found"):
        write_pseudo_fakes(tmp_path / "walls", tmp_path / "out")
    with pytest.raises(SettingsError, match="outside"):
        write_pseudo_fakes(own, own / "out")


def test_real_clips_all_get_a_twin(tmp_path, clips):
    report = write_pseudo_fakes(clips / "asl", tmp_path, jobs=2)
    assert (report.num_real, report.num_fake, report.skipped) == (20, 20, ())
    assert len({row["target"] for row in rows(tmp_path)}) == 5
