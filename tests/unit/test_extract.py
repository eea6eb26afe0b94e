"""One video in, its rows out: what is in them, and that a bad video is a row."""

from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from dfpipe.catalog import VideoRef
from dfpipe.errors import StoreError
from dfpipe.extract import decode_crop, extract_fingerprint, extract_video, lost_video
from dfpipe.faces import Face
from dfpipe.settings import CropSettings, EverySampling, ExtractSettings, FrameSettings, LimitSettings, S3Settings
from dfpipe.shards import SCHEMAS, open_tables

GREY = 90
FACE = Face(np.array([10, 20, 50, 60], np.float32), 0.97, np.array([[20, 30]] * 5, np.float32))


class EveryOtherFrame:
    """A detector that finds a face in the first, third, ... picture."""

    weights_sha256 = "w"

    def detect(self, images):
        return [[FACE] if number % 2 == 0 else [] for number, _ in enumerate(images)]


@pytest.fixture
def detector(monkeypatch):
    monkeypatch.setattr("dfpipe.extract.open_detector", lambda settings: EveryOtherFrame())


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for _ in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((80, 96, 3), GREY, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def extract(path, size_bytes=None, limits=LimitSettings(), **settings):
    size_bytes = path.stat().st_size if size_bytes is None else size_bytes
    values = {"sampling": EverySampling(every_frames=10, max_frames=3), "crop": CropSettings(size_px=32)} | settings
    video = VideoRef("d/clip", str(path), size_bytes, "content")
    return extract_video(video, settings=ExtractSettings(**values), limits=limits, s3=S3Settings())


def test_rows_of_a_good_video(clip, detector):
    rows = extract(clip)
    assert (rows.video["status"], rows.video["reason"]) == ("ok", "")
    counts = [rows.video[name] for name in ("num_frames", "frames_wanted", "frames_decoded", "frames_with_face")]
    assert counts == [40, 3, 3, 2]
    assert (rows.video["width"], rows.video["height"], rows.video["frame_rate"]) == (96, 80, 25)
    assert [frame["frame_index"] for frame in rows.frames] == [0, 10, 20]
    assert [face["frame_index"] for face in rows.faces] == [0, 20]
    first = rows.faces[0]
    assert (first["x1"], first["y1"], first["x2"], first["y2"]) == (10, 20, 50, 60)
    assert (first["left_eye_x"], first["mouth_right_y"]) == (20, 30)
    crop = decode_crop(first["crop_png"])
    assert (crop.shape, crop.dtype) == ((32, 32, 3), np.uint8)
    assert abs(int(np.median(crop)) - GREY) <= 2


def test_rows_fit_their_tables(clip, detector, tmp_path):
    rows = extract(clip)
    tables = open_tables(str(tmp_path / "store"), S3Settings())
    files = [
        tables.write_shard("frames", rows.frames, fingerprint="f", shard="s"),
        tables.write_shard("faces", rows.faces, fingerprint="f", shard="s"),
        tables.write_shard("videos", [rows.video | {"shard": "s", "run_id": "r"}], fingerprint="f", shard="s"),
    ]
    tables.commit(files, run_id="r")
    assert [tables.read(table).num_rows for table in ("frames", "faces", "videos")] == [3, 2, 1]
    stored = tables.read("videos").to_pylist()[0]
    assert {name for name, value in stored.items() if value is None} == set()


def test_crops_are_stored_without_loss_and_in_rgb(detector, clip, monkeypatch):
    noise = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    monkeypatch.setattr("dfpipe.extract.crop_face", lambda *_, **__: noise)
    np.testing.assert_array_equal(decode_crop(extract(clip).faces[0]["crop_png"]), noise)


def test_frames_can_be_left_out(clip, detector):
    rows = extract(clip, frames=FrameSettings(keep=False))
    assert (rows.frames, len(rows.faces)) == ([], 2)


def test_kept_frames_are_rgb_jpegs(clip, detector):
    picture = cv2.imdecode(np.frombuffer(extract(clip).frames[0]["jpeg"], np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (80, 96, 3)


def test_no_face_is_a_status_with_a_reason(clip, monkeypatch):
    monkeypatch.setattr(
        "dfpipe.extract.open_detector", lambda settings: type("D", (), {"detect": staticmethod(nobody)})
    )
    rows = extract(clip)
    assert (rows.video["status"], rows.faces, len(rows.frames)) == ("no_face", [], 3)
    assert rows.video["reason"] == "no face scored above 0.9 in 3 frames"


def nobody(images):
    return [[] for _ in images]


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"", "empty"), (b"not a video" * 99, "unsupported"), (b"\0\0\0\x18ftypisom" + bytes(99), "corrupt")],
)
def test_a_bad_video_is_a_row(tmp_path, detector, content, status):
    path = tmp_path / "bad.mp4"
    path.write_bytes(content)
    rows = extract(path)
    assert rows.video["status"] == status
    assert rows.video["reason"]
    assert (rows.faces, rows.frames, rows.video["frames_wanted"]) == ([], [], 0)


def test_a_file_over_the_limit_is_not_opened(tmp_path, detector):
    rows = extract(tmp_path / "absent.mp4", size_bytes=11, limits=LimitSettings(max_bytes=10))
    assert (rows.video["status"], rows.video["reason"]) == ("too_large", "11 bytes, more than limits.max_bytes = 10")


def test_a_file_that_cannot_be_reached_says_nothing_about_the_video(tmp_path, detector):
    with pytest.raises(StoreError, match="no such file"):
        extract(tmp_path / "absent.mp4", size_bytes=1)


def test_a_lost_video_has_a_whole_ledger_row():
    rows = lost_video(VideoRef("v", "/v.mp4", 1, "c"), fault="crashed", reason="why")
    assert rows.video["status"] == "crashed"
    required = {field.name for field in SCHEMAS["videos"] if not field.nullable}
    assert required - set(rows.video) == {"shard", "run_id", "fingerprint"}


def test_the_fingerprint_follows_settings_and_weights(detector, monkeypatch):
    before = extract_fingerprint(ExtractSettings())
    assert extract_fingerprint(ExtractSettings(crop=CropSettings(size_px=100))) != before
    monkeypatch.setattr(EveryOtherFrame, "weights_sha256", "other")
    assert extract_fingerprint(ExtractSettings()) != before
