import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from dfpipe.faces import Detector, crop_face, mtcnn, open_detector
from dfpipe.faces.boxes import iou
from dfpipe.settings import CropSettings, LimitSettings, MtcnnSettings
from dfpipe.video import every, open_video

SETTINGS = MtcnnSettings()


@pytest.fixture(scope="module")
def detector():
    return open_detector(SETTINGS)


def sampled(path):
    with open_video(str(path), limits=LimitSettings()) as video:
        return [frame.image for frame in video.frames(every(video.info.num_frames, every_frames=30, max_frames=7))]


@pytest.fixture(scope="module")
def asl(clips):
    return {path: sampled(path) for path in sorted((clips / "asl").glob("*.mkv"))}


@pytest.fixture(scope="module")
def people(asl):
    """The first frame of every clip."""
    return [frames[0] for frames in asl.values()]


def test_one_detector_for_each_settings(detector):
    assert open_detector(MtcnnSettings()) is detector
    other: Detector = open_detector(MtcnnSettings(min_score=0.5))
    assert other is not detector
    assert detector.weights_sha256 == other.weights_sha256
    assert len(bytes.fromhex(detector.weights_sha256)) == 32


def test_no_pictures(detector):
    assert detector.detect([]) == []


@pytest.mark.parametrize("shape", [(1, 1, 3), (11, 400, 3), (19, 19, 3), (64, 48, 3), (240, 320, 3)])
def test_pictures_without_a_face(detector, shape):
    grey = np.full(shape, 127, np.uint8)
    noise = np.random.default_rng(5).integers(0, 256, shape, np.uint8)
    assert detector.detect([grey, noise]) == [[], []]


def test_every_clip_shows_a_face(asl, detector):
    for path, frames in asl.items():
        found = detector.detect(frames)
        assert all(faces and faces[0].score > 0.9 for faces in found), path.name


def test_points_lie_where_a_face_has_them(people, detector):
    for faces in detector.detect(people):
        left_eye, right_eye, nose, mouth_left, mouth_right = faces[0].landmarks
        x1, y1, x2, y2 = faces[0].box
        assert x1 < left_eye[0] < right_eye[0] < x2
        assert x1 < mouth_left[0] < mouth_right[0] < x2
        assert y1 < max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1]) < y2


def test_faces_follow_the_picture(people, detector):
    """Mirrored and moved pictures give mirrored and moved faces."""
    picture = people[0]
    (face, *_), (mirrored, *_), (moved, *_) = detector.detect(
        [picture, np.ascontiguousarray(picture[:, ::-1]), np.pad(picture, ((24, 0), (48, 0), (0, 0)))]
    )
    width = picture.shape[1]
    flipped = np.array([[width - mirrored.box[2], mirrored.box[1], width - mirrored.box[0], mirrored.box[3]]])
    assert iou(face.box[None], flipped)[0, 0] > 0.7
    assert iou(face.box[None], moved.box[None] - np.array([48, 24, 48, 24]))[0, 0] > 0.8
    np.testing.assert_allclose(width - mirrored.landmarks[0, 0], face.landmarks[1, 0], atol=8)


def test_crops_are_faces_again(people, detector):
    """A crop with some room around it is a picture in which the same face fills the middle."""
    crops = [
        crop_face(picture, faces[0], CropSettings(size_px=256, margin_fraction=0.5))
        for picture, faces in zip(people, detector.detect(people), strict=True)
    ]
    middle = np.array([[64, 64, 192, 192]], np.float32)
    for faces in detector.detect(crops):
        assert max(iou(middle, face.box[None])[0, 0] for face in faces) > 0.6


def test_pictures_do_not_disturb_each_other(people, detector):
    together = detector.detect([*people[:3], people[3][:300, 100:500]])
    for picture, faces in zip([*people[:3], people[3][:300, 100:500]], together, strict=True):
        (alone,) = detector.detect([picture])
        assert len(alone) == len(faces)
        for one, other in zip(alone, faces, strict=True):
            np.testing.assert_allclose(one.box, other.box, atol=1e-2)


def test_several_faces_come_most_confident_first(people, detector):
    (faces,) = detector.detect([np.hstack([people[0], people[4], people[2]])])
    assert len(faces) == 3
    scores = [face.score for face in faces]
    assert scores == sorted(scores, reverse=True)


def test_settings_bound_score_and_size(people, detector):
    (face, *_) = detector.detect(people[:1])[0]
    assert open_detector(MtcnnSettings(min_score=1.0)).detect(people[:1]) == [[]]
    # Smaller than half of the picture's shorter side, as all of them are here.
    assert max(face.box[2:] - face.box[:2]) < 240
    assert open_detector(MtcnnSettings(min_face_fraction=0.5)).detect(people[:1]) == [[]]


