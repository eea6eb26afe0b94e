import cv2
import numpy as np
import pytest

from dfpipe.errors import UserError
from dfpipe.faces import Detector, open_detector
from dfpipe.faces.boxes import iou
from dfpipe.settings import CascadeSettings, MtcnnSettings
from dfpipe.testing import require_service
from dfpipe.weights import FILES, state_of


@pytest.fixture(scope="module")
def detector() -> Detector:
    if state_of(FILES["cascade"]) != "ready":
        require_service("the cascade weights are not fetched (dfpipe models fetch cascade)")
    return open_detector(CascadeSettings())


def test_name_and_weights(detector):
    assert detector.weights_sha256 == FILES["cascade"].sha256


def test_without_the_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("DFPIPE_MODELS", str(tmp_path))
    with pytest.raises(UserError, match=r"dfpipe models fetch cascade$"):
        open_detector(CascadeSettings(min_neighbours=17))


def test_an_opencv_without_cascades(monkeypatch):
    monkeypatch.delattr(cv2, "CascadeClassifier")
    with pytest.raises(UserError, match=r"cannot run cascades; .*install opencv-contrib-python-headless$"):
        open_detector(CascadeSettings(min_neighbours=17))


def test_no_pictures(detector):
    assert detector.detect([]) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 900, 3), (900, 1, 3), (23, 400, 3), (24, 24, 3), (240, 320, 3)])
def test_pictures_without_a_face(detector, shape):
    grey = np.full(shape, 127, np.uint8)
    noise = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    assert detector.detect([grey, noise]) == [[], []]


def test_real_people_are_where_mtcnn_finds_them(detector, real_people):
    found = zip(detector.detect(real_people), open_detector(MtcnnSettings()).detect(real_people), strict=True)
    near = [bool(ours) and iou(ours[0].box[None], theirs[0].box[None])[0, 0] > 0.5 for ours, theirs in found]
    assert np.mean(near) >= 0.9


def test_drawn_people_are_found_around_their_landmarks(detector, drawn_people):
    for moment, faces in zip(drawn_people, detector.detect([moment.rgb for moment in drawn_people]), strict=True):
        (face,) = faces
        assert face.box.dtype == np.float32
        assert np.all(face.box[:2] < moment.landmarks.min(axis=0))
        assert np.all(face.box[2:] > moment.landmarks.max(axis=0))


def test_there_are_no_landmarks(detector, drawn_people):
    (face, *_) = detector.detect([drawn_people[0].rgb])[0]
    assert face.landmarks.shape == (5, 2)
    assert face.landmarks.dtype == np.float32
    assert np.all(np.isnan(face.landmarks))
    assert face.landmarks_68 is None


def test_coordinates_are_those_of_the_picture_given(detector, drawn_people):
    """However large the picture, the search runs at one size, and boxes come back at the picture's own."""
    picture = drawn_people[0].rgb
    (face,), (large,) = detector.detect([picture, picture.repeat(4, axis=0).repeat(4, axis=1)])
    assert iou(large.box[None], 4 * face.box[None])[0, 0] > 0.85
    # Wider by a border, the shorter side stays, so nothing but the place changes.
    (moved,) = detector.detect([np.pad(picture, ((0, 0), (200, 0), (0, 0)), mode="edge")])[0]
    assert iou(moved.box[None] - [200, 0, 200, 0], face.box[None])[0, 0] > 0.85


def test_red_is_the_first_channel(detector, drawn_people):
    """Scores are counts, so the wrong grey shows only in some of many pictures."""
    pictures = [moment.rgb for moment in drawn_people]
    greys = [np.rint(p @ [0.299, 0.587, 0.114]).astype(np.uint8)[..., None].repeat(3, axis=2) for p in pictures]
    swapped = [np.ascontiguousarray(p[..., ::-1]) for p in pictures]
    right, same, wrong = (
        np.array([faces[0].score for faces in detector.detect(several)]) for several in (pictures, greys, swapped)
    )
    assert np.abs(right - same).mean() < 0.5 * np.abs(right - wrong).mean()


def test_a_score_is_the_number_of_hits(detector, drawn_people):
    """So one of them more or less in the bound keeps a face or loses it."""
    picture = drawn_people[0].rgb
    ((face,),) = detector.detect([picture])
    hits = int(face.score)
    assert face.score == hits > 5
    assert [len(open_detector(CascadeSettings(min_neighbours=n)).detect([picture])[0]) for n in (hits - 1, hits)] == [
        1,
        0,
    ]


def test_several_faces_come_most_confident_first(detector, drawn_people):
    row = np.hstack([moment.rgb[:, 120:520] for moment in drawn_people[:4]])
    (faces,) = detector.detect([row])
    scores = [face.score for face in faces]
    assert len(scores) == 4
    assert scores == sorted(scores, reverse=True)


def test_the_smallest_face_scales_with_the_picture(detector, drawn_people):
    picture = drawn_people[0].rgb
    ((face,),) = detector.detect([picture])
    fraction = float(face.box[2] - face.box[0]) / min(picture.shape[:2])
    assert open_detector(CascadeSettings(min_face_fraction=fraction / 2)).detect([picture])[0]
    assert open_detector(CascadeSettings(min_face_fraction=1.5 * fraction)).detect([picture]) == [[]]
