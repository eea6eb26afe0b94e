"""What a data set tells of its videos beyond the columns that all have."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from dfpipe.catalog import count_attributes, part_of, parts, read_catalog, to_videos
from dfpipe.catalog._attributes import attributes_text, choose_attributes
from dfpipe.errors import CatalogError, SettingsError
from dfpipe.plan import plan_catalog, plan_faces, training_fingerprint
from dfpipe.settings import EvaluationSettings, S3Settings, Settings, TrainSettings
from dfpipe.shards import CATALOG, open_tables
from dfpipe.steps import load_catalog, refresh_catalog
from dfpipe.testing import BY, as_catalog, finish_faces, make_video

FFPP = "original_sequences/youtube/c23/videos/000.mp4"
FAKE = "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4"


def as_csv(rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def told(catalog):
    return {video.video_id: json.loads(video.attributes or "{}") for video in to_videos(catalog)}


def by(*names):
    return TrainSettings(evaluation=EvaluationSettings(by=list(names)))


@pytest.mark.parametrize("place", ["folder", "bucket"])
def test_further_columns_of_a_csv_are_attributes(place, request):
    place = request.getfixturevalue(place)
    table = "video,label,identity,Skin tone,lighting\na.mp4,real,anna,brown,dim\nb.mp4,fake,anna,,\n"
    place.fill({"metadata.csv": table, "a.mp4": "a", "b.mp4": "b"})
    catalog = read_catalog(place.root)
    assert told(catalog) == {"data/fake/b": {}, "data/original/a": {"lighting": "dim", "skin_tone": "brown"}}
    assert catalog["attributes"].to_pylist() == [None, '{"lighting":"dim","skin_tone":"brown"}']
    assert count_attributes(catalog) == {"lighting": 1, "skin_tone": 1}


def test_any_layout_may_have_them_beside_it(folder, tmp_path, caplog):
    table = f"video,skin_tone\n{FAKE},dark\nelsewhere.mp4,light\n"
    folder.fill({FFPP: "a", FAKE: "b", "attributes.csv": table})
    fake, real = to_videos(read_catalog(folder.root))
    assert (fake.attributes, real.attributes) == ('{"skin_tone":"dark"}', None)
    assert "1 of 2 names in" in caplog.text
    assert "the first is elsewhere.mp4" in caplog.text


def test_those_of_the_csv_itself_hold(folder):
    folder.fill(
        {
            "metadata.csv": "video,label,identity,tone\na.mp4,real,anna,1\n",
            "attributes.csv": "video,tone,light\na.mp4,2,dim\n",
            "a.mp4": "a",
        }
    )
    assert told(read_catalog(folder.root)) == {"data/original/a": {"tone": "1", "light": "dim"}}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (f"video,tone\n{FFPP},1\n{FFPP},2\n", f"attributes.csv line 3 names {FFPP} again; keep one of the rows"),
        ("name,tone\n", "attributes.csv has columns name, tone, expected video, separated by commas"),
    ],
)
def test_a_file_that_cannot_be_used(folder, table, message):
    folder.fill({FFPP: "a", "attributes.csv": table})
    with pytest.raises(CatalogError, match=message):
        read_catalog(folder.root)


def test_what_is_no_attribute_is_left_out_in_one_line(folder, caplog):
    columns = ["notes", "url", "Größe", "x-y", "X Y", *(f"c{number}" for number in range(32))]
    rows = [["video", "label", "identity", *columns], ["a.mp4", "real", "anna", "n" * 101, *["1"] * (len(columns) - 1)]]
    folder.fill({"metadata.csv": as_csv(rows), "a.mp4": "a"})
    assert list(told(read_catalog(folder.root))["data/original/a"]) == sorted(
        ["x_y", *(f"c{number}" for number in range(31))]
    )
    (warning,) = (record.getMessage() for record in caplog.records)
    assert "notes (values of up to 101 characters, where 100 are the most)" in warning
    assert "url (the catalog has a column of this name)" in warning
    assert "größe (a name is up to 40 letters" in warning
    assert "x y (named twice)" in warning
    assert "c31 (one more than 32)" in warning


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=100).map(str.strip)


@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(rows=st.lists(st.fixed_dictionaries({"tone": texts, "light": texts}), min_size=1, max_size=5))
@example(rows=[{"tone": 'a "quoted", {"text"}', "light": "two\nlines"}])
def test_whatever_a_file_says_is_what_the_catalog_tells(folder, rows):
    names = [f"{number}.mp4" for number in range(len(rows))]
    lines = [[name, "real", name, row["tone"], row["light"]] for name, row in zip(names, rows, strict=True)]
    folder.fill({"metadata.csv": as_csv([["video", "label", "identity", "tone", "light"], *lines])})
    folder.fill(dict.fromkeys(names, "x"))
    catalog = read_catalog(folder.root)
    videos = to_videos(catalog)
    assert [json.loads(video.attributes or "{}") for video in videos] == [
        {name: value for name, value in row.items() if value} for row in rows
    ]
    # Equal attributes are equal texts, and the table and its rows agree.
    assert catalog["attributes"].to_pylist() == [attributes_text(dict(reversed(row.items()))) for row in rows]
    if any(row["tone"] for row in rows):
        values = parts(catalog, ["tone"])["tone"].to_pylist()
        assert [value or "unknown" for value in values] == [part_of(video, "tone") for video in videos]
        assert values == [row["tone"] or None for row in rows]


def test_a_column_of_the_catalog_is_a_part_as_before():
    video = make_video("a", compression="c23", attributes='{"tone":"1"}')
    assert [part_of(video, name) for name in ("dataset", "compression", "split", "tone", "light")] == [
        "d",
        "c23",
        "none",
        "1",
        "unknown",
    ]


def test_a_name_that_no_video_has_is_one_line_that_says_which_there_are():
    catalog = as_catalog([make_video("a", attributes='{"skin_tone":"dark","light":"dim"}'), make_video("b")])
    message = "by got 'tone', which none of the 2 videos has; .*of their attributes: light, skin_tone$"
    with pytest.raises(SettingsError, match=message):
        training_fingerprint(catalog, by("tone"), faces_fingerprint="f")
    with pytest.raises(SettingsError, match=r"attributes: no attributes$"):
        training_fingerprint(catalog.slice(1), by("tone"), faces_fingerprint="f")
    # Before there is a face, nothing can be said of the videos that have one.
    training_fingerprint(catalog.slice(2), by("tone"), faces_fingerprint="f")


def test_figures_of_single_people_are_refused():
    catalog = as_catalog([make_video(f"{n:02}", attributes=f'{{"actor":"{n}"}}') for n in range(31)])
    with pytest.raises(SettingsError, match=r"'actor', of which the videos have 31 different values, expected 30"):
        training_fingerprint(catalog, by("actor"), faces_fingerprint="f")
    training_fingerprint(catalog.slice(1), by("actor"), faces_fingerprint="f")


@pytest.mark.parametrize("name", ["target", "source", "identity", "video_id", "label", "score", "group"])
def test_people_and_predictions_are_no_parts(name):
    with pytest.raises(ValueError, match="expected one of dataset, manipulation, compression, split, or an attribute"):
        EvaluationSettings(by=[name])


def test_an_attribute_that_changes_redoes_what_its_figures_need_and_no_extraction(tmp_path):
    tables = open_tables(str(tmp_path / "store"), S3Settings())
    videos = [make_video(name, attributes='{"light":"dim","tone":"1"}') for name in "ab"]
    before = as_catalog(videos)
    finish_faces(tables, plan_faces(before, tables, Settings()))
    now = as_catalog([videos[0], replace(videos[1], attributes='{"light":"dim","tone":"2"}')])
    assert plan_catalog(before, now).reasons == {"attributes changed": 1}
    assert plan_faces(now, tables, Settings()).todo.num_rows == 0
    for names, same in ((["tone"], False), (["light"], True), (["dataset"], True)):
        first, second = (training_fingerprint(one, by(*names), faces_fingerprint="f") for one in (before, now))
        assert (first == second) is same, names


@pytest.fixture
def old_store(folder, tmp_path):
    """A store whose catalog an earlier dfpipe wrote, of a source that tells attributes."""
    table = "video,label,identity,tone\na.mp4,real,anna,1\nb.mp4,fake,anna,2\n"
    folder.fill({"metadata.csv": table, "a.mp4": "a", "b.mp4": "b"})
    settings = Settings(source=folder.root.url, store=str(tmp_path / "store"))
    known = read_catalog(folder.root).drop_columns("attributes")
    where = Path(settings.store, "tables/catalog")
    where.mkdir(parents=True)
    write_deltalake(str(where), known)
    return settings, known


def test_a_store_of_before_gets_them_with_the_next_run(old_store):
    settings, known = old_store
    tables = open_tables(settings.store, S3Settings())
    before = load_catalog(tables)
    assert before.schema.equals(CATALOG)
    assert before["attributes"].null_count == before.num_rows == known.num_rows
    now = refresh_catalog(settings, tables, by=BY)
    assert load_catalog(tables).equals(now)
    assert [json.loads(text) for text in now["attributes"].to_pylist()] == [{"tone": "2"}, {"tone": "1"}]
    version = tables.version("catalog")
    refresh_catalog(settings, tables, by=BY)
    assert tables.version("catalog") == version
    # What a training of then has read is still what it was.
    assert (
        tables.at({"catalog": 0})
        .read("catalog")
        .drop_columns("attributes")
        .equals(known.cast(pa.schema([field.with_nullable(True) for field in known.schema])))
    )
    assert DeltaTable(tables.location("catalog").url).to_pyarrow_table().num_rows == known.num_rows


def test_readers_take_them_apart_as_the_docs_say(old_store):
    settings, _ = old_store
    tables = open_tables(settings.store, S3Settings())
    refresh_catalog(settings, tables, by=BY)
    where, expected = tables.location("catalog").url, [("data/fake/b", "2"), ("data/original/a", "1")]
    catalog = DeltaTable(where).to_pyarrow_dataset()  # noqa: F841 - DuckDB finds it by its name
    query = "SELECT video_id, json_extract_string(attributes, '$.tone') FROM catalog ORDER BY video_id"
    assert duckdb.sql(query).fetchall() == expected
    tone = pl.col("attributes").str.json_path_match("$.tone")
    assert pl.scan_delta(where).select("video_id", tone).sort("video_id").collect().rows() == expected
    page = (Path(__file__).parents[3] / "docs/tables.md").read_text()
    assert "json_extract_string(attributes, '$.skin_tone')" in page
    assert '.str.json_path_match("$.skin_tone")' in page


def test_a_name_is_chosen_once():
    assert choose_attributes(["b", "a"], {}, known=set(), url="u") == {"b": "b", "a": "a"}
