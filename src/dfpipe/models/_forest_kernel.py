"""Compiled code that grows and walks trees over uint8 columns; `dfpipe.models.forest` is its door.

A split is searched the way scikit-learn 1.9 searches it (``sklearn/tree/_splitter.pyx``, ``_criterion.pyx`` and
``_tree.pyx``): the same generator draws the same columns in the same order, sums are the same whole numbers and the
criterion is computed by the same operations, so the same trees come out. What differs is how the sums are found: the
256 values of a byte are the bins of a histogram, so no column is ever sorted, and columns are read as bytes.

A row's share in all sums is one integer of three fields (`pack`): one addition counts a row.
"""

# Numba infers the types when it compiles.
# mypy: allow-untyped-defs, allow-untyped-calls
# ruff: noqa: PLR0912, PLR0915 - calls would hide what is one loop over all columns, bins or nodes

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic

__all__ = ["MAX_ROWS", "accumulate_proba", "grow_best_first", "grow_depth_first", "pack", "to_columns"]

_FIELD = 21
"""Bits of a field."""
_MASK = (1 << _FIELD) - 1

MAX_ROWS = _MASK
"""Most rows, and most draws of a bootstrap sample, that a field can count."""

_FEW_ROWS = 160
"""Up to this many rows the bins in use are found in a bitmap; with more, walking over all 256 is quicker."""

_FAR_ROWS = 64
"""Up to this many rows a column is fetched ahead; with more, the processor sees by itself what comes next."""

_AHEAD = 6
"""Columns between the one that is fetched and the one that is read."""

_EPSILON = np.finfo(np.float64).eps
_LEAF = -1
_UNDEFINED = -2


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile without the GIL, and keep the machine code for other processes where it can be written."""
    try:
        compiled: Callable[..., Any] = numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's cache, so each process compiles for itself
        compiled = numba.njit(nogil=True)(function)
    return compiled


def _lowest_bit_code(_context, _word):
    """Return the index of the lowest bit that is set in a uint64 other than 0: one instruction."""

    def generate(_, builder, __, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return numba.types.uint64(numba.types.uint64), generate


_lowest_bit: Callable[..., Any] = intrinsic(_lowest_bit_code)


def _prefetch_code(_context, array, _row, _column):
    """Ask for the cache line of ``array[row, column]``, a two-dimensional C-contiguous array of bytes."""

    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        stride = builder.extract_value(view.strides, 0)
        offset = builder.add(builder.mul(arguments[1], stride), arguments[2])
        byte = builder.bitcast(view.data, ir.IntType(8).as_pointer())
        address = builder.gep(byte, [offset])
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer(), number, number, number])
        fetch = builder.module.declare_intrinsic("llvm.prefetch", (ir.IntType(8).as_pointer(),), kind)
        # to read, into every level of the cache, data
        builder.call(fetch, [address, number(0), number(3), number(1)])
        return context.get_dummy_value()

    return numba.types.void(array, numba.types.int64, numba.types.int64), generate


_prefetch: Callable[..., Any] = intrinsic(_prefetch_code)


@_compiled
def pack(counts, labels):
    """Return the share of rows in all sums: 1, their draws if of class 0, their draws if of class 1, int64."""
    packed = np.empty(len(counts), np.int64)
    for i in range(len(counts)):
        draws = np.int64(counts[i])
        packed[i] = (np.int64(1) << (2 * _FIELD)) + (draws if labels[i] else draws << _FIELD)
    return packed


@_compiled
def to_columns(X):
    """Return the transposed copy of a two-dimensional array of bytes, moved in blocks that fit the cache."""
    n_rows, n_columns = X.shape
    columns = np.empty((n_columns, n_rows), np.uint8)
    block = 64
    for left in range(0, n_columns, block):
        right = min(left + block, n_columns)
        for top in range(0, n_rows, block):
            bottom = min(top + block, n_rows)
            for column in range(left, right):
                for row in range(top, bottom):
                    columns[column, row] = X[row, column]
    return columns


@_compiled
def _weigh(share, weights):
    """Return the weight of each class in a sum of shares.

    From whole numbers each time, so that the weight of a class that is not there is exactly 0 on either side.
    """
    return weights[0] * ((share >> _FIELD) & _MASK), weights[1] * (share & _MASK)


@_compiled
def _gini(sum_0, sum_1, weight):
    return 1.0 - (sum_0 * sum_0 + sum_1 * sum_1) / (weight * weight)


@_compiled
def _step(state):
    """Advance scikit-learn's generator: 32-bit xorshift (Marsaglia 2003, https://doi.org/10.18637/jss.v008.i14)."""
    state ^= (state << 13) & 0xFFFFFFFF
    state ^= state >> 17
    state ^= (state << 5) & 0xFFFFFFFF
    return state


