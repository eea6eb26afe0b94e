"""Opening a video, and decoding only what is asked of it."""

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter

from dfpipe.settings import LimitSettings
from dfpipe.video.decoder import Decoder
from dfpipe.video.info import Frame, VideoInfo
from dfpipe.video.packets import Packet, PacketTable

__all__ = ["VideoFile", "open_video"]

# A frame marked as no reference changes no other in these. In HEVC another temporal layer may still lean on it.
SKIPPABLE_CODECS = frozenset({"h264", "mpeg4"})
# These store a table of presentation times to seek by.
SEEKABLE_CONTAINERS = frozenset({"mov", "matroska"})


@contextmanager
def open_video(source: str | BinaryIO, *, limits: LimitSettings) -> Iterator["VideoFile"]:
    """Open a video, hold it against the limits and read its facts.

    Nothing but the source itself is read, whatever is written in it.

    Parameters
    ----------
    source
        Local path, or a seekable file opened for reading, which is left open.
    limits
        Bounds on size, picture, duration and, from now to the end of the block, time.

    Raises
    ------
    VideoError
        The video cannot be used; its ``fault`` says why.
    OSError
        The source cannot be read.
    """
    with (
        Path(source).open("rb") if isinstance(source, str) else nullcontext(source) as file,
        closing(Decoder(file, limits=limits)) as decoder,
    ):
        yield VideoFile(decoder)


