"""The compiled part of the uint8 forest: growing one tree, and following trees from row to leaf.

Whatever decides a tree is done as scikit-learn 1.9 does it (`sklearn/tree/_tree.pyx`, `_splitter.pyx`), to the order of
the draws and the order of floating-point operations, so the same seed gives the same tree. What differs is how the best
threshold of a column is found: a uint8 column has at most 256 values, so the classes are counted by value, and nothing
is sorted and nothing converted.
"""

# Compiled code: flat functions of many arguments, whose loops are what they are.
# ruff: noqa: PLR0912, PLR0915

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["add_probabilities", "grow_tree"]

COUNT_MASK = 0xFFFFFFFF
"""A weight packs how often a row was drawn (low 32 bits) and the same again if the row is of class 1 (high 32 bits)."""

AHEAD = 6
"""Draws by which columns are fetched into the cache before they are needed."""

LINE_BYTES = 64
"""Of the processor's cache."""

EPSILON = np.finfo(np.float64).eps
"""An impurity of no more is none; as in scikit-learn's tree builder."""


def _compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Have a function compiled when it is called first, and kept on disk where there is a place for it."""

    def decorate(function: Callable[..., Any]) -> Any:
        options.update(nogil=True, error_model="numpy")
        try:
            return njit(function, cache=True, **options)
        except RuntimeError:
            return njit(function, **options)

    return decorate


def _intrinsic(function: Callable[..., Any]) -> Any:
    # What it takes then is not what its definition takes.
    return intrinsic(function)


@_intrinsic
def _fetch(_typing: Any, array: Any, _column: Any, _row: Any) -> Any:
    """Ask for the cache line of ``array[column, row]`` without waiting for it."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        made = context.make_array(signature.args[0])(context, builder, arguments[0])
        width = builder.extract_value(made.shape, 1)
        place = builder.gep(made.data, [builder.add(builder.mul(arguments[1], width), arguments[2])])
        pointer = builder.bitcast(place, ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word])
        function = builder.module.globals.get("llvm.prefetch.p0") or ir.Function(
            builder.module, kind, "llvm.prefetch.p0"
        )
        builder.call(function, [pointer, ir.Constant(word, 0), ir.Constant(word, 3), ir.Constant(word, 1)])
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate


@_compiled(inline="always")
def _next_random(state):  # type: ignore[no-untyped-def]
    """One step of the 32-bit xorshift generator that scikit-learn draws features with."""
    if state == 0:
        state = 1
    state = (state ^ (state << 13)) & COUNT_MASK
    state ^= state >> 17
    return (state ^ (state << 5)) & COUNT_MASK


@_compiled(inline="always")
def _gini(of_0, of_1):  # type: ignore[no-untyped-def]
    weight = of_0 + of_1
    return 1.0 - (of_0 * of_0 + of_1 * of_1) / (weight * weight)


@_compiled()
def _fetch_column(columns, column, rows, start, end):  # type: ignore[no-untyped-def]
    """Ask for the values of some rows, which ascend: line by line where they lie close, else one by one."""
    first = np.int64(rows[start])
    lines = (np.int64(rows[end - 1]) - first) // LINE_BYTES + 1
    if lines < end - start:
        for line in range(lines):
            _fetch(columns, column, first + line * LINE_BYTES)
    else:
        for at in range(start, end):
            _fetch(columns, column, np.int64(rows[at]))


@_compiled()
def _is_constant(columns, column, rows, start, end):  # type: ignore[no-untyped-def]
    first = columns[column, rows[start]]
    for at in range(start + 1, end):  # noqa: SIM110 - compiled, where a loop is quicker
        if columns[column, rows[at]] != first:
            return False
    return True


