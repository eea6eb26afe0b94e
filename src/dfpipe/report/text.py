"""The report as sections of sentences and tables, which the terminal and Markdown show alike."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dfpipe.ledger import PENDING
from dfpipe.report.losses import percent
from dfpipe.report.numbers import Account, Report, Spread
from dfpipe.report.shares import Share
from dfpipe.shards.schemas import REJECTIONS

__all__ = ["ReportSection", "escape_markdown", "head", "printable", "report_sections", "to_markdown"]


@dataclass(frozen=True, slots=True)
class ReportSection:
    """A heading, sentences and a table; text as it is, escaped by whoever shows it."""

    title: str
    """Heading."""
    notes: tuple[str, ...]
    """Sentences, one a line."""
    header: tuple[str, ...]
    """Names of the table's columns."""
    rows: tuple[tuple[str, ...], ...]
    """The table; text columns come first, and all after `num_text_columns` are numbers."""
    num_text_columns: int = 1
    """Columns that are aligned to the left."""


def report_sections(report: Report) -> list[ReportSection]:
    """Return what there is to say; sections without anything are left out."""
    sections = (
        _videos(report),
        _balance(report),
        _losses(report),
        _distributions(report),
        _formats(report),
        _throughput(report),
        _failures(report),
    )
    return [section for section in sections if section.rows]


def to_markdown(report: Report, *, picture: str | None = None) -> str:
    """Return the report as GitHub-flavoured Markdown; nothing in a file's name can become a part of its form.

    Parameters
    ----------
    report
        What to tell.
    picture
        Path of the figure beside the text; None shows none.
    """
    lines = ["# Preprocessing report", ""]
    lines += [f"{escape_markdown(sentence)}  " for sentence in head(report)]
    for section in report_sections(report):
        lines += ["", f"## {section.title}", ""]
        lines += [f"{escape_markdown(note)}  " for note in section.notes]
        lines += [""] if section.notes else []
        lines += [_row(section.header)]
        marks = ("---" if index < section.num_text_columns else "---:" for index in range(len(section.header)))
        lines += [f"| {' | '.join(marks)} |", *map(_row, section.rows)]
        if picture and section.title == DISTRIBUTIONS:
            lines += ["", f"![Frame counts, rates, widths and durations by label]({picture})"]
    return "\n".join(lines) + "\n"


DISTRIBUTIONS = "Distributions"
LOSSES = "Losses, whole store"
VIDEOS = "Videos"

# What a reader of Markdown, HTML or bare addresses could take for more than a character.
MARKED = re.compile(r"[\\`*_\[\]|~$@]|:(?=[^\s\d])|(?<=[wW])\.")
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def escape_markdown(text: str) -> str:
    r"""Return Markdown that shows this text and does nothing else.

    Examples
    --------
    >>> print(escape_markdown("a|b_c <i>"))
    a\|b\_c &lt;i&gt;
    """
    text = re.sub("[&<>]", lambda found: ENTITIES[found[0]], printable(text))
    return MARKED.sub(r"\\\g<0>", text)


def printable(text: str) -> str:
    r"""Return the text with everything written out that would steer a terminal or hide from the eye.

    Examples
    --------
    >>> print(printable("a\nb\x1b[2J"))
    a\nb\x1b[2J
    """
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(escape_markdown, cells))} |"


def head(report: Report) -> Iterator[str]:
    """Say of what the report speaks, a sentence at a time."""
    yield f"Store {report.store}, fingerprint {report.fingerprint}, {report.made_at:%Y-%m-%d %H:%M} UTC."
    if report.run_id is not None:
        yield f"The columns “this run” speak of the rows that run {report.run_id} wrote; all else of the whole store."


def _accounts(report: Report) -> list[Account]:
    return [report.whole] if report.run is None else [report.whole, report.run]


def _sides(report: Report) -> tuple[str, ...]:
    return ("whole store", "this run")[: len(_accounts(report))]


def _videos(report: Report) -> ReportSection:
    accounts = _accounts(report)
    states = report.whole.statuses
    pending = states.get(PENDING, 0)
    note = f"{report.videos:,} videos in the catalog, " + (
        f"{pending:,} of them pending: no run has looked at them under these settings."
        if pending
        else "every one of them looked at."
    )
    rows = [(state, *(f"{account.statuses.get(state, 0):,}" for account in accounts)) for state in states]
    total = ("all", *(f"{sum(account.statuses.values()):,}" for account in accounts))
    return ReportSection(VIDEOS, (note,), ("status", *_sides(report)), (*rows, total) if rows else ())


BALANCE = (
    ("frames wanted", "frames_wanted"),
    ("= decoded", "frames_decoded"),
    ("+ missing", "frames_missing"),
    ("frames decoded", "frames_decoded"),
    ("= with a face", "frames_with_face"),
    ("+ without a face", "frames_without_face"),
    ("frames with a face", "frames_with_face"),
    ("of these, with a face kept", "frames_with_kept_face"),
    ("faces found", "faces_found"),
    ("= kept", "faces_kept"),
    ("+ rejected", "faces_rejected"),
)


