"""Files made to harm: each ends as a ledger row in time, reads nothing else and takes nobody along.

The bait lies where an inotify watch sees whoever opens it, and behind a socket that sees whoever connects.
"""

import ctypes
import os
import re
import socket
import struct
import subprocess
import sys
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from dfpipe.catalog import VideoRef
from dfpipe.errors import StoreError
from dfpipe.isolation import extract_isolated
from dfpipe.settings import ExtractSettings, LimitSettings, S3Settings

pytestmark = pytest.mark.slow

LIMITS = LimitSettings(timeout_seconds=15, max_memory_bytes=2**29)
FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz.py"

BROKEN = {"corrupt", "truncated", "unsupported"}
USABLE = {"ok", "no_face", "few_frames"}
SOUND = BROKEN | USABLE | {"too_large", "too_long", "timeout"}
"""Whatever it is, the child was not lost."""


def write_clip(path, *, codec="libx264", size=(96, 64), frames=24, **options):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25), options={"g": "8", **options})
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), 8 * (number % 30), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A good clip in every container, by its ending."""
    folder = tmp_path_factory.mktemp("good")
    codecs = {"mp4": "libx264", "mkv": "libx264", "avi": "mjpeg", "ts": "libx264", "mov": "libx264"}
    return {ending: write_clip(folder / f"clip.{ending}", codec=codec) for ending, codec in codecs.items()}


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr("dfpipe.isolation.extract.GRACE_SECONDS", 1.0)


def extract(path, limits=LIMITS):
    video = VideoRef("d/v", str(path), path.stat().st_size, "c")
    started = time.monotonic()
    ledger = extract_isolated(video, settings=ExtractSettings(), limits=limits, s3=S3Settings()).video
    # Beyond the limit and the grace there may be the start of a child, on a busy machine.
    assert time.monotonic() - started < limits.timeout_seconds + 1 + 15
    assert ledger["status"] in USABLE or ledger["reason"]
    return ledger["status"]


@pytest.fixture
def hostile(tmp_path):
    """Write bytes under a video's name and return how their extraction ends."""

    def hostile(data, name="hostile.mp4", limits=LIMITS):
        path = tmp_path / name
        path.write_bytes(data)
        return extract(path, limits)

    return hostile


class Bait:
    """A good video that tells whether it was opened, and an address that tells whether somebody came."""

    def __init__(self, path, listener):
        self.path = path
        self.listener = listener
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._watch = self._libc.inotify_init1(os.O_NONBLOCK)
        in_access, in_open = 1, 0x20
        assert self._libc.inotify_add_watch(self._watch, os.fsencode(path), in_access | in_open) > 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}/bait.mp4"

    def taken(self):
        try:
            opened = bool(os.read(self._watch, 4096))
        except BlockingIOError:
            opened = False
        try:
            connection, _ = self.listener.accept()
        except BlockingIOError:
            return opened
        connection.close()
        return True

    def close(self):
        os.close(self._watch)
        self.listener.close()


@pytest.fixture
def bait(tmp_path):
    path = tmp_path / "bait.mp4"
    # Whoever follows a reference to it finds pictures where they are expected.
    path.write_bytes(movie(track(dref=in_the_file())))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        bait = Bait(path, listener)
        yield bait
        bait.close()


def box(kind, *payload):
    data = b"".join(payload)
    return struct.pack(">I", 8 + len(data)) + kind + data


def full_box(kind, *payload):
    return box(kind, bytes(4), *payload)


def be(*numbers):
    return struct.pack(f">{len(numbers)}I", *numbers)


FTYP = box(b"ftyp", b"isom", be(512), b"isomiso2mp41")


JPEG = cv2.imencode(".jpg", np.full((64, 96, 3), 99, np.uint8))[1].tobytes()


