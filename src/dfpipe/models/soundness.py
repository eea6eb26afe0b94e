"""Refusing models that compiled code would follow out of bounds: it trusts every index that it finds in a file.

A check of the file's hash comes first, wherever a model is loaded. This is for files whose hash is not to be trusted
either.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import StoreError
from dfpipe.models.kinds import KINDS, ModelKind

__all__ = ["check_lightgbm_text", "check_sklearn"]


def check_sklearn(model: ModelKind, estimator: Any) -> None:
    """Refuse what is not a fitted model of this kind, or holds indices or shapes that compiled code must not meet.

    Raises
    ------
    StoreError
        Says what is wrong.
    """
    kind = KINDS[model]
    expected = type(kind.make({}, 0))
    found = estimator
    if kind.scaled:
        found = _classifier_of(estimator)
    if kind.calibrated:
        found = _machine_of(found)
    if type(found) is not expected:
        raise StoreError(f"the model file holds a {type(found).__name__}, expected a {expected.__name__}")
    if kind.grows:
        _check_trees(found)
    elif model == "rbf_svm":
        _check_machine(found)


def _classifier_of(pipeline: Any) -> Any:
    from sklearn.pipeline import Pipeline  # noqa: PLC0415 - slow to import

    if type(pipeline) is not Pipeline:
        raise StoreError(f"the model file holds a {type(pipeline).__name__}, expected a Pipeline")
    steps = [name for name, _ in pipeline.steps]
    if steps not in (["scale", "classifier"], ["float32", "scale", "classifier"]):
        raise StoreError(f"the model file holds a pipeline of {', '.join(steps)}, expected scale and classifier")
    return pipeline[-1]


def _machine_of(calibrated: Any) -> Any:
    from sklearn.calibration import CalibratedClassifierCV  # noqa: PLC0415 - slow to import

    if type(calibrated) is not CalibratedClassifierCV or len(calibrated.calibrated_classifiers_) != 1:
        raise StoreError(
            f"the model file holds a {type(calibrated).__name__}, expected a CalibratedClassifierCV around one machine"
        )
    return calibrated.calibrated_classifiers_[0].estimator


def _check_trees(forest: Any) -> None:
    for number, member in enumerate(forest.estimators_):
        tree = member.tree_
        left, right, feature = tree.children_left, tree.children_right, tree.feature
        leaf = left == -1
        parent = np.arange(tree.node_count)
        # Children come after their parent in every tree that scikit-learn grows, so no walk can go in circles.
        sound = (
            np.all(right[leaf] == -1)
            and all(np.all((side > parent)[~leaf] & (side < tree.node_count)[~leaf]) for side in (left, right))
            and np.all((feature >= 0)[~leaf] & (feature < forest.n_features_in_)[~leaf])
            and tree.value.shape == (tree.node_count, 1, 2)
        )
        if not sound:
            raise StoreError(f"tree {number} of the model file points outside itself; train again")


def _check_machine(machine: Any) -> None:
    """Hold a support vector machine's arrays against each other; libsvm counts through them unasked."""
    vectors, counts = machine.support_vectors_, machine._n_support
    number = len(vectors)
    sound = (
        vectors.dtype == machine._dual_coef_.dtype == machine._intercept_.dtype == np.float64
        and counts.dtype == machine.support_.dtype == np.int32
        and vectors.shape == (number, machine.n_features_in_)
        and counts.shape == (2,)
        and bool(np.all(counts >= 0))
        and int(counts.sum()) == number
        and machine.support_.shape == (number,)
        and machine._dual_coef_.shape == (1, number)
        and machine._intercept_.shape == (1,)
        and machine.shape_fit_[1:] == (machine.n_features_in_,)
        and machine._sparse is False
        and machine.kernel == "rbf"
    )
    if not sound:
        raise StoreError("the support vectors of the model file do not fit together; train again")


NODES = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
"""Of an inner node of a LightGBM tree."""


def check_lightgbm_text(text: str) -> None:
    """Refuse a LightGBM model whose trees or lengths do not fit together; its parser checks next to nothing.

    Raises
    ------
    StoreError
        Says which part is wrong.
    """
    head, *trees = re.split(r"^(?=Tree=)", text, flags=re.MULTILINE)
    header = _fields(head)
    if (
        not text.startswith("tree\n")
        or header.get("version") != "v4"
        or (header.get("num_class"), header.get("num_tree_per_iteration")) != ("1", "1")
        or header.get("objective") != "binary sigmoid:1"
    ):
        raise StoreError(
            "the lightgbm model file cannot be read: it is no text of a classifier of two classes; train again"
        )
    last, ending, _ = trees[-1].partition("end of trees\n") if trees else ("", "", "")
    if not ending:
        raise StoreError("the model file's trees have no end; train again")
    trees[-1] = last
    columns = int(header["max_feature_idx"]) + 1
    named = len(header.get("feature_names", "").split()), len(header.get("feature_infos", "").split())
    # The parser jumps by these sizes.
    sizes = [int(size) for size in header.get("tree_sizes", "").split()]
    if named != (columns, columns) or sizes != [len(tree.encode()) for tree in trees]:
        raise StoreError("the columns or trees of the model file are not as many or as long as it says; train again")
    for number, tree in enumerate(trees):
        if not _sound_tree(_fields(tree), number, columns):
            raise StoreError(f"tree {number} of the model file points outside itself; train again")


def _fields(lines: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in lines.splitlines() if "=" in line)


def _sound_tree(tree: Mapping[str, str], number: int, columns: int) -> bool:
    leaves = int(tree["num_leaves"])
    kinds = (tree["Tree"], tree["num_cat"], tree["is_linear"])
    if leaves < 1 or kinds != (str(number), "0", "0") or len(_numbers(tree, "leaf_value")) != leaves:
        return False
    if leaves == 1:
        return True
    feature, threshold, decision, left, right = (_numbers(tree, name) for name in NODES)
    if not all(len(array) == leaves - 1 for array in (feature, threshold, decision, left, right)):
        return False
    parent = np.arange(leaves - 1)
    children = all(
        # A leaf is the complement of its number. An inner child comes after its parent, so no walk goes in circles.
        np.all(np.where(side < 0, ~side.astype(np.int64) < leaves, (side > parent) & (side < leaves - 1)))
        for side in (left, right)
    )
    # The lowest bit would make the threshold an index into sets of categories, of which there are none.
    numeric = np.all(decision.astype(np.int64) & 1 == 0)
    return bool(children and numeric and np.all((feature >= 0) & (feature < columns)))


def _numbers(tree: Mapping[str, str], name: str) -> NDArray[np.float64]:
    return np.array([float(value) for value in tree[name].split()])
