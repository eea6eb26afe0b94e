"""Random forests on pixels: scikit-learn's own trees, grown over bytes in a fraction of the time and memory.

`fit_uint8_forest` returns the forest that ``RandomForestClassifier(...).fit(X, y)`` returns, as a plain scikit-learn
object that needs no dfpipe. It is fast where all features are bytes, as pixels are: their 256 values are the bins of a
histogram, so nothing is rounded, nothing is sorted and nothing is copied to float32.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfpipe.errors import SettingsError, TrainingDataError

__all__ = ["fit_uint8_forest", "forest_proba"]

ClassWeight = Literal["balanced", "balanced_subsample"] | Mapping[Any, float] | None


def fit_uint8_forest(
    X: NDArray[np.uint8],
    y: ArrayLike,
    *,
    n_estimators: int,
    random_state: int,
    rows: ArrayLike | None = None,
    n_jobs: int | None = 1,
    max_depth: int | None = None,
    min_samples_split: int | float = 2,
    min_samples_leaf: int | float = 1,
    min_weight_fraction_leaf: float = 0.0,
    max_features: Literal["sqrt", "log2"] | int | float | None = "sqrt",
    max_leaf_nodes: int | None = None,
    min_impurity_decrease: float = 0.0,
    bootstrap: bool = True,
    class_weight: ClassWeight = None,
    max_samples: int | float | None = None,
) -> Any:
    """Return a fitted ``sklearn.ensemble.RandomForestClassifier`` that splits by Gini impurity.

    Every parameter means what it means in scikit-learn, and with equal parameters the trees are scikit-learn's: equal
    columns, thresholds, impurities and shares, node for node. So equal `random_state` gives equal trees whatever
    `n_jobs` is, and the first k trees of n are the forest of k. Where weights are no whole numbers
    (``class_weight="balanced_subsample"``, or any `class_weight` without `bootstrap`) sums are rounded in another
    order, and a tree may choose otherwise between two splits that are equally good.

    Parameters
    ----------
    X
        Features, uint8, shape (n, columns). In Fortran order (``X.flags.f_contiguous``) it is read where it is; in any
        other order it is copied to Fortran order once per call, which doubles the memory.
    y
        Labels of two classes, shape (n,).
    n_estimators, random_state, max_depth, min_samples_split, min_samples_leaf, min_weight_fraction_leaf, \
