"""A challenger and the champion on the same videos, of people that neither of them has learned from.

The champion's scores are those that its own run recorded where it was judged on all of these videos with the same
bytes. Otherwise it is shown the feature rows that the store has for it, made as its training data were.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog import Video, to_videos
from dfpipe.dataset import load_training_data
from dfpipe.errors import ModelNotFoundError, StoreError, TrainingDataError
from dfpipe.models import identity_groups, predict_proba, video_scores
from dfpipe.models.data import REAL_AND_FAKE
from dfpipe.models.gate import Verdict, decide
from dfpipe.plan import feature_fingerprint
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.shards.schemas import SCHEMAS
from dfpipe.tracking import HeldOut, Tracking, load_champion, read_held_out

__all__ = ["judge"]


def judge(settings: Settings, tracking: Tracking, tables: Tables, challenger: HeldOut, champion: str | None) -> Verdict:
    """Ask the gate about a challenger, with both models' scores of videos in which neither has learned from anybody.

    Parameters
    ----------
    settings
        Rules and names.
    tracking
        Open connection.
    tables
        The store, as it is now.
    challenger
        What its run recorded.
    champion
        Version of the champion; None where there is none.

    Returns
    -------
    Verdict
        With a hindrance where the champion, or the rows that it would need, are not there any more.

    Raises
    ------
    StoreError, ServiceError
        The catalog or MLflow cannot be read.
    """
    now = _read_known(tables, challenger) if champion is not None else _Known({}, exact=False)
    rival, before, scores, hindrance = None, _Known({}, exact=False), {}, ""
    groups, clean = _unseen([(challenger, now)])
    try:
        if champion is not None:
            rival = read_held_out(tracking, champion, store=tables.url)
            before = _read_known(tables, rival)
            groups, clean = _unseen([(challenger, now), (rival, before)])
            scores = _champion_scores(settings, tracking, tables, (rival, before), (challenger, now), clean)
    except (ModelNotFoundError, StoreError, TrainingDataError) as error:
        # The champion is gone, or its rows are. It is for people to say what is to become of it.
        hindrance = str(error)
    learnt = {groups[video] for video in challenger.learnt}
    held_out = [video for video in challenger.scores if groups[video] not in learnt]
    return decide(
        np.array([REAL_AND_FAKE.index(challenger.labels[video]) for video in held_out], np.int8),
        np.array([challenger.scores[video] for video in held_out]),
        np.array([groups[video] for video in held_out], np.int64),
        settings.gate,
        champion=np.array([scores.get(video, np.nan) for video in held_out]) if rival is not None else None,
        hindrance=hindrance,
    )


@dataclass(frozen=True, slots=True)
class _Known:
    """What the catalog says of the videos of a split."""

    videos: Mapping[str, Video]
    """By video_id."""
    exact: bool
    """Whether it is the catalog that the training read, or today's, as nobody can read that one any more."""


def _read_known(tables: Tables, side: HeldOut) -> _Known:
    names = pa.array([video for video, _ in side.groups], pa.string())
    exact = True
    try:
        rows = tables.at({"catalog": side.versions["catalog"]}).read("catalog")
    except StoreError:
        # After `dfpipe forget`, for one. People and bytes of today tell enough: groups come from the split as well.
        rows, exact = tables.read("catalog"), False
    rows = rows.filter(pc.is_in(rows["video_id"], value_set=names))
    return _Known({video.video_id: video for video in to_videos(rows)}, exact)


def _unseen(sides: Sequence[tuple[HeldOut, _Known]]) -> tuple[dict[str, int], list[str]]:
    """Group the videos of all splits, and find those held-out ones of the first from which no side has learned.

    Each training has groups of its own; they are joined where they share a video, a person, or the same bytes.
    """
    names: list[str] = []
    together: list[tuple[str, ...]] = []
    for number, (side, known) in enumerate(sides):
        for video, group in side.groups:
            row = known.videos.get(video)
            people = () if row is None else (*row.identities, row.content_id)
            names.append(video)
            together.append((f"video {video}", f"group {group} of split {number}", *people))
    groups = dict(zip(names, identity_groups(together).tolist(), strict=True))
    learnt = {groups[video] for side, _ in sides for video in side.learnt}
    return groups, [video for video in sides[0][0].scores if groups[video] not in learnt]


def _champion_scores(
    settings: Settings,
    tracking: Tracking,
    tables: Tables,
    champion: tuple[HeldOut, _Known],
    challenger: tuple[HeldOut, _Known],
    videos: Sequence[str],
) -> dict[str, float]:
    """Return the champion's scores of videos: those on record where they cover all, else made now."""
    (held_out, before), (_, now) = champion, challenger
    # Of those that today's catalog has no more, nobody can tell which bytes they had.
    videos = [video for video in videos if video in now.videos]
    same_bytes = [
        video in before.videos and before.videos[video].content_id == now.videos[video].content_id for video in videos
    ]
    if before.exact and now.exact and all(same_bytes) and held_out.scores.keys() >= set(videos):
        return {video: held_out.scores[video] for video in videos}
    bundle = load_champion(tracking, name=settings.mlflow.registered_model, alias_or_version=held_out.version)
    made = bundle.preprocessing
    fingerprints = tuple(feature_fingerprint(feature, made.faces_fingerprint) for feature in made.features)
    wanted = pa.Table.from_pylist([asdict(now.videos[video]) for video in sorted(videos)], schema=SCHEMAS["catalog"])
    _, data = load_training_data(
        wanted, tables, made.features, faces_fingerprint=made.faces_fingerprint, rows=made.rows
    )
    proba = predict_proba(bundle, data.X, feature_fingerprints=fingerprints)
    probabilities = bundle.rule.apply(video_scores(proba, data.video, len(data.video_ids)))
    return dict(zip(data.video_ids, probabilities.tolist(), strict=True))
