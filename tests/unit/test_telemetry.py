"""Metrics of a run, to a receiver that reads the protocol, and the dashboard that stands on them."""

import json
import logging
import re
import sys
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from dfpipe.provenance import make_provenance
from dfpipe.settings import Settings, TelemetrySettings
from dfpipe.telemetry import METRICS, add, run_metrics, timed
from dfpipe.testing import free_port

DASHBOARD = Path(__file__).parents[2] / "infra" / "grafana" / "dfpipe.json"
PROMETHEUS_UNITS = {"s": "_seconds", "By": "_bytes"}
"""Suffixes that Prometheus adds for a unit; one in braces is a remark and adds none."""


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        request = ExportMetricsServiceRequest()
        request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.received.append((self.path, request))
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@contextmanager
def receiving(status=200):
    server = HTTPServer(("127.0.0.1", 0), Receiver)
    server.received, server.status = [], status
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def to(server):
    return TelemetrySettings(otlp_endpoint=f"http://127.0.0.1:{server.server_port}/v1/metrics", timeout_seconds=20)


def read(request):
    """Return resource attributes, and value and unit of every point by name and attributes."""
    (resource,) = request.resource_metrics
    points = {
        (metric.name, *(f"{one.key}={one.value.string_value}" for one in point.attributes)): (
            point.as_double or point.as_int,
            metric.unit,
        )
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.gauge.data_points
    }
    return {one.key: one.value.string_value for one in resource.resource.attributes}, points


def a_run(settings):
    # The flows within are of the same run.
    with (
        run_metrics(settings, store="s3://bucket/store"),
        timed("pipeline"),
        run_metrics(settings, store="elsewhere"),
        timed("preprocess"),
    ):
        add("dfpipe.run.videos", 3, status="ok")
        add("dfpipe.run.videos", 2, status="ok")
        add("dfpipe.run.videos", 1, status="corrupt")
        add("dfpipe.run.faces", 35)
        add("dfpipe.run.written", 12345)
        add("dfpipe.run.shards.failed", 1)


def test_a_run_is_pushed_once_whole(caplog):
    with receiving() as server:
        a_run(to(server))
    ((path, request),) = server.received
    assert path == "/v1/metrics"
    resource, points = read(request)
    assert (resource["service.name"], resource["service.instance.id"]) == ("dfpipe", "s3://bucket/store")
    assert points.pop(("dfpipe.run.stage.duration", "stage=pipeline"))[0] >= 0
    assert points.pop(("dfpipe.run.stage.duration", "stage=preprocess"))[1] == "s"
    assert points == {
        ("dfpipe.run.videos", "status=ok"): (5, "{video}"),
        ("dfpipe.run.videos", "status=corrupt"): (1, "{video}"),
        ("dfpipe.run.faces",): (35, "{face}"),
        ("dfpipe.run.written",): (12345, "By"),
        ("dfpipe.run.shards.failed",): (1, "{shard}"),
        ("dfpipe.run.outcome", "outcome=completed"): (1, "{run}"),
    }
    assert {name for name, *_ in points} | {"dfpipe.run.stage.duration"} == METRICS.keys()
    assert not caplog.records
    # Two runs of one process do not add up.
    with receiving() as server, run_metrics(to(server), store="x"):
        pass
    assert read(server.received[0][1])[1] == {
        ("dfpipe.run.shards.failed",): (0, "{shard}"),
        ("dfpipe.run.outcome", "outcome=completed"): (1, "{run}"),
    }


@pytest.mark.parametrize(("error", "outcome"), [(ValueError, "failed"), (KeyboardInterrupt, "cancelled")])
def test_how_it_ended_is_told(error, outcome):
    with receiving() as server, pytest.raises(error), run_metrics(to(server), store="x"):
        raise error
    assert ("dfpipe.run.outcome", f"outcome={outcome}") in read(server.received[0][1])[1]


def test_who_wants_no_metrics_sends_none(monkeypatch):
    monkeypatch.setattr("dfpipe.telemetry._push", lambda *_: pytest.fail("pushed"))
    a_run(TelemetrySettings())


@pytest.mark.parametrize("trouble", ["nobody there", "refused", "no extra"])
def test_no_trouble_with_it_fails_a_run_and_one_line_says_so(trouble, monkeypatch, caplog):
    if trouble == "no extra":
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.metrics", None)
    url = f"http://user:hunter2@127.0.0.1:{free_port()}/v1/metrics"
    with receiving(status=401) as server, caplog.at_level(logging.INFO):
        settings = to(server) if trouble == "refused" else TelemetrySettings(otlp_endpoint=url, timeout_seconds=0.5)
        a_run(settings)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith("no metrics were sent: ")
    assert ("pip install" in line) is (trouble == "no extra")
    assert "hunter2" not in caplog.text


def test_it_decides_nothing_and_shows_no_password():
    plain, telling = (
        Settings(telemetry=TelemetrySettings(otlp_endpoint=url)) for url in (None, "http://me:hunter2@host/v1/metrics")
    )
    assert make_provenance(plain, run_id="r") == make_provenance(telling, run_id="r")
    assert "hunter2" not in telling.model_dump_json()


def test_the_dashboard_names_only_what_is_sent():
    board = json.loads(DASHBOARD.read_text())
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= board.keys()
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert {"id", "type", "title", "gridPos", "datasource", "targets", "fieldConfig", "options"} <= panel.keys()
        assert panel["gridPos"].keys() == {"x", "y", "w", "h"}
    sent = {name.replace(".", "_") + PROMETHEUS_UNITS.get(unit, "") for name, (unit, _) in METRICS.items()}
    named = set(re.findall(r"dfpipe_[a-z_]+", DASHBOARD.read_text()))
    assert named == sent
