"""Random forests on uint8 columns, such as pixels: scikit-learn's forests, grown in a fraction of the time and memory.

`fit_uint8_forest` gives the very `sklearn.ensemble.RandomForestClassifier` that scikit-learn 1.9 would have fitted with
the same ``random_state``, node by node, ties included; nobody who loads it needs dfpipe. Only where class weights are
not whole numbers within a tree (``class_weight`` without bootstrap, or ``"balanced_subsample"``) sums may differ in
their last bit, and with them the choice between equal splits.

Rows are best handed over in Fortran order (`numpy.asfortranarray`): they are read column by column. Rows in C order
are copied once. A fold of a cross-validation names its rows and shares the array with all others.
"""

import os
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import ceil
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import TrainingDataError

__all__ = ["fit_uint8_forest", "forest_proba"]


def fit_uint8_forest(
    X: NDArray[np.uint8],
    y: NDArray[Any],
    *,
    rows: NDArray[np.integer] | None = None,
    n_estimators: int = 100,
    random_state: int | np.random.RandomState | None = None,
    n_jobs: int = 1,
    max_depth: int | None = None,
    min_samples_split: int | float = 2,
    min_samples_leaf: int | float = 1,
    min_weight_fraction_leaf: float = 0.0,
    max_features: Literal["sqrt", "log2"] | int | float | None = "sqrt",
    max_leaf_nodes: int | None = None,
    min_impurity_decrease: float = 0.0,
    bootstrap: bool = True,
    class_weight: Literal["balanced", "balanced_subsample"] | Mapping[Any, float] | None = None,
    max_samples: int | float | None = None,
) -> Any:
    """Fit a random forest of two classes by Gini impurity.

    Parameters
    ----------
    X : ndarray of uint8, shape (n_rows, n_columns)
        Features, best in Fortran order.
    y
        Labels of two classes, shape (n_rows,).
    rows
        Indices of the rows to learn from, each at most once; None is all. The forest is that of ``X[rows]``.
    n_jobs
        Threads; -1 is as many as the process may use. The forest is the same whatever it is.
    n_estimators, random_state, max_depth, min_samples_split, min_samples_leaf, min_weight_fraction_leaf, max_features,
    max_leaf_nodes, min_impurity_decrease, bootstrap, class_weight, max_samples
        As `sklearn.ensemble.RandomForestClassifier` means them.

    Returns
    -------
    sklearn.ensemble.RandomForestClassifier
        Fitted. The first k trees are those of a forest of k trees.

    Raises
    ------
    TrainingDataError
        Features of another type or shape, labels of one class or of more than two, no rows, or rows that are not there.
    ValueError
        Parameters that scikit-learn refuses.
    """
    forest = _unfitted(
        n_estimators=n_estimators,
        random_state=random_state,
        n_jobs=n_jobs,
        max_depth=max_depth,
        min_samples_split=min_samples_split,
        min_samples_leaf=min_samples_leaf,
        min_weight_fraction_leaf=min_weight_fraction_leaf,
        max_features=max_features,
        max_leaf_nodes=max_leaf_nodes,
        min_impurity_decrease=min_impurity_decrease,
        bootstrap=bootstrap,
        class_weight=class_weight,
        max_samples=max_samples,
    )
    work = _Work.of(forest, X, y, rows)
    forest.estimators_ = [
        work.fitted(estimator, tree) for estimator, tree in zip(work.estimators, work.grow(), strict=True)
    ]
    return forest


