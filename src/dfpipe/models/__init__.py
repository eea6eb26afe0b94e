"""Models: rows, splits by identity, grid search, evaluation, and what a verdict needs of a model.

A library for a notebook as much as for the pipeline: it knows no cluster, no orchestrator and no tracking server.
"""

from dfpipe.models.bundle import Bundle, Preprocessing, load_estimator, predict_proba
from dfpipe.models.calibration import VerdictRule, fit_rule
from dfpipe.models.card import model_card
from dfpipe.models.data import ColumnBlock, FaceJoins, TrainingData
from dfpipe.models.duplicates import duplicate_videos
from dfpipe.models.evaluate import Evaluation, Subset, VideoPrediction, refit_and_evaluate, rule_of
from dfpipe.models.figures import (
    classification_text,
    confusion_figure,
    grid_figure,
    importance_figure,
    pr_figure,
    reliability_figure,
    roc_figure,
    scores_figure,
    subsets_figure,
)
from dfpipe.models.growing import alike
from dfpipe.models.kinds import KINDS, Kind, ModelKind
from dfpipe.models.memory import fit_bytes
from dfpipe.models.metrics import Interval, Scores, frame_level, intervals, video_level, video_scores
from dfpipe.models.search import (
    CandidateResult,
    FoldResult,
    FoldTask,
    RunTasks,
    SearchResult,
    run_fold,
    run_here,
    search,
)
from dfpipe.models.sheets import (
    Crops,
    JudgedVideo,
    draw_evenly,
    examples_figure,
    mistakes_figure,
    pick_examples,
    pick_mistakes,
)
from dfpipe.models.specs import Candidate, build, candidates, fit, upsampled
from dfpipe.models.split_record import split_record
from dfpipe.models.splits import (
    Split,
    check_disjoint,
    grouped_folds,
    identity_groups,
    join_groups,
    on_two_sides,
    random_rows,
    split_groups,
)

__all__ = [
    "KINDS",
    "Bundle",
    "Candidate",
    "CandidateResult",
    "ColumnBlock",
    "Crops",
    "Evaluation",
    "FaceJoins",
    "FoldResult",
    "FoldTask",
    "Interval",
    "JudgedVideo",
    "Kind",
    "ModelKind",
    "Preprocessing",
    "RunTasks",
    "Scores",
    "SearchResult",
    "Split",
    "Subset",
    "TrainingData",
    "VerdictRule",
    "VideoPrediction",
    "alike",
    "build",
    "candidates",
    "check_disjoint",
    "classification_text",
    "confusion_figure",
    "draw_evenly",
    "duplicate_videos",
    "examples_figure",
    "fit",
    "fit_bytes",
    "fit_rule",
    "frame_level",
    "grid_figure",
    "grouped_folds",
    "identity_groups",
    "importance_figure",
    "intervals",
    "join_groups",
    "load_estimator",
    "mistakes_figure",
    "model_card",
    "on_two_sides",
    "pick_examples",
    "pick_mistakes",
    "pr_figure",
    "predict_proba",
    "random_rows",
    "refit_and_evaluate",
    "reliability_figure",
    "roc_figure",
    "rule_of",
    "run_fold",
    "run_here",
    "scores_figure",
    "search",
    "split_groups",
    "split_record",
    "subsets_figure",
    "upsampled",
    "video_level",
    "video_scores",
]
