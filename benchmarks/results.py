"""How well each kind of model does on each feature set: drawn people, and real clips with pseudo-fakes of them.

    python benchmarks/results.py sets [--work FOLDER] [--data FOLDER] [--markdown]
    python benchmarks/results.py auc [SET…] [--features NAME…]
    python benchmarks/results.py leak [SET…]
    python benchmarks/results.py memory

The first call makes the videos (`dfpipe synth`) and runs the pipeline over them (`dfpipe run --until features`); what
stands in the folder is kept. Every video is scored once, by the fit of a fold that saw nobody of its group of people.
"""

import argparse
import ctypes
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from _clips import real
from _table import machine, show

from dfpipe.catalog import read_catalog, to_videos
from dfpipe.dataset import load_training_data
from dfpipe.extract import extract_fingerprint
from dfpipe.models import (
    Candidate,
    FoldTask,
    TrainingData,
    candidates,
    fit,
    fit_bytes,
    frame_level,
    grouped_folds,
    intervals,
    refit_and_evaluate,
    search,
    video_scores,
)
from dfpipe.settings import (
    BootstrapSettings,
    FeatureSettings,
    S3Settings,
    Settings,
    SplitSettings,
    TrainSettings,
    load_settings,
)
from dfpipe.shards import open_tables
from dfpipe.splitting import split_videos
from dfpipe.steps import load_catalog
from dfpipe.storage import open_location
from dfpipe.synth import write_dataset, write_pseudo_fakes

PEOPLE, SEED = 32, 7
DRAWN = {"drawn-0.1": 0.1, "drawn-0.3": 0.3, "drawn-0.6": 0.6}
CLIPS = {"clips-0.3": 0.3, "clips-0.6": 0.6}
NUM_FRAMES, HEIGHTS = (76, 84), (360,)
FOLDS = 5
LEAK_MODELS = ("forest", "xgboost", "logistic", "rbf_svm")
MEMORY_SET = "drawn-0.3"

SETS: dict[str, list[dict[str, Any]]] = {
    "pixels": [{"name": "pixels", "size_px": 24}],
    "residual": [{"name": "residual"}],
    "residual_map": [{"name": "residual_map", "size_px": 32}],
    "spectrum": [{"name": "spectrum"}],
    "dct": [{"name": "dct"}],
    "lbp": [{"name": "lbp"}],
    "cooccurrence": [{"name": "cooccurrence"}],
    "colour": [{"name": "colour"}],
    "sharpness": [{"name": "sharpness"}],
    "landmarks": [{"name": "landmarks"}],
    "temporal": [{"name": "temporal"}],
}
JOINED = ("residual", "spectrum", "dct", "lbp", "cooccurrence", "colour", "sharpness", "landmarks")
"""Put side by side as one more set: what describes a face without being a picture of it. Chosen before any figure."""
SETS["joined"] = [SETS[name][0] for name in JOINED]

GRID = {
    "forest": {"n_estimators": [100]},
    "extra_trees": {"n_estimators": [100]},
    "xgboost": {"n_estimators": [60], "max_depth": [3]},
    "lightgbm": {"n_estimators": [60], "num_leaves": [7]},
    "logistic": {"C": [0.01]},
    "linear_svm": {"C": [0.001]},
    "rbf_svm": {"C": [1.0]},
}
"""One candidate of each kind: nothing is searched, so no figure is the best of many."""


def prepare(work: Path, data: Path | None) -> Settings:
    """Make the videos and the features, unless they stand, and return the settings of the store."""
    clips = real(data, "asl")[0].parent
    source, config = work / "videos", work / "dfpipe.yaml"
    metadata = source / "metadata.csv"
    if not metadata.is_file():
        for name, strength in DRAWN.items():
            write_dataset(
                source / name,
                num_identities=PEOPLE,
                strength=strength,
                seed=SEED,
                num_frames=NUM_FRAMES,
                heights=HEIGHTS,
            )
        for name, strength in CLIPS.items():
            write_pseudo_fakes(clips, source / name, strength=strength, seed=SEED)
        metadata.write_text(_metadata(source), encoding="utf-8")
    every = [options for name, sets in SETS.items() if name != "joined" for options in sets]
    settings = {
        "source": str(source),
        "store": str(work / "store"),
        "state": str(work / "state"),
        "layout": "csv",
        "extract": {
            "sampling": {"name": "every", "every_frames": 15, "max_frames": 5},
            "crop": {"margin_fraction": 0.2},
            "frames": {"keep": False},
        },
        "train": {"features": every},
        "dask": {"workers": 1},
    }
    config.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    if not (work / "store" / "tables" / "features").exists():
        command = [sys.executable, "-m", "dfpipe.cli", "run", "--until", "features", "-c", str(config)]
        subprocess.run(command, check=True, stdout=sys.stderr)
    return load_settings(config)


