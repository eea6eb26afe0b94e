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


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize(
    ("model", "params", "balance", "rows", "columns"),
    [
        ("forest", {"n_estimators": 3}, "weights", 8000, 30000),
        ("extra_trees", {"n_estimators": 3}, "weights", 6000, 8000),
        ("xgboost", {"n_estimators": 1, "max_depth": 2}, "weights", 3000, 4000),
        ("xgboost", {"n_estimators": 1, "max_depth": 5}, "weights", 3000, 4000),
        ("lightgbm", {"n_estimators": 1, "num_leaves": 2}, "weights", 4000, 4000),
        ("lightgbm", {"n_estimators": 1, "num_leaves": 31}, "weights", 2000, 2500),
        ("logistic", {"C": 1e-4}, "weights", 4000, 8000),
        ("linear_svm", {"C": 1e-4}, "upsample", 1500, 8000),
        ("rbf_svm", {"C": 1e-3}, "weights", 1000, 12000),
    ],
)
def test_predicted_and_measured_are_within_15_percent(model, params, balance, rows, columns, dtype):
    argument = json.dumps([model, params, balance, dtype, rows, columns])
    done = subprocess.run([sys.executable, "-c", FIT, argument], capture_output=True, text=True, check=True)
    measured, predicted = json.loads(done.stdout.splitlines()[-1])
    assert measured > 150 * 2**20
    assert predicted == pytest.approx(measured, rel=0.15), f"{predicted / measured - 1:+.0%} of {measured >> 20} MiB"