def _balance(report: Report) -> ReportSection:
    accounts = _accounts(report)
    uneven = report.whole.unbalanced_videos
    note = (
        f"The sums of {uneven:,} videos do not come out even, which is a defect in dfpipe."
        if uneven
        else "The sums come out even for every video."
    )
    reasons = [
        (f"rejected: {name.replace('_', ' ')}", f"faces_rejected_{name}")
        for name in REJECTIONS
        if report.whole.totals[f"faces_rejected_{name}"]
    ]
    rows = [(text, *(f"{account.totals[column]:,}" for account in accounts)) for text, column in (*BALANCE, *reasons)]
    return ReportSection("Frames and faces", (note,), ("", *_sides(report)), tuple(rows) if report.videos else ())


def _losses(report: Report) -> ReportSection:
    losses = report.losses
    notes = (
        *losses.sentences(),
        "Lost videos ended without a face. Lost frames were wanted and no face of them is kept; a video that could not "
        "be opened wants none.",
        "In brackets 95 % intervals. Frames of one video are alike, so those of frames go by how much videos differ.",
    )
    rows = tuple(
        (
            one.grouping,
            one.group or "(none)",
            f"{one.videos.whole:,}",
            _share(one.videos),
            f"{one.frames_lost.whole:,}",
            _share(one.frames_without_face),
            _share(one.frames_lost),
        )
        for one in (losses.overall, *losses.groups)
    )
    header = ("by", "group", "videos", "videos lost", "frames wanted", "no face found", "frames lost")
    return ReportSection(LOSSES, notes, header, rows if losses.overall.videos.whole else (), 2)


def _share(share: Share) -> str:
    if share.value is None:
        return "–"  # noqa: RUF001 - nothing to divide by
    return f"{percent(share.value)} ({share.low * 100:.1f} to {share.high * 100:.1f})"


def _distributions(report: Report) -> ReportSection:
    rows = tuple(
        (f"{one.measure}{f', {one.unit}' if one.unit else ''}", spread.group, f"{spread.videos:,}", *_figures(spread))
        for one in report.distributions
        for spread in one.spreads
    )
    header = ("", "label", "videos", "least", "5 %", "median", "mean", "95 %", "greatest")
    return ReportSection(DISTRIBUTIONS, ("Of the videos in the whole store that could be opened.",), header, rows, 2)


def _figures(spread: Spread) -> Iterator[str]:
    values = (
        spread.least,
        spread.percentile_5,
        spread.median,
        spread.mean,
        spread.percentile_95,
        spread.greatest,
    )
    return (f"{value:,.0f}" if value == round(value) else f"{value:,.2f}" for value in values)


def _formats(report: Report) -> ReportSection:
    labels = sorted({label for one in report.formats for label in one.videos}, reverse=True)
    rows = tuple(
        (one.fact, one.value, f"{sum(one.videos.values()):,}", *(f"{one.videos.get(label, 0):,}" for label in labels))
        for one in report.formats
    )
    return ReportSection("Formats, whole store", (), ("", "value", "videos", *labels), rows, 2)


def _throughput(report: Report) -> ReportSection:
    accounts, prices = _accounts(report), report.prices

    def row(text: str, values: Sequence[float | None], digits: int) -> tuple[str, ...]:
        return (text, *("–" if value is None else f"{value:,.{digits}f}" for value in values))  # noqa: RUF001

    rows = (
        row("videos ended", [one.ended_videos for one in accounts], 0),
        row("processor time, s", [one.cpu_seconds for one in accounts], 1),
        row("videos/s per core", [one.videos_per_core_second for one in accounts], 3),
        row("frames/s per core", [one.frames_per_core_second for one in accounts], 2),
        row("MB/s of source per core", [one.megabytes_per_core_second for one in accounts], 3),
        row("probing and decoding, s by the clock", [one.decode_seconds for one in accounts], 1),
        row("finding faces, s by the clock", [one.detect_seconds for one in accounts], 1),
        row("cropping and encoding, s by the clock", [one.encode_seconds for one in accounts], 1),
        row("videos/s per worker", [one.videos_per_worker_second for one in accounts], 3),
        row(
            f"{prices.currency} per 1,000 videos, by processor time",
            [one.cost_per_1000_videos for one in accounts],
            4,
        ),
        row(
            f"{prices.currency} per 1,000 videos, by the workers' clocks",
            [one.worker_cost_per_1000_videos for one in accounts],
            4,
        ),
    )
    note = f"One core for one hour at {prices.price_per_core_hour} {prices.currency}; storage and traffic not included."
    ended = report.whole.ended_videos
    return ReportSection("Throughput and cost", (note,), ("", *_sides(report)), rows if ended else ())


def _failures(report: Report) -> ReportSection:
    rest = report.num_failures - len(report.failures)
    notes = (f"{rest:,} more: dfpipe status --failures lists all.",) if rest else ()
    rows = tuple((one.status, one.video_id, one.reason) for one in report.failures)
    return ReportSection("Videos that ended without a face, whole store", notes, ("status", "video", "why"), rows, 3)