class VideoFile:
    """An open video; comes from `open_video`."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._reformatter = VideoReformatter()
        self._packets = PacketTable(Packet(one.pts, one.is_keyframe, one.is_discard) for one in decoder.packets())
        # AVI stores no presentation times; what is reported for it is wrong as soon as frames are reordered.
        self._has_times = self._packets.is_complete and decoder.container != "avi"
        self._can_seek = decoder.container in SEEKABLE_CONTAINERS
        self.info = self._describe()
        """Facts about the video."""

    def frames(self, indices: Sequence[int]) -> Iterator[Frame]:
        """Decode the frames at these positions, and as little else as possible.

        The pictures are bit for bit those that decoding everything gives. A frame that cannot be decoded, or only
        with damage, is left out. Read one such iterator at a time.

        Parameters
        ----------
        indices
            Positions in presentation order, from 0 to ``info.num_frames - 1``; order and repeats do not matter.

        Yields
        ------
        Frame
            In rising order of index.

        Raises
        ------
        VideoError
            ``corrupt`` if not one of the frames could be decoded, ``timeout`` if the time is up.
        ValueError
            An index outside the video.
        """
        wanted = sorted(set(indices))
        if not wanted:
            return
        if wanted[0] < 0 or wanted[-1] >= self.info.num_frames:
            raise ValueError(f"got frames {wanted[0]} to {wanted[-1]}, expected 0 to {self.info.num_frames - 1}")
        found = 0
        for index, frame in self._by_time(wanted) if self._has_times else self._by_count(wanted):
            # Concealed damage looks like a picture, but is none that a camera saw.
            if frame.is_corrupt:
                continue
            try:
                picture = self._picture(index, frame)
            except av.FFmpegError:
                # Sizes or formats that no converter takes: the packet lied.
                continue
            found += 1
            yield picture
        if not found:
            self._decoder.fail("corrupt", f"none of the {len(wanted)} frames asked for could be decoded")

    def _by_time(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Tell frames by their presentation time; seek and skip where that spares work."""
        queue = deque((self._packets.pts[index], index) for index in wanted)
        key = self._key_for(queue[0][0])
        while True:
            anchored, further = key is None, None
            for fed, pts, frame in self._decode_from(key, needed={pts for pts, _ in queue}):
                if key is not None and not anchored:
                    if pts < key:
                        continue
                    if pts > key or frame.pict_type != PictureType.I:
                        break
                    anchored = True
                while queue and queue[0][0] < pts:
                    queue.popleft()
                if queue and queue[0][0] == pts:
                    yield queue.popleft()[1], frame
                if not queue:
                    return
                further = self._key_for(queue[0][0])
                if further is not None and self._packets.positions[further] > fed:
                    break
                further = None
            if not anchored:
                # The seek missed, or the mark was no true key frame: only the beginning is safe.
                self._can_seek = False
            elif further is None:
                return
            key = further

    def _by_count(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Count frames as they come, from the first."""
        queue = deque(wanted)
        for index, frame in enumerate(self._decode_all()):
            if index == queue[0]:
                yield queue.popleft(), frame
                if not queue:
                    return

    def _key_for(self, pts: int) -> int | None:
        return self._packets.key_for(pts) if self._can_seek else None

    def _decode_from(self, key: int | None, *, needed: Collection[int]) -> Iterator[tuple[int, int, VideoFrame]]:
        """Decode from a key frame on, or from the first packet.

        Yields the place of the last packet fed, the frame's presentation time, and the frame. Only frames at the
        needed times and the key frame are sure to come.
        """
        if key is None:
            self._decoder.rewind()
        else:
            self._decoder.seek(key)
        skips = self._decoder.codec in SKIPPABLE_CODECS
        fed = 0
        for packet in self._decoder.packets():
            may_skip = skips and packet.pts != key and packet.pts not in needed
            fed = fed if packet.pts is None else self._packets.positions.get(packet.pts, fed)
            for frame in self._decoder.decode(packet, may_skip=may_skip):
                if frame.pts is not None:
                    yield fed, frame.pts, frame
        for frame in self._decoder.decode(None):
            if frame.pts is not None:
                yield fed, frame.pts, frame

    def _decode_all(self) -> Iterator[VideoFrame]:
        self._decoder.rewind()
        for packet in self._decoder.packets():
            yield from self._decoder.decode(packet)
        yield from self._decoder.decode(None)

    def _describe(self) -> VideoInfo:
        decoder, num_frames = self._decoder, self._packets.num_frames
        if not num_frames:
            decoder.fail("corrupt", "the container holds no frames")
        frame_rate, duration_seconds = self._pace()
        decoder.check_duration(duration_seconds)
        first = next(self._decode_all(), None)
        if first is None:
            decoder.fail("corrupt", f"none of {num_frames} frames can be decoded")
        rotation = _rotation(first)
        lies_on_side = rotation % 180 != 0
        return VideoInfo(
            container=decoder.container,
            codec=decoder.codec,
            width=first.height if lies_on_side else first.width,
            height=first.width if lies_on_side else first.height,
            rotation_degrees=rotation,
            pixel_format=first.format.name,
            frame_rate=frame_rate,
            num_frames=num_frames,
            duration_seconds=duration_seconds,
            size_bytes=decoder.size_bytes,
        )

    def _pace(self) -> tuple[float, float]:
        """Return the average frame rate and the duration in seconds, each 0 where it cannot be known."""
        pts, declared = self._packets.pts, self._decoder.declared_rate
        if self._has_times and len(pts) > 1:
            # The last frame is shown as long as the others are on average.
            duration_seconds = float((pts[-1] - pts[0]) * self._decoder.time_base) * len(pts) / (len(pts) - 1)
            return declared or len(pts) / duration_seconds, duration_seconds
        return declared, self._packets.num_frames / declared if declared else 0.0

    def _picture(self, index: int, frame: VideoFrame) -> Frame:
        if self._has_times and frame.pts is not None:
            pts_seconds = float(frame.pts * self._decoder.time_base)
        else:
            pts_seconds = index / self.info.frame_rate if self.info.frame_rate else 0.0
        image = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        upright = np.ascontiguousarray(np.rot90(image, _rotation(frame) // 90))
        return Frame(index, pts_seconds, upright.astype(np.uint8, copy=False))


def _rotation(frame: VideoFrame) -> int:
    """Return by how much a frame is turned counter-clockwise to be shown, to the next quarter."""
    return round(frame.rotation / 90) * 90 % 360