def forest_proba(
    forest: Any, X: NDArray[np.uint8], rows: NDArray[np.integer] | None = None, *, at: Sequence[int] | None = None
) -> dict[int, NDArray[np.float64]]:
    """Return what a forest and its first trees say of rows, without making float32 of the array first.

    Parameters
    ----------
    forest
        A fitted RandomForestClassifier of two classes, whoever fitted it.
    X : ndarray of uint8, shape (n_rows, n_columns)
        Features, best in Fortran order.
    rows
        Indices of the rows to score; None is all.
    at
        Numbers of trees; None is all trees only.

    Returns
    -------
    dict of int to ndarray of float64, shape (n_rows, 2)
        By number of trees, what `predict_proba` of a forest of so many says, to the last bit.

    Raises
    ------
    TrainingDataError
        Features of another type, or of another width than the forest's; rows that are not there; fewer trees than asked
        for; a forest of more than two classes.
    """
    columns = _columns(X)
    if len(columns) != forest.n_features_in_:
        raise TrainingDataError(f"got {len(columns)} columns, expected {forest.n_features_in_}, as in training")
    if forest.n_classes_ != 2:
        raise TrainingDataError(f"got a forest of {forest.n_classes_} classes, expected two")
    trees = (_Tree.of(estimator.tree_) for estimator in forest.estimators_)
    return _accumulate(columns, rows, trees, at or [len(forest.estimators_)])


@dataclass(frozen=True, slots=True, eq=False)
class _Tree:
    """A grown tree: an entry a node, in the order of `sklearn.tree._tree.Tree`."""

    depth: int
    children: NDArray[np.int64]
    columns: NDArray[np.int64]
    thresholds: NDArray[np.float64]
    values: NDArray[np.float64]
    impurities: NDArray[np.float64]
    sizes: NDArray[np.int64]
    weights: NDArray[np.float64]
    to_left: NDArray[np.uint8]

    @classmethod
    def of(cls, tree: Any) -> "_Tree":
        """Take scikit-learn's apart."""
        return cls(
            tree.max_depth,
            np.stack([tree.children_left, tree.children_right], axis=1),
            tree.feature,
            tree.threshold,
            tree.value[:, 0, :],
            tree.impurity,
            tree.n_node_samples,
            tree.weighted_n_node_samples,
            tree.missing_go_to_left,
        )

    def as_sklearn(self, num_columns: int) -> Any:
        """Build scikit-learn's."""
        from sklearn.tree._tree import NODE_DTYPE, Tree  # noqa: PLC0415 - slow to import

        nodes = np.zeros(len(self.columns), NODE_DTYPE)
        nodes["left_child"], nodes["right_child"] = self.children.T
        nodes["feature"], nodes["threshold"] = self.columns, self.thresholds
        nodes["impurity"], nodes["missing_go_to_left"] = self.impurities, self.to_left
        nodes["n_node_samples"], nodes["weighted_n_node_samples"] = self.sizes, self.weights
        tree = Tree(num_columns, np.array([2], np.intp), 1)
        tree.__setstate__(
            {"max_depth": self.depth, "node_count": len(nodes), "nodes": nodes, "values": self.values[:, None, :]}
        )
        return tree


