import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable

from dfpipe.errors import StoreError
from dfpipe.provenance import Provenance
from dfpipe.settings import S3Settings
from dfpipe.shards import EXTRACTED, SCHEMAS, Tables, open_tables
from dfpipe.shards.upkeep import compact
from dfpipe.testing import BY, make_row


def face(video_id, frame_index=0, **columns):
    return make_row("faces", video_id=video_id, content_id="c", frame_index=frame_index, crop_png=b"png", **columns)


def ledger(video_id, attempt=1, **columns):
    return make_row("videos", **{"video_id": video_id, "content_id": "c", "attempt": attempt, "status": "ok"} | columns)


def settle(tables, *videos, shard="s", attempt=1, faces=2, fingerprint="fp", by=BY, **columns):
    """Settle what a stage found of these videos: so many faces of each, and their ledger rows."""
    rows = {
        "frames": [],
        "detections": [],
        "faces": [face(video, 30 * number) for video in videos for number in range(faces)],
        "face_videos": [],
        "videos": [ledger(video, attempt, **columns) for video in videos],
    }
    return tables.settle(rows, [(video, "c", attempt) for video in videos], fingerprint=fingerprint, shard=shard, by=by)


def do(tables, *videos, **more):
    works = settle(tables, *videos, **more)
    tables.commit(works, by=BY)
    return works


def seen(tables, table="videos", column="video_id"):
    return sorted(tables.read(table)[column].to_pylist())


@pytest.fixture
def tables(tmp_path):
    return open_tables(str(tmp_path / "store"), S3Settings())


def test_a_table_that_was_never_written_is_empty(tables):
    assert tables.read("faces", columns=["video_id"]).num_rows == 0
    assert tables.fingerprints("faces") == []
    assert tables.version("faces") is None


def test_rows_are_seen_only_after_the_commit_and_sorted(tables):
    works = settle(tables, "b", "a")
    assert tables.read("faces").num_rows == 0
    assert tables.read("videos").num_rows == 0
    tables.commit(works, by=BY)
    rows = tables.read("faces", fingerprint="fp", columns=["video_id", "frame_index", "fingerprint"]).to_pylist()
    expected = [("a", 0), ("a", 30), ("b", 0), ("b", 30)]
    assert rows == [{"video_id": video, "frame_index": frame, "fingerprint": "fp"} for video, frame in expected]
    assert tables.read("faces").schema.field("crop_png").type == pa.large_binary()
    (work,) = works
    assert set(tables.read("videos")["shard"].to_pylist()) == {work.name}


def test_doing_the_same_twice_doubles_nothing(tables):
    # Without the ids of commits, or without the claims, there are four faces and two ledger rows.
    for _ in range(2):
        do(tables, "a")
    assert tables.read("faces").num_rows == 2
    assert seen(tables) == ["a"]


def test_the_first_of_two_attempts_that_end_differently_counts(tables):
    do(tables, "a", "b", faces=1)
    assert do(tables, "a", "b", faces=3, status="timeout") == []
    assert tables.read("faces").num_rows == 2
    assert tables.read("videos")["status"].to_pylist() == ["ok", "ok"]


def test_timings_make_no_other_attempt(tables):
    first, again = (settle(tables, "a", cpu_seconds=seconds, run_id=run) for seconds, run in ((1.0, "x"), (2.0, "y")))
    assert [work.name for work in first] == [work.name for work in again]
    assert [work.files for work in first] == [work.files for work in again]


def test_what_another_run_has_claimed_is_left_to_it(tables):
    # The source grew between the starts of two runs, so they cut different shards.
    (theirs,) = settle(tables, "a", "b", shard="theirs")
    ours = settle(tables, "b", "c", shard="ours")
    assert theirs.name in {work.name for work in ours}
    tables.commit(ours, by=BY)
    assert seen(tables) == ["a", "b", "c"]
    assert seen(tables, "faces") == ["a", "a", "b", "b", "c", "c"]
    tables.commit([theirs], by=BY)
    assert seen(tables) == ["a", "b", "c"]


def test_the_owners_of_claims_are_known(tables):
    (work,) = settle(tables, "a", "b")
    keys = [("a", "c", 1), ("b", "c", 2), ("z", "c", 1)]
    assert tables.owners(keys, fingerprint="fp") == {("a", "c", 1): work.name}
    assert tables.owners(keys, fingerprint="other") == {}


