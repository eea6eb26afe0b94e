"""Which crops of a store stand on a training's sheets; recording and forgetting them is in the integration tests."""

from types import SimpleNamespace

import cv2
import numpy as np
import pyarrow as pa
import pytest

from dfpipe import crops, sheets
from dfpipe.settings import S3Settings, SheetSettings
from dfpipe.shards import Tables, open_tables
from dfpipe.sheets import draw_sheets
from dfpipe.testing import BY, as_catalog, make_row, make_video

FAKE = {"label": "fake", "manipulation": "swap"}
VIDEOS = [make_video(name, **({} if name < "c" else FAKE)) for name in "abcd"]
FRAMES = (90, 0, 30, 60)


@pytest.fixture
def tables(tmp_path):
    """Crops with grey values that tell video and frame, of all videos but d; of b of an earlier content as well."""
    tables = open_tables(str(tmp_path), S3Settings())
    for shard, videos in enumerate(("ab", "c")):
        faces = [face(video, "c0", frame) for video in videos for frame in FRAMES]
        settle(tables, faces, str(shard))
    settle(tables, [face("b", "earlier", 200 + frame, 200) for frame in FRAMES], "2")
    settle(tables, [face("c", "c0", 30, 250)], "3", fingerprint="other settings")
    return tables


def face(video, content, frame, level=None):
    level = ord(video) + frame if level is None else level
    png = cv2.imencode(".png", np.full((16, 16, 3), level, np.uint8))[1].tobytes()
    return make_row("faces", video_id=video, content_id=content, frame_index=frame, crop_png=png)


def settle(tables, faces, shard, fingerprint="fp"):
    keys = sorted({(row["video_id"], row["content_id"], 1) for row in faces})
    ledger = [
        make_row("videos", video_id=video, content_id=content, attempt=1, status="ok") for video, content, _ in keys
    ]
    tables.commit(
        tables.settle({"faces": faces, "videos": ledger}, keys, fingerprint=fingerprint, shard=shard, by=BY), by=BY
    )


@pytest.fixture
def seen(monkeypatch):
    """A training that judged a right and all others wrong; and what is drawn and recorded of it."""
    predictions = {
        "video_id": list("abcd"),
        "label": ["real", "real", "fake", "fake"],
        "probability": [0.1, 0.9, 0.2, 0.3],
        "threshold": [0.4] * 4,
        "group": [0, 1, 2, 3],
    }
    seen = SimpleNamespace(predictions=pa.table(predictions), stands=False, examples={}, mistakes=None, recorded=None)

    def draw_examples(videos, crops, *, label, of):
        seen.examples[label] = (ids(videos), shades(crops, videos, first=True), of)
        return f"examples {label}"

    def draw_mistakes(videos, crops, *, of, faces):
        seen.mistakes = (ids(videos), shades(crops, videos), len(of), faces)
        return "mistakes"

    monkeypatch.setattr(sheets, "read_predictions", lambda *_: seen.predictions)
    monkeypatch.setattr(sheets, "has_sheets", lambda *_, **__: seen.stands)
    monkeypatch.setattr(sheets, "examples_figure", draw_examples)
    monkeypatch.setattr(sheets, "mistakes_figure", draw_mistakes)
    monkeypatch.setattr(
        sheets, "record_sheets", lambda _, run_id, drawn, **how: vars(seen).update(recorded=drawn, **how)
    )
    return seen


def ids(videos):
    return [video.video_id for video in videos]


def shades(crops, videos, *, first=False):
    shown = {one: [int(crop[0, 0, 0]) for crop in crops.get(one, ())] for one in ids(videos)}
    return {one: levels[:1] for one, levels in shown.items()} if first else shown


def draw(tables, settings, catalog=None):
    catalog = as_catalog(VIDEOS) if catalog is None else catalog
    return draw_sheets(None, "run", tables, catalog, settings, faces_fingerprint="fp")


@pytest.mark.parametrize("at_once", [1, 5, 64])
def test_each_video_shows_its_own_crops_along_time(tables, seen, monkeypatch, at_once, caplog):
    monkeypatch.setattr(crops, "FACES_AT_ONCE", at_once)
    assert draw(tables, SheetSettings(faces=2)) == 3
    a, b, c = map(ord, "abc")
    # One of an example: the middle; of a mistake both that are shown, in the order of time and not of the rows.
    assert seen.examples[0] == (["a", "b"], {"a": [a + 60], "b": [b + 90]}, 2)
    assert seen.examples[1][1]["d"] == []
    assert seen.mistakes == (["c", "d", "b"], {"c": [c + 30, c + 90], "d": [], "b": [b + 30, b + 90]}, 4, 2)
    recorded = {name: (sheet.figure, sheet.video_ids) for name, sheet in seen.recorded.items()}
    assert recorded == {
        "examples_real.png": ("examples 0", ["a", "b"]),
        "examples_fake.png": ("examples 1", ["c", "d"]),
        "mistakes.png": ("mistakes", ["c", "d", "b"]),
    }
    assert "no crops any more of 1 of the 4 videos" in caplog.text


def test_pictures_are_read_of_the_videos_shown_and_of_no_others(tables, seen, monkeypatch):
    asked = []
    read = Tables.read
    monkeypatch.setattr(
        Tables,
        "read",
        lambda *some, **how: asked.append((set(how["videos"]), "crop_png" in how["columns"])) or read(*some, **how),
    )
    seen.predictions = seen.predictions.slice(0, 1)
    draw(tables, SheetSettings())
    assert asked == [({"a"}, False), ({"a"}, True)]
    assert seen.recorded.keys() == {"examples_real.png"}, "no fake one is there, and nothing is wrong"


def test_nothing_is_drawn_that_is_not_asked_for_or_stands(tables, seen):
    assert draw(tables, None) == 0
    seen.stands = True
    assert draw(tables, SheetSettings()) == 0
    assert seen.recorded is None


def test_other_options_are_other_sheets(tables, seen):
    hashes = set()
    for options in ({}, {"videos": 2}, {"faces": 1}, {"seed": 1}):
        draw(tables, SheetSettings(**options))
        hashes.add(seen.drawn_by)
    assert len(hashes) == 4


def test_a_video_that_the_catalog_has_no_more_is_not_shown(tables, seen):
    draw(tables, SheetSettings(), as_catalog(VIDEOS[1:]))
    assert seen.examples[0][0] == ["b"]
