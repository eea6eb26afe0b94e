import io
import shutil
import struct
import subprocess
from contextlib import closing, suppress
from itertools import accumulate
from types import SimpleNamespace

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfpipe.errors import VideoError
from dfpipe.settings import LimitSettings
from dfpipe.video import every, open_video
from dfpipe.video.decoder import Decoder
from dfpipe.video.file import _orientation
from dfpipe.video.layout import mov_boxes
from dfpipe.video.source import SkimmableFile

LIMITS = LimitSettings()

X264_OPEN_GOP = {"x264-params": "open-gop=1:b-pyramid=normal"}
X264_REFRESH = {"x264-params": "intra-refresh=1"}
FAST_VPX = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1", "lag-in-frames": "8"}
QUIET_X265 = {"preset": "ultrafast", "x265-params": "log-level=none"}
X265_OPEN_GOP = {"preset": "ultrafast", "x265-params": "log-level=none:open-gop=1:b-pyramid=1:bframes=4:keyint=12"}
FAST_AV1 = {"preset": "12", "svtav1-params": "keyint=12:lookahead=16"}
# Pauses and hurry, at an average of 25 frames a second.
STEADY_MS = range(0, 1600, 40)
UNSTEADY_MS = [40 * index + (0, 13, -9, 21)[index % 4] for index in range(40)]

