"""Rows of other tables brought together with the catalog's."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

__all__ = ["find_videos"]


def find_videos(catalog: pa.Table, rows: pa.Table) -> NDArray[np.int64]:
    """Tell of which row of the catalog each row of another table speaks: that of the same video with the same content.

    Parameters
    ----------
    catalog, rows
        Tables with ``video_id`` and ``content_id``; in the catalog each video stands once.

    Returns
    -------
    ndarray of int64, shape (rows,)
        Indices into the catalog, -1 where it has no such video or another content of it.

    Examples
    --------
    >>> catalog = pa.table({"video_id": ["a", "b"], "content_id": ["1", "2"]})
    >>> rows = pa.table({"video_id": ["b", "a", "b", "c"], "content_id": ["2", "0", "2", "1"]})
    >>> find_videos(catalog, rows)
    array([ 1, -1,  1, -1])
    """
    found = pc.index_in(rows["video_id"], value_set=catalog["video_id"])
    same = pc.equal(catalog["content_id"].take(found), rows["content_id"])
    index: NDArray[np.int64] = pc.if_else(pc.fill_null(same, False), pc.cast(found, pa.int64()), -1).to_numpy()
    return index
