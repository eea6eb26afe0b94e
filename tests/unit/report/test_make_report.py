from dataclasses import asdict
from datetime import UTC, datetime, timedelta

import pytest

from dfpipe.extract import extract_fingerprint
from dfpipe.report import make_report, report_sections
from dfpipe.settings import CropSettings, ExtractSettings, ReportSettings
from dfpipe.shards.log import Change
from dfpipe.shards.schemas import REJECTIONS
from dfpipe.status import read_status
from dfpipe.testing import BY, ledger_row, make_video, write_catalog


def test_an_empty_store(settings):
    report = make_report(settings)
    assert (report.videos, report.run_id, report.run, report.whole.statuses) == (0, None, None, {})
    assert (report.distributions, report.formats, report.failures) == ((), (), ())
    assert report.whole.videos_per_core_second is None


def test_the_states_of_a_run_and_of_the_store(store, settings):
    report = make_report(settings, run_id="second")
    assert report.videos == sum(report.whole.statuses.values()) == 9
    assert report.whole.statuses == {
        "ok": 3,
        "no_face": 2,
        "corrupt": 1,
        "crashed": 1,
        "filtered": 1,
        "pending": 1,
    }
    assert report.run.statuses == {"ok": 1, "no_face": 2, "corrupt": 1, "crashed": 1, "filtered": 1}
    assert make_report(settings, run_id="first").run.statuses == {"ok": 2}
    assert make_report(settings, run_id="never").run.statuses == {}


def test_without_a_name_the_run_is_the_latest_that_wrote(finish, settings):
    now = datetime.now(UTC)
    rows = {"a": {"run_id": "new", "finished_at": now}, "b": {"run_id": "old", "finished_at": now - timedelta(hours=1)}}
    finish([make_video(name) for name in "abc"], rows)
    report = make_report(settings)
    assert (report.run_id, report.runs) == ("new", ("new", "old"))


def test_only_the_newest_runs_are_named(finish, settings):
    now = datetime.now(UTC)
    rows = {f"v{age}": {"run_id": f"run-{age}", "finished_at": now - timedelta(hours=age)} for age in range(9)}
    finish([make_video(name) for name in rows], rows)
    assert make_report(settings).runs == tuple(f"run-{age}" for age in range(5))


def test_other_settings_have_a_report_of_their_own(store, settings):
    other = settings.model_copy(update={"extract": ExtractSettings(crop=CropSettings(size_px=32))})
    assert make_report(other).whole.statuses == {"pending": 9}


def test_frames_and_faces_balance(store, settings):
    report = make_report(settings, run_id="first")
    for account, sums in (
        (report.whole, (35, 34, 1, 22, 12, 13, 24, 13, 11)),
        (report.run, (14, 13, 1, 12, 1, 11, 12, 11, 1)),
    ):
        names = ("wanted", "decoded", "missing", "with_face", "without_face", "with_kept_face")
        columns = [*(f"frames_{name}" for name in names), "faces_found", "faces_kept", "faces_rejected"]
        assert tuple(account.totals[name] for name in columns) == sums
        assert account.unbalanced_videos == 0
    assert report.whole.totals["faces_rejected_small"] == 2


@pytest.mark.parametrize(
    "column", ["frames_wanted", "frames_decoded", "frames_missing", "frames_without_face", "faces_found"]
)
def test_sums_that_do_not_come_out_even_are_told(finish, settings, column):
    from_ledger = {"frames_wanted": 3, "frames_decoded": 3, "frames_with_face": 3, "faces_found": 3, "faces_kept": 3}
    finish([make_video("a"), make_video("b")], {"a": from_ledger, "b": from_ledger | {column: 7}})
    assert make_report(settings).whole.unbalanced_videos == 1


@pytest.mark.parametrize("later", ["s1", "s2"])
def test_the_later_of_two_rows_of_a_video_counts_alone(settings, tables, later):
    """A store that was begun before videos were claimed may hold two; the later one has to win."""
    videos, now = [make_video(name) for name in "ab"], datetime.now(UTC)
    write_catalog(tables, videos)
    for shard, names in (("s1", "ab"), ("s2", "a")):
        status, seconds = ("ok", 1) if shard == later else ("timeout", 0)
        rows = [
            ledger_row(video, status=status, shard=shard, finished_at=now + timedelta(seconds=seconds))
            for video in videos
            if video.video_id in names
        ]
        file = tables.write_shard("videos", rows, fingerprint=extract_fingerprint(settings.extract), name=shard)
        tables.log("videos").transact(lambda _, file=file: Change([file]), by=BY)
    assert tables.read("videos").num_rows == 3
    states = {"ok": 2} if later == "s1" else {"ok": 1, "timeout": 1}
    assert make_report(settings).whole.statuses == states
    assert {row.status: row.videos for row in read_status(settings).statuses} == states


def test_distributions(store, settings):
    frames, rate, width, duration = make_report(settings).distributions
    assert [one.measure for one in (frames, rate, width, duration)] == ["frames", "rate", "width", "duration"]
    everybody, real, fake = frames.spreads
    assert asdict(real) == {
        "group": "real",
        "videos": 2,
        "least": 100,
        "percentile_5": 105,
        "median": 150,
        "mean": 150,
        "percentile_95": 195,
        "greatest": 200,
    }
    assert (everybody.videos, fake.videos) == (6, 4)
    assert {label: sum(counts) for label, counts in frames.histogram.counts.items()} == {"real": 2, "fake": 4}
    assert not frames.histogram.has_tail


