"""Faces that an earlier extraction found are taken from its rows, and all rows come out as if they had been looked for.

The rows go by way of Parquet, as in a store. The property fails, within its examples, as soon as a score is taken as
the detector gave it and not as a table keeps it, a landmark is rounded, the rows of a frame keep the detector's order,
or faces of one box and score are not told apart by their landmarks.
"""

import io
import pickle
from dataclasses import fields, replace
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dfpipe import extract as module
from dfpipe.catalog import VideoRef
from dfpipe.detections import LENT_COLUMNS, LENT_LEDGER_COLUMNS, KnownFaces, as_stored, face_columns, known_faces
from dfpipe.extract import VideoRows, detection_fingerprint, extract_fingerprint, extract_video
from dfpipe.faces import Face
from dfpipe.settings import (
    CropSettings,
    EverySampling,
    ExtractSettings,
    FaceVideoSettings,
    FilterSettings,
    FrameSettings,
    LimitSettings,
    MtcnnSettings,
    PersonSettings,
    QualitySettings,
    RetinafaceR50Settings,
    S3Settings,
)
from dfpipe.shards import SCHEMAS
from dfpipe.video import VideoFile

FRAMES = 12
STEP = 15
"""Grey values between a frame and the next, so that a detector knows which one it sees."""

POINTS = np.array([[20, 30], [40, 30], [30, 40], [22, 50], [38, 50]], np.float32)
FACE = Face(np.array([10, 20, 50, 60], np.float32), 0.97, POINTS)
SAMPLING = EverySampling(every_frames=2, max_frames=5)

TIMINGS = {"cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds", "finished_at"}


class Scripted:
    """A detector that finds in a frame what it was told to find there, whenever it is asked."""

    weights_sha256 = "w"

    def __init__(self, script):
        self.script = script
        self.calls = 0

    def detect(self, images):
        self.calls += 1
        numbers = [round((float(image.mean()) - STEP) / STEP) for image in images]
        return [list(self.script[number % len(self.script)]) for number in numbers]


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 96, 80, "yuv420p"
        for index in range(FRAMES):
            # A pattern, so that no two crops and no two faces are alike.
            picture = np.full((80, 96, 3), STEP * (index + 1), np.int16)
            picture += np.random.default_rng(index).integers(-9, 10, (80, 96, 1), np.int16)
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture
def extract(clip, monkeypatch):
    """Extract the clip with a detector of one's own."""

    def run(detector, chosen, known=None):
        monkeypatch.setattr(module, "open_detector", lambda _: detector)
        video = VideoRef("d/clip", str(clip), clip.stat().st_size, "content")
        return extract_video(video, settings=chosen, limits=LimitSettings(), s3=S3Settings(), known=known)

    return run


def stored(table, rows, columns):
    """Return rows as they come back from a store: sorted, and through Parquet."""
    schema = pa.schema([field for field in SCHEMAS[table] if rows and field.name in rows[0]] or SCHEMAS[table])
    keys = [(name, "ascending") for name in ("video_id", "frame_index", "track") if name in schema.names]
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema).sort_by(keys), file)
    return pq.read_table(file, columns=list(columns))


def lend(rows):
    """Return what the rows of one extraction lend to the next, None for nothing."""
    detections = stored("detections", rows.detections, LENT_COLUMNS)
    ledger = stored("videos", [rows.video], LENT_LEDGER_COLUMNS)
    return known_faces(detections, ledger).get((rows.video["video_id"], rows.video["content_id"]))


def untimed(rows):
    """All tables, all columns but those that say when and how fast."""
    tables = {field.name: getattr(rows, field.name) for field in fields(VideoRows)}
    return tables | {"video": {name: value for name, value in rows.video.items() if name not in TIMINGS}}


def points(*, known):
    """Landmarks; among them such that belong to another face of the same box and score."""
    moved = st.tuples(st.floats(-3, 3), st.floats(-3, 3))
    return moved.map(lambda by: (POINTS + np.array(by)).astype(np.float32)) if known else st.just(POINTS * np.nan)