@_compiled()
def _find_split(  # type: ignore[no-untyped-def]
    columns, rows, weights, start, end, total, class_weights, max_features, min_samples_leaf, min_weight_leaf,
    features, constants, num_known, state, counts, numbers, present,
):  # fmt: skip
    """Look for the best threshold among ``max_features`` columns drawn at random.

    Returns
    -------
    column, low, high
        The best split lies between two values of a column; column is -1 where there is none.
    num_constant
        Columns known to be constant from here on.
    state
        Of the random generator.
    """
    of_class_0, of_class_1 = class_weights[0], class_weights[1]
    num_rows = end - start
    undrawn = columns.shape[0]
    num_visited = num_found = num_drawn = 0
    num_constant = num_known
    best = -np.inf
    best_column, best_low, best_high = np.int64(-1), np.int64(0), np.int64(0)
    total_1 = total >> 32
    total_0 = (total & COUNT_MASK) - total_1
    weight = total_0 * of_class_0 + total_1 * of_class_1

    # Of two classes, a split gains the more, the greater gap ** 2 / (left weight * right weight); gap tells by how much
    # the left side has more of class 1 than its share. That needs no division, so it sorts out what cannot win. What
    # may win is compared by scikit-learn's own operations, as their rounding decides between equally good splits.
    gap_of_1, gap_of_0 = of_class_1 * (total_0 * of_class_0), of_class_0 * (total_1 * of_class_1)
    rounding = 1e-14 * weight * weight
    bar = -np.inf

    ahead = state
    for _ in range(AHEAD):
        ahead = _next_random(ahead)
    while undrawn > num_constant and (num_visited < max_features or num_visited <= num_found + num_drawn):
        num_visited += 1
        ahead = _next_random(ahead)
        choice = undrawn - num_found - num_drawn - AHEAD
        if choice > 0:
            # What will be drawn, unless constant columns are met until then: a column fetched in vain.
            guess = num_drawn + (ahead & 0x7FFFFFFF) % choice + num_found
            _fetch_column(columns, np.int64(features[guess]), rows, start, end)
        state = _next_random(state)
        at_feature = num_drawn + (state & 0x7FFFFFFF) % (undrawn - num_found - num_drawn)
        if at_feature < num_known:
            features[num_drawn], features[at_feature] = features[at_feature], features[num_drawn]
            num_drawn += 1
            continue
        at_feature += num_found
        column = np.int64(features[at_feature])

        num_values = 0
        if best == 0.0:
            # Both sides are pure. Nothing is better; only which columns are constant remains to be seen.
            num_values = 1 if _is_constant(columns, column, rows, start, end) else 2
        else:
            for at in range(start, end):
                counts[columns[column, rows[at]]] += weights[at]
            if min_samples_leaf > 1:
                for at in range(start, end):
                    numbers[columns[column, rows[at]]] += 1
            for value in range(256):
                # Without a branch, which nobody could predict.
                present[num_values] = value
                num_values += counts[value] != 0

        if num_values == 1:
            counts[present[0]] = numbers[present[0]] = 0
            features[at_feature], features[num_constant] = features[num_constant], features[at_feature]
            num_found += 1
            num_constant += 1
            continue
        undrawn -= 1
        features[undrawn], features[at_feature] = features[at_feature], features[undrawn]
        if best == 0.0:
            continue

        left = counts[present[0]]
        num_left = numbers[present[0]]
        counts[present[0]] = numbers[present[0]] = 0
        for at in range(1, num_values):
            value = present[at]
            left_1 = left >> 32
            left_0 = (left & COUNT_MASK) - left_1
            gap = left_1 * gap_of_1 - left_0 * gap_of_0
            left_of_0, left_of_1 = left_0 * of_class_0, left_1 * of_class_1
            weight_left = left_of_0 + left_of_1
            if gap * gap > bar * (weight_left * (weight - weight_left)):
                right_of_0, right_of_1 = (total_0 - left_0) * of_class_0, (total_1 - left_1) * of_class_1
                weight_right = right_of_0 + right_of_1
                if (
                    (min_samples_leaf <= 1 or min_samples_leaf <= num_left <= num_rows - min_samples_leaf)
                    and weight_left >= min_weight_leaf
                    and weight_right >= min_weight_leaf
                ):
                    proxy = -weight_right * _gini(right_of_0, right_of_1) - weight_left * _gini(left_of_0, left_of_1)
                    if proxy > best:
                        best = proxy
                        bar = gap * gap / (weight_left * weight_right) - rounding
                        best_column, best_low, best_high = column, present[at - 1], value
            left += counts[value]
            num_left += numbers[value]
            counts[value] = numbers[value] = 0

    # The order of the constants must be as it was for sibling and child nodes.
    for at in range(num_known):
        features[at] = constants[at]
    for at in range(num_known, num_constant):
        constants[at] = features[at]
    return best_column, best_low, best_high, num_constant, state


