"""What the ledger says of a store and of one run, in numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dfpipe.extract import extract_fingerprint
from dfpipe.ledger import PENDING, failed_videos, read_ledger
from dfpipe.report.losses import Losses, count_losses
from dfpipe.settings import ReportSettings, Settings
from dfpipe.shards import Tables
from dfpipe.shards.schemas import REJECTIONS
from dfpipe.status import Failure
from dfpipe.storage import open_location

__all__ = ["Account", "Distribution", "FormatCount", "Histogram", "Report", "Spread", "make_report"]

MAX_FAILURES = 200
"""Failures listed; a store may hold millions."""

MAX_RUNS = 5
"""Runs named."""

BINS = 30
"""Bars of a histogram."""

MEASURES = {
    "num_frames": ("frames", ""),
    "frame_rate": ("rate", "frames/s"),
    "width": ("width", "pixels"),
    "duration_seconds": ("duration", "s"),
}
"""Columns whose distribution is shown, with a name and a unit for people."""

FORMATS = {
    "container": "container",
    "codec": "codec",
    "pixel_format": "pixel format",
    "rotation_degrees": "rotation in degrees",
    "is_variable_rate": "variable rate",
    "has_audio": "sound",
}
"""Columns whose values are counted, with a name for people."""

FRAMES = (
    "frames_wanted",
    "frames_decoded",
    "frames_missing",
    "frames_with_face",
    "frames_without_face",
    "frames_with_kept_face",
)
FACES = ("faces_found", "faces_kept", *(f"faces_rejected_{name}" for name in REJECTIONS))
SECONDS = ("cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds")


@dataclass(frozen=True, slots=True)
class Account:
    """Sums over some of the catalog's videos: those of the whole store, or those that one run worked on."""

    statuses: Mapping[str, int]
    """Videos by status, most first; their sum is all of them."""
    totals: Mapping[str, int]
    """Sums of the ledger's columns of frames and faces, by column; ``faces_rejected`` sums those of all reasons."""
    unbalanced_videos: int
    """Videos whose sums do not come out even, which is a defect in dfpipe."""
    ended_videos: int
    """Videos that have ended, in whatever state: all but the pending. What follows is of these."""
    source_bytes: int
    """Size of their files."""
    cpu_seconds: float
    """Processor time spent on them; of those that were lost with their process, the time on the clock."""
    decode_seconds: float
    """Time spent probing and decoding them."""
    detect_seconds: float
    """Time spent finding faces in them."""
    encode_seconds: float
    """Time spent cropping and encoding their pictures."""
    videos_per_core_second: float | None
    """Videos that one core did in a second of processor time; None where nothing was timed."""
    frames_per_core_second: float | None
    """Decoded frames likewise."""
    megabytes_per_core_second: float | None
    """Million bytes of source files likewise."""
    worker_seconds: float
    """Time by the clock that workers spent on them: decoding, finding faces and encoding, and of those that came to
    none of it no less than the processor time."""
    videos_per_worker_second: float | None
    """Videos that one worker did in a second by the clock."""
    cost_per_1000_videos: float | None
    """Price of 1,000 videos by processor time: what it costs where cores never wait."""
    worker_cost_per_1000_videos: float | None
    """Price of 1,000 videos by the workers' clocks, one core a worker: waiting for the store included."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How a measure is spread over a group of videos."""

    group: str
    """``all``, ``real`` or ``fake``."""
    videos: int
    """Videos of which it is known."""
    least: float
    """Smallest value."""
    percentile_5: float
    """One video in twenty lies below."""
    median: float
    """One half lies below."""
    mean: float
    """Average."""
    percentile_95: float
    """One video in twenty lies above."""
    greatest: float
    """Largest value."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of values in bins of equal width."""

    edges: tuple[float, ...]
    """Edges of the bins, one more than bins."""
    counts: Mapping[str, tuple[int, ...]]
    """Videos in each bin, by label."""
    has_tail: bool
    """The last bin also holds what lies beyond its edge."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a measure of the videos is distributed."""

    measure: str
    """What is measured."""
    unit: str
    """In which unit."""
    spreads: tuple[Spread, ...]
    """Figures over all videos and by label."""
    histogram: Histogram
    """Counts by label."""


@dataclass(frozen=True, slots=True)
class FormatCount:
    """How many videos are made in one way."""

    fact: str
    """What about them, such as the codec."""
    value: str
    """Which."""
    videos: Mapping[str, int]
    """Videos by label."""


