"""The border to FFmpeg: packets and frames of one video stream, and every fault told in our words."""

import io
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import BinaryIO, NoReturn, get_args

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard, Disposition
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfpipe.errors import VideoError, VideoFault
from dfpipe.settings import LimitSettings
from dfpipe.video.containers import HEAD_BYTES, Container, sniff

__all__ = ["Decoder"]

BUFFER_BYTES = 2**18


class Decoder:
    """One video stream, read packet by packet on one core.

    Reads the file given and nothing else, whatever is written in it.

    Parameters
    ----------
    file
        Seekable, opened for reading; left open.
    limits
        Bounds on size, picture, declared duration and, from now on, time.

    Raises
    ------
    VideoError
        The video cannot be used.
    """

    def __init__(self, file: BinaryIO, *, limits: LimitSettings) -> None:
        self._file = file
        self._limits = limits
        self._deadline = time.monotonic() + limits.timeout_seconds
        self.container, self.size_bytes = self._look()
        self._input, self._stream = self._open()
        self._check_declared()
        base = self._stream.time_base
        if base is None:
            self.fail("corrupt", "the video stream has no unit of time")
        self.time_base = base
        """Seconds in one unit of the packets' and frames' times."""

    @property
    def codec(self) -> str:
        """Name of the codec, such as ``h264``."""
        return self._stream.codec_context.codec.canonical_name

    @property
    def declared_rate(self) -> float:
        """Average frames per second as the container tells it, 0 where it does not."""
        return float(self._stream.average_rate or 0)

    def close(self) -> None:
        """Free the decoder; the file stays open."""
        self._input.close()

    def rewind(self) -> None:
        """Stand before the first packet, with a fresh decoder."""
        self.close()
        self._input, self._stream = self._open()

    def seek(self, pts: int) -> None:
        """Stand before the key frame shown at this time, or before an earlier one."""
        # A seek that failed shows in the frames that come next.
        with suppress(av.FFmpegError):
            self._input.seek(pts, stream=self._stream)

    def packets(self) -> Iterator["Packet[VideoStream]"]:
        """Yield the packets from here to the end, or to where the file is broken off."""
        try:
            for packet in self._input.demux(self._stream):
                if time.monotonic() > self._deadline:
                    self.fail("timeout", f"not done after {self._limits.timeout_seconds:g} s")
                # An empty packet marks the end.
                if packet.size:
                    yield packet
        except av.FFmpegError:
            return

    def decode(self, packet: "Packet[VideoStream] | None", *, may_skip: bool = False) -> list[VideoFrame]:
        """Return the frames that have become ready; None asks for those still held back at the end.

        Parameters
        ----------
        packet
            Next in stored order.
        may_skip
            Leave the packet's frame out if it is marked as one that no other frame leans on.
        """
        context = self._stream.codec_context
        context.skip_frame = "NONREF" if may_skip else "DEFAULT"
        try:
            return context.decode(packet)
        except av.FFmpegError:
            # Broken data are reported in many ways. One frame is lost; those after it may come again.
            return []

    def check_duration(self, duration_seconds: float) -> None:
        """Hold a duration against the limit."""
        longest = self._limits.max_duration_seconds
        if duration_seconds > longest:
            self.fail("too_long", f"got {duration_seconds:.1f} s, expected at most {longest:g} s")

    def fail(self, fault: VideoFault, what: str, *, cause: Exception | None = None) -> NoReturn:
        """Raise the error that says what is wrong with this video."""
        raise VideoError(fault, what) from cause

    def _look(self) -> tuple[Container, int]:
        size_bytes = self._file.seek(0, io.SEEK_END)
        if size_bytes == 0:
            self.fail("empty", "the file has no bytes")
        if size_bytes > self._limits.max_bytes:
            self.fail("too_large", f"got {size_bytes} bytes, expected at most {self._limits.max_bytes}")
        self._file.seek(0)
        container = sniff(self._file.read(HEAD_BYTES))
        if container is None:
            self.fail("unsupported", f"not a container that is known here ({', '.join(get_args(Container))})")
        return container, size_bytes

    def _open(self) -> tuple[InputContainer, VideoStream]:
        self._file.seek(0)
        # Bounds what a stream may make the decoder allocate, whatever its container declares. Decoders round sides
        # up before they compare, hence the room.
        options = {"max_pixels": str(2 * self._limits.max_pixels)}
        try:
            opened = av.open(
                self._file,
                "r",
                format=self.container,
                options=options,
                metadata_errors="replace",
                buffer_size=BUFFER_BYTES,
                io_open=self._refuse,
            )
        except av.FFmpegError as error:
            self.fail("corrupt", f"the {self.container} container is broken: {error.strerror}", cause=error)
        try:
            stream = self._choose(opened)
        except VideoError:
            opened.close()
            raise
        for other in opened.streams:
            if other is not stream:
                other.discard = Discard.all
        context = stream.codec_context
        # A worker is one core; more threads here would fight with the other workers.
        context.thread_count = 1
        context.thread_type = ThreadType.NONE
        context.options = options
        return opened, stream

    def _choose(self, opened: InputContainer) -> VideoStream:
        if len(opened.streams) == 0:
            self.fail("corrupt", f"the {self.container} container declares no streams")
        # A cover picture is a video stream to FFmpeg.
        streams = [one for one in opened.streams.video if not one.disposition & Disposition.attached_pic]
        # Without a known codec there is no context, whatever the annotations say.
        if not streams or getattr(streams[0], "codec_context", None) is None:
            self.fail("unsupported", "no video stream in a codec that is known here")
        return streams[0]

    def _check_declared(self) -> None:
        """Hold against the limits what the container declares, before anything is decoded."""
        context = self._stream.codec_context
        if context.width * context.height > self._limits.max_pixels:
            self.fail(
                "too_large",
                f"got {context.width} x {context.height} pixels, expected at most {self._limits.max_pixels} in all",
            )
        if self._input.duration:
            self.check_duration(self._input.duration / av.time_base)

    def _refuse(self, url: str, _flags: int, _options: dict[str, str]) -> NoReturn:
        self.fail("unsupported", f"refers to another file or address: {url}")
