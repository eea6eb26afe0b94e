import sys

import numpy as np
import pytest

from dfpipe.errors import UserError
from dfpipe.faces import Detector, open_detector
from dfpipe.faces.boxes import iou
from dfpipe.faces.dlib_frontal import DlibFrontal
from dfpipe.settings import DlibSettings, MtcnnSettings
from dfpipe.testing import require_service
from dfpipe.weights import FILES, state_of


@pytest.fixture(scope="module")
def detector() -> Detector:
    if state_of(FILES["dlib"]) != "ready":
        require_service("the dlib weights are not fetched (dfpipe models fetch dlib)")
    return open_detector(DlibSettings())


def pair_with_mtcnn(detector, pictures):
    """The best face of either detector, for each picture in which both find one."""
    found = zip(detector.detect(pictures), open_detector(MtcnnSettings()).detect(pictures), strict=True)
    return [(ours[0], theirs[0]) for ours, theirs in found if ours and theirs]


def test_name_and_weights(detector):
    assert len(bytes.fromhex(detector.weights_sha256)) == 32
    # The library itself carries weights too.
    assert detector.weights_sha256 != FILES["dlib"].sha256
    assert detector.weights_sha256 == open_detector(DlibSettings(longer_side_px=640)).weights_sha256


def test_another_version_of_the_library_is_another_detector(detector, monkeypatch):
    import dlib

    monkeypatch.setattr(dlib, "__version__", "20.999")
    other = DlibFrontal(min_score=0, longer_side_px=640)
    assert other.weights_sha256 != detector.weights_sha256


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(UserError, match=r"^the detector dlib cannot be used: .*; run: pip install dlib-bin$"):
        open_detector(DlibSettings(min_score=0.125))


def test_without_the_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("DFPIPE_MODELS", str(tmp_path))
    with pytest.raises(UserError, match=r"dfpipe models fetch dlib$"):
        open_detector(DlibSettings(min_score=0.125))


def test_no_pictures(detector):
    assert detector.detect([]) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 2000, 3), (2000, 1, 3), (19, 19, 3), (240, 320, 3)])
def test_pictures_without_a_face(detector, shape):
    grey = np.full(shape, 127, np.uint8)
    noise = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    assert detector.detect([grey, noise]) == [[], []]


def test_real_people_are_where_mtcnn_finds_them(detector, real_people):
    pairs = pair_with_mtcnn(detector, real_people)
    assert len(pairs) >= 0.9 * len(real_people)
    for ours, theirs in pairs:
        assert iou(ours.box[None], theirs.box[None])[0, 0] > 0.5
    # The median, since single points of turned heads lie apart by up to a fifth of the face.
    sides = np.array([theirs.box[2] - theirs.box[0] for _, theirs in pairs])
    apart = np.array([np.linalg.norm(ours.landmarks - theirs.landmarks, axis=1) for ours, theirs in pairs])
    assert np.median(apart / sides[:, None]) < 0.05


def test_drawn_people_have_their_true_landmarks(detector, drawn_people):
    for moment, faces in zip(drawn_people, detector.detect([moment.rgb for moment in drawn_people]), strict=True):
        (face,) = faces
        between_eyes = np.linalg.norm(moment.landmarks[1] - moment.landmarks[0])
        assert np.linalg.norm(face.landmarks - moment.landmarks, axis=1).max() < 0.25 * between_eyes
        assert face.box[0] < moment.landmarks[:, 0].min()
        assert face.box[2] > moment.landmarks[:, 0].max()


def test_all_points_of_a_face_are_kept_in_their_order(detector, drawn_people):
    (face, *_) = detector.detect([drawn_people[0].rgb])[0]
    points = face.landmarks_68
    assert points.shape == (68, 2)
    assert points.dtype == face.landmarks.dtype == face.box.dtype == np.float32
    jaw, brows, bridge = points[0:17], points[17:27], points[27:31]
    assert np.all(np.diff(jaw[:, 0]) > 0), "from the picture's left to its right"
    assert np.all(np.diff(brows[:, 0]) > 0)
    assert np.all(np.diff(bridge[:, 1]) > 0)
    np.testing.assert_array_equal(face.landmarks[2:], points[[30, 48, 54]])
    assert points[36:42, 0].max() < bridge[:, 0].min() < bridge[:, 0].max() < points[42:48, 0].min()


def test_coordinates_are_those_of_the_picture_given(detector, drawn_people):
    """Twice as large, and moved by a border, the same face is found at the place where it then is."""
    picture = drawn_people[0].rgb
    (face,), (large,) = detector.detect([picture, picture.repeat(2, axis=0).repeat(2, axis=1)])
    np.testing.assert_allclose(large.box, 2 * face.box, atol=4)
    np.testing.assert_allclose(large.landmarks, 2 * face.landmarks, atol=4)
    # The border keeps the longer side, so nothing but the place changes; boxes lie on a grid of cells.
    (moved,) = detector.detect([np.pad(picture, ((100, 0), (0, 0), (0, 0)), mode="edge")])[0]
    assert iou(moved.box[None] - [0, 100, 0, 100], face.box[None])[0, 0] > 0.6
    np.testing.assert_allclose(moved.landmarks - [0, 100], face.landmarks, atol=10)


def test_red_is_the_first_channel(detector, drawn_people):
    pictures = [moment.rgb for moment in drawn_people]
    greys = [np.rint(p @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None].repeat(3, axis=2) for p in pictures]
    swapped = [np.ascontiguousarray(p[..., ::-1]) for p in pictures]
    right, same, wrong = (
        np.array([faces[0].score for faces in detector.detect(several)]) for several in (pictures, greys, swapped)
    )
    assert np.abs(right - same).mean() < 0.1 * np.abs(right - wrong).mean()


def test_several_faces_come_most_confident_first(detector, drawn_people):
    row = np.hstack([moment.rgb[:, 120:520] for moment in drawn_people[:4]])
    (faces,) = open_detector(DlibSettings(longer_side_px=1600)).detect([row])
    scores = [face.score for face in faces]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)


def test_settings_bound_score_and_size(detector, drawn_people):
    pictures = [moment.rgb for moment in drawn_people]
    scores = [face.score for faces in detector.detect(pictures) for face in faces]
    bound = float(np.median(scores))
    above = [face.score for faces in open_detector(DlibSettings(min_score=bound)).detect(pictures) for face in faces]
    assert above == [score for score in scores if score > bound]
    assert open_detector(DlibSettings(longer_side_px=64)).detect(pictures) == [[]] * len(pictures)