@dataclass(frozen=True, slots=True)
class Report:
    """What the ledger says under the present settings; only catalog videos count, each by its latest row."""

    store: str
    """URL of the store."""
    fingerprint: str
    """Fingerprint of the faces stage under the present settings."""
    run_id: str | None
    """Run spoken of; None where no run has written a row."""
    runs: tuple[str, ...]
    """The runs that wrote last, newest first."""
    made_at: datetime
    """When the report was made."""
    videos: int
    """Videos in the catalog."""
    whole: Account
    """The whole store."""
    run: Account | None
    """The rows that the run wrote."""
    losses: Losses
    """What was lost, over the whole store."""
    distributions: tuple[Distribution, ...]
    """Frame counts, rates, widths and durations, over the whole store; none where no video could be opened."""
    formats: tuple[FormatCount, ...]
    """Codecs and the like, over the whole store, most frequent first."""
    failures: tuple[Failure, ...]
    """The first videos by video_id that were looked at and gave no face, over the whole store."""
    num_failures: int
    """How many there are in all."""
    prices: ReportSettings
    """By which costs are reckoned."""


def make_report(settings: Settings, *, run_id: str | None = None) -> Report:
    """Count what the store's ledger says; nothing is written and no video is opened.

    Parameters
    ----------
    settings
        Where the store is, and under which settings.
    run_id
        Run whose own rows are counted beside those of the whole store, none where it kept what stood; None is the one
        that wrote the latest row.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    tables = Tables(open_location(settings.store, settings.s3).url, settings.s3)
    fingerprint = extract_fingerprint(settings.extract)
    columns = [*FRAMES, *FACES, *SECONDS, *MEASURES, *FORMATS, "size_bytes", "reason", "run_id", "finished_at"]
    ledger = read_ledger(tables, fingerprint, columns=columns)
    runs = _latest_runs(ledger)
    run_id = run_id or next(iter(runs), None)
    failed = failed_videos(ledger.select(["video_id", "status", "reason"]))
    listed = failed.slice(0, MAX_FAILURES).to_pylist()
    counted = ledger.select(["status", *FRAMES, *FACES, *SECONDS, "size_bytes"])
    of_run = counted.filter(pc.equal(ledger["run_id"], run_id)) if run_id else None
    return Report(
        store=tables.url,
        fingerprint=fingerprint,
        run_id=run_id,
        runs=runs,
        made_at=datetime.now(UTC),
        videos=ledger.num_rows,
        whole=_account(counted, settings.report),
        run=_account(of_run, settings.report) if of_run is not None else None,
        losses=count_losses(
            {
                name: _strings(ledger[name]) if pa.types.is_string(ledger[name].type) else _integers(ledger[name])
                for name in ("status", "label", "manipulation", "compression", "dataset", *FRAMES)
            }
        ),
        distributions=tuple(_distributions(ledger)),
        formats=tuple(_formats(ledger)),
        failures=tuple(Failure(**row) for row in listed),
        num_failures=failed.num_rows,
        prices=settings.report,
    )


def _latest_runs(ledger: pa.Table) -> tuple[str, ...]:
    wrote = ledger.select(["run_id", "finished_at"]).filter(pc.is_valid(ledger["run_id"]))
    newest = (
        wrote.group_by("run_id")
        .aggregate([("finished_at", "max")])
        .sort_by([("finished_at_max", "descending"), ("run_id", "ascending")])
    )
    return tuple(newest["run_id"].slice(0, MAX_RUNS).to_pylist())


def _account(ledger: pa.Table, prices: ReportSettings) -> Account:
    counts = {name: _integers(ledger[name]) for name in (*FRAMES, *FACES)}
    counts["faces_rejected"] = np.sum([counts[f"faces_rejected_{name}"] for name in REJECTIONS], axis=0)
    uneven = (
        (counts["frames_wanted"] != counts["frames_decoded"] + counts["frames_missing"])
        | (counts["frames_decoded"] != counts["frames_with_face"] + counts["frames_without_face"])
        | (counts["frames_with_kept_face"] > counts["frames_with_face"])
        | (counts["faces_found"] != counts["faces_kept"] + counts["faces_rejected"])
    )
    statuses = _count(ledger, "status")
    videos = sum(number for status, number in statuses.items() if status != PENDING)
    frames, num_bytes = int(counts["frames_decoded"].sum()), int(_integers(ledger["size_bytes"]).sum())
    seconds = {name: pc.fill_null(ledger[name], 0.0).to_numpy() for name in SECONDS}
    spent = {name: float(values.sum()) for name, values in seconds.items()}
    stages = seconds["decode_seconds"] + seconds["detect_seconds"] + seconds["encode_seconds"]
    # A video that could not be opened, or was lost with its process, has no stage that was timed to its end.
    on_worker = float(np.maximum(stages, seconds["cpu_seconds"]).sum())
    thousand_hours = 1000 / 3600 / videos if videos else 0.0
    return Account(
        statuses=statuses,
        totals={name: int(values.sum()) for name, values in counts.items()},
        unbalanced_videos=int(uneven.sum()),
        ended_videos=videos,
        source_bytes=num_bytes,
        **spent,
        videos_per_core_second=_per(videos, spent["cpu_seconds"]),
        frames_per_core_second=_per(frames, spent["cpu_seconds"]),
        megabytes_per_core_second=_per(num_bytes / 1e6, spent["cpu_seconds"]),
        worker_seconds=on_worker,
        videos_per_worker_second=_per(videos, on_worker),
        cost_per_1000_videos=spent["cpu_seconds"] * thousand_hours * prices.price_per_core_hour if videos else None,
        worker_cost_per_1000_videos=on_worker * thousand_hours * prices.price_per_core_hour if videos else None,
    )


def _count(table: pa.Table, column: str) -> dict[str, int]:
    """Return how often each value stands in a column, the most frequent first."""
    counted = table[column].value_counts().to_pylist()
    return {one["values"]: one["counts"] for one in sorted(counted, key=lambda one: (-one["counts"], one["values"]))}


def _per(amount: float, seconds: float) -> float | None:
    return amount / seconds if seconds else None


def _distributions(ledger: pa.Table) -> list[Distribution]:
    labels, found = _strings(ledger["label"]), []
    groups = {label: labels == label for label in sorted(set(labels.tolist()), reverse=True)}
    for column, (measure, unit) in MEASURES.items():
        values = pc.cast(ledger[column], pa.float64()).to_numpy()
        known = np.isfinite(values)
        if not known.any():
            continue
        by_label = {label: values[known & chosen] for label, chosen in groups.items()}
        spreads = [_spread("all", values[known]), *(_spread(*one) for one in by_label.items() if len(one[1]))]
        found.append(Distribution(measure, unit, tuple(spreads), _histogram(by_label)))
    return found


def _spread(group: str, values: NDArray[np.float64]) -> Spread:
    least, low, median, high, greatest = np.percentile(values, [0, 5, 50, 95, 100]).tolist()
    return Spread(
        group=group,
        videos=len(values),
        least=least,
        percentile_5=low,
        median=median,
        mean=float(values.mean()),
        percentile_95=high,
        greatest=greatest,
    )


def _histogram(by_label: Mapping[str, NDArray[np.float64]]) -> Histogram:
    together = np.concatenate(list(by_label.values()))
    least, high, greatest = np.percentile(together, [0, 99, 100])
    # One video of ten hours must not squeeze all others into the first bar.
    has_tail = bool(greatest - least > 2 * (high - least) > 0)
    edges = np.histogram_bin_edges(together, BINS, range=(least, high if has_tail else greatest))
    counts = {
        label: tuple(np.histogram(np.minimum(values, edges[-1]), edges)[0].tolist())
        for label, values in by_label.items()
    }
    return Histogram(tuple(edges.tolist()), counts, has_tail)


def _formats(ledger: pa.Table) -> list[FormatCount]:
    found = []
    for column, fact in FORMATS.items():
        known = ledger.select([column, "label"]).filter(pc.is_valid(ledger[column]))
        videos: dict[str, dict[str, int]] = {}
        for one in known.group_by([column, "label"]).aggregate([([], "count_all")]).to_pylist():
            value = one[column]
            text = {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
            videos.setdefault(text, {})[one["label"]] = one["count_all"]
        ordered = sorted(videos.items(), key=lambda one: (-sum(one[1].values()), one[0]))
        found += [FormatCount(fact, text, by_label) for text, by_label in ordered]
    return found


def _integers(column: pa.ChunkedArray) -> NDArray[np.int64]:
    values: NDArray[np.int64] = pc.fill_null(pc.cast(column, pa.int64()), 0).to_numpy()
    return values


def _strings(column: pa.ChunkedArray) -> NDArray[np.object_]:
    """Return the values; equal ones are one object, as a million of their own would take more than all numbers."""
    encoded = column.dictionary_encode().combine_chunks()
    values: NDArray[np.object_] = np.array(encoded.dictionary.to_pylist(), object)[encoded.indices.to_numpy()]
    return values