def test_many_at_once_settle_every_video_once(tables):
    # Windows over the same videos, each cut differently; every pair of neighbours overlaps.
    videos = [f"v{number:02d}" for number in range(12)]
    windows = [videos[start : start + 4] for start in range(9)]
    with ThreadPoolExecutor(len(windows)) as pool:
        list(pool.map(lambda one: do(tables, *one, shard=f"from-{one[0]}", faces=1), windows))
    assert seen(tables) == videos
    assert seen(tables, "faces") == videos


def test_partitions_are_read_alone(tables):
    for fingerprint in ("old", "new"):
        do(tables, "a", fingerprint=fingerprint)
    assert tables.read("faces").num_rows == 4
    assert set(tables.read("faces", fingerprint="new")["fingerprint"].to_pylist()) == {"new"}
    assert tables.fingerprints("faces") == ["new", "old"]


def test_videos_are_read_alone_and_other_files_not_opened(tables, monkeypatch):
    for shard in ("ab", "cd", "ef"):
        do(tables, *shard, shard=shard)
    opened = []
    read = Tables.read_file
    monkeypatch.setattr(Tables, "read_file", lambda self, *some: opened.append(some[1]) or read(self, *some))
    rows = tables.read("faces", fingerprint="fp", videos=["c", "zz"], columns=["frame_index", "video_id"])
    assert rows.to_pylist() == [{"frame_index": frame, "video_id": "c"} for frame in (0, 30)]
    assert len(opened) == 1
    assert tables.read("faces", videos=[]).num_rows == 0


def test_videos_are_found_in_the_row_groups_of_a_large_file(tables, monkeypatch):
    monkeypatch.setattr("dfpipe.shards.files.ROW_GROUP_BYTES", 6)
    (work,) = do(tables, *"abcdef")
    (file,) = (file for file in work.files if file.table == "faces")
    assert pq.read_metadata(f"{tables.location('faces').path}/{file.path}").num_row_groups >= 5
    assert tables.read("faces", videos=["b", "e"])["video_id"].to_pylist() == ["b", "b", "e", "e"]


def test_batches_hold_the_rows_of_a_whole_read(tables):
    for shard in ("ab", "cd"):
        do(tables, *shard, shard=shard)
    columns = ["video_id", "frame_index", "fingerprint"]
    streamed = tables.read_batches("faces", columns=columns).read_all()
    assert sorted(map(str, streamed.to_pylist())) == sorted(map(str, tables.read("faces", columns=columns).to_pylist()))


def test_no_rows_write_no_file(tables, tmp_path):
    assert tables.write_shard("faces", [], fingerprint="fp", name="s1") is None
    assert not list((tmp_path / "store").rglob("*.parquet"))


def test_a_later_attempt_takes_the_place_of_the_earlier(tables):
    do(tables, "a", "b", status="timeout", faces=0)
    do(tables, "a", shard="again", attempt=2, faces=1)
    rows = tables.read("videos", columns=["video_id", "attempt", "status"]).to_pylist()
    assert sorted(rows, key=lambda row: row["video_id"]) == [
        {"video_id": "a", "attempt": 2, "status": "ok"},
        {"video_id": "b", "attempt": 1, "status": "timeout"},
    ]
    assert seen(tables, "faces") == ["a"]


def compute(tables, *videos, shard="s", attempt=1, fingerprint="ffp", value=b"v"):
    """Settle one feature row of each of these videos."""
    rows = [make_row("features", video_id=video, content_id="c", frame_index=0, values=value) for video in videos]
    keys = [(video, "c", attempt) for video in videos]
    return tables.settle({"features": rows}, keys, fingerprint=fingerprint, shard=shard, by=BY)


def test_features_of_a_later_attempt_take_the_place_of_the_earlier(tables):
    do(tables, "a", "b", faces=2)
    tables.commit(compute(tables, "a", value=b"old"), by=BY)
    tables.commit(compute(tables, "b", value=b"kept"), by=BY)
    first = do(tables, "a", shard="again", attempt=2, faces=1)
    assert seen(tables, "faces") == ["a", "b", "b"]
    tables.commit(compute(tables, "a", shard="t", attempt=2, value=b"new"), by=BY)
    # Whoever repeats the commit later takes nothing away that came since.
    tables.commit(first, by=BY)
    assert sorted(tables.read("features")["values"].to_pylist()) == [b"kept", b"new"]
    assert seen(tables, "faces") == ["a", "b", "b"]


def test_a_later_attempt_leaves_features_of_other_settings_alone(tables):
    """They are claimed, so nobody would compute them again; fails if features go when a retry of faces is committed."""
    do(tables, "a")
    do(tables, "a", fingerprint="other")
    tables.commit(compute(tables, "a", fingerprint="features of other"), by=BY)
    do(tables, "a", shard="again", attempt=2)
    assert tables.read("features", fingerprint="features of other").num_rows == 1