@_compiled
def _constant(column, rows, start, end):
    first = column[rows[start]]
    for i in range(start + 1, end):  # noqa: SIM110 - compiled, a loop is quicker than a generator
        if column[rows[i]] != first:
            return False
    return True


@_compiled
def _best_threshold(
    column, rows, packed, start, end, total, weights, min_samples_leaf, min_weight_leaf, best, histogram, margin
):
    """Look for a better threshold in one column.

    `best` is (gain up to constants, scikit-learn's proxy for it, last value on the left, first value on the right);
    returns whether the column is constant, and the better of both.
    """
    best_gain, best_proxy, best_low, best_high = best
    sum_0, sum_1 = _weigh(total, weights)
    weight = sum_0 + sum_1
    n_rows = total >> (2 * _FIELD)

    few = end - start <= _FEW_ROWS
    words = (np.uint64(0), np.uint64(0), np.uint64(0), np.uint64(0))
    if few:
        word_0, word_1, word_2, word_3 = words
        for i in range(start, end):
            value = column[rows[i]]
            histogram[value] += packed[i]
            bit = np.uint64(1) << np.uint64(value & 63)
            quarter = value >> 6
            if quarter < 2:
                if quarter == 0:
                    word_0 |= bit
                else:
                    word_1 |= bit
            elif quarter == 2:
                word_2 |= bit
            else:
                word_3 |= bit
        words = (word_0, word_1, word_2, word_3)
    else:
        for i in range(start, end):
            histogram[column[rows[i]]] += packed[i]

    left = np.int64(0)
    last = -1
    constant = True
    for quarter in range(4):
        word = words[quarter]
        step = 0
        while True:
            if few:
                if word == 0:
                    break
                value = np.int64(_lowest_bit(word)) + 64 * quarter
                word &= word - np.uint64(1)
            else:
                if step == 64:
                    break
                value = step + 64 * quarter
                step += 1
                if histogram[value] == 0:
                    continue
            if last >= 0:
                constant = False
                left_0, left_1 = _weigh(left, weights)
                left_weight = left_0 + left_1
                right_weight = weight - left_weight
                # For two classes the gain grows with gap ** 2 / (left_weight * right_weight); without a division
                # it tells what cannot win. What might is judged by scikit-learn's own sequence of operations, as
                # rounding decides between splits that are equally good.
                gap = left_1 * weight - left_weight * sum_1
                if gap * gap > (best_gain - margin) * left_weight * right_weight:
                    n_left = left >> (2 * _FIELD)
                    if (
                        n_left >= min_samples_leaf
                        and n_rows - n_left >= min_samples_leaf
                        and left_weight >= min_weight_leaf
                        and right_weight >= min_weight_leaf
                    ):
                        right_0, right_1 = _weigh(total - left, weights)
                        proxy = -right_weight * _gini(right_0, right_1, right_0 + right_1)
                        proxy -= left_weight * _gini(left_0, left_1, left_weight)
                        if proxy > best_proxy:
                            best_proxy = proxy
                            best_gain = gap * gap / (left_weight * right_weight)
                            best_low = last
                            best_high = value
            left += histogram[value]
            histogram[value] = 0
            last = value
    return constant, (best_gain, best_proxy, best_low, best_high)


