"""One video in, its rows out: what is in them, and that a bad video is a row."""

import io
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from typing import get_args

import av
import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfpipe.catalog import VideoRef
from dfpipe.errors import StoreError, VideoError
from dfpipe.extract import decode_crop, extract_fingerprint, extract_video, lost_video
from dfpipe.faces import Face, Rejection
from dfpipe.isolation.wire import ADDED_LATER
from dfpipe.settings import (
    CropSettings,
    EverySampling,
    ExtractSettings,
    FaceVideoSettings,
    FilterSettings,
    FrameSettings,
    IndexSampling,
    LimitSettings,
    PersonSettings,
    QualitySettings,
    RetinafaceR50Settings,
    S3Settings,
)
from dfpipe.shards import REJECTIONS, SCHEMAS, open_tables
from dfpipe.testing import BY

GREY = 90
POINTS = np.array([[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]], np.float32)
FACE = Face(np.array([10, 20, 50, 60], np.float32), 0.97, POINTS)
ELSEWHERE = Face(np.array([60, 20, 90, 60], np.float32), 0.95, POINTS + np.array([45, 0], np.float32))


class Scripted:
    """A detector that finds what it was told, picture after picture."""

    name = "scripted"
    weights_sha256 = "w"

    def __init__(self, *script):
        self.script = script
        self.seen = 0

    def detect(self, images):
        first, self.seen = self.seen, self.seen + len(images)
        return [list(self.script[(first + number) % len(self.script)]) for number in range(len(images))]


@pytest.fixture
def use(monkeypatch):
    """Put a scripted detector in the place of the one that the settings name."""

    def put(*script):
        detector = Scripted(*script)
        monkeypatch.setattr("dfpipe.extract.open_detector", lambda settings: detector)

    return put


@pytest.fixture
def detector(use):
    """Finds a face in the first, third, ... picture."""
    use([FACE], [])


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


def assert_balanced(rows):
    """Every frame and every face is accounted for, once, and the tables hold what the ledger says."""
    ledger = rows.video
    assert ledger["frames_wanted"] == ledger["frames_decoded"] + ledger["frames_missing"]
    assert ledger["frames_decoded"] == ledger["frames_with_face"] + ledger["frames_without_face"]
    rejected = {name: ledger[f"faces_rejected_{name}"] for name in REJECTIONS}
    assert ledger["faces_found"] == ledger["faces_kept"] + sum(rejected.values())
    assert len(rows.detections) == ledger["faces_found"]
    assert len({row["frame_index"] for row in rows.detections}) == ledger["frames_with_face"]
    assert len(rows.faces) == ledger["faces_kept"] == sum(row["rejected"] is None for row in rows.detections)
    assert Counter(row["rejected"] for row in rows.detections if row["rejected"]) == Counter(rejected)
    assert (ledger["status"] == "ok") == bool(rows.faces)


def extract(path, size_bytes=None, limits=LimitSettings(), **chosen):
    size_bytes = path.stat().st_size if size_bytes is None else size_bytes
    values = {"sampling": EverySampling(every_frames=10, max_frames=3), "crop": CropSettings(size_px=32)} | chosen
    video = VideoRef("d/clip", str(path), size_bytes, "content")
    return extract_video(video, settings=ExtractSettings(**values), limits=limits, s3=S3Settings())


def test_rows_of_a_good_video(clip, detector):
    rows = extract(clip)
    assert (rows.video["status"], rows.video["reason"]) == ("ok", "")
    counts = ("num_frames", "frames_asked", "frames_wanted", "frames_decoded", "frames_with_face", "faces_kept")
    assert [rows.video[name] for name in counts] == [40, 3, 3, 3, 2, 2]
    assert_balanced(rows)
    assert (rows.video["width"], rows.video["height"], rows.video["frame_rate"]) == (96, 80, 25)
    assert [frame["frame_index"] for frame in rows.frames] == [0, 10, 20]
    assert [face["frame_index"] for face in rows.faces] == [0, 20]
    first = rows.faces[0]
    assert (first["x1"], first["y1"], first["x2"], first["y2"]) == (10, 20, 50, 60)
    assert (first["left_eye_x"], first["mouth_right_y"]) == (20, 50)
    crop = decode_crop(first["crop_png"])
    assert (crop.shape, crop.dtype) == ((32, 32, 3), np.uint8)
    assert abs(int(np.median(crop)) - GREY) <= 2


def test_rows_fit_their_tables(clip, detector, tmp_path):
    rows = extract(clip)
    tables = open_tables(str(tmp_path / "store"), S3Settings())
    ledger = [rows.video | {"attempt": 1, "limits": "l", "stored_bytes": rows.stored_bytes, "run_id": "r"}]
    content = {"frames": rows.frames, "detections": rows.detections, "faces": rows.faces, "videos": ledger}
    keys = [(rows.video["video_id"], rows.video["content_id"], 1)]
    tables.commit(tables.settle(content, keys, fingerprint="f", shard="s", by=BY), by=BY)
    assert [tables.read(table).num_rows for table in content] == [3, 2, 2, 1]
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


