"""Who must not come back: a list of keyed hashes in the store, so that the list itself names nobody.

Without the key, which stands beside the list, a hash could be had of every name that one can think of; with it, only
by those who can read the store.
"""

import json
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dfpipe.shards import Tables
from dfpipe.storage import Location, open_location, storage_errors

__all__ = ["Forgotten", "Kind", "leave_out_forgotten", "load_forgotten", "remember_forgotten"]

_log = logging.getLogger(__name__)

Kind = Literal["video", "content", "identity"]
"""What a mark is of: a video_id, a content_id, or a person."""

COLUMNS: dict[str, Kind] = {"video_id": "video", "content_id": "content", "target": "identity", "source": "identity"}
"""What the columns of tables hold."""

KEY_BYTES = 32
MARK_BYTES = 16


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The marks of everything that was forgotten."""

    key: bytes
    """Key of the hashes."""
    marks: frozenset[str]
    """Hashes, in hex."""

    def mark(self, kind: Kind, value: str) -> str:
        """Return the mark that a video, content or person has."""
        return blake2b(value.encode(), digest_size=MARK_BYTES, key=self.key, person=kind.encode()).hexdigest()

    def has(self, kind: Kind, value: str | None) -> bool:
        """Say whether a video, content or person was forgotten."""
        return bool(self.marks) and value is not None and self.mark(kind, value) in self.marks

    def within(self, rows: pa.Table) -> pa.BooleanArray:
        """Say of each row whether its video, its content or a person in it was forgotten.

        Parameters
        ----------
        rows
            Rows of any table; only the columns named in `COLUMNS` are looked at.
        """
        found = np.zeros(rows.num_rows, bool)
        for column, kind in COLUMNS.items() if self.marks else ():
            if column in rows.column_names:
                found |= self._among(kind, rows[column])
        return pa.array(found)

    def _among(self, kind: Kind, values: pa.ChunkedArray) -> NDArray[np.bool_]:
        # People and videos stand in many rows; each is hashed once.
        different = values.unique()
        marked = pa.array([value for value in different.to_pylist() if self.has(kind, value)], pa.string())
        among: NDArray[np.bool_] = pc.is_in(values, value_set=marked).to_numpy()
        return among

    def extended(self, values: Iterable[tuple[Kind, str]]) -> "Forgotten":
        """Return the same with further marks; nothing is written."""
        key = self.key or secrets.token_bytes(KEY_BYTES)
        with_key = Forgotten(key, self.marks)
        return Forgotten(key, self.marks | {with_key.mark(kind, value) for kind, value in values})


def load_forgotten(tables: Tables) -> Forgotten:
    """Read the list of a store; it is empty where nothing was ever forgotten.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    folder = _folder(tables)
    with storage_errors("read", folder.url):
        paths = folder.fs.find(folder.path)
        contents = folder.fs.cat(paths) if paths else {}
    named = {path.rpartition("/")[2]: content for path, content in contents.items()}
    key = named.pop("key", b"")
    lists = (json.loads(content) for name, content in named.items() if name.endswith(".json"))
    return Forgotten(key, frozenset(mark for one in lists for mark in one))


def remember_forgotten(tables: Tables, values: Iterable[tuple[Kind, str]], *, receipt_id: str) -> Forgotten:
    """Add to the list of a store, and return all of it.

    Parameters
    ----------
    tables
        The store.
    values
        What is forgotten, each with its kind.
    receipt_id
        Name of the list's new part: parts are only ever added, so that two who forget at once lose nothing.

    Raises
    ------
    StoreError
        The store cannot be read or written.
    """
    folder = _folder(tables)
    # Of two who make a key at once, the first one's counts.
    folder.child("key").create_bytes(secrets.token_bytes(KEY_BYTES))
    known = load_forgotten(tables)
    extended = known.extended(values)
    if new := sorted(extended.marks - known.marks):
        folder.child(f"{receipt_id}.json").write_bytes(json.dumps(new).encode())
    return extended


def leave_out_forgotten(tables: Tables, catalog: pa.Table) -> pa.Table:
    """Return the rows of a catalog without those of forgotten videos, contents and people.

    A source that still has a forgotten file would otherwise bring it back with the next run.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    forgotten = load_forgotten(tables)
    if not forgotten.marks:
        return catalog
    hidden = forgotten.within(catalog)
    if hidden.true_count:
        _log.info("%d videos of the source are left out, as they were forgotten", hidden.true_count)
    return catalog.filter(pc.invert(hidden))


def _folder(tables: Tables) -> Location:
    return open_location(tables.url, tables.s3).child("forgotten")