KINDS = {
    "h264.mp4": {},
    "h264-b.mp4": {"b_frames": 3},
    "h264-b.mkv": {"b_frames": 3},
    "h264-long-gop.mp4": {"b_frames": 2, "key_every": 250},
    "h264-intra.mp4": {"key_every": 1},
    "h264-open-gop.mp4": {"b_frames": 5, "options": X264_OPEN_GOP},
    "h264-open-gop.mkv": {"b_frames": 5, "options": X264_OPEN_GOP},
    "h264-refresh.mkv": {"options": X264_REFRESH},
    "h264-b.ts": {"b_frames": 3},
    "h264-b.avi": {"b_frames": 3},
    "mpeg4-b.mp4": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4-b.avi": {"codec": "mpeg4", "b_frames": 2},
    "mpeg2-b.ts": {"codec": "mpeg2video", "b_frames": 2},
    "hevc-b.mkv": {"codec": "libx265", "b_frames": 3, "options": QUIET_X265},
    "vp8.webm": {"codec": "libvpx", "options": FAST_VPX},
    "vp9.webm": {"codec": "libvpx-vp9", "options": FAST_VPX},
    "vp9.mp4": {"codec": "libvpx-vp9", "options": FAST_VPX},
    "hevc-b.mp4": {"codec": "libx265", "b_frames": 3, "options": QUIET_X265},
    "hevc-open-gop.mp4": {"codec": "libx265", "options": X265_OPEN_GOP},
    "hevc-open-gop.mkv": {"codec": "libx265", "options": X265_OPEN_GOP},
    "av1.mp4": {"codec": "libsvtav1", "options": FAST_AV1},
    "av1.mkv": {"codec": "libsvtav1", "options": FAST_AV1},
    "mjpeg.avi": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "mjpeg.mov": {"codec": "mjpeg", "pixel_format": "yuvj420p"},
    "mpeg4-b.mov": {"codec": "mpeg4", "b_frames": 2},
    "mpeg4-b.mkv": {"codec": "mpeg4", "b_frames": 2},
    "h264-10-bit.mp4": {"b_frames": 2, "pixel_format": "yuv420p10le"},
    "hevc-10-bit.mkv": {"codec": "libx265", "options": QUIET_X265, "pixel_format": "yuv420p10le"},
    "h264-444.mp4": {"b_frames": 2, "pixel_format": "yuv444p"},
    "h264-unsteady.mp4": {"b_frames": 2, "times_ms": UNSTEADY_MS},
    "h264-unsteady.mkv": {"b_frames": 2, "times_ms": UNSTEADY_MS},
    "h264-late.mp4": {"b_frames": 2, "times_ms": [time + 400 for time in UNSTEADY_MS]},
    "h264-fragments.mp4": {"b_frames": 2, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264-sound.mp4": {"b_frames": 2, "sound": True},
}


@pytest.fixture(scope="session")
def library(tmp_path_factory, clip, decode_all):
    """One clip of each kind, with all of its frames decoded plainly."""
    folder = tmp_path_factory.mktemp("clips")
    paths = {name: clip(folder / name, **options) for name, options in KINDS.items()}
    return {name: (path, decode_all(path)) for name, path in paths.items()}


@pytest.fixture(scope="session")
def simple(library):
    """Path of an ordinary mp4 of 40 frames."""
    return library["h264-b.mp4"][0]


def fault_of(source, limits=LIMITS):
    with pytest.raises(VideoError) as caught, open_video(str(source), limits=limits) as video:
        list(video.frames(range(video.info.num_frames)))
    assert "\n" not in caught.value.reason
    return caught.value.fault


# What is known of a video


def test_info(simple):
    with open_video(str(simple), limits=LIMITS) as video:
        info = video.info
    assert (info.container, info.codec, info.pixel_format) == ("mov", "h264", "yuv420p")
    assert (info.width, info.height, info.rotation_degrees) == (96, 64, 0)
    assert (info.num_frames, info.frame_rate, info.duration_seconds) == (40, 25.0, pytest.approx(1.6))
    assert info.size_bytes == simple.stat().st_size


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_counted_truly(library, name):
    path, pictures = library[name]
    with open_video(str(path), limits=LIMITS) as video:
        assert video.info.num_frames == len(pictures) == len(video.pts_seconds) == 40
        times_ms = KINDS[name].get("times_ms", STEADY_MS)
        # The last frame counts as long as the others are on average.
        assert video.info.duration_seconds == pytest.approx((times_ms[-1] - times_ms[0]) / 39 * 40 / 1000, abs=0.01)
        assert video.info.is_variable_rate == (times_ms is not STEADY_MS)
        assert (video.info.has_audio, video.info.num_streams) == (("sound" in name), 1 + ("sound" in name))


@pytest.mark.parametrize("suffix", ["mkv", "mp4"])
@pytest.mark.parametrize(
    ("times_ms", "frame_rate"),
    [
        pytest.param([0, 33, 66, 99, 1000, 1033, 1066, 1099], 8 / (1.099 * 8 / 7), id="a long still"),
        pytest.param(range(0, 2000, 100), 10, id="steady, at another rate than declared"),
        pytest.param([round(1000 * index / 30) for index in range(20)], 30, id="steady, rounded"),
    ],
)
def test_a_declared_frame_rate_is_believed_only_where_times_agree(tmp_path, clip, suffix, times_ms, frame_rate):
    path = tmp_path / f"clip.{suffix}"
    clip(path, num_frames=len(times_ms), times_ms=times_ms, rate=30)
    with open_video(str(path), limits=LIMITS) as video:
        assert video.info.frame_rate == pytest.approx(frame_rate, rel=1e-6 if suffix == "mkv" else 1e-3)
        assert video.info.duration_seconds == pytest.approx(
            (times_ms[-1] - times_ms[0]) / 1000 * len(times_ms) / (len(times_ms) - 1)
        )


@pytest.mark.parametrize("name", KINDS)
def test_key_frames_are_where_the_encoder_put_them(library, name):
    path, _ = library[name]
    with av.open(str(path)) as container:
        marks = [frame.key_frame for frame in container.decode(video=0)]
    with open_video(str(path), limits=LIMITS) as video:
        keyframes = video.info.keyframes
    assert keyframes[0] == 0
    if name not in {"h264-refresh.mkv", "h264-b.avi", "mpeg4-b.avi"}:
        # Recovery points are key frames to the container; AVI tells no times.
        assert keyframes == tuple(index for index, mark in enumerate(marks) if mark)


@pytest.mark.parametrize("name", ["h264-b.mp4", "h264-late.mp4", "h264-b.ts", "h264-b.avi"])
def test_times_of_all_frames(library, name):
    with open_video(str(library[name][0]), limits=LIMITS) as video:
        frames = list(video.frames(range(40)))
        assert video.pts_seconds == tuple(frame.pts_seconds for frame in frames)
        # Transport streams cannot hold the negative decoding times that reordering asks for, so all move.
        assert video.pts_seconds[0] == pytest.approx({"h264-late.mp4": 0.4, "h264-b.ts": 0.08}.get(name, 0))


def test_opening_decodes_the_first_frame_and_no_frame_is_decoded_twice(library, monkeypatch):
    path, pictures = library["h264-b.mp4"]
    fed = []
    decode = Decoder.decode
    monkeypatch.setattr(
        Decoder, "decode", lambda self, packet, **how: fed.append(packet and packet.pts) or decode(self, packet, **how)
    )
    with open_video(str(path), limits=LIMITS) as video:
        assert 1 <= len(fed) <= 5
        for indices in ([0], [9, 25], range(32, 40)):
            frames = list(video.frames(indices))
            assert [frame.index for frame in frames] == list(indices)
            assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)
    assert len(fed) == len(set(fed))


