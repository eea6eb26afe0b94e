"""What reviewers look at: confusion matrices, curves with bands, calibration, scores, the grid, the face."""

from collections.abc import Callable, Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.models.bootstrap import group_weights
from dfpipe.models.bundle import Preprocessing
from dfpipe.models.data import REAL_AND_FAKE
from dfpipe.models.evaluate import Evaluation
from dfpipe.models.metrics import ECE_BINS, THRESHOLD, Interval, equal_mass_bins, roc_points
from dfpipe.models.search import CandidateResult, SearchResult, lower_is_better
from dfpipe.settings import PixelsSettings

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "classification_text",
    "confusion_figure",
    "folds_figure",
    "grid_figure",
    "importance_figure",
    "pixel_importance",
    "pr_figure",
    "reliability_figure",
    "roc_figure",
    "scores_figure",
    "subsets_figure",
]

# A Figure made without pyplot draws with Agg and belongs to nobody but its maker, so threads cannot meet in it.

REAL_COLOUR, FAKE_COLOUR = "tab:blue", "tab:red"
LEAST_SPREAD = 0.01
"""Least difference between the ends of the grid's colours."""
LEVELS = np.linspace(0, 1, 101)
"""Where bands are drawn along the horizontal axis."""


def confusion_figure(evaluation: Evaluation) -> "Figure":
    """Draw the confusion matrices by face and by video side by side, with counts and shares of the true class."""
    figure = _figure(9, 4.4)
    panels = figure.subplots(1, 2)
    for axes, unit, scores in zip(panels, ("faces", "videos"), (evaluation.frame, evaluation.video), strict=True):
        counts = scores.confusion
        of_true = np.maximum(counts.sum(axis=1, keepdims=True), 1)
        shares = counts / of_true
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        for (row, column), count in np.ndenumerate(counts):
            share = shares[row, column]
            colour = "white" if share > 0.55 else "black"
            axes.text(column, row, f"{count}\n{share:.0%}", ha="center", va="center", fontsize=15, color=colour)
        axes.set_title(f"{counts.sum()} held-out {unit}: accuracy {scores.accuracy:.3f}")
        axes.set_xticks([0, 1], REAL_AND_FAKE)
        axes.set_yticks([0, 1], REAL_AND_FAKE, rotation=90, va="center")
        axes.set_xlabel("verdict")
        axes.set_ylabel("truth")
        axes.tick_params(length=0)
    figure.suptitle(evaluation.candidate.name)
    return figure


def roc_figure(evaluations: Sequence[Evaluation]) -> "Figure":
    """Draw the ROC curves of several evaluations by face and by video, those by video with their bands."""
    figure = _figure(10, 5 + 0.6 * len(evaluations))
    by_face, by_video = figure.subplots(1, 2)
    for number, one in enumerate(evaluations):
        colour, name = f"C{number}", one.candidate.name
        for axes, y, proba, auc, interval in (
            (by_face, one.y_frame, one.proba_frame, one.frame.auc, one.frame_intervals["auc"]),
            (by_video, one.y_video, one.proba_video, one.video.auc, one.video_intervals["auc"]),
        ):
            (false_fake, found), *_ = _roc_rates(y, proba, np.ones((1, len(y)), np.int64))
            axes.plot(false_fake, found, linewidth=2, color=colour, label=f"{name}\nAUC {_with(auc, interval)}")
        _band(by_video, one, _roc_at_levels, colour)
    for axes, unit in ((by_face, "faces"), (by_video, "videos")):
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        _square(axes, f"held-out {unit}", "real ones called fake", "fake ones found")
    return figure