@_compiled
def _split(columns, rows, packed, start, end, total, weights, impurity, all_weight, limits, draw, n_known, scratch):
    """Find the best split of a node and part its rows by it.

    Returns the first position on the right (`end` where no split was found), column, threshold, improvement, the
    impurities of both sides, whether the left side has more rows, and how many columns are known to be constant.
    """
    max_features, min_samples_leaf, min_weight_leaf = limits
    state, features, constants = draw
    histogram, spare_rows, spare_packed = scratch
    sum_0, sum_1 = _weigh(total, weights)
    weight = sum_0 + sum_1
    # Rounding of the proxy, relative to its size, in the unit of the gain.
    margin = 1e-14 * weight * weight

    best = (-1.0, -np.inf, -1, -1)
    best_feature = -1
    n_features = len(features)
    remaining = n_features
    n_visited = 0
    n_found = 0
    n_drawn_known = 0
    n_constant = n_known
    current = np.int64(state[0])
    far = end - start <= _FAR_ROWS
    ahead = current
    if far:
        for _ in range(_AHEAD):
            ahead = _step(ahead)
    while remaining > n_constant and (n_visited < max_features or n_visited <= n_found + n_drawn_known):
        n_visited += 1
        if far:
            ahead = _step(ahead)
            choice = remaining - _AHEAD - n_found - n_drawn_known
            if choice > 0:
                # Right unless a constant column comes between, which costs a fetch in vain and nothing else.
                guess = n_drawn_known + (ahead & 0x7FFFFFFF) % choice + n_found
                for i in range(start, end):
                    _prefetch(columns, np.int64(features[guess]), np.int64(rows[i]))
        current = _step(current)
        # A partial Fisher-Yates shuffle; in order, the permutation holds known constant columns (drawn ones first),
        # constant columns found in this node, columns still to be drawn, columns drawn in this node.
        place = n_drawn_known + (current & 0x7FFFFFFF) % (remaining - n_found - n_drawn_known)
        if place < n_known:
            features[n_drawn_known], features[place] = features[place], features[n_drawn_known]
            n_drawn_known += 1
            continue
        place += n_found
        feature = features[place]
        if best[1] == 0.0:
            # Both sides are pure, so nothing is better; what is left of the draw only tells constant columns.
            constant = _constant(columns[feature], rows, start, end)
        else:
            constant, better = _best_threshold(
                columns[feature],
                rows,
                packed,
                start,
                end,
                total,
                weights,
                min_samples_leaf,
                min_weight_leaf,
                best,
                histogram,
                margin,
            )
            if better[1] > best[1]:
                best = better
                best_feature = feature
        if constant:
            features[place], features[n_constant] = features[n_constant], features[place]
            n_found += 1
            n_constant += 1
        else:
            remaining -= 1
            features[remaining], features[place] = features[place], features[remaining]
    state[0] = current
    # Siblings and descendants rely on the order of the columns known to be constant.
    features[:n_known] = constants[:n_known]
    constants[n_known:n_constant] = features[n_known:n_constant]
    if best_feature < 0:
        return end, -1, 0.0, -np.inf, np.inf, np.inf, False, n_constant

    low, high = best[2], best[3]
    column = columns[best_feature]
    position = start
    n_right = 0
    left = np.int64(0)
    for i in range(start, end):
        row = rows[i]
        share = packed[i]
        # Rows keep their order on both sides, so columns are read forwards.
        if column[row] <= low:
            rows[position] = row
            packed[position] = share
            position += 1
            left += share
        else:
            spare_rows[n_right] = row
            spare_packed[n_right] = share
            n_right += 1
    rows[position:end] = spare_rows[:n_right]
    packed[position:end] = spare_packed[:n_right]

    left_0, left_1 = _weigh(left, weights)
    right_0, right_1 = _weigh(total - left, weights)
    left_weight = left_0 + left_1
    right_weight = right_0 + right_1
    impurity_left = _gini(left_0, left_1, left_weight)
    impurity_right = _gini(right_0, right_1, right_weight)
    improvement = (weight / all_weight) * (
        impurity - (right_weight / weight * impurity_right) - (left_weight / weight * impurity_left)
    )
    more_left = position - start > end - position
    return (
        position,
        best_feature,
        low / 2.0 + high / 2.0,
        improvement,
        impurity_left,
        impurity_right,
        more_left,
        n_constant,
    )


@_compiled
def _workspace(n_features, n_rows, seed):
    state = np.array([seed], np.int64)
    features = np.arange(n_features).astype(np.int32)
    constants = np.empty(n_features, np.int32)
    scratch = (np.zeros(256, np.int64), np.empty(n_rows, np.int32), np.empty(n_rows, np.int64))
    return (state, features, constants), scratch


@_compiled
def _sums(packed, start, end, weights):
    total = np.int64(0)
    for i in range(start, end):
        total += packed[i]
    sum_0, sum_1 = _weigh(total, weights)
    return total, sum_0, sum_1


@_compiled
def _write(node, value, impurity, n_rows, sum_0, sum_1):
    """Write what leaves and inner nodes have in common; a node is a leaf until it is split."""
    weight = sum_0 + sum_1
    node.left_child = _LEAF
    node.right_child = _LEAF
    node.feature = _UNDEFINED
    node.threshold = _UNDEFINED
    node.impurity = impurity
    node.n_node_samples = n_rows
    node.weighted_n_node_samples = weight
    value[0, 0] = sum_0 / weight
    value[0, 1] = sum_1 / weight