def test_a_single_frame(tmp_path, clip):
    path = clip(tmp_path / "one.mp4", num_frames=1)
    with open_video(str(path), limits=LIMITS) as video:
        assert video.info.num_frames == 1
        assert [frame.index for frame in video.frames(every(1, every_frames=30, max_frames=7))] == [0]


@pytest.mark.parametrize(("rotation", "shape"), [(90, (96, 64, 3)), (180, (64, 96, 3)), (270, (96, 64, 3))])
def test_rotation_is_applied(tmp_path, clip, decode_all, rotation, shape):
    path = clip(tmp_path / "turned.mp4", num_frames=3, rotation=rotation)
    with open_video(str(path), limits=LIMITS) as video:
        frame = next(video.frames([1]))
        assert (video.info.height, video.info.width, 3) == shape
        assert video.info.rotation_degrees == rotation
    assert frame.image.shape == shape
    assert np.array_equal(frame.image, np.rot90(decode_all(path)[1], rotation // 90))


def with_matrix(source, target, a, b, c, d):
    """Copy an mp4 and write another display matrix into its track's header."""
    data = bytearray(source.read_bytes())
    # Behind the box's name: version and flags, five numbers, two reserved, and layer, group and volume.
    start = data.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    one = 2**16
    data[start : start + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 2**30)
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    "matrix",
    [
        *[(a, 0, 0, d) for a in (1, -1) for d in (1, -1)],
        *[(0, b, c, 0) for b in (1, -1) for c in (1, -1)],
        pytest.param((0, 0, 0, 0), id="zeros"),
        pytest.param((2, 0, 0, -1), id="stretched"),
    ],
)
def test_turned_and_mirrored_as_ffmpeg_does(tmp_path, clip, matrix):
    # Lossless and without chroma to interpolate, so that turning before or after conversion is the same.
    plain = clip(tmp_path / "plain.mp4", num_frames=2, options={"qp": "0"}, pixel_format="yuv444p")
    path = with_matrix(plain, tmp_path / "turned.mp4", *matrix)
    command = ["ffmpeg", "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    shown = subprocess.run(command, capture_output=True, check=True).stdout
    with open_video(str(path), limits=LIMITS) as video:
        frames = list(video.frames([0, 1]))
        lies_on_side = matrix[0] == matrix[3] == 0 != matrix[1]
        assert (video.info.width, video.info.height) == ((64, 96) if lies_on_side else (96, 64))
        assert all(frame.image.shape == (video.info.height, video.info.width, 3) for frame in frames)
    expected = np.frombuffer(shown, np.uint8).reshape(2, *frames[0].image.shape)
    # The command's converter may round otherwise.
    assert (
        max(np.abs(frame.image.astype(int) - picture).max() for frame, picture in zip(frames, expected, strict=True))
        <= 3
    )


@pytest.mark.parametrize(("degrees", "nearest"), [(30, 0), (100, 90), (-80, 270), (200, 180)])
def test_odd_angles_go_to_the_nearest_quarter_turn(tmp_path, clip, degrees, nearest):
    path = clip(tmp_path / "odd.mp4", num_frames=1, rotation=degrees)
    with open_video(str(path), limits=LIMITS) as video:
        assert video.info.rotation_degrees == nearest


def test_side_data_without_a_name_leave_the_angle():
    class Strange:
        rotation = 90

        @property
        def side_data(self):
            raise ValueError("31 is not a valid Type")

    assert _orientation(Strange()) == (90, False)


# The weights of red and blue in luma, as each standard writes them.
WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593)}
# Luma, blue and red of a pixel that all of them show differently.
LEVELS = (80, 110, 220)


def to_rgb(luma, blue, red, *, standard, is_full, bits):
    """Turn one pixel's levels into RGB of 0 to 255 by the standards' formulas."""
    unit = 2 ** (bits - 8)
    if is_full:
        y = luma / (2**bits - 1)
        cb, cr = ((level - 128 * unit) / (2**bits - 1) for level in (blue, red))
    else:
        y = (luma - 16 * unit) / (219 * unit)
        cb, cr = ((level - 128 * unit) / (224 * unit) for level in (blue, red))
    kr, kb = WEIGHTS[standard]
    r, b = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    g = (y - kr * r - kb * b) / (1 - kr - kb)
    return np.clip(np.array([r, g, b]) * 255, 0, 255)


