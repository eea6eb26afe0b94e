from dataclasses import replace

import numpy as np
import pytest

from dfpipe.models import ColumnBlock, TrainingData


def make_data(*, videos=24, people=8, frames=3, columns=12, signal=3.0, seed=0):
    """Rows whose first column gives fakes away by `signal` standard deviations."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(videos) % 2).astype(np.int8)
    X = rng.normal(size=(videos * frames, columns)).astype(np.float32)
    y = np.repeat(labels, frames)
    X[:, 0] += signal * y
    return TrainingData(
        X=X,
        y=y,
        video=np.repeat(np.arange(videos, dtype=np.int32), frames),
        video_ids=tuple(f"set/method/c23/{number:03d}" for number in range(videos)),
        groups=(np.arange(videos) // 2 % people).astype(np.int32),
        columns=(ColumnBlock("pixels", 0, columns // 2), ColumnBlock("residual", columns // 2, columns)),
    )


@pytest.fixture(scope="session")
def data():
    return make_data()


@pytest.fixture(scope="session")
def pixels(data):
    """The same rows as bytes, around 100."""
    return replace(data, X=np.clip(data.X * 20 + 100, 0, 255).astype(np.uint8))
