"""What is known of a video, and one frame of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Frame", "VideoInfo"]


@dataclass(frozen=True, slots=True)
class VideoInfo:
    """Facts about a video, read from its packets and its first frame."""

    container: str
    """``mov`` (also mp4), ``matroska`` (also webm), ``avi`` or ``mpegts``."""
    codec: str
    """Video codec, such as ``h264``."""
    width: int
    """Pixels as shown, after rotation."""
    height: int
    """Pixels as shown, after rotation."""
    rotation_degrees: int
    """Turned counter-clockwise by this to be shown: 0, 90, 180 or 270. A video that is shown mirrored is flipped
    top to bottom before."""
    pixel_format: str
    """As stored, such as ``yuv420p``."""
    frame_rate: float
    """Average frames per second; 0 where a single frame leaves it unknown."""
    is_variable_rate: bool
    """Frames are not shown for equal times, beyond what rounding of times explains."""
    num_frames: int
    """Frames, counted from the packets."""
    keyframes: tuple[int, ...]
    """Positions of the key frames in presentation order, rising. Where the container tells no times, the positions in
    stored order."""
    duration_seconds: float
    """From the first frame's appearance to the last one's end; 0 where a single frame leaves it unknown."""
    has_audio: bool
    """The file has a sound track."""
    num_streams: int
    """Pictures, sound, subtitles and whatever else the file declares."""
    size_bytes: int
    """Size of the file."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One decoded frame."""

    index: int
    """Position in presentation order, from 0."""
    pts_seconds: float
    """Presentation time as the container tells it."""
    image: NDArray[np.uint8]
    """Shape (height, width, 3), RGB of 0 to 255, rotated and mirrored as it is shown.

    Whatever the pixels are stored as (10 bits, 4:4:4, ...) is turned into 8-bit RGB by the matrix (BT.601, BT.709,
    BT.2020) and range (limited, full) that the video is tagged with. One without tags counts as BT.601 in limited
    range, as FFmpeg and OpenCV have it. Primaries and transfer curves are left as they are."""