def shown_pixel(path, levels, *, matrix, tag, pixel_format="yuv420p"):
    """Encode a picture of one colour without loss, tagged as told, and return what of it is shown."""
    size = 2 if "10" in pixel_format else 1
    frame = av.VideoFrame(64, 48, pixel_format)
    for plane, level in zip(frame.planes, levels, strict=True):
        plane.update(level.to_bytes(size, "little") * (plane.buffer_size // size))
    frame.colorspace, frame.color_range, frame.pts = matrix, tag, 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixel_format
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, tag
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with open_video(str(path), limits=LIMITS) as video:
        image = next(video.frames([0])).image
    assert (image.dtype, image.shape) == (np.uint8, (48, 64, 3))
    return image[20, 20].astype(int)


@pytest.mark.parametrize(
    ("matrix", "tag", "red_green_blue"),
    [(1, 1, (250, 91, 41)), (1, 2, (233, 93, 49)), (5, 1, (236, 77, 44)), (5, 2, (221, 82, 53))],
    ids=["bt709", "bt709-full", "bt601", "bt601-full"],
)
def test_colours_worked_out_by_hand(tmp_path, matrix, tag, red_green_blue):
    pixel = shown_pixel(tmp_path / "colour.mp4", (120, 90, 200), matrix=matrix, tag=tag)
    assert np.abs(pixel - red_green_blue).max() <= 1
    standard = {1: "bt709", 5: "bt601"}[matrix]
    formula = to_rgb(120, 90, 200, standard=standard, is_full=tag == 2, bits=8)
    assert formula.round().tolist() == list(red_green_blue)


@pytest.mark.parametrize(
    ("matrix", "standard"),
    [(2, "bt601"), (1, "bt709"), (5, "bt601"), (6, "bt601"), (9, "bt2020")],
    ids=["untagged", "bt709", "bt601-625", "bt601-525", "bt2020"],
)
@pytest.mark.parametrize(("tag", "is_full"), [(0, False), (1, False), (2, True)], ids=["untagged", "limited", "full"])
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv420p10le", "yuv444p10le"])
def test_colours_follow_matrix_and_range(tmp_path, matrix, standard, tag, is_full, pixel_format):
    bits = 10 if "10" in pixel_format else 8
    levels = [level * 2 ** (bits - 8) for level in LEVELS]
    pixel = shown_pixel(tmp_path / "colour.mp4", levels, matrix=matrix, tag=tag, pixel_format=pixel_format)
    expected = to_rgb(*levels, standard=standard, is_full=is_full, bits=bits)
    # FFmpeg's converter rounds coarsely; a wrong matrix or range is off by 9 and more.
    assert np.abs(pixel - expected).max() <= 3.5


def test_a_wrong_matrix_or_range_would_be_seen():
    pixels = [to_rgb(*LEVELS, standard=standard, is_full=is_full, bits=8) for standard in WEIGHTS for is_full in (0, 1)]
    distances = [np.abs(one - other).max() for one in pixels for other in pixels if one is not other]
    assert min(distances) > 9


# Which frames come


@pytest.mark.parametrize("kind", ["h264-b.mp4", "h264-open-gop.mp4", "hevc-b.mp4"])
@pytest.mark.parametrize("shift_frames", [-8, 10], ids=["hides the first", "starts late"])
def test_edit_lists(tmp_path, library, rewritten, decode_all, kind, shift_frames):
    path = rewritten(library[kind][0], tmp_path / "edited.mp4", shift_frames=shift_frames)
    pictures = decode_all(path)
    with open_video(str(path), limits=LIMITS) as video:
        assert video.info.num_frames == len(pictures) == 40 + min(0, shift_frames)
        assert video.pts_seconds[0] == pytest.approx(max(0, shift_frames) / 25, abs=0.041)
        for indices in (range(len(pictures)), [3], [20, 31]):
            frames = list(video.frames(indices))
            assert [frame.index for frame in frames] == list(indices)
            assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)
        assert video.check() == 0


@pytest.mark.parametrize("kind", ["h264-b.mkv", "h264-open-gop.mkv", "hevc-b.mkv", "vp9.webm", "mpeg4-b.mkv"])
def test_a_stream_that_starts_in_the_middle_of_a_group(tmp_path, library, rewritten, kind):
    path = rewritten(library[kind][0], tmp_path / "headless.mkv", drop=5)
    plain = {}
    with av.open(str(path)) as container:
        first_key = None
        for packet in container.demux(video=0):
            first_key = packet.pts if first_key is None and packet.is_keyframe else first_key
            with suppress(av.FFmpegError):
                for frame in packet.decode():
                    if not frame.is_corrupt and first_key is not None and frame.pts >= first_key:
                        plain[frame.pts / 1000] = frame.to_ndarray(format="rgb24")
    with open_video(str(path), limits=LIMITS) as video:
        assert video.info.num_frames == 35
        frames = list(video.frames(range(35)))
        assert video.check() == 35 - len(frames)
    assert [frame.pts_seconds for frame in frames] == sorted(plain)
    assert len(frames) >= 26
    assert all(np.array_equal(frame.image, plain[frame.pts_seconds]) for frame in frames)


def test_a_first_key_frame_without_its_mark(tmp_path, library):
    path, pictures = library["h264-b.mp4"]
    data = bytearray(path.read_bytes())
    # Of the marked samples 1, 13, 25, 37 the first is said to be the second.
    place = data.index(b"stss") + 4 + 8
    assert data[place : place + 8] == bytes([0, 0, 0, 1, 0, 0, 0, 13])
    data[place + 3] = 2
    path = tmp_path / "unmarked.mp4"
    path.write_bytes(data)
    with open_video(str(path), limits=LIMITS) as video:
        frames = list(video.frames([0, 1, 5, 39]))
        assert video.check() == 0
    assert [frame.index for frame in frames] == [0, 1, 5, 39]
    assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=12, deadline=None)
