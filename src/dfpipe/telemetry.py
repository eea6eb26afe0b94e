"""Figures of runs for a collector of OpenTelemetry metrics.

A run pushes once, at its end, and each figure is the run's own: a gauge that has one sample a run. A counter of a
process that lives for one run would start from nothing each time, and who stores it could not tell two equal runs from
one.
"""

import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from dfpipe import __version__
from dfpipe.settings import TelemetrySettings

__all__ = ["METRICS", "MetricName", "add", "run_metrics", "timed"]

MetricName = Literal[
    "dfpipe.run.videos",
    "dfpipe.run.faces",
    "dfpipe.run.written",
    "dfpipe.run.shards.failed",
    "dfpipe.run.stage.duration",
    "dfpipe.run.outcome",
]

METRICS: dict[MetricName, tuple[str, str]] = {
    "dfpipe.run.videos": ("{video}", "Videos extracted, by ledger status"),
    "dfpipe.run.faces": ("{face}", "Face crops written"),
    "dfpipe.run.written": ("By", "Bytes of pictures and clips written"),
    "dfpipe.run.shards.failed": ("{shard}", "Shards of videos and feature sets that failed"),
    "dfpipe.run.stage.duration": ("s", "Time by the clock, by flow: pipeline holds preprocess and train"),
    "dfpipe.run.outcome": ("{run}", "1, by outcome: completed, failed or cancelled"),
}
"""Unit and meaning of everything that is sent."""

Figures = Counter[tuple[MetricName, tuple[tuple[str, str], ...]]]

_log = logging.getLogger(__name__)
_lock = threading.Lock()
_active: Figures | None = None


def add(name: MetricName, amount: float, **attributes: str) -> None:
    """Add to a figure of the run that is under way; nothing where none is, or nobody wants to know."""
    with _lock:
        if _active is not None:
            # A Counter holds what can be added, whole or not.
            _active[name, tuple(sorted(attributes.items()))] += amount  # type: ignore[assignment]


@contextmanager
def timed(stage: str) -> Iterator[None]:
    """Add the time that the block takes to a stage's."""
    started = time.monotonic()
    try:
        yield
    finally:
        add("dfpipe.run.stage.duration", time.monotonic() - started, stage=stage)


@contextmanager
def run_metrics(settings: TelemetrySettings, *, store: str) -> Iterator[None]:
    """Gather the figures of a run while the block runs, and push them at its end, however it ends.

    Inside another such block it does nothing: the outer one is the run. What cannot be sent costs one line in the log.

    Parameters
    ----------
    settings
        Where to.
    store
        URL of the store, by which the receiver tells pipelines apart (``service.instance.id``).
    """
    global _active  # noqa: PLW0603 - a process has one run at a time, and its threads and libraries add to it
    if settings.otlp_endpoint is None or _active is not None:
        yield
        return
    _active = Counter()
    add("dfpipe.run.shards.failed", 0)
    outcome = "cancelled"
    try:
        yield
        outcome = "completed"
    except Exception:
        outcome = "failed"
        raise
    finally:
        add("dfpipe.run.outcome", 1, outcome=outcome)
        with _lock:
            figures, _active = _active, None
        try:
            _push(figures, settings.otlp_endpoint, settings.timeout_seconds, store)
        except Exception as error:  # noqa: BLE001 - the run is not about its metrics
            _log.warning("no metrics were sent: %s: %s", type(error).__name__, " ".join(str(error).split()))


def _push(figures: Figures, endpoint: str, timeout_seconds: float, store: str) -> None:
    try:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter  # noqa: PLC0415
        from opentelemetry.sdk.metrics import MeterProvider  # noqa: PLC0415
        from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricExportResult  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
    except ImportError:
        _log.warning("no metrics were sent: install the extra with `pip install dfpipe[telemetry]`")
        return
    reader = InMemoryMetricReader()
    resource = Resource({"service.name": "dfpipe", "service.version": __version__, "service.instance.id": store})
    provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
    exporter = OTLPMetricExporter(endpoint=endpoint, timeout=timeout_seconds)
    # It would tell of every try, with the address.
    theirs = logging.getLogger("opentelemetry.exporter.otlp")
    level = theirs.level
    theirs.setLevel(logging.CRITICAL + 1)
    try:
        meter = provider.get_meter("dfpipe", __version__)
        for (name, attributes), amount in figures.items():
            unit, meaning = METRICS[name]
            meter.create_gauge(name, unit=unit, description=meaning).set(amount, dict(attributes))
        gathered = reader.get_metrics_data()
        sent = gathered is not None and exporter.export(gathered) is MetricExportResult.SUCCESS
    finally:
        theirs.setLevel(level)
        exporter.shutdown()
        provider.shutdown()
    if not sent:
        _log.warning("no metrics were sent: telemetry.otlp_endpoint did not accept them; look whether it is up")
