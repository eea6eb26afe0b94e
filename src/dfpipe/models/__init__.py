"""Models: rows, splits by identity, grid search, evaluation, and what a verdict needs of a model.

A library for a notebook as much as for the pipeline: it knows no cluster, no orchestrator and no tracking server.
"""

from dfpipe.models.bundle import Bundle, Preprocessing, load_estimator, predict_proba
from dfpipe.models.data import ColumnBlock, TrainingData
from dfpipe.models.evaluate import Evaluation, VideoPrediction, refit_and_evaluate
from dfpipe.models.figures import classification_text, confusion_figure, roc_figure
from dfpipe.models.growing import alike
from dfpipe.models.kinds import KINDS, Kind, ModelKind
from dfpipe.models.memory import fit_bytes
from dfpipe.models.metrics import Scores, frame_level, video_level, video_scores
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
from dfpipe.models.specs import Candidate, build, candidates, fit, upsampled
from dfpipe.models.split_record import split_record
from dfpipe.models.splits import (
    Split,
    check_disjoint,
    grouped_folds,
    identity_groups,
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
    "Evaluation",
    "FoldResult",
    "FoldTask",
    "Kind",
    "ModelKind",
    "Preprocessing",
    "RunTasks",
    "Scores",
    "SearchResult",
    "Split",
    "TrainingData",
    "VideoPrediction",
    "alike",
    "build",
    "candidates",
    "check_disjoint",
    "classification_text",
    "confusion_figure",
    "fit",
    "fit_bytes",
    "frame_level",
    "grouped_folds",
    "identity_groups",
    "load_estimator",
    "on_two_sides",
    "predict_proba",
    "random_rows",
    "refit_and_evaluate",
    "roc_figure",
    "run_fold",
    "run_here",
    "search",
    "split_groups",
    "split_record",
    "upsampled",
    "video_level",
    "video_scores",
]
