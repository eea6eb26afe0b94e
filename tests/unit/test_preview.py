"""A plan says what a run would do, and leaves no trace of having looked."""

import pytest

from dfpipe.catalog import to_videos
from dfpipe.plan import plan_faces
from dfpipe.preview import make_plan
from dfpipe.settings import load_settings
from dfpipe.shards import open_tables
from dfpipe.steps import list_source
from dfpipe.testing import finish_faces


@pytest.fixture
def settings(tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    (videos / "metadata.csv").write_text("video,label,identity\na.mp4,real,A\nb.mp4,fake,B\n")
    for name in "ab":
        (videos / f"{name}.mp4").write_bytes(name.encode())
    places = {"source": videos, "store": tmp_path / "store", "state": tmp_path / "state"}
    return load_settings(overrides=[f"{key}={value}" for key, value in places.items()], environ={})


def numbers(stages):
    return {stage.stage: (stage.todo, stage.kept) for stage in stages}


def test_everything_is_to_do_at_first_and_nothing_is_written(settings, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    stages = make_plan(settings)
    assert numbers(stages) == {"catalog": (2, 0), "faces": (2, 0), "features": (2, 0), "train": (1, 0)}
    assert stages[1].reasons == {"new": 2}
    assert sorted(tmp_path.rglob("*")) == before


def test_it_stops_where_the_run_would(settings):
    assert list(numbers(make_plan(settings, until="faces"))) == ["catalog", "faces"]


def test_what_is_done_is_kept_and_no_database_is_made_to_find_out(settings, tmp_path):
    tables = open_tables(settings.store, settings.s3)
    finish_faces(
        tables,
        plan_faces(to_videos(list_source(settings, None)), tables, settings.extract, videos_per_shard=9),
        status="no_face",
    )
    assert numbers(make_plan(settings))["faces"] == (0, 2)
    assert numbers(make_plan(settings))["train"] == (1, 0)
    assert not (tmp_path / "state").exists()
