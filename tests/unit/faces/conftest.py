"""Pictures that the tests of several detectors look at."""

import pytest

from dfpipe.settings import LimitSettings
from dfpipe.synth.person import draw_person
from dfpipe.synth.scene import Scene
from dfpipe.video import every, open_video


@pytest.fixture(scope="session")
def real_people(clips):
    """A frame of each clip: one frontal face each."""
    pictures = []
    for path in sorted((clips / "asl").glob("*.mkv")):
        with open_video(str(path), limits=LimitSettings()) as video:
            pictures += [
                frame.image for frame in video.frames(every(video.info.num_frames, every_frames=1, max_frames=1))
            ]
    return pictures


@pytest.fixture(scope="session")
def drawn_people():
    """Moments of invented people with their true landmarks."""
    scenes = [Scene(draw_person(0, identity), seed=0, width=640, height=360) for identity in range(12)]
    return [next(scene.play(1, rate=25)) for scene in scenes]
