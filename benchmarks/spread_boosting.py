"""What XGBoost takes of a process: one fit of all rows against the same fit spread over two processes, side by side.

usage: python benchmarks/spread_boosting.py [--rounds N] [--markdown]

Spread is XGBoost's own collective training: each process quantises its half of the rows, and the histograms are added
up over a socket. Each way runs in processes that do nothing else. A second table says how long the other process goes
on after one of them is killed, and how it ends.
"""

import argparse
import ctypes
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

# Before the libraries look at it: one core each, as on a worker.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import numpy as np
from _table import add_options, machine, show
from xgboost.core import XGBoostError

SHAPES = (("float32", 6_000, 3_000), ("float32", 200_000, 200), ("uint8", 3_000, 5_000))
"""Wide rows of floats, many narrow ones, and pixels."""

TREES = 10
PARAMS = {"objective": "binary:logistic", "tree_method": "hist", "max_depth": 4, "nthread": 1, "verbosity": 0}
PARTS = 2
MIB = 2**20

WAYS = (
    "one process",
    "spread, all rows in each",
    "spread, half of the rows in each",
)
DIES_AFTER_SECONDS = 3.0
"""From the first round on: well within the training, which goes on for minutes."""
GIVES_UP_SECONDS = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_options(parser, rounds=1)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is not None:
        fit_part(json.loads(options.part))
        return
    rows = []
    for shape in SHAPES:
        base = None
        for way in WAYS:
            measured = [measure(shape, way) for _ in range(options.rounds)]
            found = {name: statistics.median(one[name] for one in measured) for name in ("held", "fit", "cpu")}
            proba = measured[0]["proba"]
            base = proba if base is None else base
            rows.append(
                (
                    f"{shape[1]:,} x {shape[2]:,} {shape[0]}: {way}",
                    f"{found['held'] / MIB:.0f}",
                    f"{found['fit'] / MIB:.0f}",
                    f"{(found['held'] + found['fit']) / MIB:.0f}",
                    f"{found['cpu']:.1f}",
                    f"{auc(measured[0]['labels'], proba):.4f}",
                    f"{np.abs(np.subtract(proba, base)).max():.3f}",
                )
            )
    show(
        f"{TREES} trees of depth 4; the process that takes most of {PARTS}, medians of {options.rounds} rounds",
        ("rows", "rows, MiB", "beside, MiB", "together, MiB", "CPU s of all", "AUC of others", "largest difference"),
        rows,
        note=machine(),
        markdown=options.markdown,
    )
    deaths = [
        end_one("killed", signal.SIGKILL, None),
        end_one("stopped, its connections open", signal.SIGSTOP, None),
        end_one("stopped, its connections open", signal.SIGSTOP, 10),
    ]
    show(
        f"one of {PARTS} processes goes while they train",
        ("it is", "timeout of the collective", "the other ends after, s", "how"),
        deaths,
        note=machine(),
        markdown=options.markdown,
    )


def measure(shape: tuple[str, int, int], way: str) -> dict[str, Any]:
    """Fit in as many processes as the way has, and return what the greediest took and what the model says."""
    parts = PARTS if way.startswith("spread") else 1
    with_tracker, workers = start(parts, {"shape": shape, "way": way, "trees": TREES})
    answers = [json.loads(worker.communicate()[0].splitlines()[-1]) for worker in workers]
    if with_tracker is not None:
        with_tracker.wait_for()
    greediest = max(answers, key=lambda one: int(one["held"] + one["fit"]))
    return greediest | {"cpu": sum(one["cpu"] for one in answers)}


