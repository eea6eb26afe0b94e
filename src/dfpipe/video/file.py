"""Opening a video, and decoding only what is asked of it."""

import math
import struct
from collections import deque
from collections.abc import Iterator, Sequence, Set
from contextlib import closing, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, cast

import av
import numpy as np
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import PictureType, VideoFrame
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from dfpipe.settings import LimitSettings
from dfpipe.video.decoder import Decoder
from dfpipe.video.info import Frame, VideoInfo
from dfpipe.video.packets import PacketTable, is_steady

__all__ = ["VideoFile", "open_video"]

# A frame marked as no reference changes no other in these. In HEVC another temporal layer may still lean on it.
SKIPPABLE_CODECS = frozenset({"h264", "mpeg4"})
# These store a table of presentation times to seek by.
SEEKABLE_CONTAINERS = frozenset({"mov", "matroska"})
DECLARED_RATE_TOLERANCE = 0.01


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
        self._packets = PacketTable(decoder.scan(), has_true_times=decoder.container != "avi")
        self._has_times = self._packets.is_complete
        self._can_seek = decoder.container in SEEKABLE_CONTAINERS
        # Frames are told apart by their presentation times, or else counted as they come.
        self._marks: Sequence[int] = self._packets.pts if self._has_times else range(self._packets.num_frames)
        self._run = self._start(None)
        self.info = self._describe()
        """Facts about the video."""

    @cached_property
    def pts_seconds(self) -> tuple[float, ...]:
        """Presentation times of all frames in seconds, rising.

        As the container tells them: the first need not be 0. Where it tells none, frames follow each other at the
        average rate from 0 on; where that is not known either, all times are 0.
        """
        if self._has_times:
            ticks, per_second = self._decoder.time_base.as_integer_ratio()
            return tuple(pts * ticks / per_second for pts in self._packets.pts)
        rate = self.info.frame_rate
        return tuple(index / rate if rate else 0.0 for index in range(self.info.num_frames))

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
        for index, frame in self._decode(wanted):
            # Concealed damage looks like a picture, but is none that a camera saw.
            if frame.is_corrupt:
                continue
            try:
                picture = self._picture(index, frame)
            except MemoryError:
                raise
            except av.FFmpegError:
                # Sizes or formats that no converter takes: the packet lied.
                continue
            found += 1
            yield picture
        if not found:
            self._decoder.fail("corrupt", f"none of the {len(wanted)} frames asked for could be decoded")

    def check(self) -> int:
        """Decode every frame and return how many are damaged or missing: those that `frames` would leave out.

        Raises
        ------
        VideoError
            ``timeout`` if the time is up.
        """
        every = range(self.info.num_frames)
        return len(every) - sum(not frame.is_corrupt for _, frame in self._decode(every))

    def _decode(self, wanted: Sequence[int]) -> Iterator[tuple[int, VideoFrame]]:
        """Seek and skip where that spares work, and go on where decoding stopped if that leads to the first frame."""
        queue = deque((self._marks[index], index) for index in wanted)
        key = self._key_for(queue[0][0])
        run: _Run | None = self._run if self._run.leads_to([mark for mark, _ in queue], key=key) else None
        while True:
            run = self._run = run or self._start(key)
            run.needed = {mark for mark, _ in queue}
            further = None
            for mark, frame in run:
                while queue and queue[0][0] < mark:
                    queue.popleft()
                if queue and queue[0][0] == mark:
                    yield queue.popleft()[1], frame
                if not queue:
                    return
                further = self._key_for(queue[0][0])
                if further is not None and self._packets.positions[further] > run.fed:
                    break
                further = None
            if run.has_missed:
                # The seek missed, or the mark was no true key frame: only the beginning is safe.
                self._can_seek = False
            elif further is None:
                return
            key, run = further, None

    def _key_for(self, mark: int) -> int | None:
        return self._packets.key_for(mark) if self._can_seek and self._has_times else None

    def _start(self, key: int | None) -> "_Run":
        may_skip = self._has_times and self._decoder.codec in SKIPPABLE_CODECS
        return _Run(self._decoder, self._packets, key=key, may_skip=may_skip)

    def _describe(self) -> VideoInfo:
        decoder, num_frames = self._decoder, self._packets.num_frames
        if not num_frames:
            decoder.fail("corrupt", "the container holds no frames")
        is_variable_rate = self._is_variable()
        frame_rate, duration_seconds = self._pace(is_variable_rate)
        decoder.check_duration(duration_seconds)
        self._run.needed = {self._marks[0]}
        first = self._run.peek()
        if first is None:
            decoder.fail("corrupt", f"none of {num_frames} frames can be decoded")
        rotation, _ = _orientation(first)
        lies_on_side = rotation % 180 != 0
        return VideoInfo(
            container=decoder.container,
            codec=decoder.codec,
            width=first.height if lies_on_side else first.width,
            height=first.width if lies_on_side else first.height,
            rotation_degrees=rotation,
            pixel_format=first.format.name,
            frame_rate=frame_rate,
            is_variable_rate=is_variable_rate,
            num_frames=num_frames,
            keyframes=self._packets.keyframes,
            duration_seconds=duration_seconds,
            has_audio=decoder.has_audio,
            num_streams=decoder.num_streams,
            size_bytes=decoder.size_bytes,
        )

    def _pace(self, is_variable_rate: bool) -> tuple[float, float]:
        """Return the average frame rate and the duration in seconds, each 0 where it cannot be known."""
        pts, declared = self._packets.pts, self._decoder.declared_rate
        if self._has_times and len(pts) > 1:
            # The last frame is shown as long as the others are on average.
            duration_seconds = float((pts[-1] - pts[0]) * self._decoder.time_base) * len(pts) / (len(pts) - 1)
            measured = len(pts) / duration_seconds
            # Times are rounded, so of a steady video the container may know better; but many declare what is not so.
            is_declared = not is_variable_rate and math.isclose(declared, measured, rel_tol=DECLARED_RATE_TOLERANCE)
            return declared if is_declared else measured, duration_seconds
        return declared, self._packets.num_frames / declared if declared else 0.0

    def _is_variable(self) -> bool:
        # Times are rounded to a unit of the stream, and may have been rounded to milliseconds before.
        rounding = max(1, round(0.001 / self._decoder.time_base))
        return self._has_times and not is_steady(self._packets.pts, rounding=rounding)

    def _picture(self, index: int, frame: VideoFrame) -> Frame:
        image = self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        upright = _upright(image.astype(np.uint8, copy=False), frame)
        return Frame(index, self.pts_seconds[index], upright)


