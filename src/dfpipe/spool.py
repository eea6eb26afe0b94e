"""What is not on record in MLflow yet, so that a training or a matrix whose server goes away is not computed again.

A search is by far the longest part of a training. It is kept as soon as it ends, in the state folder: not in the store
or in MLflow, whose refusal is what it is kept for. Fitted models are not kept. Fitting the best candidates once more
costs little beside the search, gives the same models, and the held-out videos are only read when that can be put on
record. The file is Parquet, so that reading one builds no objects, and names no video and no person.

The matrix of a cross-evaluation, which is figures alone, is kept likewise, as JSON.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from itertools import groupby
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dfpipe.errors import ServiceError, StoreError, TooLargeError
from dfpipe.models import Candidate, CandidateResult, FoldResult, SearchResult, Split, TrainingData
from dfpipe.models.cross import CrossCell, CrossMatrix

__all__ = [
    "drop_matrix",
    "drop_search",
    "find_matrix",
    "find_search",
    "keep_matrix",
    "keep_search",
    "kept_file",
    "kept_matrix",
    "telling_of_kept_matrix",
    "telling_of_kept_search",
]

KEPT_DAYS = 30
"""After this many days in which nobody came back for it a search or a matrix is removed."""

SCHEMA = pa.schema(
    [
        ("rank", pa.int32()),
        ("candidate", pa.string()),
        ("round", pa.int32()),
        ("share", pa.float64()),
        ("fold", pa.int32()),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("seconds", pa.float64()),
        ("error", pa.string()),
        ("proba", pa.large_list(pa.float32())),
    ]
)
"""Of one fold of one candidate. Which rows were scored the split says."""

_log = logging.getLogger(__name__)


def kept_file(state: Path, fingerprint: str) -> Path:
    """Return where the search of a training is kept while it waits to be recorded."""
    return state / "searches" / f"{fingerprint}.parquet"


def kept_matrix(state: Path, fingerprint: str) -> Path:
    """Return where the matrix of a cross-evaluation is kept while it waits to be recorded."""
    return state / "crosses" / f"{fingerprint}.json"


def keep_search(state: Path, fingerprint: str, data: TrainingData, split: Split, found: SearchResult) -> None:
    """Keep a search until its training is on record, and remove those that nobody came back for.

    What cannot be written is a warning: the training itself can go on.

    Parameters
    ----------
    state
        Local folder.
    fingerprint
        Of the training.
    data, split
        What was searched on.
    found
        Every candidate.
    """

    def write(part: IO[bytes]) -> None:
        pq.write_table(_as_table(found, _learnt_from(data, split)), part, compression="zstd")

    _keep(kept_file(state, fingerprint), write, "the search")


def find_search(state: Path, fingerprint: str, data: TrainingData, split: Split) -> SearchResult | None:
    """Return the search that was kept for a training; None where there is none of these rows that can be read.

    Parameters
    ----------
    state, fingerprint, data, split
        As of `keep_search`.
    """
    file = kept_file(state, fingerprint)
    try:
        table = pq.read_table(file)
        if not table.schema.equals(SCHEMA):
            raise pa.ArrowInvalid("its columns are others")
        about = table.schema.metadata
        if about[b"learnt_from"].decode() == _learnt_from(data, split):
            found = _as_result(table, about[b"scoring"].decode(), split)
            _keep_longer(file)
            return found
        reason = "it was made of other rows"
    except FileNotFoundError:
        return None
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
    _log.warning("the search kept in %s is not used: %s", file, reason)
    return None


def keep_matrix(state: Path, fingerprint: str, data: TrainingData, split: Split, matrix: CrossMatrix) -> None:
    """Keep the matrix of a cross-evaluation until it is on record, as `keep_search` keeps a search."""
    text = json.dumps({"learnt_from": _learnt_from(data, split), "matrix": asdict(matrix)})
    _keep(kept_matrix(state, fingerprint), lambda part: part.write(text.encode()), "the matrix")


def find_matrix(state: Path, fingerprint: str, data: TrainingData, split: Split) -> CrossMatrix | None:
    """Return the matrix that was kept for a cross-evaluation; None where there is none of these rows."""
    file = kept_matrix(state, fingerprint)
    try:
        kept = json.loads(file.read_bytes())
        if kept["learnt_from"] == _learnt_from(data, split):
            matrix = _as_matrix(kept["matrix"])
            _keep_longer(file)
            return matrix
        reason = "it was made of other rows"
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
    _log.warning("the matrix kept in %s is not used: %s", file, reason)
    return None


def drop_matrix(state: Path, fingerprint: str) -> None:
    """Remove a matrix that is on record."""
    _drop(kept_matrix(state, fingerprint))


def drop_search(state: Path, fingerprint: str) -> None:
    """Remove the search of a training that is on record; one that cannot be removed harms nobody."""
    _drop(kept_file(state, fingerprint))


@contextmanager
def telling_of_kept_search(state: Path, fingerprint: str) -> Iterator[None]:
    """Add to an error inside the block that the search is not lost: of a server, a store, or for want of memory."""
    with _telling(kept_file(state, fingerprint), "the search", "next `dfpipe run` records it without searching again"):
        yield


@contextmanager
def telling_of_kept_matrix(state: Path, fingerprint: str) -> Iterator[None]:
    """Add to an error of a server or a store inside the block that the matrix is not lost."""
    with _telling(kept_matrix(state, fingerprint), "the matrix", "same command records it without computing it again"):
        yield


@contextmanager
def _telling(file: Path, what: str, then: str) -> Iterator[None]:
    try:
        yield
    except (ServiceError, StoreError, TooLargeError) as error:
        if not file.exists():
            raise
        raise type(error)(f"{error}; {what} is kept in {file}: mend this, and the {then}") from error


def _keep(file: Path, write: Callable[[IO[bytes]], object], what: str) -> None:
    """Write a file whole, and remove those beside it that nobody came back for; what cannot be written is a warning."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        for old in file.parent.iterdir():
            # Another process may do the same, or have just recorded what it kept.
            with suppress(OSError):
                if old.stat().st_mtime < time.time() - KEPT_DAYS * 86_400:
                    old.unlink()
        # Readable by its owner only; a process that is killed leaves no half of a file under the name.
        with NamedTemporaryFile(dir=file.parent, prefix=f"{file.stem}.", suffix=".part", delete=False) as part:
            try:
                write(part)
                part.flush()
                os.fsync(part.fileno())
                Path(part.name).replace(file)
            except BaseException:
                Path(part.name).unlink(missing_ok=True)
                raise
    except (OSError, pa.ArrowException, ValueError) as error:
        _log.warning(
            "%s cannot be kept in %s (%s): should MLflow go away now, it is computed again",
            what,
            file,
            (error.strerror if isinstance(error, OSError) else None) or error,
        )


