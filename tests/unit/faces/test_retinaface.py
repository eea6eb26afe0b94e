"""The network against TensorFlow's own numbers, and the detector against the other one, on real clips."""

import sys

import numpy as np
import onnx
import pytest

from dfpipe import weights
from dfpipe.errors import UserError
from dfpipe.faces import Detector, crop_face, open_detector
from dfpipe.faces._onnx import start_session
from dfpipe.faces.anchors import Candidates
from dfpipe.faces.boxes import iou
from dfpipe.faces.retinaface import look
from dfpipe.faces.retinaface_net import HEADS, state_net
from dfpipe.settings import CropSettings, LimitSettings, MtcnnSettings, RetinafaceSettings
from dfpipe.testing import require_service
from dfpipe.video import every, open_video


@pytest.fixture(scope="module")
def frozen_graph():
    if weights.state_of(weights.FILES["retinaface"]) != "ready":
        require_service("the retinaface weights are not fetched (make models)")
    return weights.read("retinaface")


@pytest.fixture(scope="module")
def detector(frozen_graph) -> Detector:
    return open_detector(RetinafaceSettings())


@pytest.fixture(scope="module")
def people(clips):
    """The first frame of every clip, by name."""
    pictures = {}
    for path in sorted((clips / "asl").glob("*.mkv")):
        with open_video(str(path), limits=LimitSettings()) as video:
            pictures[path.stem] = next(iter(video.frames([0]))).image
    return pictures


# What TensorFlow 2.21 makes of the frozen graph for the noise below: of each stride, the probabilities of both anchors
# in row 1, column 2; the box of the last anchor; the landmarks of the first anchor in row 1, column 2.
TENSORFLOW_NOISE = {
    8: (
        [2.14064e-05, 8.245e-07],
        [-0.7363, -0.7651, -1.6631, -1.1909],
        [-5.2073, -3.2954, 2.2782, -2.4943, -1.5916, -0.2793, -3.0407, 4.8381, -0.3337, 1.9112],
    ),
    16: (
        [4.75095e-04, 3.06188e-03],
        [-0.9935, 0.0514, -0.3533, -0.5411],
        [-2.617, -1.7602, 5.3945, 0.4888, 0.8703, 1.4769, -3.8709, 10.0287, 4.6617, 9.2252],
    ),
    32: (
        [2.74835e-04, 1.5688e-07],
        [-1.7089, 0.214, -0.1654, 0.2768],
        [-0.2, 1.7831, -1.0196, -0.9842, -0.5461, 0.3804, -1.6417, 0.0143, -1.7135, 0.5805],
    ),
}
# And for first frames of real clips, 640 x 480: box, landmarks and score.
TENSORFLOW_FACES = {
    "again": (
        [290.4, 76.4, 360.8, 171.9],
        [[313.6, 117.7], [343.1, 119.0], [329.9, 138.5], [315.9, 151.2], [338.6, 152.4]],
        0.9999357,
    ),
    "eat": (
        [270.4, 94.6, 338.4, 182.6],
        [[290.4, 129.7], [321.6, 129.2], [307.9, 147.0], [292.2, 158.1], [320.8, 157.2]],
        0.9999656,
    ),
    "yes": (
        [271.6, 71.2, 341.4, 166.3],
        [[292.1, 111.6], [324.0, 112.3], [309.8, 130.6], [295.5, 144.4], [320.8, 145.4]],
        0.9998691,
    ),
}