boxes = st.tuples(st.integers(-9, 80), st.integers(-9, 70), st.sampled_from([5, 30, 41.371234])).map(
    lambda box: np.array([box[0], box[1], box[0] + box[2], box[1] + box[2] * 1.1], np.float32)
) | st.sampled_from([FACE.box, FACE.box + 20])
# As dlib's: not of 32 bits, and below 0 too; and such that differ by less than a table can tell.
scores = st.floats(-1, 3) | st.sampled_from([0.9, 0.9 + 1e-12, np.float32(0.9).item()])
more_points = st.none() | st.integers(0, 9).map(lambda seed: np.random.default_rng(seed).normal(40, 9, (68, 2)))


def scripts(*, landmarks):
    faces = st.builds(Face, boxes, scores, points(known=landmarks), more_points.map(_float32))
    return st.lists(st.lists(faces, max_size=4), min_size=1, max_size=FRAMES)


def _float32(values):
    return None if values is None else values.astype(np.float32)


def some_settings(*, landmarks):
    shapes = ["box", "square", "aligned"] if landmarks else ["box", "square"]
    return st.builds(
        ExtractSettings,
        sampling=st.just(SAMPLING),
        crop=st.builds(
            CropSettings,
            shape=st.sampled_from(shapes),
            size_px=st.sampled_from([16, 33]),
            margin_fraction=st.sampled_from([0.0, 0.3, 1.7]),
        ),
        quality=st.builds(
            QualitySettings,
            min_size_px=st.none() | st.floats(5, 60),
            min_sharpness=st.none() | st.floats(0.1, 500),
            max_brightness=st.none() | st.floats(9, 255),
            max_yaw_degrees=st.none() | st.floats(0, 90),
            allow_border=st.booleans(),
        ),
        person=st.builds(
            PersonSettings,
            which=st.sampled_from(["most_confident", "largest", "all"]),
            min_overlap=st.sampled_from([0.0, 0.1, 0.7]),
        ),
        min_frames=st.sampled_from([1, 6]),
        frames=st.builds(FrameSettings, keep=st.booleans(), jpeg_quality=st.sampled_from([70, 95])),
        filter=st.sampled_from([FilterSettings()] * 3 + [FilterSettings(max_frames=FRAMES - 1)]),
        decode_check=st.booleans(),
        face_video=st.sampled_from([None, None, FaceVideoSettings(size_px=16, max_frames=7)]),
    )


def cases(*, landmarks):
    chosen = some_settings(landmarks=landmarks)
    return st.tuples(scripts(landmarks=landmarks), chosen, chosen)


TWINS = [FACE, replace(FACE, landmarks=POINTS + 2)]
"""One box and one score, but not one face."""
BESIDE = replace(FACE, box=FACE.box + np.float32(4), score=0.99)
SWAPPED = (
    # The first of the twins comes back in the same place, the second beside it and surer, so the table has it first.
    [TWINS, [], [FACE, BESIDE]] + [[]] * (FRAMES - 3),
    ExtractSettings(sampling=SAMPLING),
    # Here it would be the chosen person, if it were taken for the first of the detector's list.
    ExtractSettings(sampling=SAMPLING, person=PersonSettings(min_overlap=0.99)),
)


@example(SWAPPED)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.booleans().flatmap(lambda landmarks: cases(landmarks=landmarks)))
def test_known_faces_give_the_rows_that_looking_for_them_gives(extract, case):
    script, before, after = case
    known = lend(extract(Scripted(script), before))
    assert (known is None) == (before.filter != FilterSettings())
    detector = Scripted(script)
    lent = extract(detector, after, known)
    if known is not None and after.face_video is None:
        assert detector.calls == 0
    assert untimed(lent) == untimed(extract(Scripted(script), after))
    # What is lent may be lent on.
    if lent.video["frames_decoded"]:
        assert untimed(extract(Scripted(script), before, lend(lent))) == untimed(extract(Scripted(script), before))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), cases(landmarks=True))
