"""A split as text: what is kept of it beside a training, and what its hash is taken of."""

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.models.data import FaceJoins, TrainingData
from dfpipe.models.splits import Rows, Split
from dfpipe.settings import SplitSettings

__all__ = ["split_record"]


def split_record(data: TrainingData, split: Split, settings: SplitSettings) -> str:
    """Return who stands where, as indented JSON; equal splits of equal data give equal text on every machine.

    Parameters
    ----------
    data
        All rows.
    split
        Which rows stand on which side.
    settings
        How they were divided.

    Returns
    -------
    str
        ``train``, ``val`` (validation videos of an official split), ``test`` and ``left_out`` hold every video with its
        group of people, and the number of the fold that it is validated in or the reason why it is left out. By the
        protocol seed a video stands on several sides; ``rows_sha256`` then has the hash of the rows of each. Where
        faces were compared, ``face_duplicates`` counts what they joined, by group, and ``looks_like`` of a video names
        the videos of other people that show the same pictures.
    """
    folds = [valid for _, valid in split.folds]
    own_validation = split.protocol == "official" and not np.isin(folds[0], split.train_rows).any()
    sides: dict[str, dict[str, Any]] = {
        "train": _videos(data, split.train_rows),
        "val": _videos(data, folds[0]) if own_validation else {},
        "test": _videos(data, split.test_rows),
        "left_out": {
            data.video_ids[video]: {"group": int(data.groups[video]), "reason": reason}
            for video, reason in split.left_out.items()
        },
    }
    record: dict[str, Any] = {
        "protocol": split.protocol,
        "settings": settings.model_dump(mode="json"),
        "leaky": split.leaky,
        "on_two_sides": dict(split.shared),
        **sides,
    }
    if data.face_joins is not None:
        record["face_duplicates"] = _joins(data.groups, data.face_joins)
    if split.protocol == "seed":
        record["rows_sha256"] = {
            "train": _sha256(split.train_rows),
            "test": _sha256(split.test_rows),
            "folds": [_sha256(valid) for valid in folds],
        }
    else:
        for number, valid in enumerate(folds):
            for video in np.unique(data.video[valid]):
                name = data.video_ids[video]
                sides["val" if own_validation else "train"][name]["fold"] = number
    return json.dumps(record, indent=1, sort_keys=True) + "\n"


def _videos(data: TrainingData, rows: Rows) -> dict[str, Any]:
    videos, counts = np.unique(data.video[rows], return_counts=True)
    told: dict[str, Any] = {
        data.video_ids[video]: {"group": int(data.groups[video]), "faces": int(count)}
        for video, count in zip(videos, counts, strict=True)
    }
    pairs = [] if data.face_joins is None else data.face_joins.pairs.tolist()
    for one, other in [*pairs, *(pair[::-1] for pair in pairs)]:
        if data.video_ids[one] in told:
            told[data.video_ids[one]].setdefault("looks_like", []).append(data.video_ids[other])
    for video in told.values():
        if "looks_like" in video:
            video["looks_like"].sort()
    return told


def _joins(groups: NDArray[np.int32], joins: FaceJoins) -> dict[str, Any]:
    """Count what faces joined; nobody is named."""
    parts = np.unique(np.stack([groups, joins.people]), axis=1)
    counts = {
        "groups_of_people": np.bincount(parts[0]),
        "videos": np.bincount(groups),
        "pairs": np.bincount(groups[joins.pairs[:, 0]], minlength=len(np.bincount(groups))),
    }
    joined = np.flatnonzero(counts["pairs"]).tolist()
    return {
        "pairs": len(joins.pairs),
        "groups_of_people": parts.shape[1],
        "groups": len(np.unique(groups)),
        "joined": {str(group): {what: int(of[group]) for what, of in counts.items()} for group in joined},
    }


def _sha256(rows: Rows) -> str:
    # Of the same bytes whatever the machine's integers are.
    return hashlib.sha256(rows.astype("<i8").tobytes()).hexdigest()