def test_no_face_is_a_status_with_a_reason(clip, use):
    use([])
    rows = extract(clip)
    assert (rows.video["status"], rows.faces, len(rows.frames)) == ("no_face", [], 3)
    assert rows.video["reason"] == "no face was found in 3 frames"


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
    assert_balanced(rows)


def test_a_file_over_the_limit_is_not_opened(tmp_path, detector):
    rows = extract(tmp_path / "absent.mp4", size_bytes=11, limits=LimitSettings(max_bytes=10))
    assert (rows.video["status"], rows.video["reason"]) == ("too_large", "got 11 bytes, expected at most 10")


def test_a_file_that_cannot_be_reached_says_nothing_about_the_video(tmp_path, detector):
    with pytest.raises(StoreError, match="no such file"):
        extract(tmp_path / "absent.mp4", size_bytes=1)


def test_a_lost_video_has_a_whole_ledger_row():
    rows = lost_video(VideoRef("v", "/v.mp4", 1, "c"), fault="crashed", reason="why")
    assert rows.video["status"] == "crashed"
    required = {field.name for field in SCHEMAS["videos"] if not field.nullable}
    assert required - set(rows.video) == set(ADDED_LATER)


def test_the_fingerprint_follows_settings_and_weights(detector, monkeypatch):
    before = extract_fingerprint(ExtractSettings())
    assert extract_fingerprint(ExtractSettings(crop=CropSettings(size_px=100))) != before
    monkeypatch.setattr(Scripted, "weights_sha256", "other")
    assert extract_fingerprint(ExtractSettings()) != before


# People


def test_only_the_chosen_person_is_kept_and_the_other_is_accounted_for(clip, use):
    use([FACE, ELSEWHERE], [ELSEWHERE], [FACE])
    rows = extract(clip)
    assert [(row["frame_index"], row["track"]) for row in rows.faces] == [(0, 0), (20, 0)]
    assert {row["x1"] for row in rows.faces} == {10}
    assert (rows.video["faces_found"], rows.video["faces_rejected_other_person"]) == (4, 2)
    assert_balanced(rows)


def test_everybody_can_be_kept_each_with_a_number(clip, use):
    use([FACE, ELSEWHERE], [ELSEWHERE], [FACE])
    rows = extract(clip, person=PersonSettings(which="all"))
    assert [(row["frame_index"], row["track"]) for row in rows.faces] == [(0, 0), (0, 1), (10, 1), (20, 0)]
    assert_balanced(rows)


def test_the_largest_person_can_be_wanted(clip, use):
    use([replace(FACE, score=0.91), ELSEWHERE])
    assert {row["x1"] for row in extract(clip).faces} == {60}
    assert {row["x1"] for row in extract(clip, person=PersonSettings(which="largest")).faces} == {10}


def test_faces_below_the_bounds_are_counted_by_reason(clip, detector):
    rows = extract(clip, quality=QualitySettings(min_size_px=41))
    assert (rows.video["status"], rows.faces) == ("no_face", [])
    assert rows.video["reason"] == "none of 2 faces was kept: 2 small"
    assert rows.video["faces_rejected_small"] == 2
    assert_balanced(rows)


def test_a_face_outside_the_picture_is_accounted_for(clip, use):
    use([replace(FACE, box=FACE.box + 500)])
    rows = extract(clip)
    assert (rows.video["status"], rows.video["faces_rejected_uncut"]) == ("no_face", 3)
    assert_balanced(rows)


def test_points_that_a_detector_does_not_know_are_null(clip, use, tmp_path):
    use([replace(FACE, landmarks=np.full((5, 2), np.nan, np.float32))])
    row = extract(clip).faces[0]
    assert (row["nose_x"], row["mouth_left_y"], row["yaw_degrees"]) == (None, None, None)


def test_sixty_eight_points_are_kept(clip, use):
    use([replace(FACE, landmarks_68=np.arange(136, dtype=np.float32).reshape(68, 2))])
    assert extract(clip).faces[0]["landmarks_68"] == list(range(136))


boxes = st.tuples(*[st.integers(0, 60)] * 2, *[st.integers(5, 60)] * 2).map(
    lambda box: np.array([box[0], box[1], box[0] + box[2], box[1] + box[3]], np.float32)
)
some_faces = st.lists(st.builds(Face, boxes, st.floats(0.9, 1), st.just(POINTS)), max_size=3)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    script=st.lists(some_faces, min_size=1, max_size=4),
    which=st.sampled_from(["most_confident", "largest", "all"]),
    quality=st.builds(
        QualitySettings,
        min_size_px=st.none() | st.floats(5, 60),
        min_sharpness=st.none() | st.floats(0.1, 5),
        allow_border=st.booleans(),
    ),
)
def test_every_frame_and_face_is_accounted_for(clip, use, script, which, quality):
    use(*script)
    rows = extract(clip, person=PersonSettings(which=which), quality=quality)
    assert_balanced(rows)
    if which != "all":
        assert {row["track"] for row in rows.faces} <= {0}
        assert len({row["frame_index"] for row in rows.faces}) == len(rows.faces)