@given(indices=st.lists(st.integers(0, 39), max_size=8))
def test_frames_are_those_of_plain_decoding(library, name, indices):
    path, pictures = library[name]
    with open_video(str(path), limits=LIMITS) as video:
        frames = list(video.frames(indices))
    assert [frame.index for frame in frames] == sorted(set(indices))
    for frame in frames:
        assert np.array_equal(frame.image, pictures[frame.index])
        times_ms = KINDS[name].get("times_ms", STEADY_MS)
        assert frame.pts_seconds - frames[0].pts_seconds == pytest.approx(
            (times_ms[frame.index] - times_ms[frames[0].index]) / 1000, abs=2e-3
        )


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=6, deadline=None)
@given(requests=st.lists(st.lists(st.integers(0, 39), min_size=1, max_size=4), min_size=2, max_size=4))
def test_requests_after_each_other_give_what_each_gives_alone(library, name, requests):
    path, pictures = library[name]
    with open_video(str(path), limits=LIMITS) as video:
        for indices in requests:
            frames = list(video.frames(indices))
            assert [frame.index for frame in frames] == sorted(set(indices))
            assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)


# Encoders, what they are told to be quick and quiet, and the containers for them.
ENCODERS = {
    "libx264": ({"preset": "ultrafast"}, ["mp4", "mov", "mkv", "ts", "avi"]),
    "libx265": (QUIET_X265, ["mp4", "mkv"]),
    "mpeg4": ({}, ["mp4", "mov", "mkv", "avi"]),
    "mpeg2video": ({}, ["ts", "mkv"]),
    "libvpx-vp9": (FAST_VPX, ["webm", "mp4"]),
}
# These take only rates that their standard names, or write none but steady times.
STEADY_ENCODERS, STEADY_CONTAINERS = {"mpeg4", "mpeg2video"}, {"avi"}


