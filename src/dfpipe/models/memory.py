"""How much memory a fit takes, known before it is tried.

Counted are the copies that libraries make of the rows, and what they keep for each column, node or pair of rows; a
model itself is small beside them. The figures were read in the sources that each function names and held against the
measured peak of a process: see ``tests/integration/test_memory.py``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dfpipe.models.data import TrainingData
from dfpipe.models.kinds import ModelKind, Params
from dfpipe.models.specs import Candidate

__all__ = ["as_text", "fit_bytes", "why_too_large"]


@dataclass(frozen=True, slots=True)
class Shape:
    """The rows of a fit."""

    rows: int
    """How many rows it learns from."""
    columns: int
    """How many columns they have."""
    width: int
    """Bytes of a value: 1 or 4."""
    by_columns: int
    """Bytes that the forest on bytes takes to have rows in Fortran order; 0 where it reads them where they are."""

    @property
    def cells(self) -> int:
        """Rows times columns."""
        return self.rows * self.columns

    @property
    def taken(self) -> int:
        """Bytes of the rows that are taken out of all rows."""
        return self.cells * self.width


def fit_bytes(candidate: Candidate, data: TrainingData, rows: int) -> int:
    """Return the bytes that fitting a candidate takes at its peak, beside all the rows it is chosen from.

    Parameters
    ----------
    candidate
        What to fit.
    data
        All rows, of either class.
    rows
        How many of them it learns from.
    """
    X, by_columns = data.X, 0 if data.X.flags.f_contiguous else data.X.nbytes
    if candidate.balance == "upsample":
        # As many of the rarer class as of the other, whose share among the rows is that among all.
        rows = round(2 * rows * float(np.bincount(data.y, minlength=2).max()) / len(data.y))
        # Taken out and then turned.
        by_columns = 2 * rows * X.shape[1] * X.itemsize
    return round(NEEDS[candidate.model](Shape(rows, X.shape[1], X.itemsize, by_columns), dict(candidate.params)))


def why_too_large(candidate: Candidate, data: TrainingData, rows: int, memory_bytes: int | None) -> str | None:
    """Say in a line why a fit is not to be tried where it may take so much memory beside the rows; None where it is.

    Parameters
    ----------
    candidate, data, rows
        As for `fit_bytes`.
    memory_bytes
        What it may take; None sets no bound.
    """
    if memory_bytes is None or (needed := fit_bytes(candidate, data, rows)) <= memory_bytes:
        return None
    return (
        f"not tried: fitting {rows} rows of {data.X.shape[1]} columns needs {as_text(needed)} beside the rows, and a "
        f"worker's thread has {as_text(memory_bytes)}; raise dask.memory_per_worker, or ask for fewer workers or "
        "columns"
    )


def as_text(count: int) -> str:
    """Return bytes as people read them.

    Examples
    --------
    >>> as_text(3 * 2**30 // 2), as_text(5 * 2**20)
    ('1.5 GiB', '5 MiB')
    """
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def _extra_trees(shape: Shape, params: Params) -> float:
    """Rows as float32, which scikit-learn's trees read (``sklearn/tree/_classes.py``: DTYPE), and the trees."""
    as_float32 = 0 if shape.width == 4 else 4 * shape.cells
    return shape.taken + as_float32 + _nodes(shape, params, 1)


def _forest(shape: Shape, params: Params) -> float:
    """As extra trees; of bytes only their columns, which `fit_uint8_forest` reads in place if they lie so."""
    if shape.width == 4:
        return shape.taken + _nodes(shape, params, DIFFERENT)
    return shape.by_columns + _nodes(shape, params, DIFFERENT)


DIFFERENT = 0.632
"""Share of the rows that are in a bootstrap, 1 - 1/e."""


def _nodes(shape: Shape, params: Params, share: float) -> float:
    """Return the bytes of trees that have as many leaves as they see rows: 80 for a node, as no tree has more."""
    return 80 * 2 * share * shape.rows * int(params.get("n_estimators") or 100)


def _xgboost(shape: Shape, params: Params) -> float:
    """Quantised rows twice, by rows and by columns, sketches of the columns, and histograms of the nodes of a tree.

    ``src/common/quantile.cc`` (a queue of 8 bytes an entry, summaries of 16), ``src/tree/hist/hist_cache.h`` (16 bytes
    a bin for every node that is split). What a summary takes beside its entries is measured.
    """
    bins = 256
    queue = 8 * min(1 << (max(shape.rows, 2) - 1).bit_length(), 8192)
    # Equal values share an entry, and bytes have 256 of them.
    summaries = 2048 + 28 * min(shape.rows, 2048 if shape.width == 4 else 1000)
    levels = 16 * 2048 if shape.width == 4 and shape.rows > 2 * 2048 else 0
    sketch = queue + summaries + levels
    nodes = min((1 << int(params.get("max_depth") or 6)) - 1, shape.rows)
    histograms = 16 * bins * nodes
    # In one piece, which finds room where the sketches were, or has to be had beside what they have left in pieces.
    beside = histograms if histograms > sketch else 0
    return shape.taken + 2 * shape.cells + shape.columns * (sketch + beside)


def _lightgbm(shape: Shape, params: Params) -> float:
    """Whichever is more: finding the bins, or growing with the histograms of every leaf.

    ``src/io/dataset_loader.cpp`` (12 bytes for each value that it samples, up to 200,000 rows),
    ``src/treelearner/feature_histogram.hpp`` (16 bytes a bin for every leaf); bytes go in as float32.
    """
    as_float32 = shape.taken + (0 if shape.width == 4 else 4 * shape.cells)
    sampled = 12 * shape.columns * min(shape.rows, 200_000)
    binned = 1.5 * shape.cells
    histograms = 16 * 255 * shape.columns * int(params.get("num_leaves") or 31)
    return as_float32 + binned + max(sampled, histograms)


def _logistic(shape: Shape, _: Params) -> float:
    """Rows as float32 and scaled; the deviation of float32 rows is found in float64 (``sklearn/utils/extmath.py``)."""
    return shape.taken + (9 if shape.width == 4 else 8) * shape.cells


def _linear_svm(shape: Shape, _: Params) -> float:
    """Scaled rows as float32, as float64, and as liblinear's nodes of 16 bytes (``liblinear_helper.c``)."""
    return shape.taken + 28 * shape.cells


def _rbf_svm(shape: Shape, _: Params) -> float:
    """Scaled rows as float32, as float64, the support vectors, and libsvm's cache of 4 bytes for a pair of rows."""
    cache = min(4 * shape.rows**2, 200 * 2**20)
    return shape.taken + (4 + 8 + 8) * shape.cells + cache


NEEDS: Mapping[ModelKind, Callable[[Shape, Params], float]] = {
    "forest": _forest,
    "extra_trees": _extra_trees,
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "logistic": _logistic,
    "linear_svm": _linear_svm,
    "rbf_svm": _rbf_svm,
}
"""What each kind needs, in bytes."""
