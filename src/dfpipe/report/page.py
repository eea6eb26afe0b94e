"""The report as one HTML file that needs nothing else: no host, no script, no font."""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from dfpipe.report.charts import PLOT, histograms, loss_rows, status_bars
from dfpipe.report.faces import ExampleFace
from dfpipe.report.losses import percent
from dfpipe.report.numbers import Report
from dfpipe.report.text import DISTRIBUTIONS, LOSSES, VIDEOS, ReportSection, head, printable, report_sections

if TYPE_CHECKING:
    from dfpipe.tracking import TrainingRecord

__all__ = ["to_html", "training_section"]

FIGURES = {
    "video_auc": "AUC, by video",
    "video_accuracy": "accuracy, by video",
    "frame_auc": "AUC, by face",
    "frame_accuracy": "accuracy, by face",
}
"""Figures of a training that are shown, with a name for people."""


def to_html(report: Report, *, training: "TrainingRecord | None" = None, faces: Sequence[ExampleFace] = ()) -> str:
    """Return the report as an HTML page, light and dark by the reader's choice, and fit to be printed.

    Names of files and reasons are shown as text whatever they hold: the template escapes all of it, and the page
    forbids itself to load anything or to run a script. Every row of a table and every face is a line of its own, by
    which `dfpipe.forget` takes videos out again.

    Parameters
    ----------
    report
        What to tell.
    training
        The training of these rows; None shows none.
    faces
        Faces to show.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined  # noqa: PLC0415 - slow to import

    environment = Environment(
        loader=PackageLoader("dfpipe.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"printable": printable, "base64": lambda data: b64encode(data).decode()}
    sections = report_sections(report)
    if training is not None:
        sections.insert(1, training_section(training))
    return environment.get_template("report.html").render(
        title=f"dfpipe report of {report.made_at:%Y-%m-%d %H:%M} UTC",
        head=list(head(report)),
        tiles=list(_tiles(report, training)),
        sections=sections,
        training=training if training is not None and _is_address(training.url) else None,
        states=status_bars(report.whole.statuses),
        histograms=[histograms(one) for one in report.distributions],
        losses=loss_rows(report.losses),
        faces=faces,
        plot=PLOT,
        titles={"videos": VIDEOS, "losses": LOSSES, "distributions": DISTRIBUTIONS, "results": RESULTS},
    )


RESULTS = "Results of the training"


def training_section(training: "TrainingRecord") -> ReportSection:
    """Return the figures of a training as a table: those of the test, and by people where the split leaks."""
    sides = {"test_": "people held out", "val_": "folds of the training"}
    notes = [
        f"{training.model_name} version {training.model_version}: {training.candidate}, split {training.protocol}."
    ]
    if training.leaky:
        sides = {"test_": f"split {training.protocol}, which leaks", "grouped_test_": "people held out"}
        notes.append("The split leaks: figures on it are too good to be true, and the model becomes no champion.")
    if training.left_out:
        notes.append(f"{training.left_out:,} videos are in no official list and were left out.")
    notes.append("In brackets 95 % intervals over groups of people.")
    rows = tuple(
        (name, *(_figure(training.metrics, f"{side}{figure}") for side in sides)) for figure, name in FIGURES.items()
    )
    return ReportSection(RESULTS, tuple(notes), ("", *sides.values()), rows)


def _figure(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return "–"  # noqa: RUF001 - not measured
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{metrics[name]:.3f}{interval}"


def _tiles(report: Report, training: "TrainingRecord | None") -> Iterator[tuple[str, str]]:
    """Return the figures that one looks for first."""
    yield "videos in the catalog", f"{report.videos:,}"
    videos, frames = report.losses.overall.videos, report.losses.overall.frames_lost
    if videos.value is not None:
        yield "videos without a face", percent(videos.value)
    if frames.value is not None:
        yield "frames lost", percent(frames.value)
    if report.whole.videos_per_core_second is not None:
        yield "videos/s per core", f"{report.whole.videos_per_core_second:.3g}"
    if report.whole.cost_per_1000_videos is not None:
        yield f"{report.prices.currency} per 1,000 videos", f"{report.whole.cost_per_1000_videos:.3g}"
    if training is not None and not training.leaky and "test_video_auc" in training.metrics:
        yield "AUC on held-out people", f"{training.metrics['test_video_auc']:.3f}"


def _is_address(url: str | None) -> bool:
    return url is not None and url.startswith(("http://", "https://"))
