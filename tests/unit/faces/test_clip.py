import io
import os
import subprocess
import sys
import weakref
from itertools import count

import numpy as np
import pytest

from dfpipe.errors import VideoError
from dfpipe.faces import Face, FaceClip, make_face_clip, open_detector
from dfpipe.settings import CropSettings, FaceVideoSettings, LimitSettings, MtcnnSettings
from dfpipe.video import Frame, open_video

NO_LANDMARKS = np.full((5, 2), np.nan, np.float32)
FACE_COLOUR, OTHER_COLOUR, WALL_COLOUR = (200, 60, 60), (60, 60, 200), (40, 120, 40)
SMALL = FaceVideoSettings(size_px=32)


def face_at(x, y, side=40, score=0.9):
    return Face(np.array([x, y, x + side, y + side], np.float32), score, NO_LANDMARKS)


def picture(*squares):
    """A wall, and a square in its colour for every face."""
    image = np.full((120, 200, 3), WALL_COLOUR, np.uint8)
    for (x, y), colour in squares:
        image[y : y + 40, x : x + 40] = colour
    return image


class ColourDetector:
    """Finds the squares by their colours; says at which pictures it was asked to look."""

    name = "colour"
    weights_sha256 = ""

    def __init__(self):
        self.looked = []

    def detect(self, images):
        self.looked += [id(image) for image in images]
        return [list(self._find(image)) for image in images]

    def _find(self, image):
        for colour, score in ((OTHER_COLOUR, 0.99), (FACE_COLOUR, 0.9)):
            rows, columns = np.nonzero((image == colour).all(axis=2))
            if len(rows):
                yield face_at(columns.min(), rows.min(), score=score)


def make(images, *, person, settings=SMALL, crop=CropSettings(), frame_rate=25.0, first=0):
    """Return the clip, its pictures, and the positions of the frames that were looked at."""
    frames = [Frame(index, index / 25, image) for index, image in zip(count(first), images)]
    detector = ColourDetector()
    clip = make_face_clip(
        iter(frames),
        detector,
        person=person,
        settings=settings,
        crop=crop,
        frame_rate=frame_rate,
        min_overlap=0.1,
    )
    places = {id(frame.image): frame.index for frame in frames}
    return clip, read(clip), sorted(places[one] for one in detector.looked)


def read(clip):
    with open_video(io.BytesIO(clip.mp4), limits=LimitSettings()) as video:
        assert video.info.num_frames == clip.num_frames
        assert video.info.frame_rate == pytest.approx(clip.frame_rate)
        return [frame.image for frame in video.frames(range(clip.num_frames))]


def shows(image):
    """Which of the colours fills the picture; the whole frame is mostly wall."""
    middle = np.median(image.reshape(-1, 3), axis=0)
    colours = {"face": FACE_COLOUR, "other": OTHER_COLOUR, "whole": WALL_COLOUR}
    name = min(colours, key=lambda colour: np.abs(middle - colours[colour]).sum())
    assert np.abs(middle - colours[name]).max() <= 4, middle
    return name


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (25, 25),
        (29.97, 29.97),
        (30000 / 1001, 30000 / 1001),
        (23.976, 23.976),
        (12.345678, 12.345678),
        (1000, 1000),
        (1, 1),
        # Unknown, or one that nobody films with.
        (0, 25),
        (0.2, 25),
        (1e9, 25),
        (-3, 25),
        (float("nan"), 25),
        (float("inf"), 25),
    ],
)
@pytest.mark.parametrize("num_frames", [1, 2, 47])
def test_a_clip_can_be_read_again_with_all_frames_in_their_order(rate, expected, num_frames):
    clip = FaceClip(SMALL, crop=CropSettings(), frame_rate=rate)
    for level in range(num_frames):
        clip.add(np.full((60, 80, 3), 40 + 4 * level, np.uint8), None)
    result = clip.finish()
    assert (result.num_frames, result.frames_with_face) == (num_frames, 0)
    assert result.frame_rate == pytest.approx(expected, rel=1e-5)
    with open_video(io.BytesIO(result.mp4), limits=LimitSettings()) as video:
        assert (video.info.codec, video.info.width, video.info.height) == ("h264", 32, 32)
        assert video.info.num_frames == num_frames
        if num_frames > 1:
            assert video.info.frame_rate == pytest.approx(expected, rel=1e-5)
        frames = list(video.frames(range(num_frames)))
    for level, frame in enumerate(frames):
        assert frame.pts_seconds == pytest.approx(level / result.frame_rate)
        assert abs(frame.image.astype(int) - (40 + 4 * level)).max() <= 3


def test_colours_come_back():
    clip = FaceClip(SMALL, crop=CropSettings(), frame_rate=25)
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 150, 120)]
    for colour in colours:
        clip.add(np.full((60, 80, 3), colour, np.uint8), None)
    for image, colour in zip(read(clip.finish()), colours, strict=True):
        assert np.abs(image.astype(int) - colour).max() <= 6