def pr_figure(evaluations: Sequence[Evaluation]) -> "Figure":
    """Draw the precision-recall curves of several evaluations by face and by video, those by video with their bands."""
    figure = _figure(10, 5 + 0.6 * len(evaluations))
    by_face, by_video = figure.subplots(1, 2)
    for number, one in enumerate(evaluations):
        colour, name = f"C{number}", one.candidate.name
        for axes, y, proba, area, interval in (
            (by_face, one.y_frame, one.proba_frame, one.frame.pr_auc, one.frame_intervals["pr_auc"]),
            (by_video, one.y_video, one.proba_video, one.video.pr_auc, one.video_intervals["pr_auc"]),
        ):
            recall, precision = _pr_points(y, proba)
            label = f"{name}\nPR AUC {_with(area, interval)}"
            axes.plot(recall, precision, linewidth=2, color=colour, drawstyle="steps-pre", label=label)
        _band(by_video, one, _pr_at_levels, colour)
    for axes, unit, y in ((by_face, "faces", evaluations[0].y_frame), (by_video, "videos", evaluations[0].y_video)):
        axes.axhline(float(y.mean()), color="0.6", linestyle=":", linewidth=1)
        _square(axes, f"held-out {unit}", "fake ones found (recall)", "of those called fake, fake (precision)")
    return figure


def reliability_figure(evaluation: Evaluation) -> "Figure":
    """Draw how often videos are fake against how probable the model says it is, before and after calibration."""
    figure = _figure(6.4, 6.8)
    curve, counts = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    y = evaluation.y_video
    curve.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
    edges = np.linspace(0, 1, 21)
    for name, proba, scores, style in (
        ("before calibration", evaluation.score_video, evaluation.video_uncalibrated, {"color": "0.6", "marker": "s"}),
        ("calibrated", evaluation.proba_video, evaluation.video, {"color": "C0", "marker": "o"}),
    ):
        bins = equal_mass_bins(proba)
        size = np.bincount(bins)
        said, seen = (np.bincount(bins, weights=values) / size for values in (proba, y))
        label = f"{name}: ECE {scores.ece:.3f}, Brier {scores.brier:.3f}, log loss {scores.log_loss:.3f}"
        curve.plot(said, seen, label=label, linewidth=1.5, **style)
        counts.hist(proba, edges, color=style["color"], histtype="step", linewidth=1.5)
    how = f"calibration: {evaluation.rule.calibration.name}; {ECE_BINS} bins of equally many videos"
    curve.set_title(f"{evaluation.candidate.name}\n{how}", fontsize=11)
    curve.set_ylabel("share that is fake")
    curve.set_ylim(-0.04, 1.04)
    curve.legend(loc="upper left", fontsize=8, frameon=False)
    counts.set_xlabel("probability of fake")
    counts.set_ylabel("held-out videos")
    counts.set_xlim(-0.02, 1.02)
    return figure


def scores_figure(evaluation: Evaluation) -> "Figure":
    """Draw the distribution of the probabilities of real and of fake ones, by face and by video."""
    figure = _figure(10, 4.2)
    edges = np.linspace(0, 1, 26)
    for axes, unit, y, proba, threshold in zip(
        figure.subplots(1, 2),
        ("faces", "videos, calibrated"),
        (evaluation.y_frame, evaluation.y_video),
        (evaluation.proba_frame, evaluation.proba_video),
        (THRESHOLD, evaluation.rule.threshold),
        strict=True,
    ):
        for label, colour in enumerate((REAL_COLOUR, FAKE_COLOUR)):
            part = proba[y == label]
            axes.hist(part, edges, color=colour, alpha=0.5, label=f"{len(part)} {REAL_AND_FAKE[label]}")
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1, label=f"threshold {threshold:.3f}")
        axes.set_title(f"held-out {unit}")
        axes.set_xlabel("probability of fake")
        axes.set_ylabel("number")
        axes.set_xlim(-0.02, 1.02)
        axes.legend(frameon=False, fontsize=9)
    figure.suptitle(evaluation.candidate.name)
    return figure


