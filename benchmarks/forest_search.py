"""The seed study's grid search over pixels: processor time and memory, against what scikit-learn's trees would take.

usage: python benchmarks/forest_search.py [--rows N] [--trees N] [--reference-trees N] [--state FILE] [--markdown]

The rows are the pictures of benchmarks/forest.py, 13,984 of them as in the study, seven a video. The search is
`dfpipe.models.search` as a training calls it, one process and one thread: n_estimators 100, 500, 1000 and 2000 on five
folds along people, then a fit of the largest forest on all rows. Its line holds everything from the first fold to the
last tree, and the peak of the process with the pictures in it. Of scikit-learn a few trees are grown on the rows of one
fold, by a RandomForestClassifier that was given the bytes as the study gave them; its line is the processor time of
such a tree alone, without the copy in float32 that comes first, times the 20,000 trees of the search and its refit.

With --trees the largest forest is smaller and the others with it, for a look; the figures are of the seed's size only
without. With --state what was measured is kept in a file and not measured again.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from _table import add_options, machine, show
from forest import make_pictures

GRID = (100, 500, 1000, 2000)
FOLDS = 5
FACES_PER_VIDEO = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, rounds=1)
    parser.add_argument("--rows", type=int, default=13_984, help="of 307,200 columns (%(default)s)")
    parser.add_argument("--trees", type=int, default=GRID[-1], help="of the largest forest (%(default)s)")
    parser.add_argument("--reference-trees", type=int, default=5, help="grown by scikit-learn (%(default)s)")
    parser.add_argument("--state", type=Path, help="file in which what was measured is kept")
    parser.add_argument("--way", choices=["search", "reference"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        way = measure_search if options.way == "search" else measure_reference
        print(json.dumps(way(options)))
        return
    found = json.loads(options.state.read_text()) if options.state and options.state.exists() else {}
    for way, size in (("reference", options.reference_trees), ("search", options.trees)):
        key = f"{way} {options.rows} {size}"
        if key not in found:
            found[key] = one_process(way, options)
            if options.state:
                options.state.write_text(json.dumps(found, indent=1))
    reference = found[f"reference {options.rows} {options.reference_trees}"]
    searched = found[f"search {options.rows} {options.trees}"]
    sizes = [size * options.trees // GRID[-1] for size in GRID]
    a_tree = statistics.median(reference["seconds"])
    their_trees = sum(sizes) * FOLDS + sizes[-1]
    theirs = a_tree * their_trees
    show(
        f"Grid search of n_estimators {sizes} on {options.rows} x 307,200 bytes, {FOLDS} folds, refit",
        ("way", "trees", "CPU s", "times less", "peak GB"),
        [
            (
                "scikit-learn's trees",
                f"{their_trees:,}",
                f"{theirs:,.0f}",
                "1.0",
                f"{reference['bytes'] / 1e9:.1f}",
            ),
            (
                "dfpipe.models.search and refit",
                f"{sizes[-1] * (FOLDS + 1):,}",
                f"{searched['seconds']:,.0f}",
                f"{theirs / searched['seconds']:.1f}",
                f"{searched['bytes'] / 1e9:.2f}",
            ),
        ],
        note=f"A tree of scikit-learn's took {a_tree:.2f} s (median of {options.reference_trees}). Accuracy by faces: "
        f"{', '.join(f'{value:.3f}' for value in searched['accuracy'])}. Clock of the search and refit: "
        f"{searched['clock']:,.0f} s. {machine()}",
        markdown=options.markdown,
    )


def one_process(way: str, options: argparse.Namespace) -> dict[str, Any]:
    numbers = {"--rows": options.rows, "--trees": options.trees, "--reference-trees": options.reference_trees}
    command = [sys.executable, __file__, "--way", way, *(str(part) for pair in numbers.items() for part in pair)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


def measure_search(options: argparse.Namespace) -> dict[str, Any]:
    """Search and refit; return the processor seconds, those of the clock, the peak in bytes, and the accuracies."""
    from dfpipe.models import ColumnBlock, TrainingData, candidates, fit, grouped_folds, search  # noqa: PLC0415
    from dfpipe.settings import ForestSettings, TrainSettings  # noqa: PLC0415 - only where it is measured

    video = np.arange(options.rows, dtype=np.int32) // FACES_PER_VIDEO
    labels = (np.arange(video[-1] + 1) * 7919 % 2).astype(np.int8)
    y = labels[video]
    data = TrainingData(
        X=make_pictures(y, "F"),
        y=y,
        video=video,
        video_ids=tuple(f"{number:04}" for number in range(len(labels))),
        groups=np.arange(len(labels), dtype=np.int32),
        columns=(ColumnBlock("pixels", 0, 307_200),),
    )
    folds = grouped_folds(data.groups, labels, folds=FOLDS, seed=42, videos=np.arange(len(labels)))
    rows = [(data.rows_of(learn), data.rows_of(judge)) for learn, judge in folds]
    sizes = [size * options.trees // GRID[-1] for size in GRID]
    grid = candidates(TrainSettings(forest=ForestSettings(n_estimators=sizes, max_depth=[None]), xgboost=None))
    warm = np.arange(28)
    fit(grid[0], data, warm)
    cpu, clock = time.process_time(), time.perf_counter()
    found = search(data, rows, grid)
    fit(max(grid, key=lambda one: dict(one.params)["n_estimators"]), data, np.arange(options.rows))
    cpu, clock = time.process_time() - cpu, time.perf_counter() - clock
    by_size = {dict(one.candidate.params)["n_estimators"]: one.mean["frame_accuracy"] for one in found.ranking}
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": cpu, "clock": clock, "bytes": peak_bytes, "accuracy": [by_size[size] for size in sizes]}


def measure_reference(options: argparse.Namespace) -> dict[str, Any]:
    """Grow a few of scikit-learn's trees on as many rows as a fold has; return the seconds of each, and the peak."""
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - only where it is measured
    from sklearn.tree import DecisionTreeClassifier  # noqa: PLC0415 - only where it is measured

    seconds: list[float] = []
    plain = DecisionTreeClassifier._fit

    def timed(*arguments: Any, **named: Any) -> Any:
        before = time.process_time()
        fitted = plain(*arguments, **named)
        seconds.append(time.process_time() - before)
        return fitted

    DecisionTreeClassifier._fit = timed
    rows = options.rows * (FOLDS - 1) // FOLDS
    y = ((np.arange(rows) // FACES_PER_VIDEO) * 7919 % 2).astype(np.int8)
    forest = RandomForestClassifier(n_estimators=options.reference_trees, random_state=42, class_weight="balanced")
    forest.fit(make_pictures(y, "C"), y)
    return {"seconds": seconds, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


if __name__ == "__main__":
    main()
