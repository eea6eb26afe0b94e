import errno
import io
import logging
import os
import struct
import uuid
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from s3fs.core import S3File

from dfpipe.errors import StoreError, VideoError
from dfpipe.settings import LimitSettings, S3Settings
from dfpipe.storage import open_location, storage_errors
from dfpipe.video import open_source, open_video
from dfpipe.video.layout import Box
from dfpipe.video.source import CACHED_RANGES, RANGE_BYTES, WHOLE_BYTES, SkimmableFile

LIMITS = LimitSettings()
opened = partial(open_source, max_bytes=10**9)


@pytest.fixture(scope="module")
def bucket():
    """An empty bucket on a server of our own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    settings = S3Settings(
        endpoint_url=f"http://{host}:{port}", access_key_id="test", secret_access_key=SecretStr("not-checked")
    )
    name = f"videos-{uuid.uuid4().hex}"
    location = open_location(f"s3://{name}", settings)
    location.fs.call_s3("create_bucket", Bucket=name)
    yield location
    server.stop()


@pytest.fixture
def requests(monkeypatch):
    """Bytes asked for by each request for a part of an object."""
    asked = []
    fetch = S3File._fetch_range

    def counted(self, start, end):
        asked.append(end - start)
        return fetch(self, start, end)

    monkeypatch.setattr(S3File, "_fetch_range", counted)
    return asked


@pytest.fixture(scope="module")
def big(tmp_path_factory, clip):
    """The same 24 frames in some 22 MB: in mov with the index last and first, and in Matroska."""
    folder = tmp_path_factory.mktemp("big")
    frames = {"codec": "rawvideo", "pixel_format": "rgb24", "num_frames": 24, "size": (640, 480)}
    return {
        "last.mov": clip(folder / "last.mov", **frames),
        "first.mov": clip(folder / "first.mov", **frames, container_options={"movflags": "faststart"}),
        "clip.mkv": clip(folder / "clip.mkv", **(frames | {"pixel_format": "yuv420p", "num_frames": 48})),
    }


def put(bucket, path):
    location = bucket.child(path.name)
    location.write_bytes(path.read_bytes())
    return location, path.stat().st_size


def test_local_files_are_read_where_they_are(tmp_path):
    location = open_location(tmp_path / "none.mp4", S3Settings())
    with opened(location, size_bytes=10**9) as source:
        assert source == str(tmp_path / "none.mp4")


@pytest.mark.parametrize("content", [b"", b"x" * 1000])
def test_small_objects_come_whole(bucket, requests, tmp_path, content):
    (tmp_path / "small").write_bytes(content)
    location, size_bytes = put(bucket, tmp_path / "small")
    with opened(location, size_bytes=size_bytes) as source:
        assert source.read() == content
    assert requests == []


@pytest.mark.parametrize("name", ["last.mov", "first.mov"])
def test_of_a_large_mov_only_the_index_and_what_is_decoded_is_fetched(bucket, requests, big, decode_all, name):
    location, size_bytes = put(bucket, big[name])
    assert size_bytes > 2 * WHOLE_BYTES
    with opened(location, size_bytes=size_bytes) as source, open_video(source, limits=LIMITS) as video:
        assert video.info.num_frames == 24
        frames = list(video.frames([0, 12, 23]))
    pictures = decode_all(big[name])
    assert all(np.array_equal(frame.image, pictures[frame.index]) for frame in frames)
    assert len(frames) == 3
    assert max(requests) <= RANGE_BYTES
    # Beginning, end, and the three places at which frames lie, each perhaps on both sides of a border.
    assert sum(requests) <= 7 * RANGE_BYTES < size_bytes / 2


def test_other_containers_are_copied_in_parts_and_the_copy_is_gone(
    bucket, requests, big, decode_all, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    location, size_bytes = put(bucket, big["clip.mkv"])
    with opened(location, size_bytes=size_bytes) as source:
        assert Path(f"/proc/self/fd/{source.fileno()}").readlink().parent == tmp_path
        with open_video(source, limits=LIMITS) as video:
            (frame,) = video.frames([47])
        assert max(requests) <= WHOLE_BYTES
        # One range more to see what it is.
        assert sum(requests) == size_bytes + RANGE_BYTES
        assert list(tmp_path.iterdir()) == []
    assert source.closed
    assert np.array_equal(frame.image, decode_all(big["clip.mkv"])[47])


def test_memory_is_bounded_however_much_is_read(bucket, big):
    location, size_bytes = put(bucket, big["first.mov"])
    with opened(location, size_bytes=size_bytes) as source:
        while source.read(2**18):
            pass
        assert source._file.cache.cache_info().currsize == CACHED_RANGES < size_bytes / RANGE_BYTES


@pytest.mark.parametrize("is_local", [True, False])
def test_what_is_too_large_is_not_even_asked_for(bucket, tmp_path, is_local):
    location = open_location(tmp_path, S3Settings()) if is_local else bucket
    # There is no such file: asking for it would fail otherwise.
    with pytest.raises(VideoError) as caught, open_source(location.child("no.mp4"), size_bytes=101, max_bytes=100):
        pass
    assert (caught.value.fault, caught.value.reason) == ("too_large", "got 101 bytes, expected at most 100")


def test_nothing_is_asked_for_to_know_an_empty_object(bucket):
    with opened(bucket.child("no.mp4"), size_bytes=0) as source:
        assert source.read() == b""


@pytest.mark.parametrize("listed_bytes", [1, 999, 1001, 5000])
def test_a_small_object_that_is_another_than_the_listed_one(bucket, monkeypatch, listed_bytes):
    location = bucket.child("small")
    location.write_bytes(b"x" * 1000)
    fetched = []
    fetch = location.fs.cat_file
    monkeypatch.setattr(location.fs, "cat_file", lambda *at, **how: fetched.append(fetch(*at, **how)) or fetched[-1])
    with pytest.raises(OSError, match="changed since"), opened(location, size_bytes=listed_bytes):
        pass
    # However large it has become.
    assert [len(data) for data in fetched] == [min(1000, listed_bytes + 1)]


def test_a_small_object_that_has_become_empty(bucket):
    location = bucket.child("small")
    location.write_bytes(b"")
    with pytest.raises(OSError), opened(location, size_bytes=1000):
        pass


def test_a_disk_without_room_for_a_copy_is_named(bucket, requests, big, monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("os.posix_fallocate", refuse)
    location, size_bytes = put(bucket, big["clip.mkv"])
    with pytest.raises(StoreError) as caught, storage_errors("read", location.url):  # noqa: SIM117
        with opened(location, size_bytes=size_bytes):
            pass
    assert f"no room for a copy of {size_bytes} bytes" in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    # Seen before the bytes came: only the range that shows what it is.
    assert sum(requests) == RANGE_BYTES


@pytest.mark.parametrize("name", ["last.mov", "clip.mkv"])
@pytest.mark.parametrize("change", [-1, 1])
def test_an_object_that_is_another_than_the_listed_one(bucket, big, name, change):
    location, size_bytes = put(bucket, big[name])
    with pytest.raises(OSError, match="changed"), opened(location, size_bytes=size_bytes + change):
        pass


def test_an_object_that_changes_while_it_is_read(bucket, big):
    location, size_bytes = put(bucket, big["first.mov"])
    with pytest.raises(OSError), opened(location, size_bytes=size_bytes) as source:  # noqa: PT012
        source.read(100)
        location.write_bytes(bytes(size_bytes))
        source.seek(size_bytes // 2)
        source.read(100)


@pytest.mark.parametrize("size_bytes", [100, 10**9])
def test_an_object_that_is_gone(bucket, size_bytes):
    with pytest.raises((StoreError, FileNotFoundError)), opened(bucket.child("no.mp4"), size_bytes=size_bytes):
        pass


def test_a_network_that_fails_later_is_no_fault_of_the_video(bucket, big, monkeypatch):
    location, size_bytes = put(bucket, big["last.mov"])
    fetch, is_up = S3File._fetch_range, True

    def may_fail(self, start, end):
        if not is_up:
            raise ConnectionResetError("gone")
        return fetch(self, start, end)

    monkeypatch.setattr(S3File, "_fetch_range", may_fail)
    with opened(location, size_bytes=size_bytes) as source, open_video(source, limits=LIMITS) as video:
        is_up = False
        with pytest.raises(ConnectionResetError):
            list(video.frames([12]))


# Skimming

DATA = bytes(range(1, 101))
MEDIA = [Box(b"mdat", 10, 40), Box(b"mdat", 60, 200)]


@pytest.mark.parametrize(
    ("start", "size", "expected"),
    [
        (0, 5, DATA[:5]),
        (0, 50, DATA[:10]),  # up to where frames begin
        (10, 5, bytes(5)),
        (35, 50, bytes(5)),  # up to where they end
        (40, 60, DATA[40:60]),
        (60, -1, bytes(40)),  # the box claims more than there is
        (100, 5, b""),
        (999, -1, b""),
    ],
)
def test_skimming(start, size, expected):
    file = SkimmableFile(io.BytesIO(DATA), MEDIA, len(DATA))
    file.seek(start)
    with file.skim():
        assert file.read(size) == expected
    assert file.tell() == start + len(expected)
    file.seek(start)
    assert file.read(size) == (DATA[start:] if size < 0 else DATA[start : start + size])


def test_seeking():
    with closing(SkimmableFile(io.BytesIO(DATA), MEDIA, len(DATA))) as file:
        assert [file.seek(7), file.seek(3, os.SEEK_CUR), file.seek(-1, os.SEEK_END)] == [7, 10, 99]
        assert file.seek(-500, os.SEEK_CUR) == 0


def test_a_file_in_fragments_is_copied(bucket, requests, tmp_path):
    def box(kind, num_bytes):
        return struct.pack(">I4s", 8 + num_bytes, kind) + bytes(num_bytes)

    path = tmp_path / "fragments.mp4"
    path.write_bytes(box(b"ftyp", 4) + box(b"moov", 40) + (box(b"moof", 50) + box(b"mdat", 2**20)) * 10)
    location, size_bytes = put(bucket, path)
    with opened(location, size_bytes=size_bytes) as source:
        assert source.read() == path.read_bytes()
    assert sum(requests) <= size_bytes + 2 * RANGE_BYTES