@dataclass(frozen=True, slots=True, eq=False)
class _Work:
    """A forest to grow: what its trees have in common, brought to numbers as scikit-learn does it."""

    forest: Any
    columns: NDArray[np.uint8]
    """Shape (n_columns, n_all_rows)."""
    rows: NDArray[np.int32]
    """Rows to learn from."""
    label: NDArray[np.int64]
    """0 or 1 for each of them."""
    row_weights: NDArray[np.float64] | None
    """What class weights make each row count for; None where there are none."""
    estimators: tuple[Any, ...]
    """Trees that are not fitted yet, each with its seed."""

    @classmethod
    def of(cls, forest: Any, X: NDArray[np.uint8], y: NDArray[Any], rows: NDArray[np.integer] | None) -> "_Work":
        """Check the data, and give the forest all that a fitted one has but its trees."""
        from sklearn.ensemble._forest import _get_n_samples_bootstrap  # noqa: PLC0415 - slow to import
        from sklearn.utils import check_random_state  # noqa: PLC0415 - slow to import

        columns = _columns(X)
        if y.shape != (columns.shape[1],):
            raise TrainingDataError(f"got labels of shape {y.shape} for {columns.shape[1]} rows, expected one a row")
        chosen = _rows(rows, len(y))
        if not 0 < len(chosen) == len(np.unique(chosen)):
            raise TrainingDataError(f"got {len(chosen)} rows to learn from, expected some, each once")
        classes = np.unique(y[chosen])
        if len(classes) != 2:
            raise TrainingDataError(f"got labels of {len(classes)} classes, expected two; add rows of another class")

        forest._validate_params()
        forest.n_features_in_, forest._n_samples, forest.n_outputs_ = len(columns), len(chosen), 1
        codes, row_weights = forest._validate_y_class_weight(y[chosen][:, None], None)
        forest.classes_, forest.n_classes_ = forest.classes_[0], forest.n_classes_[0]
        forest._sample_weight = row_weights
        if not forest.bootstrap and forest.max_samples is not None:
            raise ValueError("max_samples needs bootstrap")
        forest._n_samples_bootstrap = (
            _get_n_samples_bootstrap(len(chosen), forest.max_samples, row_weights) if forest.bootstrap else None
        )
        forest._validate_estimator()
        random = check_random_state(forest.random_state)
        estimators = tuple(
            forest._make_estimator(append=False, random_state=random) for _ in range(forest.n_estimators)
        )
        return cls(forest, columns, chosen, codes[:, 0].astype(np.int64), row_weights, estimators)

    def grow(self) -> Iterator[_Tree]:
        """Yield the trees in their order."""
        jobs = self.forest.n_jobs or 1
        if jobs < 0:
            jobs = max(1, len(os.sched_getaffinity(0)) + 1 + jobs)
        scratch = threading.local()

        def grow(estimator: Any) -> _Tree:
            if not hasattr(scratch, "space"):
                scratch.space = _Scratch.of(self.columns.shape[0], len(self.rows))
            return self._grow_one(estimator, scratch.space)

        if jobs == 1:
            yield from map(grow, self.estimators)
            return
        with ThreadPoolExecutor(jobs) as pool:
            waiting = deque(pool.submit(grow, one) for one in self.estimators[: 2 * jobs])
            for number in range(len(self.estimators)):
                tree = waiting.popleft().result()
                if number + 2 * jobs < len(self.estimators):
                    waiting.append(pool.submit(grow, self.estimators[number + 2 * jobs]))
                yield tree

    def fitted(self, estimator: Any, tree: _Tree) -> Any:
        """Return scikit-learn's tree, fitted."""
        estimator.n_features_in_, estimator.n_outputs_ = self.forest.n_features_in_, 1
        estimator.classes_, estimator.n_classes_ = np.arange(2), np.intp(2)
        estimator.max_features_ = self._max_features
        estimator.tree_ = tree.as_sklearn(estimator.n_features_in_)
        return estimator

    @property
    def _max_features(self) -> int:
        wanted, all_of_them = self.forest.max_features, len(self.columns)
        if wanted is None:
            return all_of_them
        if isinstance(wanted, str):
            return max(1, int({"sqrt": np.sqrt, "log2": np.log2}[wanted](all_of_them)))
        return max(1, int(wanted * all_of_them)) if isinstance(wanted, float) else int(wanted)

    def _grow_one(self, estimator: Any, space: "_Scratch") -> _Tree:
        from sklearn.utils import check_random_state  # noqa: PLC0415 - slow to import

        from dfpipe.models._forest_kernel import grow_tree  # noqa: PLC0415 - slow to import

        forest = self.forest
        drawn, class_weights = self._draw(estimator.random_state)
        weight = float((drawn * class_weights[self.label]).sum())
        min_samples_leaf = _at_least(forest.min_samples_leaf, len(self.rows))
        min_samples_split = max(2, _at_least(forest.min_samples_split, len(self.rows)), 2 * min_samples_leaf)
        counts = (drawn > 0) & (class_weights[self.label] > 0)
        rows, drawn = self.rows[counts], drawn[counts].astype(np.int64)
        num_nodes, depth = grow_tree(
            self.columns,
            rows,
            drawn | (drawn * self.label[counts] << 32),
            class_weights,
            self._max_features,
            min_samples_split,
            min_samples_leaf,
            forest.min_weight_fraction_leaf * weight,
            2**31 - 1 if forest.max_depth is None else forest.max_depth,
            -1 if forest.max_leaf_nodes is None else forest.max_leaf_nodes,
            forest.min_impurity_decrease,
            int(check_random_state(estimator.random_state).randint(0, 2**31 - 1)),
            *space.arrays,
        )
        return _Tree(depth, *(array[:num_nodes].copy() for array in space.nodes))

    def _draw(self, seed: int) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
        """Return how often each row is drawn for a tree, and what one draw of each class weighs."""
        from sklearn.ensemble._forest import _generate_sample_indices  # noqa: PLC0415 - slow to import

        num_rows, forest = len(self.rows), self.forest
        if not forest.bootstrap:
            drawn = np.ones(num_rows, np.intp)
            if self.row_weights is None:
                return drawn, np.ones(2)
            return drawn, np.array([self.row_weights[self.label == code][0] for code in (0, 1)])
        # Weights make their rows be drawn more often.
        indices = _generate_sample_indices(seed, num_rows, forest._n_samples_bootstrap, self.row_weights)
        drawn = np.bincount(indices, minlength=num_rows)
        if forest.class_weight != "balanced_subsample":
            return drawn, np.ones(2)
        of_class = np.bincount(self.label, drawn, minlength=2)
        balanced = len(indices) / ((of_class > 0).sum() * np.maximum(of_class, 1))
        return drawn, np.where(of_class > 0, balanced, 0.0)