def test_the_order_in_which_a_detector_names_the_faces_of_a_frame_changes_no_row(extract, data, case):
    script, chosen, _ = case
    mixed = [data.draw(st.permutations(faces)) for faces in script]
    assert untimed(extract(Scripted(script), chosen)) == untimed(extract(Scripted(mixed), chosen))


CHOSEN = ExtractSettings(sampling=SAMPLING, crop=CropSettings(size_px=32))


def without_frame(monkeypatch, index):
    """Have a frame not be decoded, as if it were damaged."""
    whole = VideoFile.frames
    monkeypatch.setattr(VideoFile, "frames", lambda *of: (frame for frame in whole(*of) if frame.index != index))


def test_a_frame_that_can_no_longer_be_decoded_has_all_faces_looked_for(extract, monkeypatch):
    script = [[FACE], []]
    known = lend(extract(Scripted(script), CHOSEN))
    without_frame(monkeypatch, 4)
    detector = Scripted(script)
    rows = extract(detector, CHOSEN, known)
    assert detector.calls == 1
    assert (rows.video["frames_decoded"], len(rows.frames)) == (4, 4)
    assert untimed(rows) == untimed(extract(Scripted(script), CHOSEN))


def test_frames_that_were_missing_leave_nothing_to_lend(extract, monkeypatch):
    script = [[FACE], []]
    with monkeypatch.context() as patch:
        without_frame(patch, 4)
        known = lend(extract(Scripted(script), CHOSEN))
    detector = Scripted(script)
    rows = extract(detector, CHOSEN, known)
    assert (detector.calls, rows.video["frames_decoded"]) == (1, 5)
    assert untimed(rows) == untimed(extract(Scripted(script), CHOSEN))


def test_faces_of_other_frames_are_not_believed(extract):
    other = ExtractSettings(sampling=EverySampling(every_frames=1, max_frames=5))
    known = lend(extract(Scripted([[FACE]]), other))
    detector = Scripted([[FACE]])
    assert untimed(extract(detector, CHOSEN, known)) == untimed(extract(Scripted([[FACE]]), CHOSEN))
    assert detector.calls == 1


def test_frames_without_faces_are_known_too(extract):
    known = lend(extract(Scripted([[]]), CHOSEN))
    rows = extract(Scripted([[FACE]]), CHOSEN, known)
    assert (rows.video["status"], rows.video["frames_without_face"]) == ("no_face", 5)


# What is lent


def detection(video="v", content="c", frame=0, face=FACE):
    return {"video_id": video, "content_id": content, "frame_index": frame, **face_columns(as_stored(face))}


def ledger(*rows):
    return pa.Table.from_pylist([dict(zip(LENT_LEDGER_COLUMNS, row, strict=True)) for row in rows])


def as_table(rows):
    return stored("detections", rows, LENT_COLUMNS)


def test_nothing_is_lent_of_an_empty_store():
    empty = pa.schema([SCHEMAS["videos"].field(name) for name in LENT_LEDGER_COLUMNS]).empty_table()
    assert known_faces(as_table([]), empty) == {}


def test_each_video_and_content_gets_its_own():
    rows = [detection(), detection(frame=9), detection(content="d"), detection("w", frame=3), detection("x")]
    known = known_faces(as_table(rows), ledger(("v", "c", 4, 2), ("v", "d", 2, 1), ("w", "c", 1, 1)))
    assert {key: faces.frames_decoded for key, faces in known.items()} == {
        ("v", "c"): 4,
        ("v", "d"): 2,
        ("w", "c"): 1,
    }
    assert known["v", "c"].detections["frame_index"].to_pylist() == [0, 9]


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (("v", "c", 0, 0), "nothing of it was decoded, or it was lost"),
        (("v", "c", 3, 2), "a row is missing"),
        (("v", "c", 3, 0), "a row is too many"),
    ],
)
def test_what_does_not_add_up_is_not_lent(row, why):
    assert known_faces(as_table([detection()]), ledger(row)) == {}, why