@st.composite
def encodings(draw):
    """Suffix and options of a clip, and positions in it."""
    codec = draw(st.sampled_from(sorted(ENCODERS)))
    options, suffixes = ENCODERS[codec]
    suffix = draw(st.sampled_from(suffixes))
    b_frames, key_every = draw(st.integers(0, 4)), draw(st.integers(1, 30))
    if draw(st.booleans()) and codec in {"libx264", "libx265"}:
        name = codec.removeprefix("lib") + "-params"
        options = options | {name: ":".join([*filter(None, [options.get(name)]), "open-gop=1"])}
    num_frames = draw(st.integers(1, 40))
    times_ms = None
    if draw(st.booleans()) and codec not in STEADY_ENCODERS and suffix not in STEADY_CONTAINERS:
        gaps_ms = draw(st.lists(st.integers(10, 200), min_size=num_frames, max_size=num_frames))
        times_ms = list(accumulate(gaps_ms))
    how = {
        "codec": codec,
        "options": options,
        "b_frames": b_frames if codec != "libvpx-vp9" else 0,
        "key_every": key_every,
        "num_frames": num_frames,
        "times_ms": times_ms,
        "size": (64, 48),
    }
    return suffix, how, draw(st.lists(st.integers(0, num_frames - 1), max_size=6))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(encodings())
def test_frames_of_any_encoding_are_those_of_plain_decoding(tmp_path_factory, clip, decode_all, encoding):
    suffix, how, indices = encoding
    path = clip(tmp_path_factory.mktemp("drawn") / f"clip.{suffix}", **how)
    pictures = decode_all(path)
    with open_video(str(path), limits=LIMITS) as video:
        assert video.info.num_frames == len(pictures) == how["num_frames"]
        frames = list(video.frames(indices))
        assert [frame.index for frame in frames] == sorted(set(indices))
        assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)
        assert video.check() == 0
    for index, picture in enumerate(pictures):
        with open_video(str(path), limits=LIMITS) as video:
            (frame,) = video.frames([index])
        assert np.array_equal(frame.image, picture)


def test_an_iterator_left_in_the_middle_harms_no_later_one(library):
    path, pictures = library["h264-b.mp4"]
    with open_video(str(path), limits=LIMITS) as video:
        next(video.frames([5, 30]))
        for indices in ([5, 6], [4], [31, 39]):
            frames = list(video.frames(indices))
            assert [frame.index for frame in frames] == indices
            assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)


def test_the_same_open_video_can_be_asked_again(library):
    path, pictures = library["h264-open-gop.mkv"]
    with open_video(str(path), limits=LIMITS) as video:
        for index in (30, 2, 39, 0):
            (frame,) = video.frames([index])
            assert np.array_equal(frame.image, pictures[index])


def test_only_what_is_needed_is_decoded(library, monkeypatch):
    path, _ = library["h264-b.mp4"]
    fed = []
    decode = Decoder.decode
    with open_video(str(path), limits=LIMITS) as video:
        monkeypatch.setattr(
            Decoder, "decode", lambda self, packet, **how: fed.append(how) or decode(self, packet, **how)
        )
        assert len(list(video.frames([25]))) == 1
    # Frame 25 stands right behind the key frame 24; a few more fill the decoder's reordering.
    assert len(fed) <= 8
    assert any(how.get("may_skip") for how in fed)


def test_a_seek_that_misses_falls_back_on_the_beginning(library, monkeypatch):
    path, pictures = library["h264-b.mp4"]
    missed = []
    with open_video(str(path), limits=LIMITS) as video:
        # Ends up behind the last packet.
        monkeypatch.setattr(Decoder, "seek", lambda self, pts: missed.append(pts) or list(self.packets()))
        frames = list(video.frames([30, 35]))
    assert len(missed) == 1
    assert [frame.index for frame in frames] == [30, 35]
    assert np.array_equal(frames[1].image, pictures[35])


def test_an_open_file_serves_and_stays_open(simple, decode_all):
    file = io.BytesIO(simple.read_bytes())
    with open_video(file, limits=LIMITS) as video:
        frames = list(video.frames([7, 39]))
    assert not file.closed
    assert np.array_equal(frames[1].image, decode_all(simple)[39])


class Counting(SkimmableFile):
    """Counts the bytes that are skimmed over."""

    skimmed = 0

    def read(self, size=-1):
        data = super().read(size)
        self.skimmed += len(data) if self._is_blank else 0
        return data