def end_one(how: str, ending: signal.Signals, timeout_seconds: int | None) -> tuple[str, str, str, str]:
    """End one of two processes within a training of minutes, and see how the other takes it."""
    collective = {} if timeout_seconds is None else {"dmlc_timeout": timeout_seconds}
    job = {"shape": ("float32", 20_000, 100), "way": WAYS[-1], "trees": 1_000_000, "collective": collective}
    tracker, (dying, other) = start(PARTS, job)
    timeout = "its own" if timeout_seconds is None else f"{timeout_seconds} s"
    try:
        for worker in (dying, other):
            assert worker.stdout is not None
            while worker.stdout.readline() != "training\n":
                assert worker.poll() is None, "ended before it trained"
        time.sleep(DIES_AFTER_SECONDS)
        dying.send_signal(ending)
        ended_at = time.monotonic()
        try:
            _, said = other.communicate(timeout=GIVES_UP_SECONDS)
        except subprocess.TimeoutExpired:
            return (how, timeout, f"not within {GIVES_UP_SECONDS}", "waits")
        seconds = time.monotonic() - ended_at
        raised = "raises" if "XGBoostError" in said else "the process ends without a word"
        return (how, timeout, f"{seconds:.1f}", f"{raised}, exit status {other.returncode}")
    finally:
        for worker in (dying, other):
            worker.kill()
            worker.wait()
        # It says once more that somebody went.
        with suppress(XGBoostError):
            tracker.free()


def start(parts: int, job: dict[str, Any]) -> tuple[Any, list[subprocess.Popen[str]]]:
    from xgboost.tracker import RabitTracker  # noqa: PLC0415 - slow to import

    tracker, args = None, {}
    if parts > 1:
        # By task, so that every run adds up in the same order.
        tracker = RabitTracker(n_workers=parts, host_ip="127.0.0.1", sortby="task", timeout=600)
        tracker.start()
        args = {**tracker.worker_args(), **job.pop("collective", {})}
    workers = []
    for part in range(parts):
        told = {**job, "part": part, "parts": parts, "args": {**args, "dmlc_task_id": str(part)} if args else None}
        command = [sys.executable, str(Path(__file__).resolve()), "--part", json.dumps(told)]
        workers.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    return tracker, workers


def fit_part(job: dict[str, Any]) -> None:
    """Fit one part of the rows and print what it took: what a worker does."""
    import xgboost  # noqa: PLC0415 - slow to import
    from xgboost.collective import CommunicatorContext  # noqa: PLC0415 - slow to import

    dtype, n, columns = job["shape"]
    mine = slice(n * job["part"] // job["parts"], n * (job["part"] + 1) // job["parts"])
    alone = xgboost.QuantileDMatrix(*block(dtype, 64, 8, 0, 64))
    xgboost.train(PARAMS, alone, 1)  # The first fit brings the libraries.
    del alone
    empty = resident("VmRSS")
    held = mine if job["way"] == WAYS[-1] else slice(0, n)
    X, y = block(dtype, n, columns, held.start, held.stop)
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    before, started = resident("VmRSS"), time.process_time()
    if job["args"] is None:
        model = train(X[np.arange(n)], y, job["trees"])  # as rows of a fold are taken
    else:
        with CommunicatorContext(**job["args"]):
            if job["way"] == WAYS[-1]:
                model = train(X, y, job["trees"])
            else:
                model = train(X[np.arange(mine.start, mine.stop)], y[mine], job["trees"])
    answer = {"cpu": time.process_time() - started, "held": before - empty, "fit": resident("VmHWM") - before}
    unseen, labels = block(dtype, n, columns, n, n + 2000)
    answer |= {"proba": model.predict(xgboost.DMatrix(unseen)).tolist(), "labels": labels.tolist()}
    print(json.dumps(answer))


def train(X: Any, y: Any, trees: int) -> Any:
    import xgboost  # noqa: PLC0415 - slow to import

    rows = xgboost.QuantileDMatrix(X, y, nthread=1)
    print("training", flush=True)
    return xgboost.train(PARAMS, rows, trees)


def block(dtype: str, n: int, columns: int, start: int, stop: int) -> tuple[Any, Any]:
    """Make rows start to stop of a set; each by itself, so that who wants half of them makes half."""
    X = np.empty((stop - start, columns), dtype)
    y = np.empty(stop - start, np.int8)
    for place in range(stop - start):
        rng = np.random.default_rng((n, start + place))
        label = int(rng.integers(2))
        values = rng.integers(0, 256, columns) if dtype == "uint8" else rng.normal(size=columns)
        values[:8] += label * (16 if dtype == "uint8" else 0.3)
        X[place], y[place] = np.clip(values, 0, 255) if dtype == "uint8" else values, label
    return X, y


def resident(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


def auc(labels: Any, proba: Any) -> float:
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - slow to import

    return float(roc_auc_score(labels, proba))


if __name__ == "__main__":
    main()