def _metadata(source: Path) -> str:
    """Put what each set's own layout says of its videos into one table above them all."""
    lines = ["video,label,manipulation,target,source,dataset"]
    for name in (*DRAWN, *CLIPS):
        for video in to_videos(read_catalog(open_location(source / name, S3Settings()))):
            path = Path(video.url).relative_to(source.absolute())
            given = video.source or ""
            lines.append(f"{path},{video.label},{video.manipulation},{video.target},{given},{name}")
    return "\n".join(lines) + "\n"


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of model on one feature set."""

    auc: float
    """Area under the ROC curve, by video."""
    low: float
    """Lower end of its 95 % interval."""
    high: float
    """Upper end."""
    frame_accuracy: float
    """Share of the faces that are right at one half."""
    fit_seconds: float
    """Processor time of one fold's fit with the scoring of its validation side, mean over the folds."""
    predicted_bytes: int
    """What `fit_bytes` says that the largest fold's fit takes beside the rows."""


def read(settings: Settings, name: str, features: str) -> tuple[list[Any], TrainingData]:
    """Return one data set's videos and rows, as a training would read them."""
    tables = open_tables(settings.store, settings.s3)
    catalog = load_catalog(tables)
    own = catalog.filter(np.array([dataset == name for dataset in catalog["dataset"].to_pylist()]))
    sets: list[FeatureSettings] = TrainSettings.model_validate({"features": SETS[features]}).features
    return load_training_data(own, tables, sets, faces_fingerprint=extract_fingerprint(settings.extract))


def grid(models: Sequence[str] = tuple(GRID)) -> list[Candidate]:
    """Return one candidate of each kind."""
    chosen = {model: options if model in models else None for model, options in GRID.items()}
    return candidates(TrainSettings.model_validate(chosen))


def grouped(data: TrainingData, models: Sequence[str] = tuple(GRID)) -> dict[str, Cell]:
    """Cross-validate every kind, each fold holding out whole groups of people."""
    count = min(FOLDS, len(np.unique(data.groups)))
    parts = grouped_folds(data.groups, data.video_labels, folds=count, seed=SEED)
    folds = [(data.rows_of(learnt), data.rows_of(valid)) for learnt, valid in parts]
    seconds: dict[str, list[float]] = {}

    def timed(
        function: Callable[[Any, FoldTask], Any], items: Sequence[FoldTask], *, shared: Any, lost: Any
    ) -> Iterable[Any]:
        del lost
        for item in items:
            started = time.process_time()
            answer = function(shared, item)
            seconds.setdefault(item.candidates[-1].model, []).append(time.process_time() - started)
            yield answer

    cells = {}
    most = max(len(train) for train, _ in folds)
    for result in search(data, folds, grid(models), run_tasks=timed).ranking:
        if result.error is not None:
            sys.exit(f"{result.candidate.name}: {result.error}")
        rows, proba = result.out_of_fold
        videos, member = np.unique(data.video[rows], return_inverse=True)
        labels, scores = data.video_labels[videos], video_scores(proba, member, len(videos))
        low, high = intervals(labels, scores, data.groups[videos], bootstrap=BootstrapSettings())["auc"]
        model = result.candidate.model
        cells[model] = Cell(
            auc=frame_level(labels, scores).auc,
            low=low,
            high=high,
            frame_accuracy=frame_level(data.y[rows], proba).accuracy,
            fit_seconds=float(np.mean(seconds[model])),
            predicted_bytes=fit_bytes(result.candidate, data, most),
        )
    return {model: cells[model] for model in models}


def show_sets(settings: Settings, *, markdown: bool) -> None:
    """Count what the figures rest on."""
    rows = []
    for name in (*DRAWN, *CLIPS):
        videos, data = read(settings, name, "sharpness")
        real_videos, fake_videos = np.bincount(data.video_labels)
        people = len({person for video in videos for person in video.identities})
        counts = [real_videos, fake_videos, people, len(np.unique(data.groups)), len(data.y)]
        rows.append([name, *map(str, counts)])
    show("The data", ("set", "real videos", "fake videos", "people", "groups", "faces"), rows, markdown=markdown)