def test_the_network_is_that_of_tensorflow(frozen_graph):
    model = state_net(frozen_graph)
    onnx.checker.check_model(model)
    picture = np.random.default_rng(5).integers(0, 256, (1, 96, 128, 3), np.uint8)
    heads = dict(
        zip(HEADS, start_session(model.SerializeToString()).run(list(HEADS), {"pictures": picture}), strict=True)
    )
    for stride, (scores, box, landmarks) in TENSORFLOW_NOISE.items():
        logits = heads[f"class{stride}"][0, 1, 2].reshape(2, 2)
        np.testing.assert_allclose(1 / (1 + np.exp(logits[:, 0] - logits[:, 1])), scores, rtol=1e-3)
        assert heads[f"box{stride}"].shape == (1, 96 // stride, 128 // stride, 8)
        np.testing.assert_allclose(heads[f"box{stride}"][0, -1, -1, 4:], box, atol=2e-4)
        np.testing.assert_allclose(heads[f"landmark{stride}"][0, 1, 2, :10], landmarks, atol=2e-4)


@pytest.mark.parametrize("name", TENSORFLOW_FACES)
def test_the_faces_are_those_of_tensorflow(frozen_graph, people, name):
    box, landmarks, score = TENSORFLOW_FACES[name]
    ((face,),) = open_detector(RetinafaceSettings(longer_side_px=640)).detect([people[name]])
    np.testing.assert_allclose(face.box, box, atol=0.1)
    np.testing.assert_allclose(face.landmarks, landmarks, atol=0.1)
    assert face.score == pytest.approx(score, abs=1e-5)


def test_a_batch_is_its_pictures(frozen_graph):
    session = start_session(state_net(frozen_graph).SerializeToString())
    pictures = np.random.default_rng(6).integers(0, 256, (2, 64, 96, 3), np.uint8)
    together = session.run(list(HEADS), {"pictures": pictures})
    for number in range(2):
        alone = session.run(list(HEADS), {"pictures": pictures[number : number + 1]})
        for one, other in zip(alone, together, strict=True):
            np.testing.assert_allclose(one[0], other[number], atol=1e-4)


def test_the_fingerprint_is_of_the_source_and_opening_needs_no_tensorflow(detector):
    assert detector.weights_sha256 == "cf242e8627d0650d02bddbc8a8526944bc4dc69269bd2c1d1e43fb0930f95993"
    assert "tensorflow" not in sys.modules
    assert open_detector(RetinafaceSettings()) is detector


def test_weights_that_are_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setenv("DFPIPE_MODELS", str(tmp_path))
    with pytest.raises(UserError, match=r"^the retinaface weights are not here; run: dfpipe models fetch retinaface$"):
        open_detector(RetinafaceSettings(min_score=0.123))


@pytest.mark.parametrize("longer_side_px", [256, 320, 640])
def test_every_face_of_the_other_detector_is_found(frozen_graph, people, longer_side_px):
    detector = open_detector(RetinafaceSettings(longer_side_px=longer_side_px))
    pictures = list(people.values())
    others = open_detector(MtcnnSettings()).detect(pictures)
    for faces, other, name in zip(detector.detect(pictures), others, people, strict=True):
        assert len(faces) == len(other) == 1, name
        assert iou(faces[0].box[None], other[0].box[None])[0, 0] > 0.6, name
        width = other[0].box[2] - other[0].box[0]
        assert np.abs(faces[0].landmarks - other[0].landmarks).max() < 0.2 * width, name


def test_people_without_a_face(detector, clips):
    for path in sorted((clips / "noface").glob("*.mp4")):
        with open_video(str(path), limits=LimitSettings()) as video:
            wanted = every(video.info.num_frames, every_frames=30, max_frames=7)
            assert detector.detect([frame.image for frame in video.frames(wanted)]) == [[]] * 7


def test_a_face_that_fills_the_picture(detector, people):
    for picture in list(people.values())[:6]:
        ((face, *_),) = detector.detect([picture])
        for size_px in (64, 320, 900):
            crop = crop_face(picture, face, CropSettings(size_px=size_px, margin_fraction=0.1))
            ((again, *_),) = detector.detect([crop])
            inner = np.array([[1, 1, 11, 11]], np.float32) * size_px / 12
            assert iou(again.box[None], inner)[0, 0] > 0.5


def test_portrait_and_moved_pictures(detector, people):
    picture = people["eat"]
    ((face, *_),) = detector.detect([picture])
    portrait = picture[:, 200:420]
    below = np.pad(picture, ((500, 0), (0, 0), (0, 0)))
    (in_portrait, *_), (in_below, *_) = detector.detect([portrait, below])
    assert iou(in_portrait.box[None] + np.array([200, 0, 200, 0]), face.box[None])[0, 0] > 0.85
    assert iou(in_below.box[None] - np.array([0, 500, 0, 500]), face.box[None])[0, 0] > 0.85


@pytest.mark.parametrize("shape", [(1, 1, 3), (31, 33, 3), (3, 700, 3), (700, 3, 3), (64, 48, 3)])
def test_pictures_without_a_face(detector, shape):
    noise = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    assert detector.detect([np.full(shape, 127, np.uint8), noise]) == [[], []]
    assert detector.detect([]) == []


def test_each_direction_is_scaled_back_on_its_own():
    """A low picture is shrunk by a little more in one direction than in the other."""
    shapes = []

    def whole(picture):
        shapes.append(picture.shape)
        boxes = np.array([[0, 0, 100, 2]], np.float32)
        return [Candidates(boxes, np.ones(1, np.float32), np.tile(boxes[:, None, 2:], (1, 5, 1)))]

    (face,) = look(np.zeros((25, 1000, 3), np.uint8), whole, longer_side_px=100)
    assert shapes == [(32, 128, 3)]
    np.testing.assert_allclose(face.box, [0, 0, 1000, 25])
    np.testing.assert_allclose(face.landmarks, np.tile([1000, 25], (5, 1)))


def test_most_confident_first_and_the_score_bound(frozen_graph, people):
    row = np.hstack([people["again"], people["eat"][:, ::-1], people["yes"]])
    (faces,) = open_detector(RetinafaceSettings(longer_side_px=1024)).detect([row])
    scores = [face.score for face in faces]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert open_detector(RetinafaceSettings(min_score=1.0)).detect([row]) == [[]]
    (many,) = open_detector(RetinafaceSettings(min_score=0.0)).detect([row])
    assert len(many) > 3