max_features, max_leaf_nodes, min_impurity_decrease, bootstrap, class_weight, max_samples
        As in scikit-learn.
    rows
        Indices of the rows to learn from, in this order; all if None. The forest is that of ``X[rows], y[rows]``, but
        nothing is copied, so the folds of a cross-validation share one `X`.
    n_jobs
        Threads, as in scikit-learn; each holds two integers of 32 bits a column.

    Raises
    ------
    TrainingDataError
        Features that are not uint8 of shape (n, columns), labels that do not fit or are not of two classes, rows that
        are not there, more than 2,097,151 of them.
    SettingsError
        A parameter that scikit-learn refuses.
    """
    from joblib import Parallel, delayed  # noqa: PLC0415 - slow to import
    from sklearn.ensemble import RandomForestClassifier  # noqa: PLC0415 - slow to import

    chosen, labels = _checked(X, y, rows)
    forest = RandomForestClassifier(
        n_estimators=n_estimators,
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
        n_jobs=n_jobs,
        random_state=random_state,
    )
    codes = _prepare(forest, labels, X.shape[1])
    columns = _columns(X)
    forest.estimators_ = Parallel(n_jobs=n_jobs, require="sharedmem")(
        delayed(_grow)(forest, tree, columns, chosen, codes) for tree in _unfitted_trees(forest)
    )
    return forest


def forest_proba(
    forest: Any,
    X: NDArray[np.uint8],
    rows: ArrayLike | None = None,
    *,
    n_estimators: Sequence[int] | None = None,
) -> NDArray[np.float64]:
    """Return what ``forest.predict_proba(X[rows])`` returns, without its copy of `X` in float32.

    Parameters
    ----------
    forest
        A fitted ``RandomForestClassifier``, from here or elsewhere.
    X
        Features, uint8, shape (n, columns); Fortran order is read fastest.
    rows
        Indices of rows; all if None.
    n_estimators
        Answer for the forest of the first k trees, for each of these k.

    Returns
    -------
    ndarray of float64
        Class shares, shape (rows, classes); shape (len(n_estimators), rows, classes) if `n_estimators` is given. They
        equal those of scikit-learn with one job to the last bit (with several it adds the trees up in any order).

    Raises
    ------
    TrainingDataError
        Features that are not uint8, or not as many as the forest was trained on; rows that are not there; more trees
        than the forest has.
    """
    from dfpipe.models import _forest_kernel as kernel  # noqa: PLC0415 - slow to import

    _check_bytes(X)
    if X.shape[1] != forest.n_features_in_:
        raise TrainingDataError(
            f"got {X.shape[1]} columns, but the forest was trained on {forest.n_features_in_}; "
            "compute the features as they were computed for the training"
        )
    wanted = [len(forest.estimators_)] if n_estimators is None else list(n_estimators)
    if not all(1 <= number <= len(forest.estimators_) for number in wanted):
        raise TrainingDataError(f"asked for {wanted} trees, expected 1 to {len(forest.estimators_)} of them")
    chosen = _chosen(rows, len(X)).astype(np.int64)
    answers = np.empty((len(wanted), len(chosen), forest.n_classes_), np.float64)
    total = np.zeros(answers.shape[1:], np.float64)
    columns = _read_only(X.T)
    for number, member in enumerate(forest.estimators_[: max(wanted)], 1):
        tree = member.tree_
        kernel.accumulate_proba(
            columns,
            chosen,
            tree.feature,
            np.clip(np.floor(tree.threshold), -1, 255).astype(np.int32),
            tree.children_left,
            tree.children_right,
            tree.value[:, 0, :],
            total,
        )
        for position, asked in enumerate(wanted):
            if asked == number:
                answers[position] = total / number
    return answers[0] if n_estimators is None else answers


def _checked(
    X: NDArray[np.uint8], y: ArrayLike, rows: ArrayLike | None
) -> tuple[NDArray[np.int32], NDArray[np.generic]]:
    """Return the rows to learn from and their labels."""
    from dfpipe.models._forest_kernel import MAX_ROWS  # noqa: PLC0415 - slow to import

    _check_bytes(X)
    labels = np.asarray(y)
    if labels.shape != (len(X),):
        raise TrainingDataError(f"{len(X)} rows of features came with labels of shape {labels.shape}")
    chosen = _chosen(rows, len(X))
    if len(chosen) > MAX_ROWS:
        raise TrainingDataError(
            f"got {len(chosen)} rows, but the uint8 forest takes at most {MAX_ROWS}; pass fewer, or use scikit-learn's"
        )
    labels = labels[chosen]
    classes = np.unique(labels)
    if len(classes) != 2:
        raise TrainingDataError(
            f"got labels of {len(classes)} classes ({', '.join(map(str, classes[:5])) or 'no rows'}), expected two; "
            "choose rows of both classes"
        )
    return chosen, labels


def _check_bytes(X: NDArray[Any]) -> None:
    if not isinstance(X, np.ndarray) or X.dtype != np.uint8 or X.ndim != 2 or not X.size:
        got = f"{X.dtype} of shape {X.shape}" if isinstance(X, np.ndarray) else type(X).__name__
        raise TrainingDataError(
            f"features are {got}, expected uint8 of shape (n, columns); use scikit-learn for others"
        )


def _chosen(rows: ArrayLike | None, n_rows: int) -> NDArray[np.int32]:
    if rows is None:
        return np.arange(n_rows, dtype=np.int32)
    chosen = np.asarray(rows)
    if chosen.ndim != 1 or not np.issubdtype(chosen.dtype, np.integer):
        raise TrainingDataError(f"rows are {chosen.dtype} of shape {chosen.shape}, expected indices of shape (n,)")
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < n_rows:
        raise TrainingDataError(f"rows go from {chosen.min()} to {chosen.max()}, expected 0 to {n_rows - 1}")
    return chosen.astype(np.int32)


def _columns(X: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the columns one after the other, shape (columns, n), read only: without a copy if they lie so already."""
    from dfpipe.models import _forest_kernel as kernel  # noqa: PLC0415 - slow to import

    return _read_only(X.T if X.flags.f_contiguous else kernel.to_columns(_read_only(X)))


