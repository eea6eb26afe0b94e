"""What a fit is predicted to take, against the peak of a process that does nothing else."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

FIT = """
import ctypes, json, re, sys
import numpy as np
from dfpipe.models import Candidate, ColumnBlock, TrainingData, fit, fit_bytes

model, params, balance, dtype, rows, columns = json.loads(sys.argv[1])
candidate = Candidate(model, tuple(sorted(params.items())), 0, balance)

def make(rows, columns):
    rng = np.random.default_rng(0)
    video = np.repeat(np.arange(rows // 4, dtype=np.int32), 4)
    y = (video % 2).astype(np.int8)
    X = np.empty((rows, columns), dtype)
    for row in range(rows):
        X[row] = rng.integers(0, 256, columns) if dtype == "uint8" else rng.normal(size=columns)
    ids = tuple(map(str, range(rows // 4)))
    groups = np.arange(rows // 4, dtype=np.int32) // 2
    return TrainingData(X=X, y=y, video=video, video_ids=ids, groups=groups, columns=(ColumnBlock("a", 0, columns),))

def status(name):
    with open("/proc/self/status") as file:
        return int(re.search(rf"^{name}:\\s+(\\d+) kB", file.read(), re.MULTILINE)[1]) * 1024

# The first fit brings the libraries.
fit(candidate, make(64, 8), np.arange(64))
data = make(rows, columns)
ctypes.CDLL("libc.so.6").malloc_trim(0)
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # forgets the peak
before = status("VmRSS")
fit(candidate, data, np.arange(rows))
print(json.dumps([status("VmHWM") - before, fit_bytes(candidate, data, rows)]))
"""


@pytest.mark.parametrize(
    ("model", "params", "balance", "dtype", "rows", "columns"),
    [
        ("forest", {"n_estimators": 3}, "weights", "uint8", 4000, 30000),
        ("forest", {"n_estimators": 3}, "upsample", "uint8", 2000, 30000),
        ("forest", {"n_estimators": 3}, "weights", "float32", 4000, 8000),
        ("extra_trees", {"n_estimators": 3}, "weights", "uint8", 3000, 10000),
        ("extra_trees", {"n_estimators": 3}, "weights", "float32", 3000, 10000),
        # Few leaves: what comes before the trees is the most. Many: the histograms are.
        ("xgboost", {"n_estimators": 1, "max_depth": 2}, "weights", "float32", 3000, 1500),
        ("xgboost", {"n_estimators": 1, "max_depth": 5}, "weights", "uint8", 3000, 800),
        ("lightgbm", {"n_estimators": 1, "num_leaves": 2}, "weights", "uint8", 4000, 2000),
        ("lightgbm", {"n_estimators": 1, "num_leaves": 31}, "weights", "float32", 2000, 1200),
        ("logistic", {"C": 1e-4}, "weights", "uint8", 2500, 5000),
        ("logistic", {"C": 1e-4}, "weights", "float32", 2500, 5000),
        ("linear_svm", {"C": 1e-4}, "upsample", "uint8", 600, 7000),
        ("linear_svm", {"C": 1e-4}, "upsample", "float32", 600, 7000),
        ("rbf_svm", {"C": 1e-3}, "weights", "uint8", 96, 60000),
        ("rbf_svm", {"C": 1e-3}, "weights", "float32", 96, 60000),
    ],
)
def test_predicted_and_measured_are_within_15_percent(model, params, balance, dtype, rows, columns):
    argument = json.dumps([model, params, balance, dtype, rows, columns])
    done = subprocess.run([sys.executable, "-c", FIT, argument], capture_output=True, text=True, check=True)
    measured, predicted = json.loads(done.stdout.splitlines()[-1])
    assert measured > 100 * 2**20
    assert predicted == pytest.approx(measured, rel=0.15), f"{predicted / measured - 1:+.0%} of {measured >> 20} MiB"