@_compiled
def grow_depth_first(
    columns, rows, packed, seed, weights, max_depth, min_samples_split, limits, min_impurity_decrease, nodes, values
):
    """Grow a tree until its leaves are pure or a bound is met.

    Parameters
    ----------
    columns
        uint8, shape (columns, rows of the data set), C order, read only.
    rows, packed
        Rows of this tree, int32, in rising order, and their `pack`; both are reordered.
    seed
        State of the generator.
    weights
        Weight of a draw of class 0 and of class 1, float64.
    max_depth, min_samples_split, min_impurity_decrease
        As in scikit-learn, resolved to numbers.
    limits
        Columns to try, fewest rows and least weight of a leaf.
    nodes, values
        Filled: scikit-learn's array of nodes, and float64 of shape (nodes, 1, 2).

    Returns
    -------
    tuple of int
        Number of nodes, depth.
    """
    draw, scratch = _workspace(len(columns), len(rows), seed)
    # Start, end, depth, parent, 1 for a left child, known constant columns; a tree has at most as many open nodes as
    # it is deep, and one more.
    stack = np.empty((len(rows) + 1, 6), np.int64)
    impurities = np.empty(len(rows) + 1, np.float64)
    _, sum_0, sum_1 = _sums(packed, 0, len(rows), weights)
    all_weight = sum_0 + sum_1
    stack[0] = np.array([0, len(rows), 0, _UNDEFINED, 0, 0])
    impurities[0] = _gini(sum_0, sum_1, all_weight)
    n_open, n_nodes, deepest = 1, 0, 0
    while n_open:
        n_open -= 1
        start, end, depth, parent, is_left, n_known = stack[n_open]
        impurity = impurities[n_open]
        total, sum_0, sum_1 = _sums(packed, start, end, weights)
        _write(nodes[n_nodes], values[n_nodes], impurity, end - start, sum_0, sum_1)
        if parent >= 0:
            if is_left:
                nodes[parent].left_child = n_nodes
            else:
                nodes[parent].right_child = n_nodes
        deepest = max(deepest, depth)
        if not (
            depth >= max_depth
            or end - start < min_samples_split
            or end - start < 2 * limits[1]
            or sum_0 + sum_1 < 2 * limits[2]
            or impurity <= _EPSILON
        ):
            position, feature, threshold, improvement, impurity_left, impurity_right, more_left, n_constant = _split(
                columns,
                rows,
                packed,
                start,
                end,
                total,
                weights,
                impurity,
                all_weight,
                limits,
                draw,
                n_known,
                scratch,
            )
            if position < end and improvement + _EPSILON >= min_impurity_decrease:
                nodes[n_nodes].feature = feature
                nodes[n_nodes].threshold = threshold
                nodes[n_nodes].missing_go_to_left = more_left
                for begin, stop, left, child_impurity in (
                    (position, end, 0, impurity_right),
                    (start, position, 1, impurity_left),
                ):
                    stack[n_open, 0] = begin
                    stack[n_open, 1] = stop
                    stack[n_open, 2] = depth + 1
                    stack[n_open, 3] = n_nodes
                    stack[n_open, 4] = left
                    stack[n_open, 5] = n_constant
                    impurities[n_open] = child_impurity
                    n_open += 1
        n_nodes += 1
    return n_nodes, deepest


@_compiled
def _push(heap, size, node, improvement):
    """Add a node to a heap of nodes with the largest improvement first."""
    place = size
    while place > 0:
        above = (place - 1) // 2
        if not improvement[heap[above]] < improvement[node]:
            break
        heap[place] = heap[above]
        place = above
    heap[place] = node


@_compiled
def _pop(heap, size, improvement):
    """Take the first node out of a heap of `size`.

    The gap sinks to the bottom before the last node rises into it, as in libstdc++, which scikit-learn uses: so nodes
    of equal improvement come out in the same order.
    """
    first = heap[0]
    moved = heap[size - 1]
    size -= 1
    gap = 0
    while 2 * gap + 1 < size:
        below = 2 * gap + 2
        if below >= size or improvement[heap[below]] < improvement[heap[below - 1]]:
            below -= 1
        heap[gap] = heap[below]
        gap = below
    while gap > 0:
        above = (gap - 1) // 2
        if not improvement[heap[above]] < improvement[moved]:
            break
        heap[gap] = heap[above]
        gap = above
    heap[gap] = moved
    return first