def test_people_without_a_face(detector, clips):
    folder = clips / "noface"
    for path in sorted(folder.glob("*.mp4")):
        assert detector.detect(sampled(path)) == [[]] * 7


def test_large_pictures_show_the_same_faces(people, detector):
    """The pyramid of a large picture starts with halvings."""
    for picture, (face, *_) in zip(people[:3], detector.detect(people[:3]), strict=True):
        large = cv2.resize(picture, None, fx=4.1, fy=4.1, interpolation=cv2.INTER_CUBIC)
        (again,) = detector.detect([large])
        assert iou(face.box[None] * 4.1, again[0].box[None])[0, 0] > 0.8


def test_faces_of_the_smallest_size_are_found(people, detector):
    """In a picture of 480 pixels that is 32, which lies between two levels of the pyramid."""
    for picture, (face, *_) in zip(people, detector.detect(people), strict=True):
        scale = 32 / max(face.box[2:] - face.box[:2])
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)[:360, :540]
        canvas = np.full((480, 640, 3), 90, np.uint8)
        canvas[100 : 100 + len(small), 80 : 80 + small.shape[1]] = small
        place = face.box * scale + np.array([80, 100, 80, 100])
        (found,) = detector.detect([canvas])
        assert iou(place[None], np.array([one.box for one in found]))[0].max() > 0.5


def test_crops_are_asked_about_in_any_number(people, detector, monkeypatch):
    (together,) = detector.detect(people[:1])
    monkeypatch.setattr(mtcnn, "CROPS_AT_ONCE", 1)
    (singly,) = detector.detect(people[:1])
    np.testing.assert_allclose([face.box for face in singly], [face.box for face in together], atol=1e-3)


@pytest.fixture(scope="module")
def follower():
    return open_detector(MtcnnSettings(follow=True))


def test_a_followed_person_is_the_same_person(asl, detector, follower):
    for frames in asl.values():
        for free, followed in zip(detector.detect(frames), follower.detect(frames), strict=True):
            assert iou(free[0].box[None], followed[0].box[None])[0, 0] > 0.6


def test_following_looks_at_less(people, follower, monkeypatch):
    seen = []
    cells = follower._nets.pnet
    spy = SimpleNamespace(run=lambda names, given: seen.append(given["pictures"].size) or cells.run(names, given))
    monkeypatch.setattr(follower, "_nets", replace(follower._nets, pnet=spy))
    follower.detect(people[:1])
    once = sum(seen)
    follower.detect([people[0]] * 2)
    assert sum(seen) < 2.5 * once


def test_a_person_lost_from_sight_is_searched_everywhere(people, follower):
    picture = people[0]
    moved = np.roll(picture, 320, axis=1)
    gone = np.zeros_like(picture)
    first, second, none, third = follower.detect([picture, moved, gone, picture])
    assert none == []
    assert abs(first[0].box[0] - second[0].box[0]) > 200
    np.testing.assert_array_equal(first[0].box, third[0].box)


def test_what_following_misses(people, detector, follower):
    """Somebody who joins is missed while the first person stays; found again once that one is gone."""
    alone = np.hstack([people[0], np.zeros_like(people[4])])
    both = np.hstack([people[0], people[4]])
    other = np.hstack([np.zeros_like(people[0]), people[4]])
    assert [len(faces) for faces in detector.detect([alone, both, both, other])] == [1, 2, 2, 1]
    assert [len(faces) for faces in follower.detect([alone, both, both, other])] == [1, 1, 1, 1]
    assert [len(faces) for faces in follower.detect([both, both])] == [2, 2]


def test_frames_of_another_size_are_not_followed(people, follower):
    found = follower.detect([people[0], people[0][:300, 100:500]])
    assert iou(found[0][0].box[None] - np.array([100, 0, 100, 0]), found[1][0].box[None])[0, 0] > 0.6


def test_nothing_is_written_into_the_home(tmp_path):
    code = "from dfpipe.faces import open_detector; from dfpipe.settings import MtcnnSettings as D; open_detector(D())"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env=environment | {"HOME": str(tmp_path)}, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []


def test_where_nothing_is_found_the_sizes_between_are_tried(detector, people, monkeypatch):
    from dfpipe.faces import mtcnn

    looked = []
    pyramid = mtcnn._pyramid
    monkeypatch.setattr(
        mtcnn, "_pyramid", lambda *what, between: looked.append(between) or pyramid(*what, between=between)
    )
    assert detector.detect([np.full((240, 320, 3), 128, np.uint8)]) == [[]]
    assert looked == [False, True]
    detector.detect(people[:1])
    assert looked[2:] == [False]
