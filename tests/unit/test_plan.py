"""The plan is an anti-join: what was done is never planned again, and nothing else is left out."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa
import pytest

from dfpipe import plan
from dfpipe.errors import CatalogError, StoreError
from dfpipe.plan import (
    plan_catalog,
    plan_faces,
    plan_features,
    training_fingerprint,
    training_settings_hash,
    usable_videos,
)
from dfpipe.settings import (
    CropSettings,
    EvaluationSettings,
    ExtractSettings,
    LimitSettings,
    MtcnnSettings,
    PixelsSettings,
    S3Settings,
    Selection,
    Settings,
    TrainSettings,
    UniformSampling,
)
from dfpipe.shards import open_tables
from dfpipe.stages import faces_stage
from dfpipe.testing import BY, as_catalog, finish_faces, finish_features, make_video

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path), S3Settings())


def catalog(*names, **more):
    return as_catalog([make_video(name, **more) for name in names])


def faces_plan(videos, tables, extract=ExtractSettings(), selection=Selection(), **more):
    return plan_faces(videos, tables, Settings(extract=extract, **more), selection=selection)


def work(todo):
    return [(video.video_id, video.attempt) for shard in todo.shards() for video in shard.videos]


def finish(tables, todo, hour=0, **columns):
    """End every planned video at this hour."""
    columns |= {"finished_at": START + timedelta(hours=hour)}
    finish_faces(tables, todo, columns=dict.fromkeys(todo.todo["video_id"].to_pylist(), columns))


def test_an_empty_catalog_plans_nothing(tables):
    todo = faces_plan(catalog(), tables)
    assert (todo.todo.num_rows, todo.num_shards, list(todo.shards())) == (0, 0, [])
    assert (todo.reasons, todo.kept, todo.gone, todo.figures) == ({}, {}, 0, None)


def test_new_then_done_then_changed(tables):
    first = faces_plan(catalog("a", "b", "c"), tables, videos_per_shard=2)
    assert [len(shard.videos) for shard in first.shards()] == [2, 1]
    assert (first.num_shards, first.reasons) == (2, {"new": 3})
    finish(tables, first)
    assert faces_plan(catalog("a", "b", "c"), tables).kept == {"done": 3}

    touched = as_catalog(
        [make_video("a", modified="later"), make_video("b", content="other"), make_video("c"), make_video("d")]
    )
    again = faces_plan(touched, tables)
    assert again.reasons == {"content changed": 1, "new": 1}
    assert work(again) == [("b", 1), ("d", 1)]
    assert again.kept == {"done": 2}


def test_the_setting_that_changed_is_named_and_going_back_redoes_nothing(tables):
    finish(tables, faces_plan(catalog("a"), tables))
    wider = ExtractSettings(crop=CropSettings(margin_fraction=0.2))
    todo = faces_plan(catalog("a"), tables, wider)
    assert todo.reasons == {"settings changed: extract.crop.margin_fraction 0.0 -> 0.2": 1}
    finish(tables, todo, hour=1)
    assert faces_plan(catalog("a"), tables).kept == {"done": 1}


def test_a_video_is_compared_with_what_was_done_to_it_last(tables):
    finish(tables, faces_plan(catalog("a"), tables, ExtractSettings(min_frames=2)), hour=1)
    finish(tables, faces_plan(catalog("a"), tables, ExtractSettings(min_frames=3)), hour=0)
    reasons = faces_plan(catalog("a"), tables, ExtractSettings(min_frames=4)).reasons
    assert reasons == {"settings changed: extract.min_frames 2 -> 4": 1}
    # Both changed; the content is the first reason that holds.
    reasons = faces_plan(catalog("a", content="c1"), tables, ExtractSettings(min_frames=4)).reasons
    assert reasons == {"content changed": 1}


def test_other_code_redoes_the_work(tables, monkeypatch):
    finish(tables, faces_plan(catalog("a"), tables))
    monkeypatch.setattr("dfpipe.extract.VERSION", 99)
    assert faces_plan(catalog("a"), tables).reasons == {"code version changed": 1}


def test_rows_of_an_earlier_dfpipe_have_no_record_to_compare_with(tables, tmp_path):
    finish(tables, faces_plan(catalog("a"), tables))
    for file in (tmp_path / "stages").iterdir():
        file.unlink()
    assert faces_plan(catalog("a"), tables, ExtractSettings(min_frames=2)).reasons == {"settings or code changed": 1}


def test_the_same_work_has_the_same_name_whatever_the_order(tables):
    videos = catalog("a", "b", "c")
    backwards = videos.take([2, 1, 0])
    assert list(faces_plan(videos, tables).shards()) == list(faces_plan(backwards, tables).shards())


def test_failed_videos_are_not_usable_but_done(tables):
    todo = faces_plan(catalog("a"), tables)
    finish(tables, todo, status="corrupt")
    assert faces_plan(catalog("a"), tables).kept == {"corrupt": 1}
    assert usable_videos(catalog("a"), tables, faces_fingerprint=todo.fingerprint).num_rows == 0


@pytest.mark.parametrize("status", ["timeout", "too_large", "too_long"])
def test_what_the_limits_refused_is_tried_again_under_other_limits(tables, status):
    finish(tables, faces_plan(catalog("a"), tables), status=status)
    assert faces_plan(catalog("a"), tables).kept == {status: 1}
    todo = faces_plan(catalog("a"), tables, limits=LimitSettings(timeout_seconds=900))
    assert todo.reasons == {"failed before under other limits": 1}
    assert work(todo) == [("a", 2)]


@pytest.mark.parametrize("status", ["ok", "no_face", "crashed", "corrupt", "filtered"])
def test_other_limits_change_nothing_for_the_rest(tables, status):
    finish(tables, faces_plan(catalog("a"), tables), status=status)
    todo = faces_plan(catalog("a"), tables, limits=LimitSettings(timeout_seconds=900))
    assert todo.kept == {"done" if status == "ok" else status: 1}


def test_what_a_person_asks_for_is_done_again_and_only_that(tables):
    todo = faces_plan(catalog("a", "b"), tables)
    finish_faces(tables, todo, columns={"a": {"status": "crashed"}})
    again = faces_plan(catalog("a", "b"), tables, selection=Selection(retry=["crashed", "empty"]))
    assert again.reasons == {"asked for again": 1}
    assert work(again) == [("a", 2)]
    finish(tables, again, hour=1, status="crashed")
    third = faces_plan(catalog("a", "b"), tables, selection=Selection(retry=["crashed"]))
    assert work(third) == [("a", 3)]
    assert faces_plan(catalog("a", "b"), tables).kept == {"done": 1, "crashed": 1}


def test_what_left_the_source_is_counted(tables):
    finish(tables, faces_plan(catalog("a", "b"), tables))
    finish(tables, faces_plan(catalog("a", "b"), tables, ExtractSettings(min_frames=2)))
    todo = faces_plan(catalog("b"), tables)
    assert (todo.kept, todo.gone) == ({"done": 1}, 1)


@pytest.mark.parametrize(
    ("other", "lends"),
    [
        ({"crop": CropSettings(margin_fraction=0.2)}, True),
        ({"quality": {"min_size_px": 9}}, True),
        ({"detector": MtcnnSettings(min_score=0.5)}, False),
        ({"sampling": UniformSampling()}, False),
    ],
)
@pytest.mark.parametrize(("status", "found"), [("ok", True), ("no_face", True), ("timeout", False)])
def test_detections_of_the_same_content_can_be_lent(tables, other, lends, status, found):
    first = faces_plan(catalog("a"), tables)
    finish(tables, first, status=status)
    (shard,) = faces_plan(catalog("a"), tables, ExtractSettings(**other)).shards()
    assert shard.lenders == (first.fingerprint if lends and found else None,)
    (shard,) = faces_plan(catalog("a", content="c1"), tables, ExtractSettings(**other)).shards()
    assert shard.lenders == (None,)


def test_what_is_asked_for_again_is_not_lent(tables):
    finish(tables, faces_plan(catalog("a"), tables))
    other = ExtractSettings(min_frames=2)
    finish(tables, faces_plan(catalog("a"), tables, other), status="few_frames")
    (shard,) = faces_plan(catalog("a"), tables, other, selection=Selection(retry=["few_frames"])).shards()
    assert shard.lenders == (None,)


def test_shards_hold_as_much_as_the_ledger_says_that_fits(tables):
    names = [f"v{number}" for number in range(10)]
    assert faces_plan(catalog(*names), tables, shard_bytes=5 * plan.GUESSED_BYTES_A_VIDEO).videos_per_shard == 5
    first = faces_plan(catalog("x", "y"), tables)
    finish_faces(tables, first, columns={"x": {"stored_bytes": 300}, "y": {"status": "corrupt", "stored_bytes": 0}})
    todo = faces_plan(catalog(*names), tables, shard_bytes=1000)
    assert [len(shard.videos) for shard in todo.shards()] == [3, 3, 3, 1]
    # Under other settings the latest ones tell.
    other = ExtractSettings(min_frames=2)
    assert faces_plan(catalog(*names), tables, other, shard_bytes=1000).videos_per_shard == 3
    assert faces_plan(catalog(*names), tables, shard_bytes=1).videos_per_shard == 1
    assert faces_plan(catalog(*names), tables, shard_bytes=1000, videos_per_shard=2).videos_per_shard == 2


def test_shards_are_cut_when_they_are_asked_for(tables):
    """Fails when all shards are made first: the second would be asked of a table that is not there any more."""
    todo = faces_plan(catalog("a", "b"), tables, videos_per_shard=1)
    shards = todo.shards()
    assert next(shards).videos[0].video_id == "a"
    object.__setattr__(todo, "todo", None)
    with pytest.raises(AttributeError):
        next(shards)


def select(listed, tables, **chosen):
    todo = faces_plan(listed, tables, selection=Selection(**chosen))
    assert todo.todo.num_rows + sum(todo.kept.values()) == listed.num_rows
    return todo.todo["video_id"].to_pylist()


def test_a_run_can_be_narrowed_to_ids_and_patterns(tables):
    listed = catalog("ffpp/Deepfakes/c23/000_003", "ffpp/original/c23/000", "dfdc/x", "odd/[1]")
    assert select(listed, tables, videos=["ffpp/*/c23/*"]) == ["ffpp/Deepfakes/c23/000_003", "ffpp/original/c23/000"]
    assert select(listed, tables, videos=["dfdc/x", "*/00?"]) == ["dfdc/x", "ffpp/original/c23/000"]
    assert select(listed, tables, videos=["odd/[1]"]) == ["odd/[1]"]
    assert select(listed, tables, videos=["[!of]*"]) == ["dfdc/x"]


def test_a_run_can_be_narrowed_to_data_sets(tables):
    listed = as_catalog([make_video("a", dataset="ffpp"), make_video("b", dataset="dfdc"), make_video("c")])
    assert select(listed, tables, datasets=["ffpp", "d"]) == ["a", "c"]
    assert select(listed, tables, datasets=["ffpp", "dfdc"], videos=["b"]) == ["b"]


def test_a_run_can_be_narrowed_to_when_videos_changed(tables):
    local = round(datetime(2026, 1, 2, tzinfo=UTC).timestamp()) * 10**9
    listed = as_catalog(
        [
            make_video("before", modified=str(local - 1)),
            make_video("local", modified=str(local)),
            make_video("object", modified="2026-01-02T02:00:00+02:00"),
            make_video("old object", modified="2026-01-01T23:59:59.999999+00:00"),
        ]
    )
    assert select(listed, tables, since="2026-01-02") == ["local", "object"]
    assert select(listed, tables, since="2026-01-02T01:00:00+01:00") == ["local", "object"]
    # That nothing changed is no mistake.
    assert select(listed, tables, since="2027-01-01") == []
    # Exclusive, so that the ranges of two days share nothing.
    assert select(listed, tables, before="2026-01-02") == ["before", "old object"]
    assert select(listed, tables, since="2026-01-02", before="2026-01-02") == []
    assert select(listed, tables, since="2026-01-02", before="2027-01-01") == ["local", "object"]


@pytest.mark.parametrize("chosen", [{"videos": ["a", "b*"]}, {"datasets": ["d", "b*"]}])
def test_what_matches_nothing_is_told(tables, chosen):
    with pytest.raises(CatalogError, match=r"^no video of the catalog matches b\*; .*the data sets are d$"):
        faces_plan(catalog("a"), tables, selection=Selection(**chosen))


def test_a_narrowed_run_leaves_the_rest_for_later(tables):
    videos = catalog("a", "b")
    todo = faces_plan(videos, tables, selection=Selection(videos=["b"]))
    assert (work(todo), todo.kept) == ([("b", 1)], {"left out by the selection": 1})
    finish(tables, todo)
    todo = faces_plan(videos, tables)
    assert (work(todo), todo.kept) == ([("a", 1)], {"done": 1})


def test_no_room_for_the_join_is_told_in_a_line(tables, monkeypatch):
    monkeypatch.setattr(plan, "MEMORY", "1MB")
    with pytest.raises(StoreError, match=r"^cannot compare catalog and store in .*TMPDIR"):
        faces_plan(catalog(*map(str, range(50_000))), tables)


def features_plan(tables, todo, *sets, videos_per_shard=9):
    return plan_features(tables, sets, faces_fingerprint=todo.fingerprint, videos_per_shard=videos_per_shard)


def test_features_are_planned_for_every_video_with_faces_that_lacks_them(tables):
    videos = faces_plan(catalog("a", "b", "c", "d"), tables, videos_per_shard=2)
    finish_faces(tables, videos, columns={"b": {"status": "no_face"}})
    small, large = features_plan(tables, videos, PixelsSettings(size_px=8), PixelsSettings(size_px=9))
    assert [shard.videos for shard in small.works()] == [(("a", "c0", 1), ("c", "c0", 1), ("d", "c0", 1))]
    assert (small.num_shards, small.kept) == (1, 0)
    finish_features(tables, small)
    small, other = features_plan(tables, videos, PixelsSettings(size_px=8), PixelsSettings(size_px=9))
    assert (small.todo.num_rows, small.num_shards, small.kept) == (0, 0, 3)
    assert list(other.works()) == list(large.works())

    again = faces_plan(catalog("a", "b", "c", "d"), tables, selection=Selection(videos=["c"], retry=["ok"]))
    finish(tables, again, hour=1)
    (small,) = features_plan(tables, videos, PixelsSettings(size_px=8))
    assert [shard.videos for shard in small.works()] == [(("c", "c0", 2),)]


def test_small_face_shards_are_joined_and_large_ones_cut(tables):
    names = [f"v{number:02}" for number in range(12)]
    for run in (names[:1], names[1:3], names[3:5], names[5:]):
        videos = faces_plan(catalog(*names), tables, selection=Selection(videos=run))
        finish_faces(tables, videos, columns={name: {"shard": run[0]} for name in run})
    (todo,) = features_plan(tables, videos, PixelsSettings(), videos_per_shard=4)
    shards = [[video for video, _, _ in shard.videos] for shard in todo.works()]
    assert shards == [names[:3], names[3:5], names[5:9], names[9:]]
    assert todo.num_shards == 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"modified": "later", "url": "s3://elsewhere/a"}, None),
        ({"content_id": "c1"}, "content changed"),
        ({"label": "fake"}, "label, people or split changed"),
        ({"source": "somebody"}, "label, people or split changed"),
        ({"split": "test"}, "label, people or split changed"),
        ({"video_id": "b"}, "new"),
    ],
)
def test_what_changes_in_the_catalog_is_told_by_what_depends_on_it(change, reason):
    video = {"video_id": "a", "content_id": "c0"} | change
    now = as_catalog([make_video(video.pop("video_id"), video.pop("content_id"), **video)])
    told = plan_catalog(catalog("a"), now)
    assert (told.reasons, told.kept) == ({reason: 1} if reason else {}, 0 if reason else 1)
    assert told.gone == (reason == "new")


@pytest.mark.parametrize(
    "change", [{"content_id": "other"}, {"label": "fake"}, {"source": "somebody"}, {"target": "somebody else"}]
)
def test_training_is_redone_for_what_it_learns_from(change):
    before = training_fingerprint(catalog("a"), TrainSettings(), faces_fingerprint="fp")
    changed = make_video("a", **{"content" if key == "content_id" else key: value for key, value in change.items()})
    assert training_fingerprint(as_catalog([changed]), TrainSettings(), faces_fingerprint="fp") != before
    moved = make_video("a", url="s3://elsewhere/a.mp4", modified="later")
    assert training_fingerprint(as_catalog([moved]), TrainSettings(), faces_fingerprint="fp") == before


@pytest.mark.parametrize(
    ("protocol", "change", "redone"),
    [
        ("identity", {"split": "test"}, False),
        ("official", {"split": "test"}, True),
        ("official", {"url": "s3://b/test/x.mp4", "dataset": "dfdc"}, True),
        ("official", {"url": "s3://b/test/x.mp4"}, False),
    ],
)
def test_training_is_redone_for_official_sides_where_they_count(protocol, change, redone):
    settings = TrainSettings.model_validate({"split": {"protocol": protocol}})
    before = make_video("x", dataset=change.get("dataset", "d"))
    one, other = (
        training_fingerprint(as_catalog([video]), settings, faces_fingerprint="fp")
        for video in (before, make_video("x", **change))
    )
    assert (one != other) == redone


def test_training_is_redone_for_another_split():
    prints = {
        training_fingerprint(catalog("a"), TrainSettings.model_validate({"split": split}), faces_fingerprint="fp")
        for split in ({}, {"protocol": "seed"}, {"protocol": "official"}, {"official_leaks": "mark"}, {"folds": 4})
    }
    assert len(prints) == 5


def test_comparing_faces_makes_another_training_and_leaves_all_others_as_they_were():
    prints = {
        (
            training_fingerprint(catalog("a"), TrainSettings.model_validate({"split": split}), faces_fingerprint="fp"),
            training_settings_hash(TrainSettings.model_validate({"split": split}), faces_fingerprint="fp"),
        )
        for split in (
            {},
            {"face_duplicates": None},
            {"face_duplicates": {}},
            {"face_duplicates": {"max_distance": 0.1}},
            {"face_duplicates": {"min_share": 0.9}},
        )
    }
    assert len(prints) == 4
    # Off, it is in no dump, so that hashes are those of trainings made before there was a choice.
    assert "face_duplicates" not in TrainSettings().model_dump_json()


@pytest.mark.parametrize(
    "evaluation",
    [
        {"calibration": "isotonic"},
        {"threshold": {"name": "fixed"}},
        {"threshold": {"name": "false_alarm_rate", "rate": 0.1}},
        {"bootstrap": {"samples": 500}},
        {"by": ["manipulation"]},
    ],
)
def test_training_is_redone_for_another_way_of_judging(evaluation):
    judged = TrainSettings(evaluation=EvaluationSettings.model_validate(evaluation))
    assert training_settings_hash(judged, faces_fingerprint="fp") != training_settings_hash(
        TrainSettings(), faces_fingerprint="fp"
    )
    assert training_fingerprint(catalog("a"), judged, faces_fingerprint="fp") != training_fingerprint(
        catalog("a"), TrainSettings(), faces_fingerprint="fp"
    )


def test_no_training_is_redone_for_what_is_only_shown():
    shown = TrainSettings(evaluation=EvaluationSettings.model_validate({"sheets": {"videos": 10}}))
    for of in (partial(training_fingerprint, catalog("a")), training_settings_hash):
        assert of(shown, faces_fingerprint="fp") == of(TrainSettings(), faces_fingerprint="fp")


def test_training_is_redone_where_videos_are_parted_otherwise():
    by = TrainSettings(evaluation=EvaluationSettings(by=["split"]))
    for settings, is_redone in ((by, True), (TrainSettings(), False)):
        one, other = (
            training_fingerprint(as_catalog([make_video("a", split=split)]), settings, faces_fingerprint="fp")
            for split in ("train", "test")
        )
        assert (one != other) == is_redone


def test_training_is_redone_for_other_code(monkeypatch):
    before = training_fingerprint(catalog("a"), TrainSettings(), faces_fingerprint="fp")
    monkeypatch.setattr(plan, "TRAIN_VERSION", 99)
    assert training_fingerprint(catalog("a"), TrainSettings(), faces_fingerprint="fp") != before


def test_the_settings_of_a_training_are_told_apart_from_its_rows():
    before = training_settings_hash(TrainSettings(), faces_fingerprint="fp")
    assert training_settings_hash(TrainSettings(), faces_fingerprint="fp") == before
    assert training_settings_hash(TrainSettings(seed=1), faces_fingerprint="fp") != before
    assert training_settings_hash(TrainSettings(), faces_fingerprint="other") != before


def test_the_record_of_the_stage_goes_with_the_plan(tables):
    todo = faces_plan(catalog("a"), tables)
    assert todo.stage == faces_stage(ExtractSettings())
    assert pa.types.is_int32(todo.todo.schema.field("attempt").type)


def test_what_was_settled_and_not_committed_is_no_work(tables, monkeypatch):
    """A run died before its commits; the next one only makes these, and does not extract the videos again."""
    catalog = as_catalog([make_video(name) for name in "ab"])
    first = plan_faces(catalog, tables, Settings(), selection=Selection(videos=["a"]))
    with monkeypatch.context() as dying:
        dying.setattr(type(tables), "commit", lambda *some, **more: None)
        finish_faces(tables, first)
    then = plan_faces(catalog, tables, Settings())
    assert then.todo["video_id"].to_pylist() == ["b"]
    assert then.kept == {"done but for the commit, which the next run makes": 1}
    assert tables.roll_forward(first.fingerprint, by=BY) == 1
    assert plan_faces(catalog, tables, Settings()).kept == {"done": 1}


def test_rows_of_videos_make_another_training():
    both = [
        (
            training_fingerprint(catalog("a"), TrainSettings(rows=rows), faces_fingerprint="fp"),
            training_settings_hash(TrainSettings(rows=rows), faces_fingerprint="fp"),
        )
        for rows in ("face", "video")
    ]
    assert both[0][0] != both[1][0]
    assert both[0][1] != both[1][1]
