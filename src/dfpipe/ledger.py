"""The catalog's videos, each with how it ended under one fingerprint: what status and report count."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.shards import Tables

__all__ = ["NOT_LOOKED_AT", "PENDING", "failed_videos", "read_ledger"]

PENDING = "pending"
"""Stands for the status of a video that no run has looked at under the fingerprint."""

NOT_LOOKED_AT = (PENDING, "filtered")
"""States of videos of which nothing was tried, so that nothing was lost: no run came to them, or ``extract.filter``
turned them away."""

KEYS = ["video_id", "content_id"]
CATALOG_COLUMNS = ["dataset", "label", "manipulation", "compression"]


def read_ledger(tables: Tables, fingerprint: str, *, columns: Sequence[str]) -> pa.Table:
    """Read one row for every video of the catalog; what the ledger knows of other videos or contents is left out.

    Parameters
    ----------
    tables
        The store.
    fingerprint
        Fingerprint of the faces stage.
    columns
        Columns of the ledger that are wanted beside ``status``.

    Returns
    -------
    pyarrow.Table
        Sorted by ``video_id``, with data set, label, manipulation, compression, ``status`` and the columns asked for;
        these are null where the status is `PENDING`.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    wanted = ["status", *columns]
    stored = tables.read(
        "videos", fingerprint=fingerprint, columns=list(dict.fromkeys([*KEYS, "finished_at", *wanted]))
    )
    # Two runs at the same time may both have written a row for a video; the later one is as good and counts alone.
    stored = stored.sort_by("finished_at").append_column("row", pa.array(range(stored.num_rows), pa.int64()))
    last = stored.select([*KEYS, "row"]).group_by(KEYS, use_threads=False).aggregate([("row", "max")])
    stored = stored.take(last["row_max"]).select([*KEYS, *wanted])
    catalog = tables.read("catalog", columns=[*KEYS, *CATALOG_COLUMNS])
    joined = catalog.join(stored, keys=KEYS, join_type="left outer", use_threads=False).sort_by("video_id")
    status = pc.fill_null(joined["status"], PENDING)
    return joined.set_column(joined.schema.get_field_index("status"), "status", status)


def failed_videos(ledger: pa.Table) -> pa.Table:
    """Return the rows of the videos that were looked at and gave no face."""
    return ledger.filter(pc.invert(pc.is_in(ledger["status"], value_set=pa.array(["ok", *NOT_LOOKED_AT]))))
