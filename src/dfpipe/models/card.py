"""The model card: what a model is for, what it was judged on, and what its figures do not say."""

from collections.abc import Mapping, Sequence

import numpy as np

from dfpipe.models.evaluate import Evaluation
from dfpipe.models.metrics import Interval, Scores

__all__ = ["FIGURE_NAMES", "model_card"]

FIGURE_NAMES = {
    "auc": "ROC AUC",
    "pr_auc": "PR AUC (average precision)",
    "eer": "equal error rate",
    "tpr_at_fpr_1": "fakes found at 1 % false alarms",
    "tpr_at_fpr_5": "fakes found at 5 % false alarms",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "ece": "expected calibration error",
    "precision_real": "precision, real",
    "recall_real": "recall, real",
    "f1_real": "F1, real",
    "precision_fake": "precision, fake",
    "recall_fake": "recall, fake",
    "f1_fake": "F1, fake",
}
"""What each figure of `Scores` is called, in the order of the card."""


def model_card(
    evaluation: Evaluation, *, data: Mapping[str, str | int], test_reads: int, trainings: int, leaky: bool = False
) -> str:
    """Write the card of a model in Markdown; it names no video and no person.

    Parameters
    ----------
    evaluation
        The model on the held-out videos.
    data
        Facts of the data by name, shown as they are: hashes, counts, feature sets.
    test_reads
        How often these held-out videos were scored so far, this time included.
    trainings
        By how many trainings.
    leaky
        Whether the split has the same people on both sides.
    """
    rule, bootstrap = evaluation.rule, evaluation.settings.bootstrap
    groups = len(np.unique(evaluation.groups_video))
    real, fake = (int((evaluation.y_video == label).sum()) for label in (0, 1))
    lines = [f"# {evaluation.candidate.name}", ""]
    if leaky:
        lines += [
            "**Leaky split: the same people, or frames of the same videos, stand on both sides. The figures "
            "below say how well they are told apart, not how well unknown videos are.**",
            "",
        ]
    lines += [
        "A classifier of videos of faces: real, or fake by a face that was put in or changed.",
        "",
        "## Intended use",
        "To rank or sort videos of the kind it was trained on, before a person looks at them.",
        "",
        "## What a verdict is not",
        "- Not proof. It is the opinion of a model about the faces that were found; sound and story are not seen.",
        "- Not a statement about methods, cameras or compressions that are not in the data below.",
        "- Not a probability where fakes are rarer or more frequent than in the videos that it was calibrated on "
        f"({rule.fake_videos} fake of {rule.real_videos + rule.fake_videos})."
        if rule.real_videos
        else "- Not a calibrated probability: no calibration was fitted.",
        "",
        "## Data",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in data.items()),
        f"| held-out videos | {real} real, {fake} fake, in {groups} groups of people |",
        f"| times these videos were scored | {test_reads}, by {trainings} training{'s' if trainings != 1 else ''} |",
        "",
        "The more often the same videos are scored, the more the choice between trainings fits them by chance.",
        "",
        "Faces of some of these videos stand beside this card only where `train.evaluation.sheets` asked for them: "
        "`examples_real.png`, `examples_fake.png`, `mistakes.png`. They are for those who may see the videos.",
        "",
        "## From score to verdict",
        f"The score of a video is the mean probability over its faces. Calibration: {_calibration(evaluation)}. "
        f"Called fake from {rule.threshold:.4g} on ({_chosen(evaluation)}). Neither has seen a held-out video.",
        "",
        "## Figures on the held-out videos",
        f"{bootstrap.confidence:.0%} percentile intervals from {bootstrap.samples} resamples of groups of people.",
        "",
        *_table(
            ["figure", "by video", "by face"],
            [
                [
                    title,
                    _with(evaluation.video, evaluation.video_intervals, name),
                    _with(evaluation.frame, evaluation.frame_intervals, name),
                ]
                for name, title in FIGURE_NAMES.items()
            ],
        ),
        "",
    ]
    if groups < FEW_GROUPS:
        lines += [f"Intervals from {groups} groups are too narrow: with fewer than {FEW_GROUPS} they are a hint.", ""]
    if evaluation.subsets:
        lines += [
            "## By part of the videos",
            *_table(
                ["", "told from", "real", "fake", "groups", "ROC AUC", "balanced accuracy", "real called fake"],
                [
                    [
                        f"{one.column} {one.value}",
                        one.against,
                        str(one.real_videos),
                        str(one.fake_videos),
                        str(one.groups),
                        _with(one.scores, one.intervals, "auc"),
                        _with(one.scores, one.intervals, "balanced_accuracy"),
                        f"{1 - one.scores.recall_real:.3f}" if one.real_videos else "",
                    ]
                    for one in evaluation.subsets
                ],
            ),
            "",
        ]
    return "\n".join(lines)


FEW_GROUPS = 20


def _with(scores: Scores, intervals: Mapping[str, Interval], name: str) -> str:
    value, (low, high) = getattr(scores, name), intervals[name]
    return "not defined" if np.isnan(value) else f"{value:.3f} ({low:.3f} to {high:.3f})"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    cells = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *cells)]


def _calibration(evaluation: Evaluation) -> str:
    before, after = evaluation.video_uncalibrated, evaluation.video
    name = evaluation.rule.calibration.name
    if name == "none":
        return "none"
    return f"{name} (log loss {before.log_loss:.3f} before, {after.log_loss:.3f} after)"


def _chosen(evaluation: Evaluation) -> str:
    match evaluation.rule.chosen_by.name:
        case "fixed":
            return "a fixed threshold"
        case "balanced_accuracy":
            return "where balanced accuracy was largest in validation"
        case _:
            return f"at most {evaluation.rule.chosen_by.rate:.1%} of the real validation videos called fake"