@pytest.mark.parametrize(("name", "value"), [("BATCH_FRAMES", 1), ("BATCH_BYTES", 1), ("RAW_CROP_BYTES", 1)])
def test_bounds_on_memory_change_no_row(clip, use, monkeypatch, name, value):
    use([FACE, ELSEWHERE], [ELSEWHERE], [FACE])
    before = extract(clip)
    monkeypatch.setattr(f"dfpipe.extract.{name}", value)
    use([FACE, ELSEWHERE], [ELSEWHERE], [FACE])
    after = extract(clip)
    assert (after.frames, after.detections, after.faces) == (before.frames, before.detections, before.faces)


# Which videos and frames


def test_fewer_frames_than_the_user_insists_on(clip, detector):
    rows = extract(clip, min_frames=4)
    assert (rows.video["status"], rows.faces) == ("few_frames", [])
    assert rows.video["reason"] == "got 3 frames, expected at least 4"
    assert (rows.video["frames_decoded"], rows.video["faces_rejected_few_frames"]) == (3, 2)
    assert_balanced(rows)


def test_frames_beyond_the_end_are_missing_not_padded(clip, detector):
    rows = extract(clip, sampling=IndexSampling(indices=[0, 39, 40, 99]))
    counts = [rows.video[f"frames_{name}"] for name in ("asked", "wanted", "decoded", "missing")]
    assert counts == [4, 4, 2, 2]
    assert_balanced(rows)


@pytest.mark.parametrize(
    ("bounds", "reason"),
    [
        ({"max_frames": 39}, "frames is 40, more than extract.filter.max_frames = 39"),
        ({"min_width_px": 97}, "width_px is 96, less than extract.filter.min_width_px = 97"),
        ({"min_frame_rate": 30}, "frame_rate is 25, less than extract.filter.min_frame_rate = 30"),
        ({"max_duration_seconds": 1}, "duration_seconds is 1.6, more than extract.filter.max_duration_seconds = 1"),
    ],
)
def test_videos_outside_the_bounds_are_not_decoded(clip, detector, bounds, reason):
    rows = extract(clip, filter=FilterSettings(**bounds))
    assert (rows.video["status"], rows.video["reason"]) == ("filtered", reason)
    assert (rows.video["num_frames"], rows.frames) == (40, [])
    assert_balanced(rows)


def test_a_damaged_frame_is_found_only_by_the_full_check(clip, detector):
    with av.open(str(clip)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][30]
    data = bytearray(clip.read_bytes())
    # Behind the length of the packet's first unit.
    for place in range(packet.pos + 5, packet.pos + packet.size):
        data[place] ^= 0xFF
    clip.write_bytes(data)
    first_only = EverySampling(every_frames=40, max_frames=1)
    assert extract(clip, sampling=first_only).video["status"] == "ok"
    rows = extract(clip, sampling=first_only, decode_check=True)
    assert rows.video["status"] == "corrupt"
    assert rows.video["reason"].endswith("of 40 frames are damaged")


def test_a_clip_of_the_face_alone(clip, use):
    use([FACE])
    rows = extract(clip, face_video=FaceVideoSettings(size_px=64, max_frames=20))
    (row,) = rows.face_videos
    assert (row["num_frames"], row["frames_with_face"], row["size_px"], row["frame_rate"]) == (20, 20, 64, 25)
    with av.open(io.BytesIO(row["mp4"])) as container:
        shapes = {frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)}
    assert shapes == {(64, 64, 3)}


def test_a_clip_that_cannot_be_made_costs_no_face(clip, use, monkeypatch):
    def broken(*_, **__):
        raise VideoError("corrupt", "none of the frames asked for could be decoded")

    use([FACE])
    monkeypatch.setattr("dfpipe.extract.make_face_clip", broken)
    rows = extract(clip, face_video=FaceVideoSettings())
    assert (rows.video["status"], len(rows.faces), rows.face_videos) == ("ok", 3, [])


def test_what_is_not_known_is_null_and_meets_no_bound(tmp_path, use):
    use([FACE])
    path = tmp_path / "one.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(96, 80, "yuv420p")))
        container.mux(stream.encode())
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr("dfpipe.video.file.VideoFile._pace", lambda self, is_variable: (0.0, 0.0))
        assert extract(path).video["frame_rate"] is None
        rows = extract(path, filter=FilterSettings(max_frame_rate=30))
    assert rows.video["status"] == "filtered"
    assert rows.video["reason"] == "frame_rate is not known, and extract.filter sets a bound on it"


def test_where_weights_lie_is_no_part_of_what_they_make(detector):
    here, there = (
        extract_fingerprint(ExtractSettings(detector=RetinafaceR50Settings(weights=path))) for path in ("/a", "/b")
    )
    assert here == there


def test_reasons_have_columns():
    assert set(get_args(Rejection)) | {"other_person", "few_frames", "uncut"} == set(REJECTIONS)