def show_auc(settings: Settings, names: Sequence[str], of: Sequence[str], *, markdown: bool) -> None:
    """Every kind of model on every feature set, and what each took."""
    for name in names:
        figures, seconds, memory = [], [], []
        for features in of:
            _, data = read(settings, name, features)
            cells = grouped(data)
            label = f"{features} ({data.X.shape[1]})"
            figures.append([label, *(f"{cell.auc:.2f} ({cell.low:.2f}, {cell.high:.2f})" for cell in cells.values())])
            seconds.append([label, *(f"{cell.fit_seconds:.2f}" for cell in cells.values())])
            memory.append([label, *(f"{cell.predicted_bytes / 2**20:.1f}" for cell in cells.values())])
        columns = ("feature set (columns)", *GRID)
        show(f"{name}: video AUC with 95 % intervals", columns, figures, note=machine(), markdown=markdown)
        show(f"{name}: CPU seconds of a fold", columns, seconds, markdown=markdown)
        show(f"{name}: MiB that a fold's fit is predicted to take", columns, memory, markdown=markdown)
        sys.stdout.flush()


def show_leak(settings: Settings, names: Sequence[str], *, markdown: bool) -> None:
    """The seed's random frames beside whole groups of people."""
    rows = []
    for name in names:
        for features in ("pixels", "joined"):
            videos, data = read(settings, name, features)
            apart = grouped(data, LEAK_MODELS)
            split = split_videos(videos, data, SplitSettings(protocol="seed"))
            for candidate in grid(LEAK_MODELS):
                leaky = refit_and_evaluate(data, split.train_rows, split.test_rows, candidate)
                cell = apart[candidate.model]
                figures = [leaky.frame.accuracy, cell.frame_accuracy, leaky.video_uncalibrated.auc, cell.auc]
                told = [f"{figure:.2f}" for figure in figures]
                label = f"{name}, {features}, {candidate.model}"
                rows.append([label, *told[:3], f"{told[3]} ({cell.low:.2f}, {cell.high:.2f})"])
    columns = ("set, features, model", "face accuracy, random faces", "grouped", "video AUC, random faces", "grouped")
    show("Random faces (protocol seed) against groups of people", columns, rows, markdown=markdown)


def show_memory(settings: Settings, *, markdown: bool) -> None:
    """What a fit takes, as predicted and as measured."""
    rows = []
    for features in ("pixels", "joined"):
        _, data = read(settings, MEMORY_SET, features)
        for candidate in grid():
            told, peak = fit_bytes(candidate, data, len(data.y)), peak_bytes(candidate, data)
            rows.append([f"{features}, {candidate.model}", f"{told / 2**20:.1f}", f"{peak / 2**20:.1f}"])
    columns = ("feature set, model", "predicted MiB", "measured MiB")
    show(f"{MEMORY_SET}: peak of a fit to all rows, beside the rows", columns, rows, note=machine(), markdown=markdown)


def peak_bytes(candidate: Candidate, data: TrainingData) -> int:
    """Return what a fit to all rows takes at its peak beyond what was there, in a process started for it."""
    with get_context("spawn").Pool(1) as pool:
        return int(pool.apply(_peak_bytes, (candidate, data)))


def _peak_bytes(candidate: Candidate, data: TrainingData) -> int:
    # The first fit brings the libraries.
    few = np.flatnonzero(np.isin(data.groups[data.video], np.unique(data.groups)[:4]))
    fit(candidate, data, few)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forgets the peak
    before = _status("VmRSS")
    fit(candidate, data, np.arange(len(data.y)))
    return _status("VmHWM") - before


def _status(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    """Make what is missing, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", choices=("sets", "auc", "leak", "memory"), help="what to print")
    parser.add_argument("sets", nargs="*", help="data sets of the tables auc and leak (all)")
    parser.add_argument("--features", nargs="+", choices=SETS, default=list(SETS), help="rows of the table auc (all)")
    parser.add_argument(
        "--work", type=Path, default=Path(".dfpipe/results"), help="folder of videos and store (%(default)s)"
    )
    parser.add_argument("--data", type=Path, help="folder that holds asl/ with identities.csv")
    parser.add_argument("--markdown", action="store_true", help="print tables as GitHub-flavoured Markdown")
    options = parser.parse_args()
    names = options.sets or [*DRAWN, *CLIPS]
    if unknown := set(names) - {*DRAWN, *CLIPS}:
        parser.error(f"got sets {', '.join(sorted(unknown))}, expected some of {', '.join((*DRAWN, *CLIPS))}")
    settings = prepare(options.work, options.data)
    match options.table:
        case "sets":
            show_sets(settings, markdown=options.markdown)
        case "auc":
            show_auc(settings, names, options.features, markdown=options.markdown)
        case "leak":
            show_leak(settings, names, markdown=options.markdown)
        case "memory":
            show_memory(settings, markdown=options.markdown)


if __name__ == "__main__":
    main()