class _Run:
    """Decoding in progress: frames as they come, each with its mark (see `VideoFile`), rising.

    Only frames that are needed when their packet is fed, and the first, are sure to come.

    Parameters
    ----------
    decoder
        Moved by this run alone as long as it is read.
    packets
        Of the same video.
    key
        Presentation time of the key frame to begin with; None begins with the first packet.
    may_skip
        Leave out frames that are not needed where no other frame leans on them.
    """

    def __init__(self, decoder: Decoder, packets: PacketTable, *, key: int | None, may_skip: bool) -> None:
        self.needed: Set[int] = frozenset()
        """Marks of frames that must come; may be changed at any time."""
        self.fed = 0
        """Place of the last packet fed, in stored order."""
        self.has_missed = False
        """The first frame was not the key frame: nothing that came later may be used."""
        self._decoder, self._packets, self._key, self._may_skip = decoder, packets, key, may_skip
        self._skipped: set[int | None] = set()
        self._last_mark: int | None = None
        self._peeked: tuple[int, VideoFrame] | None = None
        self._is_over = False
        if key is None:
            decoder.rewind()
        else:
            decoder.seek(key)
        self._frames = self._anchored() if packets.is_complete else enumerate(self._decoded())

    def __iter__(self) -> "_Run":
        return self

    def __next__(self) -> tuple[int, VideoFrame]:
        if self._peeked is None:
            pair = next(self._frames, None)
        else:
            pair, self._peeked = self._peeked, None
        if pair is None:
            self._is_over = True
            raise StopIteration
        self._last_mark = pair[0]
        return pair

    def peek(self) -> VideoFrame | None:
        """Return the next frame without taking it, None at the end."""
        if self._peeked is None:
            self._peeked = next(self._frames, None)
        return self._peeked[1] if self._peeked else None

    def leads_to(self, marks: Sequence[int], *, key: int | None) -> bool:
        """Say whether going on brings the frames with these rising marks without a detour.

        Parameters
        ----------
        marks
            Of the frames.
        key
            The key frame nearest before the first of them; None if decoding must begin with the first packet.
        """
        begin, nearest = (0 if one is None else self._packets.positions[one] for one in (self._key, key))
        return (
            not self._is_over
            and (self._last_mark is None or marks[0] > self._last_mark)
            and begin <= nearest <= self.fed
            and self._skipped.isdisjoint(marks)
        )

    def _anchored(self) -> Iterator[tuple[int, VideoFrame]]:
        is_anchored, whole_from = self._key is None, self._packets.whole_from
        for frame in self._decoded():
            if frame.pts is None:
                continue
            if whole_from is not None and frame.pts < whole_from:
                if frame.pict_type != PictureType.I or self._packets.positions.get(frame.pts) != 0:
                    continue
                # The stream does start with a key frame, which only lacks the mark.
                whole_from = None
            if not is_anchored and self._key is not None:
                if frame.pts < self._key:
                    continue
                if frame.pts > self._key or frame.pict_type != PictureType.I:
                    break
                is_anchored = True
            yield frame.pts, frame
        self.has_missed = not is_anchored

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in self._decoder.packets():
            pts = packet.pts
            may_skip = self._may_skip and pts != self._key and pts not in self.needed
            if may_skip:
                self._skipped.add(pts)
            if pts is not None:
                self.fed = self._packets.positions.get(pts, self.fed)
            yield from self._decoder.decode(packet, may_skip=may_skip)
        yield from self._decoder.decode(None)


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Return how a frame is brought upright: by how much it is turned, and whether it is mirrored before.

    Returns
    -------
    tuple of int and bool
        Degrees counter-clockwise, to the next quarter turn; whether the stored picture is first flipped top to
        bottom. Together these are all eight ways to lay a rectangle on its sides.
    """
    try:
        # PyAV's annotation is of another class.
        matrix = cast("SideDataContainer", frame.side_data)["DISPLAYMATRIX"]
    except KeyError:
        return 0, False
    except ValueError:
        # PyAV has no name for some other data that this frame carries, and then gives none of them.
        return round(frame.rotation / 90) * 90 % 360, False
    # A stored pixel (x, y) is shown at (ax + cy, bx + dy), counted to the right and down.
    a, b, _, c, d = struct.unpack_from("=5i", matrix)
    return round(-math.degrees(math.atan2(b, a)) / 90) * 90 % 360, a * d < b * c


def _upright(image: NDArray[np.uint8], frame: VideoFrame) -> NDArray[np.uint8]:
    degrees, is_mirrored = _orientation(frame)
    return np.ascontiguousarray(np.rot90(image[::-1] if is_mirrored else image, degrees // 90))
