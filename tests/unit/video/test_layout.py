"""Files that break off, at every kind of place, and files that only look like it."""

import io
import struct

import av
import pytest

from dfpipe.errors import VideoError
from dfpipe.settings import LimitSettings
from dfpipe.video import open_video
from dfpipe.video.layout import Box, breaks_off, mov_boxes

FASTSTART = {"movflags": "faststart"}
KINDS = {
    "faststart.mp4": {"b_frames": 2, "sound": True, "container_options": FASTSTART},
    "faststart.mov": {"codec": "mpeg4", "sound": True, "container_options": FASTSTART},
    "index-last.mp4": {"b_frames": 2, "sound": True},
    "fragments.mp4": {"b_frames": 2, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "plain.mkv": {"b_frames": 2, "sound": True},
    "live.mkv": {"b_frames": 2, "container_options": {"live": "1"}},
    "plain.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "plain.avi": {"codec": "mpeg4", "b_frames": 2, "sound": True},
    "plain.ts": {"b_frames": 2, "sound": True},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, clip):
    folder = tmp_path_factory.mktemp("layout")
    return {name: clip(folder / name, **options).read_bytes() for name, options in KINDS.items()}


def outcome(data):
    """Return the number of frames, or how the video failed."""
    try:
        with open_video(io.BytesIO(data), limits=LimitSettings()) as video:
            return video.info.num_frames
    except VideoError as error:
        return error.fault


def box(kind, payload=b"", size=None):
    return struct.pack(">I4s", 8 + len(payload) if size is None else size, kind) + payload


def cuts(start, end):
    """Places at which to cut: both ends to the byte, and forty between."""
    return sorted({*range(start, start + 12), *range(end - 12, end), *range(start, end, max(1, (end - start) // 40))})


@pytest.mark.parametrize("name", KINDS)
def test_whole_files_and_what_hangs_on_behind_them(files, name):
    assert [outcome(files[name] + tail) for tail in (b"", bytes(37), b"something else " * 20)] == [40, 40, 40]


@pytest.mark.parametrize("name", ["faststart.mp4", "faststart.mov"])
def test_index_first(files, name):
    data = files[name]
    index = next(one for one in mov_boxes(io.BytesIO(data), len(data)) if one.kind == b"moov")
    assert {outcome(data[:cut]) for cut in cuts(index.start, index.end)} == {"corrupt"}
    assert {outcome(data[:cut]) for cut in cuts(index.end, len(data))} == {"truncated"}


def test_index_last(files):
    data = files["index-last.mp4"]
    assert {outcome(data[:cut]) for cut in cuts(16, len(data))} == {"corrupt"}


def test_fragments(files):
    data = files["fragments.mp4"]
    boxes = list(mov_boxes(io.BytesIO(data), len(data)))
    assert [one.kind for one in boxes].count(b"moof") > 2
    for one in boxes:
        expected = {b"moov": {"corrupt"}, b"moof": {"truncated"}, b"mdat": {"truncated"}}.get(one.kind)
        if expected:
            assert {outcome(data[:cut]) for cut in cuts(one.start, one.end)} == expected
    # Between two fragments nothing is broken off: it is a shorter video.
    last = max(one.start for one in boxes if one.kind == b"moof") - 8
    assert outcome(data[:last]) == 36


@pytest.mark.parametrize("name", ["plain.mkv", "plain.webm"])
def test_matroska(files, name):
    data = files[name]
    first_cluster = data.index(b"\x1f\x43\xb6\x75")
    assert {outcome(data[:cut]) for cut in cuts(first_cluster + 2000, len(data))} == {"truncated"}


def test_matroska_recorded_live_ends_where_it_ends(files):
    data = files["live.mkv"]
    clusters = [place for place in range(len(data)) if data.startswith(b"\x1f\x43\xb6\x75", place)]
    assert len(clusters) > 1
    assert outcome(data[: clusters[-1]]) in range(1, 40)
    # The cluster itself says how long it is.
    assert {outcome(data[:cut]) for cut in cuts(clusters[-1] + 12, len(data))} == {"truncated"}


def test_matroska_of_unknown_sizes_throughout(files):
    data = bytearray(files["live.mkv"])
    for place in range(len(data)):
        if data.startswith(b"\x1f\x43\xb6\x75", place):
            width = 9 - data[place + 4].bit_length()
            data[place + 4 : place + 4 + width] = ((1 << 7 * width + 1) - 1).to_bytes(width)
    assert outcome(bytes(data)) == 40
    assert outcome(bytes(data[: len(data) * 2 // 3])) in range(1, 40)


def test_avi(files):
    data = files["plain.avi"]
    movie = data.index(b"movi")
    assert {outcome(data[:cut]) for cut in cuts(movie + 2000, len(data))} == {"truncated"}


@pytest.mark.parametrize("cut_share", [0.3, 0.5, 0.9])
def test_transport_streams_promise_nothing(files, cut_share):
    data = files["plain.ts"]
    assert outcome(data[: int(len(data) * cut_share)]) in range(1, 40)


def test_the_reason_says_how_much_is_there(files):
    data = files["faststart.mp4"]
    source = io.BytesIO(data[: len(data) * 7 // 10])
    with (
        pytest.raises(VideoError, match=r"^holds 2\d of 40 frames: [^\n]+$") as caught,
        open_video(source, limits=LimitSettings()),
    ):
        pass
    assert caught.value.fault == "truncated"


# What only looks like it


def test_an_mp4_of_a_wrong_duration(files):
    data = bytearray(files["index-last.mp4"])
    for kind, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        place = data.index(kind) + 4 + offset
        duration = int.from_bytes(data[place : place + 4])
        data[place : place + 4] = (duration * 5 // 4).to_bytes(4)
    assert outcome(bytes(data)) == 40


def test_an_mp4_with_a_sample_that_has_no_bytes(files):
    data = bytearray(files["index-last.mp4"])
    # The table of the video's sizes comes first: version, fixed size 0, 40 entries.
    last = data.index(b"stsz") + 4 + 12 + 39 * 4
    assert 0 < int.from_bytes(data[last : last + 4]) < 10_000
    data[last : last + 4] = bytes(4)
    assert outcome(bytes(data)) == 39


def test_an_mp4_whose_media_box_claims_more(files):
    # The sample table decides: every frame is there.
    data = bytearray(files["faststart.mp4"])
    place = data.index(b"mdat") - 4
    data[place : place + 4] = (int.from_bytes(data[place : place + 4]) + 1000).to_bytes(4)
    assert outcome(bytes(data)) == 40


@pytest.mark.parametrize("excess", [-8, 1, 8])
def test_an_avi_that_counts_its_own_head(files, excess):
    data = bytearray(files["plain.avi"])
    data[4:8] = (int.from_bytes(data[4:8], "little") + excess).to_bytes(4, "little")
    assert outcome(bytes(data)) == 40


@pytest.mark.parametrize("unset", [0, 0xFFFFFFFF])
def test_an_avi_that_was_never_closed(files, unset):
    data = bytearray(files["plain.avi"])
    end = data.index(b"idx1")
    for place in (4, data.index(b"movi") - 4):
        data[place : place + 4] = unset.to_bytes(4, "little")
    assert outcome(bytes(data[:end])) == 40


def test_an_avi_that_declares_more_frames(files):
    data = bytearray(files["plain.avi"])
    place = data.index(b"strh") + 8 + 32
    assert int.from_bytes(data[place : place + 4], "little") == 40
    data[place : place + 4] = (44).to_bytes(4, "little")
    assert outcome(bytes(data)) == 40


# The parts


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\x00\x00\x00", []),
        (box(b"ftyp", b"isom") + box(b"moov"), [Box(b"ftyp", 8, 12), Box(b"moov", 20, 20)]),
        (box(b"mdat", b"12345", size=0), [Box(b"mdat", 8, 13)]),
        (box(b"mdat", struct.pack(">Q", 20) + b"1234", size=1), [Box(b"mdat", 16, 20)]),
        (box(b"mdat", b"12", size=99), [Box(b"mdat", 8, 99)]),
        (box(b"free", b"1") + b"\x00\x00\x00\x03oops", [Box(b"free", 8, 9)]),
        (box(b"mdat", struct.pack(">Q", 3), size=1), []),
    ],
)
def test_boxes(data, expected):
    assert list(mov_boxes(io.BytesIO(data), len(data))) == expected


@pytest.mark.parametrize(
    ("container", "data"),
    [
        ("matroska", b"\x1a\x45\xdf\xa3"),
        ("matroska", b"\x1a\x45\xdf\xa3\x80" + b"\x00" * 50),
        ("avi", b"RIFF\x04\x00\x00\x00AVI "),
        ("avi", b"RIFF"),
        ("mpegts", b"G" * 100),
    ],
)
def test_headers_that_make_no_sense_prove_nothing(container, data):
    assert not breaks_off(io.BytesIO(data), container, len(data))


def test_the_references_are_whole(files):
    """PyAV alone reads as many frames: the clips are good ones."""
    for data in files.values():
        with av.open(io.BytesIO(data)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 40