def test_one_endless_video_does_not_squeeze_the_histogram(finish, settings):
    videos = [make_video(f"{number:03}") for number in range(200)]
    rows = {video.video_id: {"num_frames": 100 + number} for number, video in enumerate(videos)}
    rows["007"] = {"num_frames": 900_000}
    finish(videos, rows)
    (frames,) = make_report(settings).distributions
    assert frames.spreads[0].greatest == 900_000
    histogram = frames.histogram
    assert histogram.has_tail
    assert histogram.edges[-1] < 300
    assert sum(histogram.counts["real"]) == 200


def test_a_video_of_unknown_rate_counts_where_it_is_known(finish, settings):
    rows = {
        "a": {"num_frames": 100, "frame_rate": 25.0, "duration_seconds": 4.0},
        "b": {"num_frames": 1, "frame_rate": None, "duration_seconds": None},
    }
    finish([make_video(name) for name in rows], rows)
    found = {one.measure: one.spreads[0] for one in make_report(settings).distributions}
    assert {measure: one.videos for measure, one in found.items()} == {"frames": 2, "rate": 1, "duration": 1}
    assert (found["rate"].least, found["duration"].mean) == (25.0, 4.0)


def test_states_come_most_frequent_first(finish, settings):
    ends = ["timeout", "ok", "crashed", "ok", "corrupt"]
    rows = {f"{number}": {"status": status} for number, status in enumerate(ends)}
    finish([make_video(name) for name in rows], rows)
    assert list(make_report(settings).whole.statuses) == ["ok", "corrupt", "crashed", "timeout"]


@pytest.mark.parametrize("reason", REJECTIONS)
def test_every_reason_for_turning_a_face_away_is_in_the_balance(finish, settings, reason):
    turned_away = {"faces_found": 5, "faces_kept": 3, f"faces_rejected_{reason}": 2}
    finish([make_video("a"), make_video("b")], {"a": turned_away, "b": turned_away | {"faces_kept": 5}})
    report = make_report(settings)
    assert (report.whole.totals["faces_rejected"], report.whole.unbalanced_videos) == (4, 1)
    (balance,) = (section for section in report_sections(report) if section.title == "Frames and faces")
    assert (f"rejected: {reason.replace('_', ' ')}", "4", "4") in balance.rows


def test_a_video_with_few_frames_balances_and_all_its_frames_are_lost(finish, settings):
    reason = "few_frames"
    counts = {"frames_wanted": 7, "frames_decoded": 3, "frames_missing": 4, "frames_with_face": 2}
    counts |= {"frames_without_face": 1, "faces_found": 2, f"faces_rejected_{reason}": 2}
    finish([make_video("a")], {"a": counts | {"status": "few_frames", "reason": "got 3 frames"}})
    report = make_report(settings)
    assert (report.whole.unbalanced_videos, report.whole.totals["frames_decoded"]) == (0, 3)
    overall = report.losses.overall
    assert (overall.videos.part, overall.frames_without_face.part, overall.frames_lost.part) == (1, 5, 7)


def test_formats(store, settings):
    found = {(one.fact, one.value): one.videos for one in make_report(settings).formats}
    assert found["codec", "h264"] == {"real": 2, "fake": 3}
    assert found["codec", "hevc"] == {"fake": 1}
    assert found["sound", "yes"] == {"real": 2, "fake": 4}
    assert ("sound", "no") not in found


def test_throughput_is_of_all_videos_that_ended(store, settings):
    report = make_report(settings.model_copy(update={"report": ReportSettings(price_per_core_hour=3.6)}))
    whole = report.whole
    assert (whole.ended_videos, whole.source_bytes) == (8, 5_000_000)
    assert (whole.cpu_seconds, whole.worker_seconds) == (41.0, 43.5)
    assert whole.videos_per_core_second == pytest.approx(8 / 41)
    assert whole.frames_per_core_second == pytest.approx(34 / 41)
    assert whole.megabytes_per_core_second == pytest.approx(5 / 41)
    assert whole.videos_per_worker_second == pytest.approx(8 / 43.5)
    # So many seconds a video at a thousandth of the currency a second.
    assert whole.cost_per_1000_videos == pytest.approx(41 / 8)
    assert whole.worker_cost_per_1000_videos == pytest.approx(43.5 / 8)


def test_failures_are_those_that_lost_something(store, settings):
    report = make_report(settings)
    assert [(one.video_id, one.status) for one in report.failures] == [
        ("d/f/2", "no_face"),
        ("d/f/3", "corrupt"),
        ("d/f/4", "crashed"),
        ("d/f/7", "no_face"),
    ]
    assert report.num_failures == 4
    assert report.failures == read_status(settings).failures


def test_a_video_whose_faces_were_all_turned_away_is_lost(store, settings):
    losses = make_report(settings).losses.overall
    assert (losses.videos.part, losses.videos.whole) == (4, 7)
    assert (losses.frames_without_face.part, losses.frames_lost.part) == (13, 22)


def test_the_list_of_failures_is_bounded(store, settings, monkeypatch):
    monkeypatch.setattr("dfpipe.report.numbers.MAX_FAILURES", 2)
    report = make_report(settings)
    assert ([one.video_id for one in report.failures], report.num_failures) == (["d/f/2", "d/f/3"], 4)