def test_an_earlier_attempt_that_was_claimed_is_committed_before_the_later(tables):
    """Its run may have died; fails, with a row of each attempt, without `Tables._earlier`."""
    compute(tables, "a", value=b"old")
    tables.commit(compute(tables, "a", shard="t", attempt=2, value=b"new"), by=BY)
    assert tables.roll_forward("ffp", by=BY) == 0
    assert tables.read("features")["values"].to_pylist() == [b"new"]


def test_an_earlier_attempt_comes_too_late_for_the_later(tables):
    """Its run may be slow; fails, with a row of each attempt, where claims of later attempts are not looked at."""
    tables.commit(compute(tables, "a", shard="t", attempt=2, value=b"new"), by=BY)
    tables.commit(compute(tables, "a", "b", value=b"old"), by=BY)
    rows = tables.read("features").sort_by("video_id")
    assert rows["video_id"].to_pylist() == ["a", "b"]
    assert rows["values"].to_pylist() == [b"new", b"old"]


def test_claims_whose_files_are_gone_need_none(tables, tmp_path):
    """Fails if what others have committed is looked up again: merging and a vacuum have taken those files away."""
    for video in "ab":
        tables.commit(compute(tables, video), by=BY)
    compact(tables, target_bytes=2**20, by=BY)
    visible = {file.path for file in tables.log("claims").files(tables.log("claims").open())}
    folder = tmp_path / "store" / "tables" / "claims"
    for path in folder.glob("fingerprint=*/*.parquet"):
        if str(path.relative_to(folder)) not in visible:
            path.unlink()
    tables.commit(compute(tables, "a", "c", shard="t"), by=BY)
    assert seen(tables, "features") == ["a", "b", "c"]


@pytest.mark.parametrize("table", EXTRACTED)
def test_a_run_that_died_between_two_tables_is_rolled_forward(tables, monkeypatch, table):
    commit = Tables._commit_to

    def die(self, at, *some):
        if at == table:
            raise KeyboardInterrupt
        commit(self, at, *some)

    with monkeypatch.context() as then:
        then.setattr(Tables, "_commit_to", die)
        with pytest.raises(KeyboardInterrupt):
            do(tables, "a", "b")
    assert tables.read("videos").num_rows == 0
    assert tables.roll_forward("fp", by=BY) == 1
    assert seen(tables) == ["a", "b"]
    assert tables.read("faces").num_rows == 4
    assert tables.roll_forward("fp", by=BY) == 0


def test_features_of_a_run_that_died_are_rolled_forward(tables):
    row = make_row("features", video_id="a", content_id="c", frame_index=0)
    tables.settle({"features": [row]}, [("a", "c", 1)], fingerprint="ffp", shard="s", by=BY)
    assert tables.roll_forward("ffp", by=BY) == 1
    assert seen(tables, "features") == ["a"]
    assert tables.roll_forward("ffp", by=BY) == 0


def test_what_was_put_but_not_claimed_is_never_seen(tables):
    tables.write_shard("faces", [face("a")], fingerprint="fp", name="s-1")
    tables.write_shard("videos", [ledger("a")], fingerprint="fp", name="s-1")
    assert tables.roll_forward("fp", by=BY) == 0
    assert tables.read("videos").num_rows == 0


def test_deleted_videos_leave_the_others_of_their_file(tables):
    do(tables, "a", "b", "c")
    do(tables, "b", fingerprint="other")
    gone = tables.delete_videos("faces", [("b", "c"), ("zz", "c")], by=BY)
    assert len(gone) == 2
    assert seen(tables, "faces") == ["a", "a", "c", "c"]
    assert tables.delete_videos("faces", [("b", "c")], by=BY) == []
    # Other content of the same name is another video.
    assert tables.delete_videos("faces", [("a", "other")], by=BY) == []


def test_a_read_can_be_pinned_to_versions(tables):
    do(tables, "a")
    version = tables.version("faces")
    do(tables, "b", shard="t")
    then = tables.at({"faces": version})
    assert seen(then, "faces") == ["a", "a"]
    assert seen(then, "videos") == ["a", "b"]
    assert then.version("faces") == version
    assert seen(tables, "faces") == ["a", "a", "b", "b"]


