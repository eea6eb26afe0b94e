"""What a run tells a collector of metrics."""

from pydantic import Field

from dfpipe.settings.section import Address, Section

__all__ = ["TelemetrySettings"]


class TelemetrySettings(Section):
    """Metrics of runs, pushed once at the end of each, since a run is gone before anybody could ask it."""

    otlp_endpoint: Address = None
    """Full URL of a receiver of OTLP metrics over HTTP, such as http://127.0.0.1:4318/v1/metrics for a collector or
    http://127.0.0.1:9090/api/v1/otlp/v1/metrics for Prometheus; null sends nothing. Headers, with keys if need be, come
    from the variable OTEL_EXPORTER_OTLP_HEADERS. Needs the extra telemetry."""
    timeout_seconds: float = Field(10, gt=0)
    """How long a run waits at its end for an answer."""