def test_the_same_frames_give_the_same_bytes_without_date_or_version():
    noise = np.random.default_rng(0).integers(0, 256, (60, 120, 200, 3), np.uint8)

    def write():
        clip = FaceClip(FaceVideoSettings(), crop=CropSettings(), frame_rate=30)
        for image in noise:
            clip.add(image, face_at(50, 50))
        return clip.finish().mp4

    first = write()
    assert write() == first
    assert b"Lav" not in first
    # Movie header: version 0, then the times of creation and modification.
    place = first.index(b"mvhd") + 4
    assert first[place : place + 12] == bytes(12)


def test_what_memory_held_before_is_not_in_the_bytes():
    # x264 looked at memory that nobody had written to, on processors with AVX-512.
    program = """
import hashlib
import numpy as np
from dfpipe.faces import FaceClip
from dfpipe.settings import CropSettings, FaceVideoSettings
digest = hashlib.sha256()
for seed in range(3):
    coarse = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), np.uint8)
    clip = FaceClip(FaceVideoSettings(size_px=32), crop=CropSettings(), frame_rate=25)
    for shift in range(8):
        picture = np.roll(coarse, (shift, 2 * shift), (0, 1)).repeat(5, 0).repeat(5, 1)
        clip.add(np.ascontiguousarray(picture), None)
    digest.update(clip.finish().mp4)
print(digest.hexdigest())
"""
    said = {
        subprocess.run(
            [sys.executable, "-c", program], env=os.environ | {"MALLOC_PERTURB_": fill}, check=True, capture_output=True
        ).stdout
        for fill in ("1", "85", "170", "255")
    }
    assert len(said) == 1


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="got no frames"):
        FaceClip(SMALL, crop=CropSettings(), frame_rate=25).finish()
    with pytest.raises(ValueError, match="got no frames"):
        make([], person={0: face_at(50, 50)})


def test_a_box_outside_the_picture_shows_the_whole_frame():
    clip = FaceClip(SMALL, crop=CropSettings(), frame_rate=25)
    clip.add(picture(((50, 50), FACE_COLOUR)), face_at(50, 50))
    clip.add(picture(((50, 50), FACE_COLOUR)), face_at(500, 50))
    result = clip.finish()
    assert (result.num_frames, result.frames_with_face) == (2, 1)
    assert [shows(image) for image in read(result)] == ["face", "whole"]


def test_a_face_that_moves_slowly_is_looked_at_in_one_frame_of_five_and_in_the_last():
    images = [picture(((20 + 3 * index, 30), FACE_COLOUR)) for index in range(33)]
    clip, shown, looked = make(images, person={0: face_at(20, 30)})
    assert (clip.num_frames, clip.frames_with_face) == (33, 33)
    # The first is known.
    assert looked == [5, 10, 15, 20, 25, 30, 32]
    # Had it been followed less well, some wall would show.
    assert {shows(image) for image in shown} == {"face"}
    assert max(np.abs(image.astype(int) - FACE_COLOUR).max() for image in shown) <= 12


def test_frames_where_the_person_is_known_are_not_looked_at():
    images = [picture(((20, 30), FACE_COLOUR)) for _ in range(20)]
    _, _, looked = make(images, person={0: face_at(20, 30), 7: face_at(20, 30), 19: face_at(20, 30)})
    assert looked == [5, 12, 17]


def test_a_cut_to_somebody_else_is_found_to_the_frame():
    mine, theirs = picture(((20, 30), FACE_COLOUR)), picture(((140, 60), OTHER_COLOUR))
    images = [theirs.copy() if 8 <= index < 22 else mine.copy() for index in range(30)]
    clip, shown, looked = make(images, person={0: face_at(20, 30)})
    assert [shows(image) for image in shown] == ["whole" if 8 <= index < 22 else "face" for index in range(30)]
    assert clip.frames_with_face == 16
    # Around the cuts every frame; where the person is at neither end, none in between.
    assert looked == [5, 6, 7, 8, 9, 10, 15, 20, 21, 22, 23, 24, 25, 29]


def test_the_person_chosen_is_followed_and_not_the_most_confident_one():
    images = [picture(((20, 30), FACE_COLOUR), ((140, 60), OTHER_COLOUR)) for _ in range(12)]
    _, mine, _ = make(images, person={0: face_at(20, 30)})
    _, theirs, _ = make(images, person={0: face_at(140, 60)})
    assert {shows(image) for image in mine} == {"face"}
    assert {shows(image) for image in theirs} == {"other"}