@dataclass(frozen=True, slots=True, eq=False)
class _Scratch:
    """What a thread needs to grow a tree, used for tree after tree."""

    features: NDArray[np.int32]
    constants: NDArray[np.int32]
    spare_rows: NDArray[np.int32]
    spare_weights: NDArray[np.int64]
    nodes: tuple[NDArray[Any], ...]
    """As the fields of `_Tree` after the depth, room for the largest."""

    @classmethod
    def of(cls, num_columns: int, num_rows: int) -> "_Scratch":
        most = 2 * num_rows - 1
        return cls(
            np.empty(num_columns, np.int32),
            np.empty(num_columns, np.int32),
            np.empty(num_rows, np.int32),
            np.empty(num_rows, np.int64),
            (
                np.empty((most, 2), np.int64),
                np.empty(most, np.int64),
                np.empty(most, np.float64),
                np.empty((most, 2), np.float64),
                np.empty(most, np.float64),
                np.empty(most, np.int64),
                np.empty(most, np.float64),
                np.empty(most, np.uint8),
            ),
        )

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """In the order in which the kernel takes them."""
        return (self.features, self.constants, self.spare_rows, self.spare_weights, *self.nodes)


def _unfitted(**parameters: Any) -> Any:
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import

    return RandomForestClassifier(**parameters)


def _columns(X: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if X.dtype != np.uint8 or X.ndim != 2:
        raise TrainingDataError(f"got features of {X.dtype}, shape {X.shape}, expected uint8, shape (n, columns)")
    return np.ascontiguousarray(X.T)


def _rows(rows: NDArray[np.integer] | None, number: int) -> NDArray[np.int32]:
    """Return the indices, all of them for None; compiled code follows them wherever they point."""
    chosen = np.arange(number) if rows is None else rows
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < number:
        raise TrainingDataError(
            f"got rows {chosen.min()} to {chosen.max()} of an array of {number}, expected 0 to {number - 1}"
        )
    return chosen.astype(np.int32)


def _at_least(wanted: int | float, num_rows: int) -> int:
    """Return a number of rows that may be given as a share of them."""
    return ceil(wanted * num_rows) if isinstance(wanted, float) else int(wanted)


def _accumulate(
    columns: NDArray[np.uint8], rows: NDArray[np.integer] | None, trees: Iterator[_Tree], at: Sequence[int]
) -> dict[int, NDArray[np.float64]]:
    from dfpipe.models._forest_kernel import add_probabilities  # noqa: PLC0415 - slow to import

    scored = _rows(rows, columns.shape[1])
    sums = np.zeros((len(scored), 2))
    found: dict[int, NDArray[np.float64]] = {}
    for number, tree in enumerate(trees, start=1):
        lows = np.floor(tree.thresholds).astype(np.int64)
        add_probabilities(columns, scored, tree.children, tree.columns, lows, tree.values, sums)
        if number in at:
            found[number] = sums / number
    if missing := sorted(set(at) - found.keys()):
        raise TrainingDataError(f"got a forest of fewer than {missing[0]} trees, expected at least so many")
    return found