@_compiled()
def _partition(values, threshold, rows, weights, start, end, spare_rows, spare_weights):  # type: ignore[no-untyped-def]
    """Move rows of values up to the threshold to the front, both sides in their order; return where they meet."""
    middle = start
    num_right = 0
    for at in range(start, end):
        row, weight = rows[at], weights[at]
        if values[row] <= threshold:
            rows[middle], weights[middle] = row, weight
            middle += 1
        else:
            spare_rows[num_right], spare_weights[num_right] = row, weight
            num_right += 1
    for at in range(num_right):
        rows[middle + at], weights[middle + at] = spare_rows[at], spare_weights[at]
    return middle


@_compiled(inline="always")
def _sum(weights, start, end):  # type: ignore[no-untyped-def]
    total = 0
    for at in range(start, end):
        total += weights[at]
    return total


@_compiled()
def grow_tree(  # type: ignore[no-untyped-def]
    columns, rows, weights, class_weights, max_features, min_samples_split, min_samples_leaf, min_weight_leaf,
    max_depth, max_leaf_nodes, min_impurity_decrease, state, features, constants, spare_rows, spare_weights,
    children, split_columns, thresholds, values, impurities, sizes, node_weights, to_left,
):  # fmt: skip
    """Grow one tree; see `dfpipe.models.forest` for what the parameters mean.

    Parameters
    ----------
    columns : ndarray of uint8, shape (n_columns, n_all_rows)
        The rows' values, column by column.
    rows : ndarray of int32, shape (n_rows,)
        Rows that were drawn, ascending; put into another order.
    weights : ndarray of int64, shape (n_rows,)
        How often, packed (`COUNT_MASK`).
    class_weights : ndarray of float64, shape (2,)
        What one draw of a row of each class weighs.
    max_leaf_nodes
        Leaves at most, of which the best come first; -1 for as many as there are.
    state
        Of the random generator, 32 bits.
    features, constants : ndarray of int32, shape (n_columns,)
        Scratch.
    spare_rows, spare_weights
        Scratch, as rows and weights.
    children : ndarray of int64, shape (capacity, 2)
        Written: left and right child of each node, -1 for leaves. The rest likewise, one entry a node.

    Returns
    -------
    num_nodes, depth
    """
    counts = np.zeros(256, np.int64)
    numbers = np.zeros(256, np.int64)
    # One more than there are values, as the next place is written before it is known whether it is taken.
    present = np.zeros(257, np.int64)
    for at in range(features.shape[0]):
        features[at] = at
    all_rows = rows.shape[0]
    root = _sum(weights, 0, all_rows)
    all_weight = ((root & COUNT_MASK) - (root >> 32)) * class_weights[0] + (root >> 32) * class_weights[1]
    best_first = max_leaf_nodes >= 0
    splits_left = max_leaf_nodes - 1 if best_first else all_rows

    # A stack of nodes that nobody has looked at yet: with max_leaf_nodes never more than two.
    room = 2 if best_first else all_rows + 1
    start_of, end_of = np.empty(room, np.int64), np.empty(room, np.int64)
    depth_of, parent_of, side_of = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    constants_of = np.empty(room, np.int64)
    start_of[0], end_of[0], depth_of[0], parent_of[0], side_of[0], constants_of[0] = 0, all_rows, 0, -1, 0, 0
    waiting = 1

    # With max_leaf_nodes a heap of those that were looked at, by improvement.
    room = 2 * max_leaf_nodes + 1 if best_first else 1
    heap, gains = np.empty(room, np.int64), np.empty(room, np.float64)
    starts, middles, ends = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.int64)
    depths = np.empty(room, np.int64)
    in_heap = 0

    num_nodes = 0
    deepest = -1
    while waiting > 0 or in_heap > 0:
        if waiting == 0:
            node = _pop_best(heap, gains, in_heap)
            in_heap -= 1
            deepest = max(deepest, depths[node])
            if middles[node] < 0 or splits_left <= 0:
                children[node, 0] = children[node, 1] = -1
                split_columns[node], thresholds[node] = -2, -2.0
                continue
            splits_left -= 1
            start, middle, end, depth, num_constant = starts[node], middles[node], ends[node], depths[node], 0
            is_leaf = False
        else:
            waiting -= 1
            start, end, depth = start_of[waiting], end_of[waiting], depth_of[waiting]
            parent, side, num_constant = parent_of[waiting], side_of[waiting], constants_of[waiting]
            num_rows = end - start
            total = _sum(weights, start, end)
            of_1 = (total >> 32) * class_weights[1]
            of_0 = ((total & COUNT_MASK) - (total >> 32)) * class_weights[0]
            weight = of_0 + of_1
            impurity = _gini(of_0, of_1)
            is_leaf = (
                depth >= max_depth
                or num_rows < min_samples_split
                or num_rows < 2 * min_samples_leaf
                or weight < 2 * min_weight_leaf
                or impurity <= EPSILON
            )
            column, threshold, middle, improvement = -2, -2.0, -1, 0.0
            if not is_leaf:
                column, low, high, num_constant, state = _find_split(
                    columns, rows, weights, start, end, total, class_weights, max_features, min_samples_leaf,
                    min_weight_leaf, features, constants, num_constant, state, counts, numbers, present,
                )  # fmt: skip
                is_leaf = column < 0
            if not is_leaf:
                threshold = low / 2.0 + high / 2.0
                middle = _partition(columns[column], low, rows, weights, start, end, spare_rows, spare_weights)
                left = _sum(weights, start, middle)
                left_1 = (left >> 32) * class_weights[1]
                left_0 = ((left & COUNT_MASK) - (left >> 32)) * class_weights[0]
                right_0, right_1 = of_0 - left_0, of_1 - left_1
                improvement = (weight / all_weight) * (
                    impurity
                    - ((right_0 + right_1) / weight * _gini(right_0, right_1))
                    - ((left_0 + left_1) / weight * _gini(left_0, left_1))
                )
                is_leaf = improvement + EPSILON < min_impurity_decrease
            if is_leaf:
                column, threshold, middle, improvement = -2, -2.0, -1, 0.0

            node = num_nodes
            num_nodes += 1
            if parent >= 0:
                children[parent, side] = node
            children[node, 0] = children[node, 1] = -1
            split_columns[node], thresholds[node], to_left[node] = column, threshold, middle - start > end - middle
            impurities[node], sizes[node], node_weights[node] = impurity, num_rows, weight
            values[node, 0], values[node, 1] = of_0 / weight, of_1 / weight
            if best_first:
                starts[node], middles[node], ends[node], depths[node] = start, middle, end, depth
                gains[node] = improvement
                if waiting == 0:
                    # The left child came just before.
                    if parent >= 0:
                        in_heap = _push(heap, gains, in_heap, node - 1)
                    in_heap = _push(heap, gains, in_heap, node)
                continue
            deepest = max(deepest, depth)

        if not is_leaf:
            # The left one is taken first.
            for side in (1, 0):
                start_of[waiting], end_of[waiting] = (middle, end) if side else (start, middle)
                depth_of[waiting], parent_of[waiting], side_of[waiting] = depth + 1, node, side
                constants_of[waiting] = num_constant
                waiting += 1
    return num_nodes, deepest


