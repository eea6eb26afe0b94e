"""What stands at the head of a training's page in MLflow: a few lines that say what it is and how it came out."""

from collections.abc import Mapping

from dfpipe.models.evaluate import Evaluation
from dfpipe.models.search import SearchResult
from dfpipe.models.splits import Split

__all__ = ["run_note"]


def run_note(
    winner: Evaluation,
    search: SearchResult,
    split: Split,
    *,
    metrics: Mapping[str, float],
    flow_run_url: str | None = None,
) -> str:
    """Describe a training in Markdown; it names no video and no person.

    Parameters
    ----------
    winner
        The best candidate on the held-out videos.
    search
        Every candidate.
    split
        How the videos were divided.
    metrics
        Figures of the training's run; those of a leaky one also ``grouped_``.
    flow_run_url
        Page of the flow run; None where none lasts.
    """
    failed = sum(result.error is not None for result in search.ranking)
    real, fake = (int((winner.y_video == label).sum()) for label in (0, 1))
    lines = []
    if split.leaky:
        grouped = _figure(metrics, "grouped_test_video_auc")
        lines.append(
            "**Leaky: something of the held-out videos may be known from training, so the figures are too good.** "
            f"Divided by identity, video AUC: **{grouped}**."
        )
    lines += [
        f"- **{winner.candidate.name}**, the best of {len(search.ranking)} candidates by validation {search.scoring}"
        + (f"; {failed} failed" if failed else ""),
        f"- held-out video AUC **{_figure(metrics, 'test_video_auc')}**, "
        f"accuracy {_figure(metrics, 'test_video_accuracy')}",
        f"- split `{split.protocol}`, {len(split.folds)} folds; held out: {real} real and {fake} fake videos"
        + (f"; {len(split.left_out)} videos on no side" if split.left_out else ""),
        "- under Artifacts: `model_card.md` first, then `roc.png`, `confusion_matrix.png`, `reliability.png`; "
        "candidates are child runs",
    ]
    if flow_run_url is not None:
        lines.append(f"- [flow run in Prefect]({flow_run_url})")
    # A list right below a paragraph needs an empty line between.
    return "\n".join(lines[:1] + [""] * split.leaky + lines[1:]) + "\n"


def _figure(metrics: Mapping[str, float], name: str) -> str:
    if name not in metrics:
        return "not measured"
    low, high = (metrics.get(f"{name}_{end}") for end in ("low", "high"))
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{metrics[name]:.3f}{interval}"
