"""Rows one by one into an Arrow table, so that never more than a batch of them are Python objects."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

__all__ = ["BATCH_ROWS", "as_table", "each"]

BATCH_ROWS = 16_384


def as_table(rows: Iterable[tuple[Any, ...]], schema: pa.Schema) -> pa.Table:
    """Gather rows, given as tuples in the order of the schema, into a table."""
    source, batches = iter(rows), []
    while batch := list(islice(source, BATCH_ROWS)):
        columns = (pa.array(values, kind) for values, kind in zip(zip(*batch, strict=True), schema.types, strict=True))
        batches.append(pa.record_batch(list(columns), schema=schema))
    return pa.Table.from_batches(batches, schema)


def each(column: pa.ChunkedArray) -> Iterator[Any]:
    """Yield the values of a column as Python objects, of which a batch live at a time."""
    for start in range(0, len(column), BATCH_ROWS):
        yield from column.slice(start, BATCH_ROWS).to_pylist()