@pytest.mark.parametrize(
    "kind",
    ["h264-open-gop.mp4", "h264-sound.mp4", "hevc-b.mp4", "vp9.mp4", "av1.mp4", "mpeg4-b.mov", "mjpeg.mov"],
)
def test_skimming_over_the_frames_tells_the_same_and_gives_the_same(tmp_path, clip, decode_all, monkeypatch, kind):
    # Small reads and a clip of some length, so that most of it is not read when the container is opened.
    monkeypatch.setattr("dfpipe.video.decoder.BUFFER_BYTES", 2**12)
    path = clip(tmp_path / kind, num_frames=120, size=(320, 192), **KINDS[kind])
    pictures = decode_all(path)
    data = path.read_bytes()
    media = [box for box in mov_boxes(io.BytesIO(data), len(data)) if box.kind == b"mdat"]
    file = Counting(io.BytesIO(data), media, len(data))
    with closing(Decoder(io.BytesIO(data), limits=LIMITS)) as plain, closing(Decoder(file, limits=LIMITS)) as skimmed:
        assert skimmed.scan() == plain.scan()
    assert file.skimmed > len(data) // 2
    with open_video(str(path), limits=LIMITS) as plain, open_video(file, limits=LIMITS) as skimmed:
        assert skimmed.info == plain.info
        for indices in ([0], [100], [7, 8, 119]):
            frames = list(skimmed.frames(indices))
            assert [frame.index for frame in frames] == indices
            assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)


@pytest.mark.parametrize("indices", [[-1], [40], [0, 99]])
def test_frames_outside_the_video(simple, indices):
    with open_video(str(simple), limits=LIMITS) as video, pytest.raises(ValueError, match="expected 0 to 39"):
        list(video.frames(indices))


def test_a_segment(tmp_path, clip, decode_all):
    path = clip(tmp_path / "segment.mp4", container_options={"movflags": "frag_keyframe+empty_moov"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b"ftyp", b"styp", 1))
    with open_video(str(path), limits=LIMITS) as video:
        (frame,) = video.frames([30])
    path.write_bytes(data)
    assert np.array_equal(frame.image, decode_all(path)[30])


# What cannot be used


def test_empty(tmp_path):
    (tmp_path / "empty.mp4").touch()
    assert fault_of(tmp_path / "empty.mp4") == "empty"


@pytest.mark.parametrize(
    "content", [b"x", b"not a video at all\n" * 99, bytes(4096), b"\x89PNG\r\n\x1a\n" + bytes(999)]
)
def test_what_is_no_video(tmp_path, content):
    path = tmp_path / "text.mp4"
    path.write_bytes(content)
    assert fault_of(path) == "unsupported"


def test_sound_alone(tmp_path):
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert fault_of(path) == "unsupported"


def test_unknown_codec(tmp_path, simple):
    path = tmp_path / "strange.mp4"
    path.write_bytes(simple.read_bytes().replace(b"avc1", b"zzzz").replace(b"avcC", b"zzzC"))
    assert fault_of(path) == "unsupported"


def test_index_that_never_arrived(tmp_path, simple):
    # An mp4 whose upload broke off: the index comes last and is missing.
    path = tmp_path / "short.mp4"
    path.write_bytes(simple.read_bytes()[: simple.stat().st_size // 2])
    assert fault_of(path) == "corrupt"


@pytest.mark.parametrize("head", [b"\x00\x00\x00\x20ftypisom", b"\x1a\x45\xdf\xa3", b"RIFF1234AVI "])
def test_head_of_a_container_and_nothing_else(tmp_path, head):
    path = tmp_path / "head.mp4"
    path.write_bytes(head + np.random.default_rng(1).bytes(5000))
    assert fault_of(path) == "corrupt"


def test_frames_that_are_noise(tmp_path, simple):
    content = bytearray(simple.read_bytes())
    start = content.index(b"mdat") + 4
    end = content.index(b"moov") - 4
    content[start:end] = np.random.default_rng(1).bytes(end - start)
    path = tmp_path / "noise.mp4"
    path.write_bytes(content)
    assert fault_of(path) == "corrupt"


def test_damage_inside_costs_frames_and_not_the_video(tmp_path, library):
    path, pictures = library["h264.mp4"]
    content = bytearray(path.read_bytes())
    start = len(content) // 5
    content[start : start + 200] = bytes(200)
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(content)
    with open_video(str(damaged), limits=LIMITS) as video:
        frames = {frame.index: frame.image for frame in video.frames(range(40))}
        assert video.check() == 40 - len(frames)
    # The damage lies in the first group; the key frame 12 starts afresh.
    assert 0 < 40 - len(frames) < 12
    assert all(np.array_equal(frames[index], pictures[index]) for index in (0, *range(12, 40)))


@pytest.mark.parametrize("name", KINDS)
def test_a_check_finds_no_fault_with_good_clips_and_leaves_the_video_usable(library, name):
    path, pictures = library[name]
    with open_video(str(path), limits=LIMITS) as video:
        assert video.check() == 0
        (frame,) = video.frames([7])
    assert np.array_equal(frame.image, pictures[7])


@pytest.mark.parametrize("name", ["h264-b.mp4", "h264-open-gop.mkv", "h264-b.ts", "mpeg4-b.avi", "vp9.webm"])
@settings(max_examples=25, deadline=None)
@given(
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=40)), max_size=8),
    whole=st.booleans(),
)
def test_whatever_the_bytes_every_frame_is_given_or_counted_as_lost(library, name, changes, whole):
    data = bytearray(library[name][0].read_bytes())
    for place, content in changes:
        start = int(place * len(data))
        data[start : start + (len(content) if whole else 0)] = content
    with suppress(VideoError), open_video(io.BytesIO(data), limits=LIMITS) as video:
        lost = video.check()
        frames = list(video.frames(range(video.info.num_frames)))
        assert len(frames) + lost == video.info.num_frames