def _keep_longer(file: Path) -> None:
    """Count the days anew: somebody came back for it."""
    with suppress(OSError):
        os.utime(file)


def _drop(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        _log.warning("cannot remove %s: %s", file, error.strerror)


def _learnt_from(data: TrainingData, split: Split) -> str:
    """Hash which rows stand for what and on which side, without the features, which the fingerprint answers for."""
    hashed = hashlib.sha256(json.dumps([*data.video_ids, len(split.folds)]).encode())
    arrays: list[NDArray[Any]] = [data.y, data.video, data.groups, split.train_rows, split.test_rows]
    arrays += [side for fold in split.folds for side in fold]
    for array in arrays:
        hashed.update(f"{array.dtype} {len(array)}".encode())
        hashed.update(np.ascontiguousarray(array).data)
    return hashed.hexdigest()


def _as_table(found: SearchResult, learnt_from: str) -> pa.Table:
    rows: list[dict[str, Any]] = [
        {
            "rank": rank,
            "candidate": json.dumps(asdict(result.candidate)),
            "round": result.round,
            "share": result.share,
            "fold": fold.fold,
            "metrics": list(fold.metrics.items()),
            "seconds": fold.seconds,
            "error": fold.error,
            "proba": fold.proba,
        }
        for rank, result in enumerate(found.ranking)
        for fold in result.folds
    ]
    columns = [pa.array([row[field.name] for row in rows], field.type) for field in SCHEMA]
    return pa.table(columns, SCHEMA.with_metadata({"learnt_from": learnt_from, "scoring": found.scoring}))


def _as_result(table: pa.Table, scoring: str, split: Split) -> SearchResult:
    rows = table.drop_columns("proba").to_pylist()
    for row, proba in zip(rows, table["proba"], strict=True):
        # Never as a list of Python's floats: there may be a hundred million.
        row["proba"] = proba.values.to_numpy()
    return SearchResult(
        tuple(_candidate_result(list(of_one), split) for _, of_one in groupby(rows, key=lambda row: row["rank"])),
        scoring,
    )


def _candidate_result(rows: list[dict[str, Any]], split: Split) -> CandidateResult:
    first = rows[0]
    candidate = _as_candidate(json.loads(first["candidate"]))
    return CandidateResult(
        candidate, tuple(_fold_result(candidate, row, split) for row in rows), first["round"], first["share"]
    )


def _as_candidate(written: dict[str, Any]) -> Candidate:
    return Candidate(**written | {"params": tuple((name, value) for name, value in written["params"])})


def _as_matrix(written: dict[str, Any]) -> CrossMatrix:
    return CrossMatrix(
        **written
        | {
            "kinds": tuple(written["kinds"]),
            "candidate": _as_candidate(written["candidate"]),
            "cells": tuple(CrossCell(**cell) for cell in written["cells"]),
        }
    )


def _fold_result(candidate: Candidate, row: dict[str, Any], split: Split) -> FoldResult:
    result = FoldResult(candidate, row["fold"], dict(row["metrics"]), row["seconds"], row["error"])
    if result.error is not None:
        return result
    valid_rows = split.folds[result.fold][1]
    if len(valid_rows) != len(row["proba"]):
        raise ValueError(f"fold {result.fold} has {len(row['proba'])} probabilities, expected {len(valid_rows)}")
    return FoldResult(candidate, result.fold, result.metrics, result.seconds, None, rows=valid_rows, proba=row["proba"])
