"""Known faces against looking for them, by real detectors on moving pictures, in this process and in a child.

The unit tests draw more cases with a scripted detector; here it is the detectors' own numbers that must come back.
Fails for dlib when scores are lent with more digits than a table keeps, or fewer, and for all when landmarks are
rounded.
"""

import io
import random
from dataclasses import fields
from fractions import Fraction

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from dfpipe import weights
from dfpipe.catalog import VideoRef
from dfpipe.detections import LENT_COLUMNS, LENT_LEDGER_COLUMNS, KnownFaces, known_faces
from dfpipe.extract import VideoRows, extract_video
from dfpipe.faces import open_detector
from dfpipe.isolation import extract_isolated
from dfpipe.settings import (
    CropSettings,
    DetectorSettings,
    EverySampling,
    ExtractSettings,
    FaceVideoSettings,
    FrameSettings,
    LimitSettings,
    PersonSettings,
    QualitySettings,
    S3Settings,
)
from dfpipe.shards import SCHEMAS
from dfpipe.synth.person import draw_person
from dfpipe.synth.scene import Scene
from dfpipe.testing import require_service

pytestmark = pytest.mark.slow

DETECTORS = ["mtcnn", "mtcnn follow", "retinaface", "dlib", "cascade"]
CHANGES = 4
"""Other settings tried on each video."""

SAMPLING = EverySampling(every_frames=3, max_frames=6)

TIMINGS = {"cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds", "finished_at"}


@pytest.fixture(scope="module", params=DETECTORS)
def detector(request):
    name, *follow = request.param.split()
    if name in weights.FILES and weights.state_of(weights.FILES[name]) != "ready":
        require_service(f"the {name} weights are not fetched (make models)")
    return TypeAdapter(DetectorSettings).validate_python({"name": name} | dict.fromkeys(follow, True))


@pytest.fixture(scope="module")
def two_people(tmp_path_factory):
    """Two drawn people side by side, three quarters of a second."""
    path = tmp_path_factory.mktemp("people") / "two.mp4"
    scenes = [Scene(draw_person(0, identity), seed=0, width=480, height=360) for identity in (1, 4)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 960, 360, "yuv420p"
        for moments in zip(*(scene.play(18, rate=25) for scene in scenes), strict=True):
            picture = np.hstack([moment.rgb for moment in moments])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


def some_settings(rng, detector):
    shapes = ["box", "square"] if detector.name == "cascade" else ["box", "square", "aligned"]
    return ExtractSettings(
        sampling=SAMPLING,
        detector=detector,
        crop=CropSettings(
            shape=rng.choice(shapes), size_px=rng.choice([48, 160]), margin_fraction=rng.choice([0.0, 0.3])
        ),
        person=PersonSettings(
            which=rng.choice(["most_confident", "largest", "all"]), min_overlap=rng.choice([0.05, 0.6])
        ),
        quality=QualitySettings(
            min_sharpness=rng.choice([None, 30.0, 300.0]), max_yaw_degrees=rng.choice([None, 10.0]), allow_border=False
        ),
        min_frames=rng.choice([1, 1, 7]),
        frames=FrameSettings(keep=rng.choice([True, False])),
        face_video=rng.choice([None, None, FaceVideoSettings(size_px=32, max_frames=8)]),
    )


def run(function, path, chosen, known=None):
    video = VideoRef("d/v", str(path), path.stat().st_size, "content")
    return function(video, settings=chosen, limits=LimitSettings(), s3=S3Settings(), known=known)


def lend(rows):
    detections = through_parquet("detections", rows.detections, LENT_COLUMNS)
    return known_faces(detections, through_parquet("videos", [rows.video], LENT_LEDGER_COLUMNS))["d/v", "content"]


def through_parquet(table, rows, columns):
    schema = pa.schema([SCHEMAS[table].field(name) for name in columns])
    file = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), file)
    return pq.read_table(file)


def untimed(rows):
    tables = {field.name: getattr(rows, field.name) for field in fields(VideoRows)}
    return tables | {"video": {name: value for name, value in rows.video.items() if name not in TIMINGS}}


def never(*_):
    raise AssertionError("faces are looked for that are known")


def assert_same_when_lent(path, detector, *, seed, function=extract_video):
    rng = random.Random(seed)
    rows = run(function, path, some_settings(rng, detector))
    for _ in range(CHANGES):
        chosen = some_settings(rng, detector)
        fresh = run(function, path, chosen)
        with pytest.MonkeyPatch.context() as patch:
            if chosen.face_video is None:
                patch.setattr(type(open_detector(detector)), "detect", never)
            lent = run(function, path, chosen, lend(rows))
        assert untimed(lent) == untimed(fresh)
        rows = lent
    return fresh


def test_two_drawn_people(two_people, detector):
    fresh = assert_same_when_lent(two_people, detector, seed=1)
    assert fresh.video["faces_found"] >= 6


@pytest.mark.parametrize("number", [0, 7])
def test_real_clips(clips, detector, number):
    path = sorted((clips / "asl").glob("*.mkv"))[number]
    assert assert_same_when_lent(path, detector, seed=number).video["faces_found"] >= 6


def test_in_a_child(two_people):
    detector = ExtractSettings().detector
    fresh = assert_same_when_lent(two_people, detector, seed=3, function=extract_isolated)
    assert fresh.video["faces_found"] >= 6
    # It does go by what it is told, however wrong.
    none = KnownFaces(6, through_parquet("detections", [], LENT_COLUMNS))
    rows = run(extract_isolated, two_people, ExtractSettings(sampling=SAMPLING), none)
    assert (rows.video["status"], rows.video["frames_without_face"]) == ("no_face", 6)
