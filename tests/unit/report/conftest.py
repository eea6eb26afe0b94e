"""A small store whose sums are known by heart."""

import pytest

from dfpipe.plan import plan_faces
from dfpipe.settings import Settings
from dfpipe.shards import open_tables
from dfpipe.testing import as_catalog, finish_faces, make_video, write_catalog

FACTS = {
    "container": "mov",
    "codec": "h264",
    "width": 640,
    "height": 360,
    "rotation_degrees": 0,
    "pixel_format": "yuv420p",
    "frame_rate": 25.0,
    "is_variable_rate": False,
    "num_frames": 100,
    "num_keyframes": 4,
    "duration_seconds": 4.0,
    "has_audio": True,
}


def counts(wanted, decoded, with_face, kept, *, found=None, rejected=None):
    """Columns of frames and faces that balance."""
    rejected = rejected or {}
    return {
        "frames_asked": 7,
        "frames_wanted": wanted,
        "frames_decoded": decoded,
        "frames_missing": wanted - decoded,
        "frames_with_face": with_face,
        "frames_without_face": decoded - with_face,
        "frames_with_kept_face": kept,
        "faces_found": kept + sum(rejected.values()) if found is None else found,
        "faces_kept": kept,
    } | {f"faces_rejected_{name}": number for name, number in rejected.items()}


TIMES = {"cpu_seconds": 2.0, "decode_seconds": 0.5, "detect_seconds": 1.5, "encode_seconds": 0.5}

LEDGER = {
    "d/r/1": FACTS | TIMES | counts(7, 7, 7, 7) | {"run_id": "first"},
    "d/r/2": FACTS | TIMES | counts(7, 6, 5, 4, rejected={"blurred": 1}) | {"run_id": "first", "num_frames": 200},
    "d/f/1": FACTS | TIMES | counts(7, 7, 3, 2, rejected={"small": 2, "other_person": 1}) | {"codec": "hevc"},
    "d/f/2": FACTS | TIMES | counts(7, 7, 0, 0) | {"status": "no_face", "reason": "no face was found in 7 frames"},
    "d/f/3": {"status": "corrupt", "reason": "the container holds no frames", "cpu_seconds": 0.5},
    "d/f/4": {"status": "crashed", "reason": "its process died twice while working on it", "cpu_seconds": 30.0},
    "d/f/5": FACTS | {"status": "filtered", "reason": "frames is 100, ...", "cpu_seconds": 0.5},
    "d/f/7": FACTS
    | TIMES
    | counts(7, 7, 7, 0, rejected={"blurred": 7})
    | {"status": "no_face", "reason": "none of 7 faces was kept: 7 blurred"},
}
"""Two real videos and six fake ones; the row's run is "second" where nothing else is said."""

CATALOG = [
    *(make_video(f"d/r/{number}", size_bytes=1_000_000) for number in (1, 2)),
    *(
        make_video(f"d/f/{number}", label="fake", manipulation="swap" if number < 4 else "puppet", size_bytes=500_000)
        for number in range(1, 8)
    ),
]
"""The last but one is pending."""


@pytest.fixture
def settings(tmp_path):
    return Settings(store=str(tmp_path / "store"))


@pytest.fixture
def tables(settings):
    return open_tables(settings.store, settings.s3)


@pytest.fixture
def finish(settings, tables):
    """Store a catalog, and the ledger rows of those videos of which columns are given."""

    def finish(catalog, columns, crops=None):
        write_catalog(tables, catalog)
        todo = plan_faces(as_catalog([video for video in catalog if video.video_id in columns]), tables, settings)
        rows = {name: {"run_id": "second"} | row for name, row in columns.items()}
        finish_faces(tables, todo, columns=rows, crops=crops)

    return finish


@pytest.fixture
def store(finish):
    finish(CATALOG, LEDGER)
