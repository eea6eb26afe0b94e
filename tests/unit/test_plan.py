"""The plan is an anti-join: what was done is never planned again, and nothing else is left out."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dfpipe import plan
from dfpipe.plan import plan_faces, plan_features, training_fingerprint, usable_videos
from dfpipe.settings import CropSettings, ExtractSettings, PixelsSettings, S3Settings, TrainSettings
from dfpipe.shards import open_tables
from dfpipe.testing import as_catalog, finish_faces, make_video, write_features


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path), S3Settings())


def faces_plan(catalog, tables, extract=ExtractSettings(), videos_per_shard=2):
    return plan_faces(catalog, tables, extract, videos_per_shard=videos_per_shard)


def test_an_empty_catalog_plans_nothing(tables):
    todo = faces_plan([], tables)
    assert (todo.shards, todo.reasons, todo.kept) == ((), {}, 0)


def test_new_then_done_then_changed(tables):
    catalog = [make_video(name) for name in "abc"]
    first = faces_plan(catalog, tables)
    assert [len(shard.videos) for shard in first.shards] == [2, 1]
    assert first.reasons == {"new": 3}
    finish_faces(tables, first)
    assert faces_plan(catalog, tables).kept == 3

    touched = [
        make_video("a", modified="later"),
        make_video("b", content="other bytes"),
        make_video("c"),
        make_video("d"),
    ]
    again = faces_plan(touched, tables)
    assert again.reasons == {"content changed": 1, "new": 1}
    assert [one.video_id for shard in again.shards for one in shard.videos] == ["b", "d"]

    wider = faces_plan(catalog, tables, ExtractSettings(crop=CropSettings(margin_fraction=0.2)))
    assert wider.reasons == {"settings or code changed": 3}


def test_other_weights_or_code_redo_the_work(tables, monkeypatch):
    finish_faces(tables, faces_plan([make_video("a")], tables))
    monkeypatch.setattr("dfpipe.extract.VERSION", 99)
    assert faces_plan([make_video("a")], tables).reasons == {"settings or code changed": 1}


def test_the_same_work_has_the_same_name_whatever_the_order(tables):
    catalog = [make_video(name) for name in "abc"]
    assert faces_plan(catalog, tables).shards == faces_plan(catalog[::-1], tables).shards


def test_failed_videos_are_not_usable_but_done(tables):
    todo = faces_plan([make_video("a")], tables)
    finish_faces(tables, todo, status="corrupt")
    assert faces_plan([make_video("a")], tables).kept == 1
    assert usable_videos(as_catalog([make_video("a")]), tables, faces_fingerprint=todo.fingerprint).num_rows == 0


def test_features_are_planned_for_all_faces_that_lack_them(tables):
    plan = faces_plan([make_video("a"), make_video("b")], tables, videos_per_shard=1)
    finish_faces(tables, plan)
    stage = plan.fingerprint
    (todo,) = plan_features(tables, [PixelsSettings(size_px=8)], faces_fingerprint=stage)
    assert [shard.videos for shard in todo.shards] == [(("a", "c0", 1),), (("b", "c0", 1),)] or todo.kept == 0
    write_features(tables, PixelsSettings(size_px=8), [("a", "c0", 0, [1])], faces_fingerprint=stage)
    (todo,) = plan_features(tables, [PixelsSettings(size_px=8)], faces_fingerprint=stage)
    assert [shard.videos for shard in todo.shards] == [(("b", "c0", 1),)]
    (other,) = plan_features(tables, [PixelsSettings(size_px=9)], faces_fingerprint=stage)
    assert len(other.shards) == 2


@pytest.mark.parametrize(
    "change", [{"content_id": "other"}, {"label": "fake"}, {"source": "somebody"}, {"target": "somebody else"}]
)
def test_training_is_redone_for_what_it_learns_from(change):
    before = training_fingerprint(as_catalog([make_video("a")]), TrainSettings(), faces_fingerprint="fp")
    changed = make_video("a", **{"content" if key == "content_id" else key: value for key, value in change.items()})
    assert training_fingerprint(as_catalog([changed]), TrainSettings(), faces_fingerprint="fp") != before
    moved = make_video("a", url="s3://elsewhere/a.mp4", modified="later")
    assert training_fingerprint(as_catalog([moved]), TrainSettings(), faces_fingerprint="fp") == before


def test_training_is_redone_for_other_code(monkeypatch):
    before = training_fingerprint(as_catalog([make_video("a")]), TrainSettings(), faces_fingerprint="fp")
    monkeypatch.setattr(plan, "TRAIN_VERSION", 99)
    assert training_fingerprint(as_catalog([make_video("a")]), TrainSettings(), faces_fingerprint="fp") != before


CATALOGS = st.lists(
    st.dictionaries(st.sampled_from("abcdef"), st.sampled_from(["c0", "c1"]), max_size=6), min_size=1, max_size=5
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CATALOGS, st.integers(1, 4))
def test_over_any_history_each_content_is_planned_exactly_once(tmp_path_factory, catalogs, videos_per_shard):
    tables = open_tables(str(tmp_path_factory.mktemp("store")), S3Settings())
    done = set()
    for contents in catalogs:
        catalog = [make_video(name, content) for name, content in contents.items()]
        todo = faces_plan(catalog, tables, videos_per_shard=videos_per_shard)
        planned = [(one.video_id, one.content_id) for shard in todo.shards for one in shard.videos]
        assert len(planned) == len(set(planned))
        assert set(planned) == set(contents.items()) - done
        assert len(planned) + todo.kept == len(catalog)
        assert sum(todo.reasons.values()) == len(planned)
        finish_faces(tables, todo)
        done |= set(planned)
