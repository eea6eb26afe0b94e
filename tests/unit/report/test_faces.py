"""Which faces the report's page shows."""

import cv2
import numpy as np
import pytest

from dfpipe.report import example_faces
from dfpipe.settings import ReportSettings
from dfpipe.testing import make_video

WIDTH, HEIGHT = 512, 256


def crop(red):
    bgr = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    bgr[..., 2] = red
    return cv2.imencode(".png", bgr)[1].tobytes()


@pytest.fixture
def drawn(finish, settings):
    """Return what is drawn of a store with many videos of one method and one person, and few of others."""
    fakes = [make_video(f"f/{n:02}", label="fake", manipulation="swap", target="her") for n in range(20)]
    fakes.append(make_video("f/20", label="fake", manipulation="swap", target="him"))
    fakes.append(make_video("f/21", label="fake", manipulation="puppet", target="her", compression="c23"))
    reals = [make_video("r/1"), make_video("r/2"), make_video("r/3")]
    catalog = [*fakes, *reals]
    crops = {video.video_id: crop(10 * number) for number, video in enumerate(catalog)}
    del crops["r/2"]
    finish(catalog, {video.video_id: {} for video in catalog} | {"r/3": {"status": "no_face"}}, crops)

    def draw(number):
        return example_faces(settings.model_copy(update={"report": ReportSettings(faces=number)}))

    return draw


def test_every_kind_and_everybody_is_shown_before_anybody_twice(drawn):
    ids = [face.video_id for face in drawn(3)]
    assert ids[0] == "r/1"
    assert {"f/20", "f/21"} < set(ids)
    assert len(ids) == 4
    assert drawn(3) == drawn(3)


def test_no_number_shows_nobody(drawn):
    assert drawn(0) == ()


def test_a_face_is_the_videos_own_and_small(drawn):
    faces = {face.video_id: face for face in drawn(100)}
    # One has no crop and one was not usable.
    assert len(faces) == 23
    assert (faces["f/21"].label, faces["f/21"].method) == ("fake", "puppet")
    bgr = cv2.imdecode(np.frombuffer(faces["f/21"].jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr.shape == (64, 128, 3)
    assert np.abs(bgr.mean(axis=(0, 1)) - (0, 0, 210)).max() < 3