# The heap of C++'s standard library, step for step: which of two equal nodes is split first follows from it.


@_compiled()
def _sift_up(heap, gains, hole, node):  # type: ignore[no-untyped-def]
    while hole > 0 and gains[heap[(hole - 1) // 2]] < gains[node]:
        heap[hole] = heap[(hole - 1) // 2]
        hole = (hole - 1) // 2
    heap[hole] = node


@_compiled()
def _push(heap, gains, size, node):  # type: ignore[no-untyped-def]
    _sift_up(heap, gains, size, node)
    return size + 1


@_compiled()
def _pop_best(heap, gains, size):  # type: ignore[no-untyped-def]
    best, last = heap[0], heap[size - 1]
    size -= 1
    hole = 0
    child = 0
    while child < (size - 1) // 2:
        child = 2 * (child + 1)
        if gains[heap[child]] < gains[heap[child - 1]]:
            child -= 1
        heap[hole] = heap[child]
        hole = child
    if size % 2 == 0 and child == (size - 2) // 2:
        child = 2 * (child + 1)
        heap[hole] = heap[child - 1]
        hole = child - 1
    if size > 0:
        _sift_up(heap, gains, hole, last)
    return best


@_compiled()
def add_probabilities(  # type: ignore[no-untyped-def]
    columns, rows, children, split_columns, lows, values, sums
):
    """Follow one tree with each row, and add the leaf's probabilities to ``sums``, shape (n_rows, 2)."""
    for at in range(rows.shape[0]):
        row = rows[at]
        node = 0
        while children[node, 0] >= 0:
            node = children[node, 0] if columns[split_columns[node], row] <= lows[node] else children[node, 1]
        sums[at, 0] += values[node, 0]
        sums[at, 1] += values[node, 1]