def test_replace_keeps_the_earlier_version_readable(tables):
    row = {"video_id": "a", "url": "u", "dataset": "d", "label": "real", "manipulation": "original", "compression": ""}
    row |= {"target": "t", "source": None, "split": None, "size_bytes": 1, "content_id": "c", "modified": "m"}
    for ids in (["a", "b"], ["c"]):
        data = pa.Table.from_pylist([row | {"video_id": name} for name in ids], schema=SCHEMAS["catalog"])
        tables.replace("catalog", data, by=BY)
    assert tables.read("catalog")["video_id"].to_pylist() == ["c"]
    assert DeltaTable(tables.location("catalog").url, version=0).count() == 2


def test_a_store_that_cannot_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"cannot write .*file"):
        open_tables(str(tmp_path / "file" / "store"), S3Settings())


def test_row_groups_are_bounded_in_bytes(tables, monkeypatch):
    monkeypatch.setattr("dfpipe.shards.files.ROW_GROUP_BYTES", 4096)
    rows = [face("a", index) | {"crop_png": bytes(2000)} for index in range(10)]
    file = tables.write_shard("faces", rows, fingerprint="fp", name="s1")
    metadata = pq.read_metadata(f"{tables.location('faces').path}/{file.path}")
    assert metadata.num_row_groups >= 5


def test_the_log_knows_what_people_filter_by(tables):
    when = [datetime(2026, 1, day, 12, tzinfo=UTC) for day in (3, 1)]
    rows = [
        ledger(name, finished_at=time, width=640 if name == "a" else None)
        for name, time in zip("ab", when, strict=True)
    ]
    works = tables.settle({"videos": rows}, [("a", "c", 1), ("b", "c", 1)], fingerprint="fp", shard="s", by=BY)
    tables.commit(works, by=BY)
    (action,) = pa.table(DeltaTable(tables.location("videos").url).get_add_actions(flatten=True)).to_pylist()
    assert (action["num_records"], action["min.video_id"], action["max.video_id"]) == (2, "a", "b")
    assert (action["min.finished_at"], action["max.finished_at"]) == (when[1], when[0])
    assert (action["min.width"], action["max.width"], action["null_count.width"]) == (640, 640, 1)
    assert action.get("min.reason") is None


def test_a_commit_tells_who_made_it(tables):
    by = Provenance("run-7", settings_hash="5e", git_revision="abc")
    tables.commit(settle(tables, "a", by=by), by=by)
    for table in ("claims", "faces", "videos"):
        (last,) = DeltaTable(tables.location(table).url).history(1)
        told = ("run_id", "settings_hash", "git_revision", "dfpipe_version")
        assert {name: last[name] for name in told} == by.as_metadata()


def test_a_store_of_an_earlier_version_gets_the_columns_that_came_later(tables, monkeypatch):
    later = SCHEMAS["faces"]
    earlier = pa.schema([field for field in later if field.name not in {"track", "yaw_degrees"}])
    with monkeypatch.context() as then:
        then.setitem(SCHEMAS, "faces", earlier)
        do(tables, "a", shard="s1", faces=1)
    open_tables(tables.url, S3Settings())
    do(tables, "b", shard="s2", faces=1)
    rows = tables.read("faces", columns=["video_id", "track"]).to_pylist()
    assert sorted(rows, key=lambda row: row["video_id"]) == [
        {"video_id": "a", "track": None},
        {"video_id": "b", "track": 0},
    ]
    seen = DeltaTable(tables.location("faces").url).to_pyarrow_table(columns=["video_id", "track"])
    assert sorted(seen.to_pylist(), key=lambda row: row["video_id"]) == sorted(rows, key=lambda row: row["video_id"])


def test_rows_are_sorted_across_row_groups_whatever_they_come_as(tables, monkeypatch):
    monkeypatch.setattr("dfpipe.shards.files.ROW_GROUP_BYTES", 1000)
    rows = [face("b", number) | {"crop_png": bytes(400)} for number in (3, 1, 2, 0)] + [face("a", 7)]
    schema = pa.schema([field for field in SCHEMAS["faces"] if field.name != "fingerprint"])
    for name, given in (("rows", rows), ("arrow", pa.Table.from_pylist(rows, schema=schema))):
        file = tables.write_shard("faces", given, fingerprint="fp", name=name)
        told = json.loads(file.statistics)
        assert (file.rows, told["minValues"]["video_id"], told["maxValues"]["video_id"]) == (5, "a", "b")
        stored = pq.ParquetFile(tables.location("faces").child(file.path).path)
        assert stored.num_row_groups >= 2
        read = stored.read(["video_id", "frame_index"]).to_pylist()
        assert [(row["video_id"], row["frame_index"]) for row in read] == [("a", 7), *(("b", n) for n in range(4))]
