"""What reviewers look at: confusion matrices, ROC curves, the classification report."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dfpipe.models.data import REAL_AND_FAKE
from dfpipe.models.evaluate import Evaluation
from dfpipe.models.metrics import THRESHOLD

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["classification_text", "confusion_figure", "roc_figure"]

# A Figure made without pyplot draws with Agg and belongs to nobody but its maker, so threads cannot meet in it.


def confusion_figure(evaluation: Evaluation) -> "Figure":
    """Draw the confusion matrices by face and by video side by side, with counts and shares of the true class."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(9, 4.4), layout="constrained")
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
    """Draw the ROC curves of several evaluations by face and by video side by side."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

    figure = Figure(figsize=(10, 5.2), layout="constrained")
    by_face, by_video = figure.subplots(1, 2)
    for evaluation in evaluations:
        _roc(by_face, evaluation.y_frame, evaluation.proba_frame, evaluation.frame.auc, evaluation.candidate.name)
        _roc(by_video, evaluation.y_video, evaluation.proba_video, evaluation.video.auc, evaluation.candidate.name)
    for axes, unit in ((by_face, "faces"), (by_video, "videos")):
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", linewidth=1)
        axes.set_title(f"held-out {unit}")
        axes.set_xlabel("real ones called fake")
        axes.set_ylabel("fake ones found")
        axes.set_xlim(-0.02, 1.02)
        axes.set_ylim(-0.02, 1.02)
        axes.set_aspect("equal")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), fontsize=8, frameon=False)
    return figure


def classification_text(evaluation: Evaluation) -> str:
    """Return scikit-learn's classification report of the held-out faces and of the held-out videos."""
    from sklearn.metrics import classification_report  # noqa: PLC0415 - slow to import

    parts = [evaluation.candidate.name, ""]
    for unit, y, proba in (
        ("faces", evaluation.y_frame, evaluation.proba_frame),
        ("videos", evaluation.y_video, evaluation.proba_video),
    ):
        called = (proba >= THRESHOLD).astype(np.int8)
        report = classification_report(y, called, labels=[0, 1], target_names=REAL_AND_FAKE, digits=3, zero_division=0)
        parts += [f"held-out {unit}", report]
    return "\n".join(parts)


def _roc(
    axes: "Axes", y: "np.typing.NDArray[np.int8]", proba: "np.typing.NDArray[np.float64]", auc: float, name: str
) -> None:
    from sklearn.metrics import roc_curve  # noqa: PLC0415 - slow to import

    false_fake, found, _ = roc_curve(y, proba)
    axes.plot(false_fake, found, linewidth=2, label=f"{name}\nAUC {auc:.3f}")