def folds_figure(result: CandidateResult) -> "Figure":
    """Draw AUC and accuracy of every fold of a candidate with their means, or say why it failed.

    All candidates share the axes, so that pictures side by side can be compared.
    """
    figure = _figure(6.4, 4)
    axes = figure.subplots()
    axes.set_title(result.candidate.name, fontsize=10)
    if result.error is not None:
        axes.set_axis_off()
        axes.text(0.5, 0.5, f"failed\n\n{fill(result.error[:600], 60)}", ha="center", va="center", parse_math=False)
        return figure
    at = np.arange(len(result.folds))
    for number, name in enumerate(("video_auc", "video_accuracy", "frame_auc", "frame_accuracy")):
        values = [fold.metrics[name] for fold in result.folds]
        mean, std = result.mean[name], result.std[name]
        label = f"{name.replace('_', ' ')}: mean {mean:.3f}, deviation {std:.3f}"
        # Beside each other, as equal ones would cover each other.
        axes.plot(at + 0.1 * (number - 1.5), values, "o", color=f"C{number}", label=label)
        axes.axhline(mean, color=f"C{number}", linewidth=1, alpha=0.5)
    axes.set_xticks(at, [str(fold.fold) for fold in result.folds])
    axes.set_xlabel("validation fold")
    axes.set_ylim(-0.02, 1.02)
    axes.legend(loc="lower left", fontsize=8)
    return figure


def grid_figure(search: SearchResult) -> "Figure | None":
    """Draw the figure by which candidates were ranked over the two longest axes of each kind of model's grid.

    Where a grid has further axes, a cell shows the best over them. Brighter is better, also of figures such as the log
    loss, of which less is better.

    Parameters
    ----------
    search
        Every candidate.

    Returns
    -------
    Figure or None
        None where no kind of model has two candidates that did not fail.
    """
    kinds: dict[str, list[CandidateResult]] = {}
    for result in search.ranking:
        if result.error is None:
            kinds.setdefault(result.candidate.model, []).append(result)
    drawn = {kind: results for kind, results in sorted(kinds.items()) if len(results) > 1}
    if not drawn:
        return None
    figure = _figure(max(5.5, 4.6 * len(drawn)), 4.4)
    scoring, lower = search.scoring, lower_is_better(search.scoring)
    means = [result.mean[scoring] for results in drawn.values() for result in results]
    high = max(means)
    # Equal but for rounding, they would have the two ends of the colours.
    low = min(*means, high - LEAST_SPREAD)
    for axes, (kind, results) in zip(np.atleast_1d(figure.subplots(1, len(drawn))), drawn.items(), strict=True):
        image = _grid(axes, results, scoring, low=low, high=high)
        axes.set_title(kind)
    label = f"validation {scoring.replace('_', ' ')}{' (lower is better)' if lower else ''}"
    figure.colorbar(image, ax=figure.axes, label=label)
    return figure


def pixel_importance(model: Any, preprocessing: Preprocessing) -> NDArray[np.float64] | None:
    """Return how much of a model's importance lies at each place of the face.

    Forests and boosting tell the importance of every column, linear models the weight: its size counts. What a place
    has several columns for, its colours and the statistics over a video's faces, is summed, and the whole is made to
    sum up to the share of these pixels among all columns.

    Parameters
    ----------
    model
        Fitted classifier, or a pipeline that ends in one.
    preprocessing
        Which columns are pixels; where several sets are, the first counts.

    Returns
    -------
    ndarray of float64, shape (size, size), or None
        None for a model that tells no importance, and where ``pixels`` are not among the features.
    """
    sets = zip(preprocessing.features, preprocessing.columns, strict=True)
    found = next(((feature, block) for feature, block in sets if isinstance(feature, PixelsSettings)), None)
    weights = _column_importance(model)
    if found is None or weights is None or weights.sum() == 0:
        return None
    feature, block = found
    statistics = 1 if preprocessing.rows == "face" else 4
    by_place = weights[block.start : block.stop].reshape(statistics, feature.size_px, feature.size_px, -1)
    pixels: NDArray[np.float64] = by_place.sum(axis=(0, 3)) / weights.sum()
    return pixels


