"""The preprocess flow in this process, against a real Prefect server and real workers."""

from uuid import UUID

import pytest

from dfpipe import steps
from dfpipe.errors import CatalogError, IncompleteError
from dfpipe.settings import load_settings
from dfpipe.shards import Tables
from dfpipe.synth import write_dataset

ENDPOINT = "telemetry.otlp_endpoint=http://127.0.0.1:1/v1/metrics"

pytestmark = [pytest.mark.slow, pytest.mark.services]


@pytest.fixture
def preprocess(prefect_url, monkeypatch):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.preprocess import preprocess
    from flows.run_here import last_words

    with temporary_settings({PREFECT_API_URL: prefect_url}), last_words():
        yield preprocess


def progress_of(run_id):
    """Return what a run's page says of the progress of faces."""
    from prefect import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[UUID(run_id)]))
    with get_client(sync_client=True) as client:
        found = client.read_artifacts(artifact_filter=chosen)
    return [(one.data, one.description) for one in found if one.key == "progress-faces"]


def test_a_shard_that_fails_fails_alone(preprocess, tmp_path, monkeypatch):
    write_dataset(tmp_path / "videos", num_identities=3, num_frames=(12, 12), heights=(360,), jobs=2)
    settings = load_settings(
        overrides=[f"source={tmp_path}/videos", f"store={tmp_path}/store", "videos_per_shard=2", ENDPOINT], environ={}
    )
    extract, failed = steps.extract_shard, []

    def fail_first(engine, tables, shard, **options):
        if not failed:
            failed.append(shard.name)
            raise CatalogError("this shard is out of luck")
        return extract(engine, tables, shard, **options)

    monkeypatch.setattr(steps, "extract_shard", fail_first)
    pushed = []
    monkeypatch.setattr("dfpipe.telemetry._push", lambda figures, *_: pushed.append(figures))
    with pytest.raises(IncompleteError, match=r"1 of 3 shards of videos failed, .*out of luck; all"):
        preprocess(settings, "faces")
    tables = Tables(str(tmp_path / "store"), settings.s3)
    assert tables.read("videos").num_rows == 4
    (figures,) = pushed
    assert figures["dfpipe.run.shards.failed", ()] == 1
    assert sum(number for (name, _), number in figures.items() if name == "dfpipe.run.videos") == 4
    assert figures["dfpipe.run.faces", ()] == tables.read("faces").num_rows
    assert figures["dfpipe.run.written", ()] == sum(tables.read("videos")["stored_bytes"].to_pylist()) > 0
    assert figures["dfpipe.run.outcome", (("outcome", "failed"),)] == 1
    again = preprocess(settings, "faces")
    assert (again.extracted, again.kept) == (2, 4)
    assert progress_of(again.report.run_id) == [(100.0, "faces: 2 of 2")]
    assert tables.read("videos").num_rows == 6
