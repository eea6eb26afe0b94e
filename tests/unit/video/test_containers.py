import pytest

from dfpipe.video.containers import HEAD_BYTES, sniff

TRANSPORT = (b"G" + b"\xff" * 187) * 3


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"", None),
        (b"G", None),
        (b"\x00" * HEAD_BYTES, None),
        (b"#EXTM3U\n#EXTINF:1,\nfile.ts\n", None),
        (b"ffconcat version 1.0\nfile other.mp4\n", None),
        (b"\x89PNG\r\n\x1a\n", None),
        (b"RIFF\x00\x00\x00\x00WAVEfmt ", None),
        (b"\x00\x00\x00\x20ftypisom", "mov"),
        (b"\x00\x00\x00\x18stypmsdh", "mov"),
        (b"\x00\x00\x00\x28uuid" + b"\x5c" * 16, "mov"),
        (b"\x00\x00\x00\x08wide\x00\x00\x00\x00mdat", "mov"),
        (b"\x1a\x45\xdf\xa3\x01\x00", "matroska"),
        (b"RIFF\x00\x00\x00\x00AVI LIST", "avi"),
        (TRANSPORT[:HEAD_BYTES], "mpegts"),
        (TRANSPORT[: HEAD_BYTES - 1], None),
    ],
)
def test_sniff(head, expected):
    assert sniff(head) == expected