def test_memory_that_runs_out_while_reading_is_no_end_of_the_video(simple):
    def demux(_stream):
        raise av.error.MemoryError(12, "Cannot allocate memory")

    with simple.open("rb") as file, closing(Decoder(file, limits=LIMITS)) as decoder:
        decoder._input.close()
        decoder._input = SimpleNamespace(demux=demux, close=lambda: None)
        with pytest.raises(MemoryError):
            list(decoder.packets())


# Limits


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        ({"max_bytes": 1000}, "too_large"),
        ({"max_pixels": 96 * 64 - 1}, "too_large"),
        ({"max_duration_seconds": 1.5}, "too_long"),
        ({"max_frames": 39}, "too_long"),
        ({"timeout_seconds": 1e-9}, "timeout"),
    ],
)
def test_limits(simple, limits, fault):
    assert fault_of(simple, LimitSettings(**limits)) == fault


def test_streams_are_limited_before_anything_is_decoded(library, monkeypatch):
    path, _ = library["h264-sound.mp4"]
    monkeypatch.setattr(Decoder, "decode", None)
    assert fault_of(path, LimitSettings(max_streams=1)) == "unsupported"
    assert fault_of(path, LimitSettings(max_frames=39)) == "too_long"


def test_limits_are_met_exactly(simple):
    limits = LimitSettings(max_bytes=simple.stat().st_size, max_pixels=96 * 64, max_frames=40, max_duration_seconds=1.6)
    with open_video(str(simple), limits=limits) as video:
        assert len(list(video.frames(range(40)))) == 40


def test_the_clock_runs_while_the_caller_works(simple, monkeypatch):
    with open_video(str(simple), limits=LIMITS) as video:
        frames = video.frames([0, 39])
        next(frames)
        monkeypatch.setattr("dfpipe.video.decoder.time.monotonic", lambda: float("inf"))
        with pytest.raises(VideoError) as caught:
            next(frames)
    assert caught.value.fault == "timeout"


# Nothing else is read


def test_playlists_and_scripts_open_nothing(tmp_path, library):
    """FFmpeg, left to guess, follows both to the other file: opening them plainly shows that they work."""
    shutil.copy(library["h264-b.ts"][0], tmp_path / "secret.ts")
    playlist = tmp_path / "playlist.m3u8"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nsecret.ts\n#EXT-X-ENDLIST\n", encoding="ascii")
    script = tmp_path / "script.mp4"
    script.write_text("ffconcat version 1.0\nfile secret.ts\n", encoding="ascii")
    for path, name in ((playlist, "hls"), (script, "concat")):
        with av.open(str(path)) as container:
            assert container.format.name == name
        assert fault_of(path) == "unsupported"
        assert fault_of(path.rename(tmp_path / f"{name}.mp4")) == "unsupported"


def test_a_missing_file_is_no_fault_of_the_video(tmp_path):
    with pytest.raises(FileNotFoundError), open_video(str(tmp_path / "none.mp4"), limits=LIMITS):
        pass


def test_a_store_that_fails_is_no_fault_of_the_video(simple):
    class Flaky(io.BytesIO):
        reads = 0

        def read(self, size=-1):
            self.reads += 1
            if self.reads > 1:
                raise ConnectionResetError("gone")
            return super().read(size)

    with pytest.raises(ConnectionResetError), open_video(Flaky(simple.read_bytes()), limits=LIMITS):
        pass
