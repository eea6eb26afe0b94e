"""The clip of one person's face alone, for models that look at sequences."""

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice

import av
import numpy as np
from av.codec.context import Flags as CodecFlags
from av.codec.context import ThreadType
from av.packet import Packet
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from dfpipe.faces.boxes import iou
from dfpipe.faces.crop import crop_face, resize
from dfpipe.faces.detector import Detector, Face
from dfpipe.settings import CropSettings, FaceVideoSettings
from dfpipe.video import Frame

__all__ = ["ClipResult", "FaceClip", "make_face_clip"]

LOOK_EVERY_FRAMES = 5
"""Faces are looked for in one frame in this many, and in between only where these do not show the same face."""

USUAL_RATE = Fraction(25)
"""Taken where the video's own rate is unknown, or one that nobody films with."""


@dataclass(frozen=True, slots=True)
class ClipResult:
    """A finished clip."""

    mp4: bytes
    """The clip: H.264 in mp4, without sound."""
    num_frames: int
    """Frames in it."""
    frames_with_face: int
    """Of those, showing the face; the rest show the whole frame."""
    frame_rate: float
    """Frames per second."""


class FaceClip:
    """Writes a clip in memory, frame by frame; the same frames give the same bytes.

    x264 at a constant rate factor of 18, which looks like the original, with the colours in 4:2:0 that every player
    shows. What is needed is one frame at a time and the clip itself.

    Parameters
    ----------
    settings
        Size of the clip.
    crop
        How the face is cut out; its size is not used.
    frame_rate
        Frames per second; 0 where it is unknown, and then the clip plays at 25. So it does at rates below 1 and above
        1000, which only broken files declare.
    """

    def __init__(self, settings: FaceVideoSettings, *, crop: CropSettings, frame_rate: float) -> None:
        self._size_px = settings.size_px
        self._crop = crop.model_copy(update={"size_px": settings.size_px})
        # Rates such as 30000/1001 come back from their decimal fraction.
        self._rate = Fraction(frame_rate).limit_denominator(1001) if 1 <= frame_rate <= 1000 else USUAL_RATE
        self._num_frames = self._frames_with_face = 0
        self._file = io.BytesIO()
        # Neither dates nor the version of FFmpeg in the file; x264 always writes its own.
        self._container = av.open(self._file, "w", format="mp4", container_options={"fflags": "bitexact"})
        self._stream: VideoStream = self._container.add_stream("libx264", rate=self._rate)
        self._stream.width = self._stream.height = self._size_px
        self._stream.pix_fmt = "yuv420p"
        # With AVX-512, libx264's macroblock tree reads memory that nothing was written to, and the bytes depend on it.
        self._stream.options = {"crf": "18", "preset": "medium", "x264-params": "mbtree=0"}
        context = self._stream.codec_context
        # x264 rounds differently with more threads, and a worker is one core.
        context.thread_count, context.thread_type = 1, ThreadType.NONE
        context.flags |= CodecFlags.bitexact
        context.colorspace, context.color_range = Colorspace.ITU601, ColorRange.MPEG
        self._reformatter = VideoReformatter()

    def add(self, image: NDArray[np.uint8], face: Face | None) -> None:
        """Append a frame that shows the face, or the whole picture squeezed into a square where there is none.

        Parameters
        ----------
        image
            Picture of uint8, shape (height, width, 3), RGB.
        face
            The face in it.
        """
        cut = None if face is None else crop_face(image, face, self._crop)
        self._frames_with_face += cut is not None
        if cut is None:
            cut = resize(image, width_px=self._size_px, height_px=self._size_px, interpolation=self._crop.interpolation)
        frame = self._reformatter.reformat(
            av.VideoFrame.from_ndarray(cut, format="rgb24"),
            format="yuv420p",
            dst_colorspace=Colorspace.ITU601,
            dst_color_range=ColorRange.MPEG,
            threads=1,
        )
        frame.pts, frame.time_base = self._num_frames, 1 / self._rate
        self._num_frames += 1
        self._mux(self._stream.encode(frame))

    def finish(self) -> ClipResult:
        """End the clip; nothing can be added after that.

        Raises
        ------
        ValueError
            No frame was added.
        """
        if not self._num_frames:
            raise ValueError("got no frames, expected at least one; a clip cannot be empty")
        self._mux(self._stream.encode(None))
        self.close()
        return ClipResult(self._file.getvalue(), self._num_frames, self._frames_with_face, float(self._rate))

    def close(self) -> None:
        """Free the encoder, also where the clip was never finished."""
        self._container.close()

    def _mux(self, packets: "Iterable[Packet[VideoStream]]") -> None:
        for packet in packets:
            self._container.mux(packet)


