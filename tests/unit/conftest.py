"""What the tests of several modules look at."""

import av
import numpy as np
import pytest


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory):
    """30 frames of noise, a key frame in ten, no sound; each frame is a picture of its own."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"x264-params": "keyint=10:scenecut=0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(30):
            noise = np.random.default_rng(index).integers(0, 256, (64, 96, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        container.mux(stream.encode(None))
    return path
