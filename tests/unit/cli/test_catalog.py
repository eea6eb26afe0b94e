"""What a data set holds, on the terminal and as JSON."""

import json

import pytest

from dfpipe.catalog import read_catalog
from dfpipe.settings import S3Settings
from dfpipe.storage import open_location


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    # Two fakes of anna by ben: one pair of people. Cleo is met by nobody.
    (folder / "metadata.csv").write_text(
        "video,label,target,source\nanna.mp4,real,anna,\nben.mp4,real,ben,\ncleo.mp4,real,cleo,\n"
        "one.mp4,fake,anna,ben\ntwo.mp4,fake,anna,ben\n"
    )
    for name in ("anna", "ben", "cleo", "one", "two"):
        (folder / f"{name}.mp4").write_bytes(name.encode() * 1000)
    return folder


def test_the_kinds_of_videos_and_the_people_are_counted(dfpipe, source):
    code, text, _ = dfpipe("catalog", str(source))
    assert code == 0
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert "data fake fake 2" in lines
    assert "data original real 3" in lines
    assert lines[-1] == "5 videos, 1.7e-05 GB, 3 people in 2 groups that share nobody"


def test_what_else_is_told_of_the_videos_is_named(dfpipe, source):
    (source / "attributes.csv").write_text("video,lighting,skin_tone\nanna.mp4,dim,dark\nben.mp4,dim,light\n")
    _, text, _ = dfpipe("catalog", str(source))
    assert text.splitlines()[-1] == "attributes: lighting (1 value), skin_tone (2 values)"


def test_json_has_every_row_of_the_catalog(dfpipe, source):
    rows = json.loads(dfpipe("catalog", str(source), "--json")[1])
    assert rows == read_catalog(open_location(source, S3Settings())).to_pylist()
    assert len(rows) == 5


def test_nothing_there_is_an_error_in_json_too(dfpipe, tmp_path):
    (tmp_path / "empty").mkdir()
    code, text, _ = dfpipe("catalog", "empty", "--json")
    assert code == 2
    assert "no files under" in text
