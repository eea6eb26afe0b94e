"""Facts about single videos, without a store."""

from dataclasses import dataclass
from typing import Literal

from dfpipe.errors import StoreError, VideoError, VideoFault
from dfpipe.settings import LimitSettings, S3Settings
from dfpipe.storage import open_location, storage_errors
from dfpipe.video import VideoInfo, open_source, open_video

__all__ = ["Probe", "probe_video"]


@dataclass(frozen=True, slots=True)
class Probe:
    """What is known of a video, or why nothing is."""

    video: str
    """The video as it was named."""
    info: VideoInfo | None
    """Facts from its packets and its first frame; None where it cannot be opened."""
    damaged_frames: int | None
    """Frames that cannot be decoded or only with damage; None where that was not asked."""
    fault: VideoFault | Literal["unreachable"] | None
    """What is wrong with it: the ledger status that it would get, or unreachable; None where nothing is."""
    reason: str
    """Why, in a sentence; empty where nothing is wrong."""


def probe_video(url: str, *, limits: LimitSettings, s3: S3Settings, check: bool = False) -> Probe:
    """Open a video and tell what it is; a bad one is told too and raises nothing.

    Parameters
    ----------
    url
        Local path or ``s3://`` URL.
    limits
        Bounds on the video.
    s3
        How to reach ``s3://`` URLs.
    check
        Decode every frame; a video with a damaged one is ``corrupt``.
    """
    info, damaged = None, None
    try:
        location = open_location(url, s3)
        with (
            storage_errors("read", url),
            open_source(
                location, size_bytes=int(location.fs.size(location.path)), max_bytes=limits.max_bytes
            ) as source,
            open_video(source, limits=limits) as video,
        ):
            info = video.info
            if check:
                damaged = video.check()
    except VideoError as error:
        return Probe(url, info, damaged, error.fault, error.reason)
    except StoreError as error:
        return Probe(url, None, None, "unreachable", str(error).removeprefix(f"cannot read {url}: "))
    if damaged:
        return Probe(url, info, damaged, "corrupt", f"{damaged} of {info.num_frames} frames are damaged")
    return Probe(url, info, damaged, None, "")