def make_face_clip(
    frames: Iterable[Frame],
    detector: Detector,
    *,
    person: Mapping[int, Face],
    settings: FaceVideoSettings,
    crop: CropSettings,
    frame_rate: float,
    min_overlap: float,
) -> ClipResult:
    """Follow one person through consecutive frames and write the clip of their face.

    Who it is was decided on the sampled frames, where everybody who is in the video is known; one pass over the frames
    is enough then. The detector looks at the first frame, at one in five after it, and at the last; not at those where
    the person is known already. Of the faces that it finds, the one is followed that overlaps most with where the
    person was last, or, before that, where they are known first. Between two looks that show the person at about the
    same place the face moves on a straight line; where only one shows them, or at another place, there was a cut or a
    fast move, and every frame in between is looked at. Where neither shows them, they are not there. Who is lost by a
    move that leaves no overlap is found again in the next frame where the person is known.

    At most six pictures are held at a time.

    Parameters
    ----------
    frames
        Consecutive frames from the first on; only as many are taken as the settings say. Some may be missing.
    detector
        Finds the faces.
    person
        The person's face in the sampled frames, by position of the frame.
    settings
        Size and length of the clip.
    crop
        How the face is cut out; its size is not used.
    frame_rate
        Frames per second, 0 where it is unknown.
    min_overlap
        Faces of two looks are one person's when their boxes overlap by more than this.

    Raises
    ------
    ValueError
        There are no frames.
    VideoError
        What ``frames`` raises.
    """
    with closing(FaceClip(settings, crop=crop, frame_rate=frame_rate)) as clip:
        for frame, face in _follow(islice(frames, settings.max_frames), detector, person, min_overlap):
            clip.add(frame.image, face)
        return clip.finish()


def _follow(
    frames: Iterable[Frame], detector: Detector, known: Mapping[int, Face], min_overlap: float
) -> Iterator[tuple[Frame, Face | None]]:
    """Yield each frame with the person's face in it."""

    def find(frame: Frame, near: Sequence[Face]) -> Face | None:
        """Return the face that overlaps most with one of those near it in time."""
        if frame.index in known or not near:
            return known.get(frame.index)
        faces = detector.detect([frame.image])[0]
        overlaps = [max(_overlap(face, other) for other in near) for face in faces]
        best = max(overlaps, default=0.0)
        return faces[overlaps.index(best)] if best > min_overlap else None

    seen_last = [known[min(known)]] if known else []
    start: Face | None = None
    start_index = 0
    for *between, frame in _spans(frames, known):
        end = find(frame, seen_last)
        ends = [face for face in (start, end) if face is not None]
        faces: list[Face | None]
        if start is not None and end is not None and _overlap(start, end) > min_overlap:
            span = frame.index - start_index
            faces = [_on_the_way(start, end, (one.index - start_index) / span) for one in between]
        else:
            faces = [find(one, ends) for one in between]
        yield from zip([*between, frame], [*faces, end], strict=True)
        seen_last = [face for face in (*faces, end) if face is not None][-1:] or seen_last
        start, start_index = end, frame.index
        # Else these pictures would be held while the next are decoded.
        del between, frame


def _spans(frames: Iterable[Frame], known: Mapping[int, Face]) -> Iterator[list[Frame]]:
    """Divide the frames into lists, each of which ends with one to be looked at."""
    span: list[Frame] = []
    next_look = 0
    for frame in frames:
        span.append(frame)
        if frame.index >= next_look or frame.index in known:
            yield span
            span = []
            next_look = frame.index + LOOK_EVERY_FRAMES
    if span:
        yield span


def _on_the_way(start: Face, end: Face, share: float) -> Face:
    way = np.float32(share)
    return Face(
        box=start.box + (end.box - start.box) * way,
        score=min(start.score, end.score),
        landmarks=start.landmarks + (end.landmarks - start.landmarks) * way,
    )


def _overlap(first: Face, second: Face) -> float:
    return float(iou(first.box[None], second.box[None])[0, 0])