def _read_only(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a read-only view, so that the kernel is compiled once for arrays and memory maps alike."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _prepare(forest: Any, labels: NDArray[np.generic], n_columns: int) -> NDArray[np.intp]:
    """Set what ``forest.fit`` sets before it grows trees, by the same methods, and return the class of each row."""
    from sklearn.ensemble._forest import _get_n_samples_bootstrap  # noqa: PLC0415 - slow to import

    if not forest.bootstrap and forest.max_samples is not None:
        raise SettingsError("forest: max_samples cannot be set without bootstrap; leave it out or set bootstrap")
    try:
        forest._validate_params()
        forest.n_features_in_ = n_columns
        forest._n_samples, forest.n_outputs_ = len(labels), 1
        codes, weights = forest._validate_y_class_weight(labels.reshape(-1, 1), None)
        forest._sample_weight = weights
        forest._n_samples_bootstrap = (
            _get_n_samples_bootstrap(len(labels), forest.max_samples, weights) if forest.bootstrap else None
        )
    except ValueError as error:
        raise SettingsError(f"forest: {' '.join(str(error).split())}") from error
    forest._validate_estimator()
    forest.n_classes_, forest.classes_ = forest.n_classes_[0], forest.classes_[0]
    return np.asarray(codes[:, 0], np.intp)


def _unfitted_trees(forest: Any) -> list[Any]:
    from sklearn.utils import check_random_state  # noqa: PLC0415 - slow to import

    state = check_random_state(forest.random_state)
    return [forest._make_estimator(append=False, random_state=state) for _ in range(forest.n_estimators)]


def _grow(
    forest: Any, tree: Any, columns: NDArray[np.uint8], chosen: NDArray[np.int32], codes: NDArray[np.intp]
) -> Any:
    """Fit one tree of the forest, and return it."""
    from sklearn.tree._tree import NODE_DTYPE, Tree  # noqa: PLC0415 - slow to import

    from dfpipe.models import _forest_kernel as kernel  # noqa: PLC0415 - slow to import

    counts, weights = _draw(forest, tree.random_state, codes)
    # Rows of no weight are not in the tree, and rows in rising order are read forwards.
    present = np.flatnonzero((counts > 0) & (weights[codes] > 0))
    present = present[np.argsort(chosen[present], kind="stable")]
    packed = kernel.pack(counts[present], codes[present])

    tree.n_features_in_, tree.n_outputs_ = len(columns), 1
    tree.n_classes_, tree.classes_ = np.intp(2), np.array([0.0, 1.0])
    tree.max_features_ = _resolved_max_features(tree.max_features, len(columns))
    min_samples_leaf = _resolved_share(tree.min_samples_leaf, len(codes))
    min_samples_split = max(2, _resolved_share(tree.min_samples_split, len(codes)), 2 * min_samples_leaf)
    min_weight_leaf = tree.min_weight_fraction_leaf * float(np.sum(counts * weights[codes]))
    max_depth = np.iinfo(np.int32).max if tree.max_depth is None else tree.max_depth

    capacity = 2 * len(present) - 1
    if tree.max_leaf_nodes is not None:
        capacity = min(capacity, 2 * tree.max_leaf_nodes - 1)
    nodes = np.zeros(capacity, NODE_DTYPE)
    values = np.zeros((capacity, 1, 2), np.float64)
    seed = np.random.RandomState(tree.random_state).randint(0, np.iinfo(np.int32).max) or 1
    arguments = (
        columns,
        chosen[present],
        packed,
        seed,
        (float(weights[0]), float(weights[1])),
        max_depth,
        min_samples_split,
        (tree.max_features_, min_samples_leaf, float(min_weight_leaf)),
        float(tree.min_impurity_decrease),
    )
    if tree.max_leaf_nodes is None:
        n_nodes, depth = kernel.grow_depth_first(*arguments, nodes, values)
    else:
        n_nodes, depth = kernel.grow_best_first(*arguments, tree.max_leaf_nodes, nodes, values)
    tree.tree_ = Tree(len(columns), np.array([2], np.intp), 1)
    tree.tree_.__setstate__(
        {"max_depth": depth, "node_count": n_nodes, "nodes": nodes[:n_nodes], "values": values[:n_nodes]}
    )
    return tree


def _draw(forest: Any, seed: int, codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return how often a tree draws each row, and what a draw of each class weighs.

    With class weights a bootstrap sample draws rows by their weight, and each draw counts once (scikit-learn 1.9).
    """
    from sklearn.ensemble._forest import _generate_sample_indices  # noqa: PLC0415 - slow to import
    from sklearn.utils.class_weight import compute_class_weight  # noqa: PLC0415 - slow to import

    if not forest.bootstrap:
        weights = np.ones(2)
        if forest._sample_weight is not None:
            weights = np.array([forest._sample_weight[np.argmax(codes == code)] for code in (0, 1)])
        return np.ones(len(codes), np.intp), weights
    drawn = _generate_sample_indices(seed, len(codes), forest._n_samples_bootstrap, forest._sample_weight)
    counts = np.bincount(drawn, minlength=len(codes))
    weights = np.ones(2)
    if forest.class_weight == "balanced_subsample":
        seen = np.unique(codes[drawn])
        # A class that was not drawn weighs nothing.
        weights = np.zeros(2)
        weights[seen] = compute_class_weight("balanced", classes=seen, y=codes[drawn])
    return counts, weights


def _resolved_max_features(max_features: Any, n_columns: int) -> int:
    if max_features == "sqrt":
        return max(1, int(np.sqrt(n_columns)))
    if max_features == "log2":
        return max(1, int(np.log2(n_columns)))
    if max_features is None:
        return n_columns
    return int(max_features) if isinstance(max_features, int | np.integer) else max(1, int(max_features * n_columns))


def _resolved_share(bound: Any, n_rows: int) -> int:
    """Return a number of rows that was given as such or as a share of all rows."""
    return int(bound) if isinstance(bound, int | np.integer) else int(np.ceil(bound * n_rows))
