"""The catalog's videos, each with how it ended under one fingerprint: what status and report count."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog import find_videos
from dfpipe.shards import Tables

__all__ = ["NOT_LOOKED_AT", "PENDING", "failed_videos", "read_ledger"]

PENDING = "pending"
"""Stands for the status of a video that no run has looked at under the fingerprint."""

NOT_LOOKED_AT = (PENDING, "filtered")
"""States of videos of which nothing was tried, so that nothing was lost: no run came to them, or ``extract.filter``
turned them away."""

KEYS = ["video_id", "content_id"]
GROUPS = ["dataset", "label", "manipulation", "compression"]
"""Columns of the catalog by which videos are told apart."""


def read_ledger(
    tables: Tables, fingerprint: str, *, columns: Sequence[str], groups: Sequence[str] = GROUPS
) -> pa.Table:
    """Read one row for every video of the catalog; what the ledger knows of other videos or contents is left out.

    Parameters
    ----------
    tables
        The store.
    fingerprint
        Fingerprint of the faces stage.
    columns
        Columns of the ledger that are wanted beside ``status``.
    groups
        Columns of the catalog that are wanted beside ``video_id``.

    Returns
    -------
    pyarrow.Table
        Sorted by ``video_id``, with the groups, ``status`` and the columns asked for; these are null where the status
        is `PENDING`.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    catalog = tables.read("catalog", columns=[*KEYS, *groups]).sort_by("video_id")
    wanted = list(dict.fromkeys(["status", *columns]))
    stored = tables.read(
        "videos", fingerprint=fingerprint, columns=list(dict.fromkeys([*KEYS, "finished_at", *wanted]))
    )
    video = find_videos(catalog, stored)
    # In stores of before the claims two runs may both have written a row for a video; the later one counts alone.
    order = np.argsort(pc.cast(stored["finished_at"], pa.int64()).to_numpy(), kind="stable")
    row = np.full(catalog.num_rows + 1, -1)
    # Rows of no video go to the place behind the last.
    row[video[order]] = order
    row = row[:-1]
    chosen = pa.array(row, mask=row < 0)
    joined = catalog.drop_columns("content_id")
    # Column by column, so that the rows as they were stored and as they are wanted never stand side by side in whole.
    for name in wanted:
        joined = joined.append_column(name, stored[name].take(chosen))
        stored = stored.drop_columns(name)
    status = pc.fill_null(joined["status"], PENDING)
    return joined.set_column(joined.schema.get_field_index("status"), "status", status)


def failed_videos(ledger: pa.Table) -> pa.Table:
    """Return the rows of the videos that were looked at and gave no face."""
    return ledger.filter(pc.invert(pc.is_in(ledger["status"], value_set=pa.array(["ok", *NOT_LOOKED_AT]))))
