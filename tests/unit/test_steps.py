"""The verbs of a run, tried again after they failed half-way."""

import cv2
import numpy as np
import pytest

from dfpipe import crops, steps
from dfpipe.detections import POINTS
from dfpipe.errors import StoreError
from dfpipe.extract import lost_video
from dfpipe.plan import Shard, plan_features
from dfpipe.settings import (
    ExtractSettings,
    LandmarksSettings,
    LimitSettings,
    PixelsSettings,
    S3Settings,
    TemporalSettings,
)
from dfpipe.shards import EXTRACTED, Tables, open_tables
from dfpipe.testing import BY, make_row, make_video


class Here:
    """Does the work of an engine in this process."""

    def map_then_write(self, function, items, *, write, **_):
        return write([function(item) for item in items])

    def run(self, function, items, *, shared):
        return (function(shared, item) for item in items)


@pytest.mark.parametrize("failing", EXTRACTED)
def test_a_shard_that_was_settled_but_not_committed_is_committed_by_the_next_try(tmp_path, monkeypatch, failing):
    # Without the roll-forward in extract_shard the second try finds all videos claimed and leaves them to whoever
    # claimed them, who is itself: the run ends well, and the ledger lacks them.
    tables = open_tables(str(tmp_path), S3Settings())
    video = make_video("a").ref
    looked_at = []

    def extract(video, **_):
        looked_at.append(video.video_id)
        return lost_video(video, fault="corrupt", reason="made up")

    monkeypatch.setattr(steps, "extract_isolated", extract)

    def extract_shard():
        settings = {"settings": ExtractSettings(), "limits": LimitSettings(), "shard_bytes": 1}
        return steps.extract_shard(Here(), tables, Shard("s", (video,), (None,)), fingerprint="fp", by=BY, **settings)

    commit = Tables._commit_to

    def fail(self, table, *some):
        if table == failing:
            raise StoreError("503 SlowDown")
        commit(self, table, *some)

    with monkeypatch.context() as bad_moment:
        bad_moment.setattr(Tables, "_commit_to", fail)
        with pytest.raises(StoreError):
            extract_shard()
    assert tables.read("videos").num_rows == 0
    extract_shard()
    assert tables.read("videos")["video_id"].to_pylist() == ["a"]
    assert looked_at == ["a"]


def test_a_shard_of_features_fails_alone_and_only_it_is_tried_again(tmp_path, monkeypatch):
    """Fails if what a worker raises is raised at once, or if the next try does not ask for the owners of claims."""
    tables = open_tables(str(tmp_path), S3Settings())
    png = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    for video in "abc":
        key = {"video_id": video, "content_id": "c"}
        rows = {
            # Of one of them something else took the faces away.
            "faces": [make_row("faces", **key, crop_png=png)] if video != "b" else [],
            "videos": [make_row("videos", **key, attempt=1, status="ok")],
        }
        tables.commit(tables.settle(rows, [(video, "c", 1)], fingerprint="fp", shard=video, by=BY), by=BY)
    (plan,) = plan_features(tables, [PixelsSettings()], faces_fingerprint="fp", videos_per_shard=1)
    decoded = []
    monkeypatch.setattr(crops, "decode_crop", lambda png: decoded.append(png) or np.zeros((64, 64, 3), np.uint8))
    for _ in range(2):
        with pytest.raises(StoreError, match="has no rows of b"):
            steps.compute_features(Here(), tables, plan, by=BY)
        assert sorted(tables.read("features")["video_id"].to_pylist()) == ["a", "c"]
        assert len(decoded) == 2


def test_features_of_a_store_see_landmarks_frames_and_tracks(tmp_path):
    tables = open_tables(str(tmp_path), S3Settings())
    points = dict(zip(POINTS, np.arange(10.0), strict=True))
    for video, width in (("a", 100), ("b", 200)):
        key = {"video_id": video, "content_id": "c"}
        faces = []
        for frame in (60, 0, 30):
            png = cv2.imencode(".png", np.full((32, 32, 3), frame + 1, np.uint8))[1].tobytes()
            box = {"x1": 10, "y1": 20, "x2": 30, "y2": 60}
            faces.append(make_row("faces", **key, **box, **points, frame_index=frame, crop_png=png))
        rows = {
            "faces": faces,
            "videos": [make_row("videos", **key, attempt=1, status="ok", width=width, height=400)],
        }
        tables.commit(tables.settle(rows, [(video, "c", 1)], fingerprint="fp", shard=video, by=BY), by=BY)
    chosen = [LandmarksSettings(), TemporalSettings(of=PixelsSettings(size_px=4))]
    for plan in plan_features(tables, chosen, faces_fingerprint="fp", videos_per_shard=8):
        assert steps.compute_features(Here(), tables, plan, by=BY) == 6
        found = tables.read("features", fingerprint=plan.fingerprint).to_pylist()
        values = {(row["video_id"], row["frame_index"]): np.frombuffer(row["values"], row["dtype"]) for row in found}
        if plan.settings.name == "landmarks":
            # The middle of the box, and its sides, as shares of each video's own frame.
            np.testing.assert_allclose(values["a", 0][26:], [0.2, 0.1, 0.2, 0.1])
            np.testing.assert_allclose(values["b", 30][26:], [0.1, 0.1, 0.1, 0.1])
        else:
            for row in values.values():
                assert row[[0, 48, 96]].tolist() == [30, 0, 0]