def track(*, dref, stts=((10, 512),), stsz=be(len(JPEG), 10), size=(96, 64), number=1):
    """A track of ten JPEGs that lie where `movie` puts them, in the file that `dref` names."""
    width, height = size
    entry = bytes(6) + struct.pack(">H", 1) + bytes(16) + struct.pack(">HH", width, height)
    entry += be(0x480000, 0x480000, 0) + struct.pack(">H", 1) + bytes(32) + struct.pack(">Hh", 24, -1)
    table = box(
        b"stbl",
        full_box(b"stsd", be(1), box(b"jpeg", entry)),
        full_box(b"stts", be(len(stts)), *(be(*one) for one in stts)),
        full_box(b"stsc", be(1, 1, 10, 1)),
        full_box(b"stsz", stsz),
        full_box(b"stco", be(1, len(FTYP) + 8)),
    )
    media = box(
        b"mdia",
        full_box(b"mdhd", be(0, 0, 12800, 5120, 0x55C40000)),
        full_box(b"hdlr", be(0), b"vide", bytes(13)),
        box(b"minf", full_box(b"vmhd", bytes(8)), box(b"dinf", full_box(b"dref", be(1), dref)), table),
    )
    head = be(0, 0, number, 0, 400) + bytes(16) + be(0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    return box(b"trak", full_box(b"tkhd", head, struct.pack(">II", width << 16, height << 16)), media)


def movie(*tracks):
    head = be(0, 0, 1000, 400, 0x10000) + bytes(12) + bytes(36) + bytes(24) + be(2)
    return FTYP + box(b"mdat", JPEG * 10) + box(b"moov", full_box(b"mvhd", head), *tracks)


def in_the_file():
    return box(b"url ", be(1))


def alias(path):
    """A reference to another file as QuickTime writes it."""
    name = path.name.encode()
    absolute = str(path).encode()
    text = struct.pack(">hH", 2, len(absolute)) + absolute + bytes(len(absolute) % 2) + struct.pack(">hH", -1, 0)
    fixed = bytes(10) + bytes([4]) + b"disk".ljust(27, b"\0") + bytes(12)
    fixed += bytes([len(name)]) + name.ljust(63, b"\0") + bytes(16) + struct.pack(">hh", 1, 1) + bytes(16)
    return full_box(b"alis", fixed, text)


PLAYLISTS = {
    "hls": "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n",
    "hls-key": '#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXT-X-KEY:METHOD=AES-128,URI="{}"\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n',
    "concat": "ffconcat version 1.0\nfile '{}'\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns={}\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
    "dash": '<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet><Representation id="1">'
    "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>",
    "m3u": "{}\n",
    "image-list": "{}",
    "avisynth": 'DirectShowSource("{}")',
}


@pytest.mark.parametrize("ending", ["mp4", "mkv", "m3u8", "avi", "mov", "webm"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_playlist_reads_nothing(hostile, bait, kind, ending):
    for place in (str(bait.path), f"file://{bait.path}", f"concat:{bait.path}", bait.url):
        text = PLAYLISTS[kind].replace("{}", place).encode()
        # The second hides behind the first bytes of a container.
        for data in (text, FTYP + text, b"\x1a\x45\xdf\xa3" + text):
            assert hostile(data, f"hostile.{ending}") in BROKEN
    assert not bait.taken()


@pytest.mark.parametrize("kind", ["alis", "url", "url-http"])
def test_a_reference_to_other_data_is_not_followed(hostile, bait, tmp_path, kind):
    reference = {
        "alis": alias(bait.path),
        "url": full_box(b"url ", f"file://{bait.path}\0".encode()),
        "url-http": full_box(b"url ", f"{bait.url}\0".encode()),
    }[kind]
    # FFmpeg looks for the pictures in the file itself where it knows of no other.
    assert hostile(movie(track(dref=reference))) in SOUND
    assert not bait.taken()
    if kind == "alis":
        # The bait is one: whoever follows references takes it.
        options = {"enable_drefs": "1", "use_absolute_path": "1"}
        with av.open(str(tmp_path / "hostile.mp4"), options=options):
            pass
        assert bait.taken()


def test_what_is_built_by_hand_is_a_good_video(hostile):
    # So the others fail for what was done to them.
    assert hostile(movie(track(dref=in_the_file()))) == "no_face"


@pytest.mark.parametrize("size", [(65535, 65535), (65535, 1), (0, 0)])
def test_a_declared_size(hostile, size):
    assert hostile(movie(track(dref=in_the_file(), size=size))) in SOUND


def test_pictures_larger_than_declared(hostile, good):
    data = good["avi"].read_bytes()
    # Height and width in the header of every JPEG.
    huge = re.sub(rb"(?<=\xff\xc0\x00\x11\x08)....", b"\xff\xf0\xff\xf0", data, flags=re.DOTALL)
    assert huge != data
    assert hostile(huge, "huge.avi") in BROKEN | {"too_large"}


def test_thousands_of_streams(hostile):
    tracks = [track(dref=in_the_file(), number=number) for number in range(1, 5001)]
    assert hostile(movie(*tracks)) in SOUND


@pytest.mark.parametrize(
    "bomb",
    [
        {"stts": [(0xFFFFFFFF, 1)]},
        {"stts": [(0x7FFFFFFF, 1)] * 1000},
        {"stsz": be(1, 0x7FFFFFFF)},
        {"stsz": be(0, 0x3FFFFFFF)},
        {"stsz": be(1, 0x0FFFFFFF), "stts": [(0x0FFFFFFF, 1)]},
    ],
    ids=["count", "counts", "samples", "sizes", "both"],
)
def test_declared_counts(hostile, bomb):
    assert hostile(movie(track(dref=in_the_file(), **bomb))) in SOUND


def test_an_announced_table_of_any_length(hostile, good):
    data = good["mp4"].read_bytes()
    for kind in (b"stts", b"stsc", b"stsz", b"stco", b"ctts", b"stss", b"stsd", b"elst"):
        for count in (0x7FFFFFFF, 0xFFFFFFFF):
            place = data.find(kind)
            if place > 0:
                # The count stands behind version and flags, in stsz behind the common size too.
                start = place + (12 if kind == b"stsz" else 8)
                changed = data[:start] + be(count) + data[start + 4 :]
                assert hostile(changed) in SOUND


@pytest.mark.parametrize(
    "data",
    [
        FTYP + bytes(10**6),
        FTYP + be(0) + b"moov" + bytes(1000),
        FTYP + (be(1) + b"free" + bytes(8)) * 1000,
        FTYP + (be(4) + b"free") * 1000,
        FTYP + be(0xFFFFFFFF) + b"moov",
        FTYP + be(1) + b"mdat" + b"\xff" * 8,
        b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 1000,
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\xec\x80" * 10**5,
        b"RIFF\0\0\0\0AVI LIST\0\0\0\0" * 10**4,
        b"RIFF\xff\xff\xff\xffAVI LIST\xff\xff\xff\xffmovi" + b"ix00\xff\xff\xff\xff" * 1000,
        (b"G" + b"\xff" * 187) * 1000,
    ],
    ids=["zeros", "to-the-end", "long-zero", "short", "4-GiB", "16-EiB", "ebml", "voids", "riffs", "indices", "ts"],
)
def test_boxes_that_go_nowhere(hostile, data):
    assert hostile(data) in BROKEN


@pytest.mark.parametrize(("kind", "levels"), [(b"moov", 30_000), (b"trak", 30_000), (b"udta", 30_000)])
def test_boxes_in_boxes(hostile, kind, levels):
    nested = b"".join(be(8 * (levels - level)) + kind for level in range(levels))
    assert hostile(FTYP + box(b"moov", nested)) in BROKEN


def test_elements_in_elements(hostile):
    # Tags in tags: the only element of Matroska that may hold itself.
    nested = b"\x67\xc8\x01" + b"\xff" * 7
    head = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\x12\x54\xc3\x67\x01" + b"\xff" * 7
    assert hostile(head + nested * 10**5) in BROKEN


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "ts"])
def test_every_eighth_of_a_file(hostile, good, ending):
    data = good[ending].read_bytes()
    told = [hostile(data[: len(data) * eighth // 8], f"part.{ending}") for eighth in range(9)]
    assert told[0] == "empty"
    assert told[8] == "no_face"
    assert set(told[1:8]) <= BROKEN | USABLE


@pytest.mark.parametrize("seed", range(4))
def test_noise(hostile, seed):
    noise = np.random.default_rng(seed).bytes(10**5)
    for head in (b"", FTYP, b"\x1a\x45\xdf\xa3", b"RIFF....AVI "):
        assert hostile(head + noise) in BROKEN


def test_a_folder_says_nothing_about_a_video(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(StoreError, match="cannot read"):
        extract(tmp_path / "folder.mp4")


def test_a_pipe_that_nobody_writes_to(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    # The only one here that is not over at once.
    status = extract(tmp_path / "pipe.mp4", LimitSettings(timeout_seconds=0.5))
    assert status in BROKEN | {"timeout"}


@pytest.mark.parametrize("size", [(1920, 1080), (4096, 4096)])
def test_the_memory_limit_leaves_room_for_large_pictures(tmp_path, size):
    # The most pictures that H.264 may hold back, and a picture as large as limits.max_pixels allows.
    path = write_clip(
        tmp_path / "large.mp4", size=size, frames=18, preset="ultrafast", refs="16", bf="8", **{"b-pyramid": "normal"}
    )
    assert extract(path, LimitSettings()) == "no_face"
    if size == (4096, 4096):
        # A few of them at 24 MiB each do not fit, and that is no fault of the data.
        less_than_settings_allow = LimitSettings().model_copy(update={"max_memory_bytes": 2**26})
        assert extract(path, less_than_settings_allow) == "too_large"


def test_mutations_are_all_accounted_for():
    command = [sys.executable, str(FUZZ), "--mutations", "60", "--seed", "7"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "60 mutations of" in done.stdout
    assert "not accounted for: 0" in done.stdout


def test_after_all_this_a_good_video_is_one(good):
    assert [extract(path) for path in good.values()] == ["no_face"] * len(good)
