"""Where the lines of the page's charts go; pure geometry, drawn as SVG by the page's template."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dfpipe.ledger import NOT_LOOKED_AT
from dfpipe.report.losses import GroupLosses, Losses
from dfpipe.report.numbers import Distribution
from dfpipe.report.shares import Share

__all__ = [
    "PLOT",
    "Bar",
    "Histograms",
    "LossRow",
    "LossRows",
    "Tick",
    "histograms",
    "loss_rows",
    "status_bars",
    "ticks",
]

Scale = Callable[[float], float]
"""A value in, a place in the drawing out."""

WIDTH, HEIGHT = 440, 210
"""Units of a histogram's drawing, which is scaled to the page."""

LEFT, RIGHT, TOP, BOTTOM = 36, 24, 8, 24
"""Room around its bars, at the right for half of the last number below them."""

ROW_HEIGHT = 22
LOSSES_LEFT, LOSSES_WIDTH = 190, 700
"""Room for the names of groups, and the whole drawing."""

PLOT = {
    "width": WIDTH,
    "height": HEIGHT,
    "left": LEFT,
    "right": WIDTH - RIGHT,
    "losses_left": LOSSES_LEFT,
    "losses_width": LOSSES_WIDTH,
}
"""Places that the page draws axes at."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    """Where, in units of the drawing."""
    text: str
    """What it says."""


@dataclass(frozen=True, slots=True)
class Histograms:
    """One measure: the outline of a histogram for each label."""

    title: str
    """Measure and unit."""
    outlines: Mapping[str, str]
    """Path data of the closed outline, by label."""
    x_ticks: tuple[Tick, ...]
    """Values below."""
    y_ticks: tuple[Tick, ...]
    """Shares of the label's videos, in percent, on the left."""
    summary: str
    """What it shows, for who does not see it."""


@dataclass(frozen=True, slots=True)
class LossRow:
    """What one group lost, as two points with intervals."""

    group: str
    """Which."""
    y: float
    """Middle of its row."""
    marks: Mapping[str, tuple[float, float, float]]
    """Low end, value and high end along the axis, by ``videos`` and ``frames``; what is not known is left out."""
    text: str
    """The same in figures."""


@dataclass(frozen=True, slots=True)
class LossRows:
    """Losses of all groups on one axis."""

    rows: tuple[LossRow, ...]
    """A row for each group, that of all videos first."""
    ticks: tuple[Tick, ...]
    """Percent."""
    height: float
    """Height of the drawing."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar that is 100 wide."""

    name: str
    """What it stands for."""
    kind: str
    """``ok``, ``aside`` or ``lost``."""
    start: float
    """Where it begins."""
    width: float
    """How wide it is."""
    text: str
    """The same in figures."""


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """Return round values between two ends, at equal distances.

    Examples
    --------
    >>> ticks(0, 23)
    [0.0, 5.0, 10.0, 15.0, 20.0]
    >>> ticks(3, 3)
    [3]
    """
    if not high > low:
        return [low]
    rough = (high - low) / (most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def histograms(one: Distribution) -> Histograms:
    """Lay out one measure; heights are shares of a label's videos, so that many fakes do not hide few originals."""
    edges = one.histogram.edges
    shares = {
        label: [100 * count / sum(counts) if sum(counts) else 0.0 for count in counts]
        for label, counts in one.histogram.counts.items()
    }
    highest = max((max(values, default=0.0) for values in shares.values()), default=0.0) or 1.0
    span = edges[-1] - edges[0] or 1.0

    def x(value: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * (value - edges[0]) / span, 1)

    def y(share: float) -> float:
        return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - share / (1.06 * highest)), 1)

    unit = f", {one.unit}" if one.unit else ""
    tail = f" (last bar: up to {one.spreads[0].greatest:,.6g})" if one.histogram.has_tail else ""
    return Histograms(
        title=f"{one.measure}{unit}{tail}",
        outlines={label: _outline(edges, values, x, y) for label, values in shares.items()},
        x_ticks=tuple(Tick(x(value), f"{value:,.6g}") for value in ticks(edges[0], edges[-1])),
        y_ticks=tuple(Tick(y(value), f"{value:g}") for value in ticks(0, highest, most=5)),
        summary="; ".join(
            f"{spread.group}: median {spread.median:,.6g}, 5 % below {spread.percentile_5:,.6g}, 5 % above "
            f"{spread.percentile_95:,.6g}"
            for spread in one.spreads
        ),
    )


def _outline(edges: Sequence[float], values: Sequence[float], x: Scale, y: Scale) -> str:
    points = [f"M{x(edges[0])} {y(0)}"]
    for left, right, value in zip(edges[:-1], edges[1:], values, strict=True):
        points.append(f"L{x(left)} {y(value)}L{x(right)} {y(value)}")
    return "".join([*points, f"L{x(edges[-1])} {y(0)}Z"])


def loss_rows(losses: Losses) -> LossRows:
    """Lay out what every group lost, with intervals."""
    groups = [one for one in (losses.overall, *losses.groups) if one.videos.whole]
    known = [share for one in groups for share in (one.videos, one.frames_lost) if share.value is not None]
    highest = max((share.high for share in known), default=0.0) or 1.0

    def x(share: float) -> float:
        return round(LOSSES_LEFT + (LOSSES_WIDTH - LOSSES_LEFT - 16) * share / highest, 1)

    return LossRows(
        rows=tuple(_loss_row(one, (index + 0.5) * ROW_HEIGHT, x) for index, one in enumerate(groups)),
        ticks=tuple(Tick(x(value / 100), f"{value:g} %") for value in ticks(0, 100 * highest)),
        height=len(groups) * ROW_HEIGHT + BOTTOM,
    )


def _loss_row(one: GroupLosses, y: float, x: Scale) -> LossRow:
    shares = {"videos": one.videos, "frames": one.frames_lost}
    told = {name: share for name, share in shares.items() if share.value is not None}
    return LossRow(
        group=f"{one.grouping}: {one.group}" if one.grouping else one.group,
        y=y,
        marks={name: (x(share.low), x(share.value or 0.0), x(share.high)) for name, share in told.items()},
        text=", ".join(f"{name} {_percent(share)}" for name, share in told.items()),
    )


def _percent(share: Share) -> str:
    return f"{100 * (share.value or 0):.1f} % ({100 * share.low:.1f} to {100 * share.high:.1f})"


def status_bars(statuses: Mapping[str, int]) -> tuple[Bar, ...]:
    """Lay out videos by state as parts of one bar."""
    total, start, bars = sum(statuses.values()), 0.0, []
    for status, number in statuses.items():
        width = 100 * number / total
        kind = "ok" if status == "ok" else "aside" if status in NOT_LOOKED_AT else "lost"
        bars.append(Bar(status, kind, round(start, 3), round(width, 3), f"{number:,} {status} ({width:.1f} %)"))
        start += width
    return tuple(bars)
