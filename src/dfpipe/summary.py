"""What a run found and did, in numbers that the terminal, the JSON output and the flow's page share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfpipe.decisions import Decision
from dfpipe.report import Losses, Report, percent
from dfpipe.tracking import TrainingRecord

__all__ = ["RunSummary", "Work", "training_markdown", "training_rows", "work_of"]


@dataclass(frozen=True, slots=True)
class Work:
    """What the catalog has come to, and what the run's part of it took."""

    states: Mapping[str, int]
    """All videos of the catalog by ledger status."""
    cpu_seconds: float
    """Processor time that this run's videos took on the workers."""
    videos_per_core_second: float | None
    """Videos that one core did in a second of it; None where nothing was timed."""
    frames_without_face: float | None
    """Share of the catalog's wanted frames in which no face was found, or that could not be decoded; None where none
    was wanted."""
    cost: float
    """Price of the processor time."""
    currency: str
    """Its currency."""


def work_of(report: Report) -> Work:
    """Return what a run's summary says of its report."""
    spent = report.run.cpu_seconds if report.run is not None else 0.0
    return Work(
        states=report.whole.statuses,
        cpu_seconds=spent,
        videos_per_core_second=report.run.videos_per_core_second if report.run is not None else None,
        frames_without_face=report.losses.overall.frames_without_face.value,
        cost=spent / 3600 * report.prices.price_per_core_hour,
        currency=report.prices.currency,
    )


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run from its first to its last stage."""

    videos: int
    """Videos in the catalog."""
    extracted: int
    """Videos whose faces this run extracted."""
    kept: int
    """Videos whose work stood."""
    statuses: Mapping[str, int]
    """Videos extracted by this run, by ledger status."""
    faces: int
    """Face crops that this run wrote."""
    losses: Losses | None
    """What preprocessing lost over the whole catalog; None where the run stopped before."""
    feature_rows: int
    """Feature rows that this run wrote."""
    trained: bool
    """Whether this run trained; False where an earlier training of the same rows and settings stands."""
    training: TrainingRecord | None
    """The training of these rows and settings; None where the run stopped before."""
    decision: Decision | None
    """What the gate said of its model when it was asked; None where it never was."""
    seconds: float
    """How long the run took."""
    work: Work | None = None
    """What the catalog has come to; None where the run stopped before."""
    dashboard_url: str | None = None
    """Pages of the workers; those of a cluster of the run's own end with it."""

    @property
    def did_nothing(self) -> bool:
        """Whether everything stood already."""
        return not (self.extracted or self.feature_rows or self.trained)

    def rows(self) -> list[tuple[str, str]]:
        """Return what there is to say as (what, how much) pairs."""
        rows = [("videos", f"{self.videos} in the catalog: {self.extracted} extracted, {self.kept} kept")]
        if self.extracted:
            states = ", ".join(f"{number} {status}" for status, number in self.statuses.items())
            rows.append(("faces", f"{self.faces} written ({states})"))
            if self.losses is not None:
                rows.append(("lost", self.losses.line()))
        if self.feature_rows:
            rows.append(("features", f"{self.feature_rows} rows written"))
        if self.training is not None:
            rows += training_rows(self.training, now=self.trained, decision=self.decision)
        rows.append(("took", f"{self.seconds:.0f} s" + ("; nothing had to be redone" if self.did_nothing else "")))
        return rows

    def _work_rows(self) -> list[tuple[str, str]]:
        work = self.work
        if work is None:
            return []
        rows = [("videos by state", ", ".join(f"{number} {state}" for state, number in work.states.items()))]
        if work.frames_without_face is not None:
            rows.append(("detection loss", f"no face in {percent(work.frames_without_face)} of the wanted frames"))
        if work.videos_per_core_second is not None:
            rows.append(("throughput", f"{work.videos_per_core_second:.3g} videos/s per core"))
            rows.append(("cost", f"{work.cpu_seconds:,.1f} s of processor time, {work.cost:.4g} {work.currency}"))
        return rows

    def to_markdown(self) -> str:
        """Return the same as a table for the flow run's page."""
        rows = [*self.rows(), *self._work_rows()]
        return _page(rows, self.training, self.dashboard_url)


def training_rows(record: TrainingRecord, *, now: bool, decision: Decision | None) -> list[tuple[str, str]]:
    """Return what there is to say of a training as (what, how much) pairs.

    Parameters
    ----------
    record
        The training.
    now
        Whether it was made by the run that speaks of it; otherwise it is said when the gate was asked.
    decision
        What the gate said of its model; None where it was not asked.
    """
    rows = [("training", f"{'made now' if now else 'kept'}: {record.candidate}")]
    if record.left_out:
        rows.append(("left out", f"{record.left_out} videos that are in no official list"))
    if record.leaky:
        rows.append((f"leaky ({record.protocol})", _figures("test_", record.metrics) + "; too good to be true"))
        by_identity = _figures("grouped_test_", record.metrics)
        rows.append(("held-out people", by_identity or "not measured, as the people cannot be divided"))
    else:
        rows.append(("held-out people", _figures("test_", record.metrics)))
    rows.append(("model", f"{record.model_name} version {record.model_version}, run {record.run_id}"))
    if decision is not None:
        rows.append(("gate", decision.line() + f" ({decision.decided_at})" * (not now)))
    elif record.leaky:
        rows.append(("gate", "not asked: a model of a split that leaks becomes no champion"))
    return rows


def training_markdown(
    record: TrainingRecord, *, now: bool, decision: Decision | None, dashboard_url: str | None = None
) -> str:
    """Return the same as a table for the page of a run that only trains, with links; see `training_rows`."""
    return _page(training_rows(record, now=now, decision=decision), record, dashboard_url)


def _page(rows: Sequence[tuple[str, str]], training: TrainingRecord | None, dashboard_url: str | None) -> str:
    lines = ["| what | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows)]
    if training is not None and training.url:
        lines.append(f"\n[The training in MLflow]({training.url})")
    if dashboard_url is not None:
        lines.append(f"\n[The Dask dashboard]({dashboard_url})")
    return "\n".join(lines) + "\n"


def _figures(prefix: str, metrics: Mapping[str, float]) -> str:
    """Return the three figures that a summary shows, with their intervals; empty where they were not measured."""
    names = {"video AUC": "video_auc", "video accuracy": "video_accuracy", "frame accuracy": "frame_accuracy"}
    return ", ".join(
        f"{what} {metrics[prefix + name]:.3f}{_interval(prefix + name, metrics)}"
        for what, name in names.items()
        if prefix + name in metrics
    )


def _interval(name: str, metrics: Mapping[str, float]) -> str:
    # Trainings of earlier versions have none.
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    return "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
