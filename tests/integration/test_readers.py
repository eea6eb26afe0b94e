"""What others read in a store that real runs made, by the lines of docs/tables.md, and which files they leave alone."""

import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest
from deltalake import DeltaTable

from dfpipe.settings import S3Settings
from dfpipe.shards import Tables, open_tables
from dfpipe.storage import open_location
from dfpipe.synth import write_dataset
from dfpipe.testing import BY, make_row

PAGE = Path(__file__).parents[2] / "docs" / "tables.md"
FOLDER, BUCKET, *READERS, CROP = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store that two runs made, the second with a video more, and a merge between them; one video has no face."""
    folder = tmp_path_factory.mktemp("runs")
    write_dataset(folder / "videos", num_identities=2, num_frames=(12, 12), heights=(360,), seed=3, jobs=2)
    originals = sorted((folder / "videos").rglob("original_sequences/**/*.mp4"))
    (originals[0].parent / "999.mp4").write_bytes(b"no video")
    late = next((folder / "videos").rglob("manipulated_sequences/**/*.mp4"))
    late.rename(folder / late.name)

    def dfpipe(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "dfpipe.cli", *arguments, "--set=source=videos", "--set=store=store"],
            cwd=folder,
            env={**os.environ, "PREFECT_HOME": str(folder / "prefect")},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    settings = ["--set=extract.sampling.every_frames=6", "--set=videos_per_shard=1"]
    dfpipe("run", "--until=faces", *settings)
    dfpipe("compact", *settings)
    (folder / late.name).rename(late)
    dfpipe("run", "--until=faces", *settings)
    return str(folder / "store")


def check_readers(tables, setup):
    ledger = tables.read("videos").to_pylist()
    expected = sorted((row["video_id"], row["fingerprint"]) for row in ledger if row["status"] == "ok")
    assert len(expected) < len(ledger)
    faces = tables.read("faces", videos={expected[0][0]}).to_pylist()
    assert len(READERS) == 4
    for lines in READERS:
        names = {}
        exec(setup + lines + CROP, names)
        assert list(zip(names["ok"]["video_id"], names["ok"]["fingerprint"], strict=True)) == expected, lines
        assert bytes(names["crop_png"]) in {row["crop_png"] for row in faces}
        assert names["crop"].shape == (320, 320, 3)


@pytest.mark.slow
@pytest.mark.services
# Dask has not heard of what pandas 3.1 is going to do yet.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index")
def test_readers_of_a_folder(store):
    check_readers(Tables(store, S3Settings()), FOLDER.replace(".dfpipe/store", store))


@pytest.mark.slow
@pytest.mark.services
# Dask has not heard of what pandas 3.1 is going to do yet.
@pytest.mark.filterwarnings("ignore:The inplace keyword in DataFrame.reset_index")
def test_readers_of_a_bucket(store, bucket, s3):
    # Tables name their files relative to themselves, so the store may be moved.
    location = open_location(f"{bucket}/store", s3)
    location.fs.put(f"{store}/tables/", f"{location.path}/tables/", recursive=True)
    setup = BUCKET.replace("s3://bucket/dfpipe", f"{bucket}/store").replace("http://127.0.0.1:8333", s3.endpoint_url)
    setup = setup.replace('"KEY"', f'"{s3.access_key_id}"')
    setup = setup.replace('"SECRET"', f'"{s3.secret_access_key.get_secret_value()}"')
    check_readers(Tables(f"{bucket}/store", s3), setup)


@pytest.fixture
def table(tmp_path):
    """Folder of a ledger of two files."""
    tables = open_tables(str(tmp_path), S3Settings())
    facts = [("a", "ok", 10.0, 1), ("b", "timeout", 100.0, 2)]
    for video, status, seconds, month in facts:
        row = make_row(
            "videos",
            video_id=video,
            content_id="c",
            attempt=1,
            status=status,
            reason=f"why {video}",
            duration_seconds=seconds,
            has_audio=video == "a",
            finished_at=datetime(2026, month, 1, tzinfo=UTC),
        )
        works = tables.settle({"videos": [row]}, [(video, "c", 1)], fingerprint="fp", shard=video, by=BY)
        tables.commit(works, by=BY)
    return tmp_path / "tables" / "videos"


@pytest.fixture
def half_a_table(table):
    """The same with one file gone, so that whoever opens it fails."""
    (gone,) = (table / "fingerprint=fp").glob("b-*.parquet")
    gone.unlink()
    return table


FILTERS = [
    ("video_id", "=", "a"),
    ("status", "=", "ok"),
    ("duration_seconds", "<", 50.0),
    ("finished_at", "<", datetime(2026, 1, 15, tzinfo=UTC)),
]


def by_duckdb(table, column, sign, value):
    videos = DeltaTable(table).to_pyarrow_dataset()  # noqa: F841 - DuckDB finds it by its name
    return duckdb.execute(f"SELECT video_id, content_id FROM videos WHERE {column} {sign} ?", [value]).fetchall()


def by_polars(table, column, sign, value):
    wanted = pl.col(column) == value if sign == "=" else pl.col(column) < value
    return pl.scan_delta(table).filter(wanted).select("video_id", "content_id").collect().rows()


def by_pandas(table, column, sign, value):
    rows = DeltaTable(table).to_pandas(columns=["video_id", "content_id"], filters=[(column, sign, value)])
    return list(rows.itertuples(index=False, name=None))


def by_pyarrow(table, column, sign, value):
    wanted = ds.field(column) == value if sign == "=" else ds.field(column) < value
    rows = DeltaTable(table).to_pyarrow_dataset().to_table(columns=["video_id", "content_id"], filter=wanted)
    return [tuple(row.values()) for row in rows.to_pylist()]


@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_pandas, by_pyarrow])
@pytest.mark.parametrize("wanted", FILTERS, ids=lambda wanted: wanted[0])
def test_files_are_skipped_by_the_log(half_a_table, read, wanted):
    assert read(str(half_a_table), *wanted) == [("a", "c")]


@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_pandas, by_pyarrow])
def test_without_statistics_every_file_is_opened(half_a_table, read):
    # So it is the statistics that spared the file above: this column has none.
    with pytest.raises(Exception, match=r"No such file|not found|NotFound|Failed to open"):
        read(str(half_a_table), "reason", "=", "nothing")


@pytest.mark.parametrize("read", [by_duckdb, by_polars, by_pandas, by_pyarrow])
@pytest.mark.parametrize("wanted", [("reason", "=", "why a"), ("has_audio", "=", True)], ids=lambda wanted: wanted[0])
def test_a_filter_by_a_column_without_statistics_finds_its_rows(table, read, wanted):
    # It fails, and quietly so, where the table's log says that all columns have statistics: deltalake then takes those
    # of this column for null.
    assert read(str(table), *wanted) == [("a", "c")]
