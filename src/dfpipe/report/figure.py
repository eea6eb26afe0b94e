"""The distributions as a picture."""

import io

from dfpipe.report.numbers import Distribution, Report

__all__ = ["draw_distributions"]

COLOURS = {"real": "#1f77b4", "fake": "#d95f02"}


def draw_distributions(report: Report) -> bytes | None:
    """Draw frame counts, rates, widths and durations by label; return a PNG, None where no video could be opened.

    Bars are shares of the videos with a label, so that many fakes of few originals do not hide them.
    """
    if not report.distributions:
        return None
    # Slow to import. A Figure made without pyplot draws with Agg, and two threads cannot meet in it.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 6.6), layout="constrained", facecolor="white")
    panels = figure.subplots(2, 2).ravel()
    for axes in panels[len(report.distributions) :]:
        axes.set_axis_off()
    for axes, one in zip(panels, report.distributions, strict=False):
        edges, widest = one.histogram.edges, 0.0
        for label, counts in one.histogram.counts.items():
            total = sum(counts)
            shares = [100 * count / total for count in counts] if total else [0.0] * len(counts)
            colour = COLOURS.get(label, "0.4")
            axes.stairs(shares, edges, color=colour, linewidth=1.8, label=f"{label}, {total:,} videos")
            axes.stairs(shares, edges, color=colour, alpha=0.18, fill=True)
            widest = max(widest, *shares)
        axes.set_ylim(0, widest * 1.12)
        axes.set_title(_title(one), loc="left", fontsize=11)
        axes.set_ylabel("% of the label's videos")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="0.9")
        axes.set_axisbelow(True)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper right", ncols=2, frameon=False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    return picture.getvalue()


def _title(one: Distribution) -> str:
    unit = f" in {one.unit}" if one.unit else ""
    tail = f" (last bar: up to {one.spreads[0].greatest:,.6g})" if one.histogram.has_tail else ""
    return f"{one.measure}{unit}{tail}"
