"""The catalog as the store keeps it: written when it changed, read back as it was."""

import os
from pathlib import Path

import pytest

from dfpipe.settings import S3Settings, Settings
from dfpipe.shards import CATALOG, open_tables
from dfpipe.steps import list_source, load_catalog, refresh_catalog
from dfpipe.testing import BY


@pytest.fixture
def settings(folder, tmp_path):
    folder.fill(
        {
            "metadata.csv": "video,label,identity,source,split\nb.mp4,real,ben,,train\na.mp4,fake,ben,anna,\n",
            "a.mp4": "aaaa",
            "b.mp4": "bbbb",
        }
    )
    return Settings(source=folder.root.url, store=str(tmp_path / "store"))


@pytest.fixture
def tables(settings):
    return open_tables(settings.store, S3Settings())


def test_a_store_without_a_catalog_has_an_empty_one(tables):
    assert load_catalog(tables).equals(CATALOG.empty_table())


def test_it_is_stored_only_if_it_changed(settings, tables):
    first = refresh_catalog(settings, tables, by=BY)
    assert load_catalog(tables).equals(first)
    assert first["source"].to_pylist() == ["data:anna", None]
    assert tables.version("catalog") == 0

    # Fails if the stored rows, in which every column may be null, count as others than those just read.
    assert refresh_catalog(settings, tables, by=BY).equals(first)
    assert tables.version("catalog") == 0

    path = Path(settings.source, "a.mp4")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert not refresh_catalog(settings, tables, by=BY).equals(first)
    assert tables.version("catalog") == 1


def test_a_video_that_is_gone_leaves_the_catalog(settings, tables):
    refresh_catalog(settings, tables, by=BY)
    Path(settings.source, "metadata.csv").write_text("video,label\nb.mp4,real\n")
    Path(settings.source, "a.mp4").unlink()
    refresh_catalog(settings, tables, by=BY)
    assert load_catalog(tables)["video_id"].to_pylist() == ["data/original/b"]


def test_looking_stores_nothing(settings, tables):
    list_source(settings, load_catalog(tables))
    assert tables.version("catalog") is None