@_compiled
def grow_best_first(
    columns,
    rows,
    packed,
    seed,
    weights,
    max_depth,
    min_samples_split,
    limits,
    min_impurity_decrease,
    max_leaf_nodes,
    nodes,
    values,
):
    """Grow a tree by always splitting the leaf that gains most, up to `max_leaf_nodes`; see `grow_depth_first`."""
    draw, scratch = _workspace(len(columns), len(rows), seed)
    capacity = len(nodes)
    heap = np.empty(capacity, np.int64)
    # Per node: start, first position on the right, end, depth, column (-1: no split).
    plan = np.empty((capacity, 5), np.int64)
    gains = np.empty((capacity, 3), np.float64)  # improvement, impurity of the left side, of the right
    thresholds = np.empty(capacity, np.float64)
    improvement_of = gains[:, 0]
    _, sum_0, sum_1 = _sums(packed, 0, len(rows), weights)
    all_weight = sum_0 + sum_1
    n_nodes, size, deepest = 0, 0, 0
    parent, splits_left = -1, max_leaf_nodes - 1
    while True:
        for is_right in range(2):
            if parent < 0:
                if is_right:
                    break
                start, end, depth = 0, len(rows), 0
                impurity = _gini(sum_0, sum_1, all_weight)
            else:
                middle, depth = plan[parent, 1], plan[parent, 3] + 1
                start, end = (middle, plan[parent, 2]) if is_right else (plan[parent, 0], middle)
                impurity = gains[parent, 1 + is_right]
                if is_right:
                    nodes[parent].right_child = n_nodes
                else:
                    nodes[parent].left_child = n_nodes
            total, sum_0, sum_1 = _sums(packed, start, end, weights)
            _write(nodes[n_nodes], values[n_nodes], impurity, end - start, sum_0, sum_1)
            plan[n_nodes, 0] = start
            plan[n_nodes, 1] = end
            plan[n_nodes, 2] = end
            plan[n_nodes, 3] = depth
            plan[n_nodes, 4] = -1
            gains[n_nodes, 0] = 0.0
            if not (
                depth >= max_depth
                or end - start < min_samples_split
                or end - start < 2 * limits[1]
                or sum_0 + sum_1 < 2 * limits[2]
                or impurity <= _EPSILON
            ):
                position, feature, threshold, improvement, impurity_left, impurity_right, more_left, _ = _split(
                    columns,
                    rows,
                    packed,
                    start,
                    end,
                    total,
                    weights,
                    impurity,
                    all_weight,
                    limits,
                    draw,
                    0,
                    scratch,
                )
                if position < end and improvement + _EPSILON >= min_impurity_decrease:
                    plan[n_nodes, 1] = position
                    plan[n_nodes, 4] = feature
                    thresholds[n_nodes] = threshold
                    gains[n_nodes, 0] = improvement
                    gains[n_nodes, 1] = impurity_left
                    gains[n_nodes, 2] = impurity_right
                    nodes[n_nodes].missing_go_to_left = more_left
            n_nodes += 1
        for node in range(n_nodes - (1 if parent < 0 else 2), n_nodes):
            _push(heap, size, node, improvement_of)
            size += 1
        parent = -1
        while size:
            node = _pop(heap, size, improvement_of)
            size -= 1
            deepest = max(deepest, plan[node, 3])
            if plan[node, 4] >= 0 and splits_left > 0:
                parent = node
                splits_left -= 1
                nodes[parent].feature = plan[parent, 4]
                nodes[parent].threshold = thresholds[parent]
                break
        if parent < 0:
            return n_nodes, deepest


@_compiled
def accumulate_proba(columns, rows, feature, threshold, left, right, value, total):
    """Add the class shares of each row's leaf to `total`.

    Parameters
    ----------
    columns
        uint8, shape (columns, rows of the data set).
    rows
        Rows to walk, int64.
    feature, threshold, left, right
        Nodes of one tree; a leaf's `left` is -1. Thresholds are whole numbers, int32: a byte is at most 4.5 exactly
        if it is at most 4.
    value
        Class shares of each node, float64, shape (nodes, classes).
    total
        float64, shape (rows, classes).
    """
    for i in range(len(rows)):
        row = rows[i]
        node = 0
        while left[node] != _LEAF:
            node = left[node] if columns[feature[node], row] <= threshold[node] else right[node]
        for k in range(total.shape[1]):
            total[i, k] += value[node, k]