def importance_figure(evaluation: Evaluation, preprocessing: Preprocessing) -> "Figure | None":
    """Draw `pixel_importance` as a heat map on the crop; None where there is none."""
    importance = pixel_importance(evaluation.model, preprocessing)
    if importance is None:
        return None
    figure = _figure(5.6, 4.8)
    axes = figure.subplots()
    image = axes.imshow(importance, cmap="inferno", interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlabel(f"{importance.sum():.0%} of the importance lies in the pixels")
    axes.set_title(f"where on the face\n{evaluation.candidate.name}", fontsize=11)
    figure.colorbar(image, ax=axes, label="share of the importance")
    return figure


def subsets_figure(evaluation: Evaluation) -> "Figure | None":
    """Draw AUC and balanced accuracy by video of every subset with their intervals; None where there is none."""
    subsets = evaluation.subsets
    if not subsets:
        return None
    names = [f"{one.column} {one.value}\n{one.real_videos} real, {one.fake_videos} fake" for one in subsets]
    names.append(f"all held-out videos\n{(evaluation.y_video == 0).sum()} real, {(evaluation.y_video == 1).sum()} fake")
    rows = [(one.scores, one.intervals) for one in subsets] + [(evaluation.video, evaluation.video_intervals)]
    figure = _figure(10, 1.6 + 0.55 * len(rows))
    at = np.arange(len(rows))
    for axes, figure_name, title in zip(
        figure.subplots(1, 2, sharey=True), ("auc", "balanced_accuracy"), ("ROC AUC", "balanced accuracy"), strict=True
    ):
        values = [getattr(scores, figure_name) for scores, _ in rows]
        ends = [intervals[figure_name] for _, intervals in rows]
        axes.hlines(at, [end.low for end in ends], [end.high for end in ends], color="C0", linewidth=3, alpha=0.5)
        axes.plot(values, at, "o", color="C0")
        axes.axvline(values[-1], color="0.6", linestyle=":", linewidth=1)
        axes.set_title(title)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(at, names, fontsize=8)
        axes.grid(axis="x", color="0.9")
    confidence = evaluation.settings.bootstrap.confidence
    figure.suptitle(f"{evaluation.candidate.name}: by video, {confidence:.0%} intervals", fontsize=11)
    return figure


def classification_text(evaluation: Evaluation) -> str:
    """Return scikit-learn's classification report of the held-out faces and of the held-out videos."""
    from sklearn.metrics import classification_report  # noqa: PLC0415 - slow to import

    parts = [evaluation.candidate.name, ""]
    for unit, y, proba, threshold in (
        ("faces", evaluation.y_frame, evaluation.proba_frame, THRESHOLD),
        ("videos", evaluation.y_video, evaluation.proba_video, evaluation.rule.threshold),
    ):
        called = (proba >= threshold).astype(np.int8)
        report = classification_report(y, called, labels=[0, 1], target_names=REAL_AND_FAKE, digits=3, zero_division=0)
        parts += [f"held-out {unit}, called fake from {threshold:.4g} on", report]
    return "\n".join(parts)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    return Figure(figsize=(width, height), layout="constrained")


def _with(value: float, interval: Interval) -> str:
    return f"{value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _square(axes: "Axes", title: str, across: str, up: str) -> None:
    axes.set_title(title)
    axes.set_xlabel(across)
    axes.set_ylabel(up)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, frameon=False)


AtLevels = Callable[[NDArray[np.int8], NDArray[np.float64], NDArray[np.int64]], list[NDArray[np.float64]]]


def _band(axes: "Axes", evaluation: Evaluation, at_levels: AtLevels, colour: str) -> None:
    """Shade what a curve does over the resamples in which both classes stand, at each level on its own."""
    y, bootstrap = evaluation.y_video, evaluation.settings.bootstrap
    weights = np.stack(list(group_weights(evaluation.groups_video, samples=bootstrap.samples, seed=bootstrap.seed)))
    both = (weights @ y > 0) & (weights @ (1 - y) > 0)
    if not both.any():
        return
    heights = np.array(at_levels(y, evaluation.proba_video, weights[both]))
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(heights, [tail, 1 - tail], axis=0)
    axes.fill_between(LEVELS, low, high, color=colour, alpha=0.15, linewidth=0)


