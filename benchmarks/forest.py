"""Random forests on pixels: processor time a tree, memory, and that scikit-learn and dfpipe grow the same trees.

usage: python benchmarks/forest.py [--rows N] [--trees N] [--rounds N] [--markdown]

The rows are pictures of 320 x 320 pixels in three channels (307,200 bytes), made of smooth waves and noise, of which
one wave is a little stronger in fakes. Each way runs in a process of its own, which makes the rows, fits a forest of
default parameters on one thread, and tells its processor time and its peak of memory. scikit-learn is given the rows in
C order, as the seed study had them, and dfpipe in Fortran order, in which it needs no copy; the last line gives dfpipe
the rows in C order too. Time is that of the whole fit, divided by its trees; memory is that of the process, rows
included. The forests are compared by a hash of their trees.
"""

import argparse
import hashlib
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
from _table import add_options, machine, show
from numpy.typing import NDArray

SIDE = 320
WAVES = 24
BAND = 16


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, rounds=3)
    parser.add_argument("--rows", type=int, default=2237, help="of 307,200 columns (%(default)s)")
    parser.add_argument("--trees", type=int, default=10, help="of each forest (%(default)s)")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.rows, options.trees)))
        return
    ways = {
        "RandomForestClassifier": "sklearn C",
        "fit_uint8_forest": "dfpipe F",
        "fit_uint8_forest, rows in C order": "dfpipe C",
    }
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, way in ways.items():
            command = [
                sys.executable,
                __file__,
                "--way",
                way,
                "--rows",
                str(options.rows),
                "--trees",
                str(options.trees),
            ]
            ended = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            found[name].append(json.loads(ended.stdout))
    base = found["RandomForestClassifier"]
    rows = []
    for name, rounds in found.items():
        times_less = [one["seconds"] / this["seconds"] for one, this in zip(base, rounds, strict=True)]
        memory = statistics.median(this["bytes"] / one["bytes"] for one, this in zip(base, rounds, strict=True))
        rows.append(
            (
                name,
                f"{statistics.median(one['seconds'] for one in rounds) / options.trees * 1000:.0f}",
                f"{statistics.median(times_less):.1f}",
                f"{statistics.median(one['bytes'] for one in rounds) / 1e9:.2f}",
                f"{memory:.2f}",
                "yes" if all(one["trees"] == this["trees"] for one, this in zip(base, rounds, strict=True)) else "no",
            )
        )
    show(
        f"A forest of {options.trees} trees on {options.rows} x 307,200 bytes",
        ("way", "CPU ms a tree", "times less", "peak GB", "of the first", "the same trees"),
        rows,
        note=f"medians of {options.rounds}. {machine()}",
        markdown=options.markdown,
    )


def measure(way: str, num_rows: int, num_trees: int) -> dict[str, Any]:
    """Fit one forest; return its processor seconds, the process's peak in bytes, and a hash of its trees."""
    who, order = way.split()
    y = (np.arange(num_rows) * 7919 % 2).astype(np.int8)
    X = make_pictures(y, order)
    fit = fit_here if who == "dfpipe" else fit_there
    fit(np.asfortranarray(X[:60, :500]), y[:60], 1)
    before = time.process_time()
    forest = fit(X, y, num_trees)
    seconds = time.process_time() - before
    hashed = hashlib.sha256()
    for estimator in forest.estimators_:
        tree = estimator.tree_
        for values in (tree.feature, tree.threshold, tree.impurity, tree.value):
            hashed.update(np.ascontiguousarray(values).tobytes())
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": seconds, "bytes": peak_bytes, "trees": hashed.hexdigest()}


def fit_here(X: NDArray[np.uint8], y: NDArray[np.int8], num_trees: int) -> Any:
    from dfpipe.models.forest import fit_uint8_forest  # noqa: PLC0415 - only where it is measured

    return fit_uint8_forest(X, y, n_estimators=num_trees, random_state=0)


def fit_there(X: NDArray[np.uint8], y: NDArray[np.int8], num_trees: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - only where it is measured

    return RandomForestClassifier(n_estimators=num_trees, random_state=0).fit(X, y)


def make_pictures(y: NDArray[np.int8], order: str) -> NDArray[np.uint8]:
    """Make pictures, a band of lines at a time, so that nothing stands twice in memory."""
    random = np.random.default_rng(0)
    codes = random.normal(size=(WAVES, len(y))).astype(np.float32)
    codes[0] += 0.9 * (2 * y - 1)
    frequencies, phases = random.uniform(0.5, 6, (WAVES, 2)), random.uniform(0, 2 * np.pi, (WAVES, 3))
    pictures = (
        np.empty((len(y), SIDE, SIDE, 3), np.uint8) if order == "C" else np.empty((SIDE, SIDE, 3, len(y)), np.uint8)
    )
    across = np.arange(SIDE) / SIDE
    for top in range(0, SIDE, BAND):
        down = (np.arange(top, top + BAND) / SIDE)[:, None]
        for channel in range(3):
            waves = [
                np.sin(2 * np.pi * (fy * down + fx * across) + phase)
                for (fy, fx), phase in zip(frequencies, phases[:, channel], strict=True)
            ]
            light = np.stack([wave.ravel() for wave in waves], axis=1).astype(np.float32) @ codes * 18 + 128
            light += 6 * random.standard_normal(light.shape, dtype=np.float32)
            band = np.clip(light, 0, 255).astype(np.uint8).reshape(BAND, SIDE, len(y))
            if order == "C":
                pictures[:, top : top + BAND, :, channel] = band.transpose(2, 0, 1)
            else:
                pictures[top : top + BAND, :, channel] = band
    return pictures.reshape(len(y), -1) if order == "C" else pictures.reshape(-1, len(y)).T


if __name__ == "__main__":
    main()