def test_what_is_sent_is_not_the_table_that_it_was_cut_from():
    many = as_table([detection(f"v{number:04}") for number in range(2000)])
    known = known_faces(many, ledger(("v0007", "c", 1, 1)))["v0007", "c"]
    assert len(pickle.dumps(known)) < 5000 < len(pickle.dumps(many.slice(7, 1)))
    assert pickle.loads(pickle.dumps(known)) == known


@pytest.mark.parametrize(
    "face",
    [
        FACE,
        replace(FACE, score=-0.123456789012),
        replace(FACE, landmarks=POINTS * np.nan),
        replace(FACE, landmarks=np.asfortranarray(POINTS / 3)),
        replace(FACE, landmarks_68=np.arange(136, dtype=np.float32).reshape(68, 2) / 7),
    ],
)
def test_a_face_comes_back_bit_for_bit(face):
    # Without the rounding in as_stored, the second would come back with another score.
    expected = as_stored(face)
    known = KnownFaces(1, as_table([detection(face=face)]))
    ((frame, (found,)),) = known.in_frames([0]).items()
    assert (frame, found.score) == (0, expected.score)
    for name in ("box", "landmarks", "landmarks_68"):
        here, there = getattr(found, name), getattr(expected, name)
        if there is None:
            assert here is None
            continue
        assert (here.dtype, here.shape, here.flags.c_contiguous) == (np.float32, there.shape, True)
        assert here.tobytes() == there.tobytes()
    np.testing.assert_array_equal(expected.landmarks, face.landmarks)


# Who may lend to whom

USUAL = ExtractSettings()


@pytest.mark.parametrize(
    "other",
    [
        ExtractSettings(crop=CropSettings(margin_fraction=0.3)),
        ExtractSettings(quality=QualitySettings(min_size_px=9)),
        ExtractSettings(person=PersonSettings(which="all", min_overlap=0.5)),
        ExtractSettings(min_frames=3),
        ExtractSettings(frames=FrameSettings(keep=False)),
        ExtractSettings(face_video=FaceVideoSettings()),
        ExtractSettings(filter=FilterSettings(min_frames=9)),
        ExtractSettings(decode_check=True),
    ],
)
def test_settings_that_find_the_same_faces(other):
    assert extract_fingerprint(other) != extract_fingerprint(USUAL)
    assert detection_fingerprint(other) == detection_fingerprint(USUAL)


def test_settings_that_find_other_faces(monkeypatch):
    others = [
        ExtractSettings(sampling=EverySampling(every_frames=29)),
        ExtractSettings(detector=MtcnnSettings(min_score=0.8)),
        ExtractSettings(detector=MtcnnSettings(follow=True)),
    ]
    told = {detection_fingerprint(chosen) for chosen in [USUAL, *others]}
    monkeypatch.setattr(module, "DETECTION_VERSION", 0)
    told.add(detection_fingerprint(USUAL))
    monkeypatch.setattr(module, "open_detector", lambda _: Scripted([]))
    told.add(detection_fingerprint(USUAL))
    assert len(told) == 6


def test_every_setting_is_known_to_count_or_not():
    # Whoever adds a setting decides here whether faces that were found without it may be lent.
    free = {"crop", "quality", "person", "min_frames", "frames", "face_video", "filter", "decode_check"}
    assert set(ExtractSettings.model_fields) == {"sampling", "detector"} | free


def test_where_weights_lie_does_not_count(monkeypatch):
    monkeypatch.setattr(module, "open_detector", lambda _: Scripted([]))
    here, there = (
        detection_fingerprint(ExtractSettings(detector=RetinafaceR50Settings(weights=path))) for path in ("/a", "/b")
    )
    assert here == there
