"""The preprocess flow accounts for its videos in the store and in Prefect, and fails where too many are lost.

What the workers make of a video is told here instead of extracted, so that its losses are known by heart.
"""

import json
from asyncio import run
from uuid import UUID

import pytest

from dfpipe import steps
from dfpipe.errors import LossError
from dfpipe.settings import load_settings
from dfpipe.shards import Tables
from dfpipe.testing import ledger_row, make_row

pytestmark = [pytest.mark.slow, pytest.mark.services]

FRAMES = {"frames_wanted": 7, "frames_decoded": 7, "frames_with_face": 7, "frames_with_kept_face": 7}
GOOD = FRAMES | {"num_frames": 200, "faces_found": 7, "faces_kept": 7, "cpu_seconds": 1.5}
ENDS = {
    "a": GOOD,
    "b": GOOD,
    "c": GOOD,
    "d": {"status": "corrupt", "reason": "torn | *by* <b>hand</b>"},
}


@pytest.fixture
def prefect_here(prefect_url):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.run_here import last_words

    with temporary_settings({PREFECT_API_URL: prefect_url}), last_words():
        yield


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A source of four files, and workers that end them as told."""

    def extract(engine, tables, shard, *, fingerprint, by, **options):
        rows = [ledger_row(video, **{"run_id": by.run_id} | ENDS[video.video_id[-1]]) for video in shard.videos]
        faces = [make_row("faces", video_id=row["video_id"]) for row in rows if row["status"] == "ok"]
        keys = [video.key for video in shard.videos]
        found = {"faces": faces, "videos": rows}
        tables.commit(tables.settle(found, keys, fingerprint=fingerprint, shard=shard.name, by=by), by=by)
        return steps.ShardResult(shard.name, {}, len(faces))

    monkeypatch.setattr(steps, "extract_shard", extract)
    (tmp_path / "videos").mkdir()
    lines = ["video,label,identity"]
    for number, name in enumerate(ENDS):
        (tmp_path / "videos" / f"{name}.mp4").write_bytes(name.encode())
        lines.append(f"{name}.mp4,{'fake' if number % 2 else 'real'},{name}")
    (tmp_path / "videos" / "metadata.csv").write_text("\n".join(lines))

    def settings(*overrides):
        places = [f"source={tmp_path}/videos", f"store={tmp_path}/store", "videos_per_shard=2"]
        return load_settings(overrides=[*places, *overrides], environ={})

    return settings


def artifacts(run_id):
    """Return what stands in the page of a flow run, by key."""
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    async def read():
        async with get_client() as client:
            chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run_id)]))
            return {one.key: one for one in await client.read_artifacts(artifact_filter=chosen)}

    return run(read())


def task_runs(run_id):
    """Return the names of a flow run's task runs."""
    from prefect import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

    async def read():
        async with get_client() as client:
            runs = await client.read_task_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[UUID(run_id)])))
            return [one.name for one in runs]

    return run(read())


def test_a_run_leaves_its_report_in_the_store_and_in_its_page(prefect_here, settings, tmp_path, monkeypatch):
    from flows.preprocess import preprocess

    shards = []
    extract = steps.extract_shard

    def noting(engine, tables, shard, **options):
        shards.append(shard)
        return extract(engine, tables, shard, **options)

    monkeypatch.setattr(steps, "extract_shard", noting)
    done = preprocess(settings(), "faces")
    assert len(shards) == 2
    assert (
        done.losses.line()
        == "1 of 4 videos (real 0.0 %, fake 50.0 %), 0.0 % of the wanted frames (real 0.0 %, fake 0.0 %)"
    )
    (folder,) = (tmp_path / "store" / "reports").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["distributions.png", "report.html", "report.md"]
    text = (folder / "report.md").read_text()
    assert f"that run {folder.name} wrote" in text
    assert "| ok | 3 | 3 |" in text
    page = artifacts(folder.name)
    assert "0.0 % of the real videos and 50.0 % of the fake ones end without a face" in page["preprocess-report"].data
    assert "| ok | 3 | 3 |" in page["preprocess-report"].data
    assert r"torn \| \*by\* &lt;b&gt;hand&lt;/b&gt;" in page["preprocess-report"].data
    failures = page["preprocess-failures"]
    assert [(row["status"], row["reason"]) for row in json.loads(failures.data)] == [
        ("corrupt", "torn | *by* <b>hand</b>")
    ]
    assert failures.description == "Videos that ended without a face: 1"
    assert done.dashboard_url in page["dask-dashboard"].data
    assert {name for name in task_runs(folder.name) if name.startswith("extract")} == {
        f"extract faces of {shard.title}" for shard in shards
    }

    again = preprocess(settings(), "faces")
    assert (again.extracted, again.losses) == (0, done.losses)
    (second,) = set((tmp_path / "store" / "reports").iterdir()) - {folder}
    assert "| ok | 3 | 0 |" in (second / "report.md").read_text()


def test_a_list_of_failures_that_is_cut_says_so(prefect_here, settings, tmp_path, monkeypatch):
    from flows.preprocess import preprocess

    monkeypatch.setattr("dfpipe.report.numbers.MAX_FAILURES", 0)
    preprocess(settings(), "faces")
    (folder,) = (tmp_path / "store" / "reports").iterdir()
    failures = artifacts(folder.name)["preprocess-failures"]
    assert "1; 1 are left out here" in failures.description
    assert json.loads(failures.data) == []


def test_too_great_a_loss_fails_the_run_after_everything_is_committed(prefect_here, settings, tmp_path, monkeypatch):
    from flows import pipeline as story

    monkeypatch.setattr(story, "train", lambda _: pytest.fail("training started"))
    monkeypatch.setattr(steps, "compute_features", lambda *_, **__: pytest.fail("features started"))
    bounded = settings("losses.max_videos_lost=0.2")
    for attempt in (1, 2):
        with pytest.raises(LossError, match="1 of 4 videos ended without a face") as caught:
            story.pipeline(bounded, "train")
        # One report an attempt: the flow is not retried.
        folders = list((tmp_path / "store" / "reports").iterdir())
        assert len(folders) == attempt
        assert any(f"{folder}/report.md" in str(caught.value) for folder in folders)
    assert Tables(str(tmp_path / "store"), bounded.s3).read("videos").num_rows == 4


def test_a_loss_within_its_bound_goes_on(prefect_here, settings):
    from flows.pipeline import pipeline

    summary = pipeline(settings("losses.max_videos_lost=0.25"), "faces")
    assert summary.losses.overall.videos.part == 1
    assert ("lost", summary.losses.line()) in summary.rows()
