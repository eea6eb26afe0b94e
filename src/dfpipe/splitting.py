"""Dividing the videos of a training by the protocol that the settings name; docs/splits.md is the user's side of it.

The catalog has read the data sets' official lists; nothing is read here.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

import numpy as np

from dfpipe.catalog import Split as Side
from dfpipe.catalog import Video
from dfpipe.errors import TrainingDataError
from dfpipe.models.data import TrainingData
from dfpipe.models.splits import Split, Videos, check_disjoint, grouped_folds, on_two_sides, random_rows, split_groups
from dfpipe.settings import SplitSettings

__all__ = ["official_sides", "split_by_identity", "split_videos"]

_log = logging.getLogger(__name__)

_EXPECTED = {
    "ffpp": "train.json, val.json and test.json, there or in its folder splits/",
    "celebdf": "List_of_testing_videos.txt",
    "dfdc": "numbers of its folders dfdc_train_part_N in train.split.dfdc_test_parts, or videos in a folder test",
}
"""What says how a data set is divided, by data set."""

_DFDC_PART = re.compile(r"dfdc_train_part_0*(\d+)")
_DFDC_FOLDERS: dict[str, Side] = {
    **dict.fromkeys(("test", "test_videos", "dfdc_test"), "test"),
    **dict.fromkeys(("val", "validation", "validation_videos", "dfdc_validation"), "val"),
}


def split_videos(
    videos: Sequence[Video], data: TrainingData, settings: SplitSettings, *, lists: str | None = None
) -> Split:
    """Divide the videos, and refuse a division that lets a model meet in the test what it has seen in training.

    Parameters
    ----------
    videos
        What the catalog says of each video of the data, in its order.
    data
        Their rows.
    settings
        By which protocol.
    lists
        Where official lists were looked for; for messages.

    Raises
    ------
    TrainingDataError
        One class only; fewer groups than the division takes; a data set without official split; a video, content,
        person or group on two sides.
    """
    if settings.protocol == "seed":
        train, test, folds = random_rows(
            data.y, test_fraction=settings.held_out, folds=settings.folds, seed=settings.seed
        )
        both = _on_two_sides(videos, data, np.unique(data.video[train]), np.unique(data.video[test]))
        split = Split(
            train, test, tuple(folds), protocol="seed", shared={what: len(some) for what, some in both.items()}
        )
    elif settings.protocol == "official":
        split = _split_officially(videos, data, settings, lists or "the source")
    else:
        split = split_by_identity(videos, data, settings)
    for reason, number in Counter(split.left_out.values()).items():
        _log.warning("%d of %d videos are left out of the training: %s", number, len(videos), reason)
    if split.leaky:
        _log.warning("this training is leaky (%s): its figures on the test are too good", _in_words(split.shared))
    return split


def split_by_identity(videos: Sequence[Video], data: TrainingData, settings: SplitSettings) -> Split:
    """Divide the videos along groups of people, each class and method near its share, whatever protocol is set.

    Raises
    ------
    TrainingDataError
        One class only, or fewer groups than the division takes.
    """
    labels, strata = data.video_labels, _strata(videos)
    _warn_of_chains(data, settings)
    with _face_duplicates_named(data):
        train, test = split_groups(
            data.groups, labels, test_fraction=settings.held_out, seed=settings.seed, strata=strata
        )
    folds = _folds_inside(videos, data, settings, train)
    _check(videos, data, train, test)
    return _as_rows(data, train, test, folds)


def official_sides(videos: Sequence[Video], settings: SplitSettings, *, lists: str) -> list[Side | None]:
    """Return the side of each video by its own data set's rule; None for one that no list names.

    FaceForensics++, Celeb-DF and tables of one's own have their sides in the catalog. Of DFDC the folder decides: a
    part that the settings name, or one called test or validation; all other parts are for training.

    Parameters
    ----------
    videos
        Of one or several data sets.
    settings
        The parts of DFDC.
    lists
        Where lists were looked for; for messages.

    Raises
    ------
    TrainingDataError
        A data set without training or test videos, which is one without official lists.
    """
    sides = [_dfdc_side(video, settings) if video.dataset == "dfdc" else video.split for video in videos]
    for dataset in sorted({video.dataset for video in videos}):
        there = {side for side, video in zip(sides, videos, strict=True) if video.dataset == dataset}
        for side, name in (("train", "training"), ("test", "test")):
            if side not in there:
                expected = _EXPECTED.get(dataset, "a column split with train, val and test in metadata.csv")
                raise TrainingDataError(
                    f"data set {dataset} has no official {name} videos; looked in {lists}, expected {expected}; put it "
                    "there, name its folder in official_lists, or set train.split.protocol to identity"
                )
    return sides


def _dfdc_side(video: Video, settings: SplitSettings) -> Side | None:
    folder = PurePosixPath(video.url).parent.name
    part = _DFDC_PART.fullmatch(folder)
    if part is not None and int(part[1]) in settings.dfdc_test_parts:
        return "test"
    if part is not None and int(part[1]) in settings.dfdc_val_parts:
        return "val"
    if folder in _DFDC_FOLDERS:
        return _DFDC_FOLDERS[folder]
    return video.split or ("train" if part is not None else None)


def _split_officially(videos: Sequence[Video], data: TrainingData, settings: SplitSettings, lists: str) -> Split:
    sides = official_sides(videos, settings, lists=lists)
    names = np.array([side or "" for side in sides])
    with_val = {video.dataset for video, side in zip(videos, sides, strict=True) if side == "val"}
    has_val = with_val == {video.dataset for video in videos}
    if not has_val:
        # One data set's validation videos cannot choose a model for all of them: they are learned from.
        names[names == "val"] = "train"
    train, val, test = (np.flatnonzero(names == side) for side in ("train", "val", "test"))
    for side, members in (("training", train), ("test", test), *([("validation", val)] if has_val else [])):
        _check_classes(data, members, side)
    shared: Counter[str] = Counter()
    for left, right in (train, test), (train, val), (val, test):
        if settings.official_leaks == "refuse":
            advice = (
                "set train.split.official_leaks to mark to train all the same, marked as leaky, or "
                "train.split.protocol to identity"
            )
            _check(videos, data, left, right, advice=advice)
        shared.update({what: len(some) for what, some in _on_two_sides(videos, data, left, right).items()})
    folds = [(train, val)] if has_val else _folds_inside(videos, data, settings, train)
    left_out = {int(video): "in no official list" for video in np.flatnonzero(names == "")}
    split = _as_rows(data, train, test, folds)
    return Split(
        split.train_rows, split.test_rows, split.folds, protocol="official", left_out=left_out, shared=dict(shared)
    )


def _folds_inside(
    videos: Sequence[Video], data: TrainingData, settings: SplitSettings, train: Videos
) -> list[tuple[Videos, Videos]]:
    with _face_duplicates_named(data):
        folds = grouped_folds(
            data.groups,
            data.video_labels,
            folds=settings.folds,
            seed=settings.seed,
            videos=train,
            strata=_strata(videos),
        )
    for learnt, valid in folds:
        _check(videos, data, learnt, valid)
    return folds


def _check(
    videos: Sequence[Video], data: TrainingData, left: Videos, right: Videos, advice: str = "split by identity groups"
) -> None:
    check_disjoint(
        left,
        right,
        groups=data.groups,
        identities=[video.identities for video in videos],
        contents=[video.content_id for video in videos],
        face_pairs=None if data.face_joins is None else data.face_joins.pairs,
        video_ids=data.video_ids,
        advice=advice,
    )


def _check_classes(data: TrainingData, members: Videos, side: str) -> None:
    real, fake = np.bincount(data.video_labels[members], minlength=2)
    if not (real and fake):
        raise TrainingDataError(
            f"the official split has {real} real and {fake} fake videos for {side}, expected both classes; add the "
            "missing videos, or set train.split.protocol to identity"
        )


def _on_two_sides(videos: Sequence[Video], data: TrainingData, left: Videos, right: Videos) -> dict[str, list[str]]:
    return on_two_sides(
        left,
        right,
        groups=data.groups,
        identities=[video.identities for video in videos],
        contents=[video.content_id for video in videos],
        face_pairs=None if data.face_joins is None else data.face_joins.pairs,
    )


@contextmanager
def _face_duplicates_named(data: TrainingData) -> Iterator[None]:
    """Say of groups that cannot be divided how many there were before faces joined them."""
    try:
        yield
    except TrainingDataError as error:
        if data.face_joins is None or not len(data.face_joins.pairs):
            raise
        before, now = (len(np.unique(groups)) for groups in (data.face_joins.people, data.groups))
        largest = np.bincount(data.groups).max()
        raise TrainingDataError(
            f"{error}; face duplicates made {now} groups of {before}, the largest of {largest} of {len(data.groups)} "
            "videos: if these are no copies, lower train.split.face_duplicates.max_distance or set "
            "train.split.face_duplicates to null"
        ) from error


def _warn_of_chains(data: TrainingData, settings: SplitSettings) -> None:
    """Warn where faces chained so many videos to one group that it is larger than a side or a fold should be."""
    if data.face_joins is None or not len(data.face_joins.pairs):
        return
    joined = np.unique(data.groups[data.face_joins.pairs])
    largest = int(np.bincount(data.groups)[joined].max())
    share = min(settings.held_out, (1 - settings.held_out) / settings.folds)
    if largest > share * len(data.groups):
        _log.warning(
            "face duplicates joined %d of %d videos to one group, more than a side or a fold should have (%.0f %%); if "
            "these are no copies, lower train.split.face_duplicates.max_distance",
            largest,
            len(data.groups),
            100 * share,
        )


def _strata(videos: Sequence[Video]) -> list[str]:
    return [f"{video.dataset}/{video.manipulation}" for video in videos]


def _as_rows(data: TrainingData, train: Videos, test: Videos, folds: Sequence[tuple[Videos, Videos]]) -> Split:
    return Split(
        train_rows=data.rows_of(train),
        test_rows=data.rows_of(test),
        folds=tuple((data.rows_of(learnt), data.rows_of(valid)) for learnt, valid in folds),
    )


def _in_words(shared: Mapping[str, int]) -> str:
    counts = ", ".join(f"{what} {number}" for what, number in shared.items())
    return f"on two sides: {counts}" if counts else "rows at random"
