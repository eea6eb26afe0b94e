"""Facts about single videos; a bad one is a line, and the others are told all the same."""

import pytest

from dfpipe.probe import probe_video
from dfpipe.settings import LimitSettings, S3Settings


def probe(path, check=False, **limits):
    return probe_video(str(path), limits=LimitSettings(**limits), s3=S3Settings(), check=check)


@pytest.fixture
def torn(small_clip, tmp_path):
    """The same with zeros in place of a stretch of its pictures."""
    data = bytearray(small_clip.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = bytes(3000)
    path = tmp_path / "torn.mp4"
    path.write_bytes(data)
    return path


def test_facts(small_clip):
    found = probe(small_clip)
    assert (found.fault, found.reason, found.damaged_frames) == (None, "", None)
    info = found.info
    assert (info.container, info.codec, info.width, info.height, info.pixel_format) == (
        "mov",
        "h264",
        96,
        64,
        "yuv420p",
    )
    assert (info.num_frames, info.keyframes, info.frame_rate) == (30, (0, 10, 20), 25)
    assert (info.is_variable_rate, info.has_audio, info.num_streams) == (False, False, 1)
    assert info.size_bytes == small_clip.stat().st_size


def test_only_a_check_finds_damage_in_the_middle(small_clip, torn):
    assert probe(small_clip, check=True).damaged_frames == 0
    assert probe(torn).fault is None
    found = probe(torn, check=True)
    assert found.fault == "corrupt"
    assert 0 < found.damaged_frames < 30
    assert found.reason == f"{found.damaged_frames} of 30 frames are damaged"
    assert found.info.num_frames == 30


def test_bad_videos_are_told_and_raise_nothing(small_clip, tmp_path):
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "notes.mp4").write_text("#EXTM3U\nfile:///etc/passwd\n")
    assert probe(tmp_path / "empty.mp4").fault == "empty"
    assert probe(tmp_path / "notes.mp4").fault == "unsupported"
    assert probe(small_clip, max_duration_seconds=1).fault == "too_long"
    missing = probe(tmp_path / "nowhere.mp4")
    assert (missing.fault, missing.info) == ("unreachable", None)
    assert missing.reason == "no such file or folder; check the address"
    assert probe(tmp_path).fault == "unreachable"
    assert probe("ftp://host/clip.mp4").fault == "unreachable"


def test_what_is_too_large_is_not_opened(small_clip, monkeypatch):
    monkeypatch.setattr("dfpipe.probe.open_video", None)
    found = probe(small_clip, max_bytes=100)
    assert (found.info, found.fault) == (None, "too_large")
    assert found.reason == f"got {small_clip.stat().st_size} bytes, expected at most 100"
