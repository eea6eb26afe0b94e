"""The border to FFmpeg: packets and frames of one video stream, and every fault told in our words."""

import io
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from typing import BinaryIO, NoReturn, TypeAlias, get_args

import av
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet as AvPacket
from av.stream import Discard, Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from dfpipe.errors import VideoError, VideoFault
from dfpipe.settings import LimitSettings
from dfpipe.video.containers import HEAD_BYTES, Container, sniff
from dfpipe.video.layout import breaks_off
from dfpipe.video.packets import Packet

__all__ = ["Decoder"]

BUFFER_BYTES = 2**18

EncodedPacket: TypeAlias = "AvPacket[VideoStream]"


class Decoder:
    """One video stream, read packet by packet on one core.

    Reads the file given and nothing else, whatever is written in it.

    Parameters
    ----------
    file
        Seekable, opened for reading; left open. Where it can `skim` (see `SkimmableFile`), frames are not read before
        one is decoded.
    limits
        Bounds on size, picture, streams, frames, declared duration and, from now on, time.

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
        self._ahead: EncodedPacket | None = None
        self._breaks_off = breaks_off(file, self.container, self.size_bytes)
        self._open()
        self._check_declared()
        base = self._stream.time_base
        if base is None:
            self.fail("corrupt", "the video stream has no unit of time")
        self.time_base = base
        """Seconds in one unit of the packets' and frames' times."""
        self.num_streams = len(self._input.streams)
        """Pictures, sound, subtitles and whatever else the container declares."""
        self.has_audio = len(self._input.streams.audio) > 0
        """There is a sound track."""

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

    def scan(self) -> list[Packet]:
        """Return the facts of all packets in stored order, and stand before the first again; nothing is decoded.

        Raises
        ------
        VideoError
            ``truncated`` if the file breaks off before the frames that it promises, ``too_long`` if it has too many.
        """
        packets: list[Packet] = []
        first, is_whole, most = None, True, self._limits.max_frames
        # Seeking goes by the marks of a sample table; those of packets are a parser's, which needs the payload.
        table = self._stream.index_entries if self.container == "mov" else ()
        marks = (entry.is_keyframe for entry in table if entry.size)
        skim = getattr(self._file, "skim", None)
        with skim() if skim else nullcontext():
            for packet in self.packets():
                first = first or packet
                is_whole = not packet.is_corrupt
                packets.append(Packet(packet.pts, next(marks, packet.is_keyframe), packet.is_discard))
                if len(packets) > most:
                    self.fail("too_long", f"got more than {most} frames, expected at most that many")
        self._check_whole(len(packets) - (not is_whole))
        if first is not None and not skim:
            self._go_back(first)
        # Skimmed bytes may still stand in FFmpeg's buffer.
        self.rewind()
        return packets

    def rewind(self) -> None:
        """Stand before the first packet, with a fresh decoder."""
        if not self._is_fresh:
            self.close()
            self._open()

    def seek(self, pts: int) -> None:
        """Stand before the key frame shown at this time, or before an earlier one."""
        self._is_fresh, self._ahead = False, None
        # A seek that failed shows in the frames that come next.
        with suppress(av.FFmpegError):
            self._input.seek(pts, stream=self._stream)

    def packets(self) -> Iterator[EncodedPacket]:
        """Yield the packets from here to the end, or to where the file is broken off."""
        self._is_fresh = False
        if self._ahead is not None:
            packet, self._ahead = self._ahead, None
            yield packet
        try:
            for packet in self._input.demux(self._stream):
                if time.monotonic() > self._deadline:
                    self.fail("timeout", f"not done after {self._limits.timeout_seconds:g} s")
                # An empty packet marks the end.
                if packet.size:
                    yield packet
        except MemoryError:
            # FFmpeg's own is an FFmpegError too, but says nothing about the data.
            raise
        except av.FFmpegError:
            return

    def decode(self, packet: "EncodedPacket | None", *, may_skip: bool = False) -> list[VideoFrame]:
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
        except MemoryError:
            # As for packets.
            raise
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

    def _open(self) -> None:
        """Stand before the first packet of a container just opened."""
        self._is_fresh, self._ahead = True, None
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
            # A fragmented file may be cut within the head of a fragment; of other kinds no size can be trusted here.
            fault: VideoFault = "truncated" if self.container == "mov" and self._breaks_off else "corrupt"
            self.fail(fault, f"the {self.container} container is broken: {error.strerror}", cause=error)
        try:
            stream = self._choose(opened)
        except VideoError:
            opened.close()
            raise
        self._input, self._stream = opened, stream
        for other in opened.streams:
            if other is not stream:
                other.discard = Discard.all
        context = stream.codec_context
        # A worker is one core; more threads here would fight with the other workers.
        context.thread_count = 1
        context.thread_type = ThreadType.NONE
        context.options = options

    def _go_back(self, first: EncodedPacket) -> None:
        """Try to stand before the first packet again after all packets were read."""
        # Only packets were read so far, so the decoder is fresh; this spares opening the container once more.
        self.seek(_start(first))
        self._ahead = next(self.packets(), None)
        self._is_fresh = self._ahead is not None and _place(self._ahead) == _place(first)

    def _check_whole(self, num_packets: int) -> None:
        """Fail if the packets that are whole are fewer than those promised."""
        promised, breaks_off = 0, self._breaks_off
        if self.container == "mov":
            # Samples without a byte are no frames.
            promised = sum(entry.size > 0 for entry in self._stream.index_entries)
            breaks_off |= num_packets < promised or any(map(self._ends_beyond, self._input.streams))
        elif self.container == "avi":
            promised = self._stream.frames
        if breaks_off:
            of = f" of {promised}" if promised > num_packets else ""
            self.fail("truncated", f"holds {num_packets}{of} frames: the file ends before what it declares")

    def _ends_beyond(self, stream: Stream) -> bool:
        table = stream.index_entries
        return len(table) > 0 and table[-1].pos + table[-1].size > self.size_bytes

    def _choose(self, opened: InputContainer) -> VideoStream:
        if len(opened.streams) == 0:
            self.fail("corrupt", f"the {self.container} container declares no streams")
        if len(opened.streams) > self._limits.max_streams:
            self.fail("unsupported", f"got {len(opened.streams)} streams, expected at most {self._limits.max_streams}")
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


def _start(packet: EncodedPacket) -> int:
    return packet.dts if packet.pts is None and packet.dts is not None else packet.pts or 0


def _place(packet: EncodedPacket) -> tuple[int | None, int, int | None]:
    return packet.pos, packet.size, packet.pts
