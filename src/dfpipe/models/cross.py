"""Train on one kind of video, test on every kind: what a model learns of a data set, a method or a compression alone.

All kinds are divided by one split, so nobody who is learned from in one kind is met in the test of another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError
from dfpipe.models.data import TrainingData
from dfpipe.models.growing import proba_at
from dfpipe.models.memory import why_too_large
from dfpipe.models.metrics import frame_level, intervals, video_scores
from dfpipe.models.search import WORKER_DIED, RunTasks, run_here
from dfpipe.models.specs import Candidate, fit
from dfpipe.models.splits import Rows, Split, Videos
from dfpipe.settings import BootstrapSettings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CrossBy", "CrossCell", "CrossMatrix", "cross_evaluate", "cross_figure", "cross_kinds"]

CrossBy = Literal["dataset", "method", "compression"]


@dataclass(frozen=True, slots=True)
class CrossCell:
    """A model of one kind of video, judged on another."""

    train: str
    """What it learned from."""
    test: str
    """What it was judged on."""
    auc: float
    """Area under the ROC curve by video."""
    low: float | None
    """Lower end of its interval, by bootstrap over groups of people; None for a single group."""
    high: float | None
    """Upper end."""
    videos: int
    """Test videos."""


@dataclass(frozen=True, slots=True)
class CrossMatrix:
    """Every kind against every kind."""

    by: CrossBy
    """What the kinds are kinds of."""
    kinds: tuple[str, ...]
    """Rows and columns, sorted."""
    candidate: Candidate
    """What was fitted to each."""
    cells: tuple[CrossCell, ...]
    """Row by row: a row is what was learned from."""
    left_out: Mapping[str, str]
    """Why kinds have no row and column."""

    @property
    def auc(self) -> NDArray[np.float64]:
        """The figures, shape (kinds, kinds): learned from down, judged on across."""
        return np.array([cell.auc for cell in self.cells]).reshape(len(self.kinds), -1)


def cross_kinds(
    values: Sequence[str], labels: NDArray[np.int8], *, real_of: Sequence[str] | None = None
) -> dict[str, Videos]:
    """Return the videos of each kind.

    Parameters
    ----------
    values
        Kind of each video.
    labels
        Label of each video, shape (n_videos,): 0 real, 1 fake.
    real_of
        The data set of each video, where kinds are methods: its real videos then go with each of its methods. None
        where a real video is of a kind itself.

    Returns
    -------
    dict
        Indices in rising order by kind, sorted.

    Examples
    --------
    >>> kinds = cross_kinds(["original", "swap", "morph"], np.array([0, 1, 1], np.int8), real_of=["d", "d", "d"])
    >>> {kind: videos.tolist() for kind, videos in kinds.items()}
    {'morph': [0, 2], 'swap': [0, 1]}
    """
    value, real = np.asarray(values), labels == 0
    if real_of is None:
        return {str(kind): np.flatnonzero(value == kind) for kind in np.unique(value)}
    dataset = np.asarray(real_of)
    kinds = {}
    for kind in np.unique(value[~real]):
        fakes = ~real & (value == kind)
        kinds[str(kind)] = np.flatnonzero(fakes | (real & np.isin(dataset, dataset[fakes])))
    return kinds


def cross_evaluate(
    data: TrainingData,
    split: Split,
    kinds: Mapping[str, Videos],
    candidate: Candidate,
    *,
    by: CrossBy,
    memory_bytes: int | None = None,
    run_tasks: RunTasks = run_here,
    bootstrap: BootstrapSettings = BootstrapSettings(),  # noqa: B008 - a frozen value
) -> CrossMatrix:
    """Fit a candidate to the training side of each kind, and score it on the test side of every kind.

    Parameters
    ----------
    data
        All rows.
    split
        The one division of all kinds.
    kinds
        Videos of each kind.
    candidate
        What to fit.
    by
        What the kinds are kinds of.
    memory_bytes
        What a fit may take beside the rows, where it runs; a kind that is predicted to need more is left out. None sets
        no bound.
    run_tasks
        Where and how the fits run: one for each kind.
    bootstrap
        Intervals.

    Returns
    -------
    CrossMatrix
        Without the kinds that could not be fitted, each with the reason.

    Raises
    ------
    TrainingDataError
        Fewer than two kinds with both classes on both sides, or that could be fitted.
    """
    rows = {
        kind: tuple(side[np.isin(data.video[side], videos)] for side in (split.train_rows, split.test_rows))
        for kind, videos in kinds.items()
    }
    left_out = {
        kind: f"{name} has only one class"
        for kind, sides in rows.items()
        for name, side in zip(("test", "training"), sides[::-1], strict=True)
        if len(np.unique(data.y[side])) < 2
    }
    usable = sorted(rows.keys() - left_out)
    if len(usable) < 2:
        raise TrainingDataError(
            f"got {len(usable)} kinds by {by} with both classes in training and test ({', '.join(usable) or 'none'}), "
            "expected 2 or more; add videos, or name another column with --by"
        )
    refused = {kind: why_too_large(candidate, data, len(rows[kind][0]), memory_bytes) for kind in usable}
    left_out |= {kind: why for kind, why in refused.items() if why is not None}
    tasks = [(kind, rows[kind][0]) for kind in usable if kind not in left_out]
    scores = {}
    for kind, scored, why in run_tasks(_fit_and_score, tasks, shared=(data, split.test_rows, candidate), lost=_lost):
        if why is None:
            scores[kind] = scored
        else:
            left_out[kind] = why
    reasons = "; ".join(f"{kind}: {left_out[kind]}" for kind in usable if kind in left_out)
    usable = sorted(scores)
    if len(usable) < 2:
        raise TrainingDataError(
            f"got {len(usable)} kinds by {by} to which the model can be fitted, expected 2 or more; {reasons}"
        )
    cells = [
        _judge(data, train, test, scores[train], np.unique(data.video[rows[test][1]]), bootstrap)
        for train in usable
        for test in usable
    ]
    return CrossMatrix(by, tuple(usable), candidate, tuple(cells), left_out)


def cross_figure(matrix: CrossMatrix) -> "Figure":
    """Draw the matrix as a heat map, each cell with its AUC and interval."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    number = len(matrix.kinds)
    figure = Figure(figsize=(3 + 1.5 * number, 2.4 + 0.9 * number), layout="constrained")
    axes = figure.subplots()
    # Half is chance; whatever lies below is as far from it in the other direction.
    picture = axes.imshow(matrix.auc, cmap="RdBu", vmin=0, vmax=1, aspect="auto")
    for index, cell in enumerate(matrix.cells):
        row, column = divmod(index, number)
        colour = "white" if abs(cell.auc - 0.5) > 0.35 else "black"
        text = f"{cell.auc:.2f}" + ("" if cell.low is None else f"\n{cell.low:.2f} to {cell.high:.2f}")
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    axes.set_xticks(range(number), matrix.kinds, rotation=25, ha="right")
    axes.set_yticks(range(number), matrix.kinds)
    axes.set_xlabel(f"judged on ({matrix.by})")
    axes.set_ylabel(f"learned from ({matrix.by})")
    axes.set_title(f"video AUC of {matrix.candidate.name}, people never seen", fontsize=10)
    figure.colorbar(picture, ax=axes)
    return figure


def _fit_and_score(
    shared: tuple[TrainingData, Rows, Candidate], task: tuple[str, Rows]
) -> tuple[str, NDArray[np.float64], str | None]:
    """Fit one kind; return it with the score of every video, nan for those without a test row, and why it failed."""
    (data, test, candidate), (kind, train) = shared, task
    try:
        model: Any = fit(candidate, data, train)
    except TrainingDataError as error:
        return kind, np.empty(0), str(error)
    (proba,) = proba_at((candidate,), model, data, test)
    return kind, video_scores(proba, data.video[test], len(data.video_ids)), None


def _lost(task: tuple[str, Rows]) -> tuple[str, NDArray[np.float64], str | None]:
    return task[0], np.empty(0), WORKER_DIED


def _judge(
    data: TrainingData,
    train: str,
    test: str,
    scores: NDArray[np.float64],
    videos: Videos,
    bootstrap: BootstrapSettings,
) -> CrossCell:
    y, score, groups = data.video_labels[videos], scores[videos], data.groups[videos]
    low, high = intervals(y, score, groups, bootstrap=bootstrap)["auc"]
    known = not np.isnan(low)
    return CrossCell(train, test, frame_level(y, score).auc, low if known else None, high if known else None, len(y))
