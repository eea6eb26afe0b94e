"""What stands beside the figures of a leaky training."""

from dataclasses import replace

import numpy as np
import pytest

from dfpipe.errors import TooLargeError
from dfpipe.models import (
    Candidate,
    ColumnBlock,
    TrainingData,
    VerdictRule,
    identity_groups,
    refit_and_evaluate,
    search,
)
from dfpipe.models.memory import fit_bytes
from dfpipe.settings import BootstrapSettings, EvaluationSettings, SplitSettings, TrainSettings
from dfpipe.splitting import split_by_identity, split_videos
from dfpipe.testing import make_video
from dfpipe.tracking import test_sha256
from dfpipe.training import evaluate_best, evaluate_by_identity

FOREST = Candidate("forest", (("n_estimators", 20),), 0)
SEED = SplitSettings(protocol="seed", folds=2)
SETTINGS = TrainSettings(split=SEED, evaluation=EvaluationSettings(bootstrap=BootstrapSettings(samples=100)))


@pytest.fixture
def reads(monkeypatch):
    """What was put on record of readings of a test."""
    told = []
    note = lambda _, sha256, candidate, *, fingerprint: told.append((sha256, candidate, fingerprint))  # noqa: E731
    monkeypatch.setattr("dfpipe.training.note_test_read", note)
    return told


def lookalikes(people=40, frames=5):
    """Videos whose frames look alike and whose labels say nothing; everybody has one video."""
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.arange(people) % 2).astype(np.int8)
    videos = [
        make_video(f"{n:02}", f"c{n}", label=("real", "fake")[label], manipulation=("original", "m")[label])
        for n, label in enumerate(labels)
    ]
    rows = np.repeat(np.arange(people, dtype=np.int32), frames)
    X = rng.normal(size=(people, 16))[rows] + rng.normal(scale=0.1, size=(len(rows), 16))
    return videos, TrainingData(
        X=X.astype(np.float32),
        y=labels[rows],
        video=rows,
        video_ids=tuple(video.video_id for video in videos),
        groups=identity_groups([video.identities for video in videos]),
        columns=(ColumnBlock("pixels", 0, 16),),
    )


def test_the_same_candidate_is_scored_by_identity_too(reads):
    videos, data = lookalikes()
    split = split_videos(videos, data, SEED)
    found = search(data, split.folds, [FOREST])
    leaky = refit_and_evaluate(data, split.train_rows, split.test_rows, FOREST)
    (grouped,) = evaluate_by_identity(None, videos, data, found, SETTINGS, fingerprint="f")
    honest = split_by_identity(videos, data, SEED)
    assert len(np.unique(data.video[honest.test_rows])) == 8, "as large a share as by seed"
    assert grouped.candidate == FOREST
    assert reads == [(test_sha256(data, honest.test_rows), FOREST, "f")]
    # Its validation videos are people of this test.
    assert grouped.rule == VerdictRule()
    assert grouped.video == refit_and_evaluate(data, honest.train_rows, honest.test_rows, FOREST).video
    assert leaky.frame.auc > 0.95 > grouped.frame.auc


def test_people_who_cannot_be_divided_leave_the_place_empty(caplog, reads):
    videos, data = lookalikes(people=8)
    found = search(data, split_videos(videos, data, SEED).folds, [FOREST])
    together = replace(data, groups=np.zeros(8, np.int32))
    assert evaluate_by_identity(None, videos, together, found, SETTINGS, fingerprint="f") == []
    assert reads == []
    assert "no figures by identity stand beside the leaky ones: got 1 groups of people" in caplog.text


SVM = Candidate("rbf_svm", (("C", 1.0), ("gamma", "scale")), 0)


@pytest.fixture
def room(monkeypatch):
    """Set what a fit may take in this process beside what it holds."""
    monkeypatch.setattr("dfpipe.training._resident_bytes", lambda: 10)
    return lambda count: monkeypatch.setattr("dfpipe.training.usable_memory_bytes", lambda: count + 10)


def test_what_does_not_fit_into_this_process_is_shown_no_test(reads, room, caplog):
    videos, data = lookalikes()
    split = split_by_identity(videos, data, SEED)
    found = search(data, split.folds, [FOREST, SVM])
    best, second = found.best_per_model.values()
    needed = {one.candidate: fit_bytes(one.candidate, data, len(split.train_rows)) for one in (best, second)}
    if needed[best.candidate] > needed[second.candidate]:
        found = replace(found, ranking=(second, best))
        best, second = second, best
    evaluated = lambda: [  # noqa: E731
        one.candidate for one in evaluate_best(None, videos, data, split, found, SETTINGS, fingerprint="f")
    ]

    room(needed[best.candidate] - 1)
    with pytest.raises(TooLargeError, match=rf"fitting {best.candidate.model} .* to all 160 rows of 16 columns"):
        evaluated()
    assert reads == []
    assert evaluate_by_identity(None, videos, data, found, SETTINGS, fingerprint="f") == []
    assert reads == []

    room(needed[best.candidate])
    assert evaluated() == [best.candidate]
    assert [one for _, one, _ in reads] == [best.candidate]
    assert f"the held-out people are not shown to {second.candidate.name}" in caplog.text

    room(needed[second.candidate])
    assert evaluated() == [best.candidate, second.candidate]