def test_a_person_who_is_sampled_only_later_is_found_before_that():
    images = [picture(((20, 30), FACE_COLOUR)) if index >= 4 else picture() for index in range(40)]
    clip, shown, _ = make(images, person={30: face_at(22, 30)})
    assert [shows(image) for image in shown] == ["whole"] * 4 + ["face"] * 36
    assert clip.frames_with_face == 36


def test_a_jump_to_another_place_is_followed_where_it_is_known():
    """After a cut the same person is elsewhere; no face slides over the wall between the two places."""
    before, after = picture(((20, 30), FACE_COLOUR)), picture(((150, 70), FACE_COLOUR))
    images = [before.copy() if index < 13 else after.copy() for index in range(25)]
    clip, shown, _ = make(images, person={0: face_at(20, 30), 15: face_at(150, 70)})
    assert {shows(image) for image in shown} == {"face"}
    assert clip.frames_with_face == 25


def test_nobody_known_is_nobody_looked_for():
    clip, shown, looked = make([picture(((20, 30), FACE_COLOUR))] * 7, person={})
    assert looked == []
    assert clip.frames_with_face == 0
    assert {shows(image) for image in shown} == {"whole"}


def test_missing_frames_do_not_shift_the_face():
    kept = [0, 1, 2, 6, 7, 9, 14, 15, 16]
    frames = [Frame(index, index / 25, picture(((20 + 4 * index, 30), FACE_COLOUR))) for index in kept]
    clip = make_face_clip(
        frames,
        ColourDetector(),
        person={0: face_at(20, 30)},
        settings=SMALL,
        crop=CropSettings(),
        frame_rate=25,
        min_overlap=0.1,
    )
    assert clip.num_frames == clip.frames_with_face == len(kept)
    assert max(np.abs(image.astype(int) - FACE_COLOUR).max() for image in read(clip)) <= 12


def test_no_more_frames_than_asked_are_taken():
    frames = iter([Frame(index, index / 25, picture()) for index in range(9)])
    clip = make_face_clip(
        frames,
        ColourDetector(),
        person={},
        settings=FaceVideoSettings(size_px=32, max_frames=6),
        crop=CropSettings(),
        frame_rate=25,
        min_overlap=0.1,
    )
    assert clip.num_frames == 6
    assert next(frames).index == 6


def test_a_broken_video_ends_the_clip_with_its_own_error():
    def frames():
        yield Frame(0, 0.0, picture())
        raise VideoError("timeout", "not done after 3 s")

    with pytest.raises(VideoError, match="not done after 3 s"):
        make_face_clip(
            frames(),
            ColourDetector(),
            person={},
            settings=SMALL,
            crop=CropSettings(),
            frame_rate=25,
            min_overlap=0.1,
        )


def test_few_pictures_are_held_however_long_the_video_is():
    alive, most = set(), 0

    def frames():
        nonlocal most
        for index in range(200):
            image = picture(((20, 30), FACE_COLOUR)) if index % 50 < 40 else picture()
            alive.add(index)
            weakref.finalize(image, alive.remove, index)
            frame = Frame(index, index / 25, image)
            del image
            yield frame
            del frame
            most = max(most, len(alive))

    clip = make_face_clip(
        frames(),
        ColourDetector(),
        person={0: face_at(20, 30)},
        settings=SMALL,
        crop=CropSettings(),
        frame_rate=25,
        min_overlap=0.1,
    )
    assert (clip.num_frames, clip.frames_with_face) == (200, 160)
    assert most <= 6


def test_the_crop_s_shape_and_margin_count():
    image = picture(((80, 40), FACE_COLOUR))
    _, shown, _ = make([image], person={0: face_at(80, 40)}, crop=CropSettings(shape="square", margin_fraction=0.5))
    assert np.abs(shown[0][12:20, 12:20].astype(int) - FACE_COLOUR).max() <= 8
    assert np.abs(shown[0][:4].astype(int) - WALL_COLOUR).max() <= 8


def test_a_real_face_fills_a_clip_that_the_detector_knows_as_faces_again(clips):
    """The boxes between looks lie on the face: measured on these clips, they overlap what is found there by 0.81."""
    detector = open_detector(MtcnnSettings())
    with open_video(str(clips / "asl" / "again.mkv"), limits=LimitSettings()) as video:
        (first,) = video.frames([0])
        result = make_face_clip(
            video.frames(range(30)),
            detector,
            person={0: detector.detect([first.image])[0][0]},
            settings=FaceVideoSettings(size_px=160),
            crop=CropSettings(shape="square", margin_fraction=0.5),
            frame_rate=video.info.frame_rate,
            min_overlap=0.1,
        )
    assert (result.num_frames, result.frames_with_face) == (30, 30)
    for faces in detector.detect(read(result)):
        x1, y1, x2, y2 = faces[0].box
        np.testing.assert_allclose([(x1 + x2) / 2, (y1 + y2) / 2], 80, atol=10)