def _roc_rates(
    y: NDArray[np.int8], proba: NDArray[np.float64], weights: NDArray[np.int64]
) -> list[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    false_fake, true_fake = roc_points(y, proba, weights)
    rates = (false_fake / np.maximum(false_fake[:, -1:], 1), true_fake / np.maximum(true_fake[:, -1:], 1))
    return list(zip(*rates, strict=True))


def _roc_at_levels(
    y: NDArray[np.int8], proba: NDArray[np.float64], weights: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    heights = []
    for false_fake, found in _roc_rates(y, proba, weights):
        # Where the curve rises straight up, the band is of its upper end.
        last = np.append(np.diff(false_fake) > 0, True)
        heights.append(np.interp(LEVELS, false_fake[last], found[last]))
    return heights


def _pr_points(y: NDArray[np.int8], proba: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    false_fake, true_fake = (counts[0] for counts in roc_points(y, proba, np.ones((1, len(y)), np.int64)))
    precision = true_fake[1:] / (true_fake[1:] + false_fake[1:])
    recall = true_fake / max(true_fake[-1], 1)
    return recall, np.concatenate([precision[:1], precision])


def _pr_at_levels(
    y: NDArray[np.int8], proba: NDArray[np.float64], weights: NDArray[np.int64]
) -> list[NDArray[np.float64]]:
    heights = []
    for false_fake, true_fake in zip(*roc_points(y, proba, weights), strict=True):
        precision = true_fake[1:] / np.maximum(true_fake[1:] + false_fake[1:], 1)
        at = np.searchsorted(true_fake[1:], LEVELS * true_fake[-1] - 1e-9)
        # Before the first fake one the precision is not defined yet.
        heights.append(precision[np.maximum(at, np.argmax(true_fake[1:] > 0))])
    return heights


def _grid(axes: "Axes", results: Sequence[CandidateResult], scoring: str, *, low: float, high: float) -> Any:
    points = [dict(result.candidate.params) for result in results]
    values = {name: sorted({point[name] for point in points}, key=_order) for name in points[0]}
    longest = sorted(values, key=lambda name: -len(values[name]))
    across = longest[0]
    down = longest[1] if len(longest) > 1 else None
    rows: list[Any] = values[down] if down is not None else [None]
    cells = np.full((len(rows), len(values[across])), np.nan)
    lower = lower_is_better(scoring)
    better = np.fmin if lower else np.fmax
    for point, result in zip(points, results, strict=True):
        at = (rows.index(point[down]) if down is not None else 0, values[across].index(point[across]))
        cells[at] = better(cells[at], result.mean[scoring])
    image = axes.imshow(cells, cmap="viridis_r" if lower else "viridis", vmin=low, vmax=high, aspect="auto")
    for (row, column), value in np.ndenumerate(cells):
        if not np.isnan(value):
            dark = (value < (low + high) / 2) != lower
            axes.text(column, row, f"{value:.3f}", ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(values[across])), [str(value) for value in values[across]])
    axes.set_yticks(range(len(rows)), ["" if down is None else str(value) for value in rows])
    axes.set_xlabel(across)
    axes.set_ylabel(down or "")
    axes.tick_params(length=0)
    return image


def _order(value: Any) -> tuple[bool, bool, Any]:
    # Numbers, then words, then null, which stands for no bound.
    return (value is None, isinstance(value, str), 0 if value is None else value)


def _column_importance(model: Any) -> NDArray[np.float64] | None:
    last: Any = model[-1] if hasattr(model, "named_steps") else model
    if hasattr(last, "feature_importances_"):
        return np.asarray(last.feature_importances_, np.float64)
    if hasattr(last, "coef_"):
        return np.asarray(np.abs(last.coef_).sum(axis=0), np.float64)
    parts = [_column_importance(part.estimator) for part in getattr(last, "calibrated_classifiers_", ())]
    told = [part for part in parts if part is not None]
    return np.asarray(np.mean(told, axis=0), np.float64) if told else None
