"""What was lost on the way from videos to faces, in which group, and whether that is more than is allowed."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import LossError
from dfpipe.ledger import NOT_LOOKED_AT
from dfpipe.report.shares import Difference, Share, difference, share_of_frames, share_of_videos
from dfpipe.settings import LossSettings

__all__ = ["GroupLosses", "Losses", "check_losses", "count_losses", "percent"]

GROUPINGS = ("label", "manipulation", "compression", "dataset")
"""Columns of the catalog by which losses are compared."""


@dataclass(frozen=True, slots=True)
class GroupLosses:
    """What a group of videos lost."""

    grouping: str
    """Column of the catalog by which the group is told, empty for all videos."""
    group: str
    """Value in that column."""
    videos: Share
    """Videos looked at that ended without a face."""
    frames_without_face: Share
    """Wanted frames in which no face was found, or that could not be decoded: what detection lost."""
    frames_lost: Share
    """Wanted frames of which no face was kept: that, and what the bounds on quality turned away."""


@dataclass(frozen=True, slots=True)
class Losses:
    """What preprocessing lost under the present settings, over the whole catalog."""

    overall: GroupLosses
    """All videos looked at."""
    groups: tuple[GroupLosses, ...]
    """The same by label, and by every other column that tells videos apart."""
    video_gap: Difference | None
    """Share of real videos that ended without a face less that of fake ones; None where one of the two is missing."""
    frame_gap: Difference | None
    """Share of frames lost of real videos less that of fake ones. It knows nothing of videos that want no frames, such
    as those that cannot be opened; None where one of the two is missing."""

    def sentences(self) -> tuple[str, str]:
        """Say how real and fake differ: a sentence on videos, one on frames."""
        return (
            _compare(
                self.video_gap,
                self._videos_by_label(),
                "{real} of the real videos and {fake} of the fake ones end without a face",
                "Videos lost cannot be compared: only real or only fake ones were looked at, or none.",
            ),
            _compare(
                self.frame_gap,
                self._frames_by_label(),
                "Real videos lose {real} of their wanted frames and fake ones {fake}",
                "Frames lost cannot be compared: frames were wanted of only real or only fake videos, or of none.",
            ),
        )

    def line(self) -> str:
        """Say in a few words what was lost."""
        videos, frames = self.overall.videos, self.overall.frames_lost
        line = f"{videos.part} of {videos.whole} videos{_in_brackets(self._videos_by_label())}"
        if frames.value is None:
            return line
        return f"{line}, {percent(frames.value)} of the wanted frames{_in_brackets(self._frames_by_label())}"

    def _videos_by_label(self) -> dict[str, Share]:
        return {one.group: one.videos for one in self.groups if one.grouping == "label"}

    def _frames_by_label(self) -> dict[str, Share]:
        return {one.group: one.frames_lost for one in self.groups if one.grouping == "label"}


def count_losses(columns: Mapping[str, NDArray[Any]]) -> Losses:
    """Count what was lost.

    Parameters
    ----------
    columns
        One entry a video in each: ``status`` and the columns of `GROUPINGS` (str); ``frames_wanted``,
        ``frames_with_face`` and ``frames_with_kept_face`` (integers).
    """
    looked_at = ~np.isin(columns["status"], NOT_LOOKED_AT)
    groups = tuple(
        _count(columns, looked_at & (columns[grouping] == group), grouping, group)
        for grouping in GROUPINGS
        for group in _groups(columns[grouping][looked_at], alone=grouping == "label")
    )
    labels = {one.group: one for one in groups if one.grouping == "label"}
    real, fake = labels.get("real"), labels.get("fake")
    return Losses(
        overall=_count(columns, looked_at, "", "all"),
        groups=groups,
        video_gap=difference(real.videos, fake.videos) if real and fake else None,
        frame_gap=difference(real.frames_lost, fake.frames_lost) if real and fake else None,
    )


def check_losses(losses: Losses, bounds: LossSettings, *, where: str) -> None:
    """Hold the losses against the user's bounds.

    Parameters
    ----------
    losses
        What was lost.
    bounds
        What may be.
    where
        Where to read more, for the message.

    Raises
    ------
    LossError
        A bound is passed.
    """
    passed = "; ".join(_passed(losses, bounds))
    if passed:
        raise LossError(
            f"{passed}; everything is committed, but nothing further is done with it: see `dfpipe status --failures` "
            f"and {where}, then mend the videos or raise the bound"
        )


def percent(share: float) -> str:
    """Return a share for people."""
    return f"{share * 100:.1f} %"


def _passed(losses: Losses, bounds: LossSettings) -> Iterator[str]:
    videos, frames = losses.overall.videos, losses.overall.frames_lost
    if bounds.max_videos_lost is not None and videos.value is not None and videos.value > bounds.max_videos_lost:
        yield (
            f"{videos.part} of {videos.whole} videos ended without a face ({_exact(videos.value)}), expected at most "
            f"losses.max_videos_lost = {bounds.max_videos_lost}"
        )
    if bounds.max_frames_lost is not None and frames.value is not None and frames.value > bounds.max_frames_lost:
        yield (
            f"no face was kept of {frames.part} of {frames.whole} wanted frames ({_exact(frames.value)}), expected at "
            f"most losses.max_frames_lost = {bounds.max_frames_lost}"
        )
    for gap, what in (
        (losses.video_gap, "the share of {more} videos that ended without a face"),
        (losses.frame_gap, "the share of wanted frames that {more} videos lost"),
    ):
        if bounds.max_gap is not None and gap is not None and abs(gap.value) > bounds.max_gap:
            more, less = ("real", "fake") if gap.value > 0 else ("fake", "real")
            yield (
                f"{what.format(more=more)} is {_exact(abs(gap.value))} above that of {less} ones, expected at most "
                f"losses.max_gap = {bounds.max_gap}"
            )


def _compare(gap: Difference | None, shares: Mapping[str, Share], what: str, otherwise: str) -> str:
    if gap is None:
        return otherwise
    told = {group: percent(share.value) for group, share in shares.items() if share.value is not None}
    points = [f"{share * 100:+.1f}" for share in (gap.value, gap.low, gap.high)]
    meaning = "may be chance" if gap.may_be_chance else "a model can mistake for a sign of forgery"
    return (
        f"{what.format_map(told)}, a difference of {points[0]} points "
        f"(95 % interval {points[1]} to {points[2]}), which {meaning}."
    )


def _in_brackets(shares: Mapping[str, Share]) -> str:
    """Return the labels' shares for the end of a phrase; that of a single label says nothing new."""
    told = [f"{group} {percent(share.value)}" for group, share in shares.items() if share.value is not None]
    return f" ({', '.join(told)})" if len(told) > 1 else ""


def _exact(share: float) -> str:
    return f"{share:.4g}"


def _groups(values: NDArray[Any], *, alone: bool) -> list[str]:
    """Return the groups in a column; a column with one group says nothing beside the overall figures."""
    # Not np.unique, which compares a million objects with each other to sort them.
    groups = sorted(set(values.tolist()), reverse=alone)
    return groups if alone or len(groups) > 1 else []


def _count(columns: Mapping[str, NDArray[Any]], chosen: NDArray[np.bool_], grouping: str, group: str) -> GroupLosses:
    wanted = columns["frames_wanted"][chosen]
    return GroupLosses(
        grouping=grouping,
        group=group,
        videos=share_of_videos(int(np.count_nonzero(columns["status"][chosen] != "ok")), int(chosen.sum())),
        frames_without_face=share_of_frames(wanted - columns["frames_with_face"][chosen], wanted),
        frames_lost=share_of_frames(wanted - columns["frames_with_kept_face"][chosen], wanted),
    )
