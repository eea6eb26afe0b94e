"""Forgetting people in a real store: what real extraction, training and dead attempts left of them is gone."""

import io
import json
import shutil
from base64 import b64encode
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dfpipe import forget as forgetting
from dfpipe import steps, training
from dfpipe.catalog import to_videos
from dfpipe.cli._forget import print_receipt
from dfpipe.dataset import load_training_data
from dfpipe.errors import ModelNotFoundError, StoreError
from dfpipe.extract import extract_fingerprint, extract_video
from dfpipe.forget import forget, look_for
from dfpipe.forgotten import load_forgotten
from dfpipe.lineage import tables_as_of, tables_as_they_are
from dfpipe.models import candidates, search
from dfpipe.plan import plan_faces, plan_features, training_fingerprint, usable_videos
from dfpipe.promotion import promote, read_history
from dfpipe.report import escape_markdown, example_faces, make_report, report_folder, write_report
from dfpipe.settings import BootstrapSettings, GateSettings, load_settings
from dfpipe.shards import SCHEMAS, Tables, erase, open_tables
from dfpipe.shards.upkeep import compact, vacuum
from dfpipe.sheets import draw_sheets
from dfpipe.storage import boto_environment, open_location
from dfpipe.synth import write_dataset
from dfpipe.testing import BY
from dfpipe.tracking import find_finished, forgotten_by, lineage, versions_in_use
from dfpipe.tracking import sheets as tracked

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*iCCP")]

PERSON = "ffpp:000"
"""Who is forgotten: seen in a video of her own, and in fakes as target and as source."""
NICKNAME = "nanny-zero"
"""What a further column of the source says of her videos alone."""
STRICT = GateSettings(min_groups=10**6, bootstrap=BootstrapSettings(samples=100))
"""Rules that let nobody pass, so that a champion is forced and has a reason."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Twelve invented people; one fake of the first is damaged, so that reports name it."""
    folder = tmp_path_factory.mktemp("source")
    write_dataset(folder, num_identities=12, num_frames=(12, 12), heights=(360,), jobs=2)
    fakes = sorted((folder / "manipulated_sequences").rglob("000_*.mp4"))
    fakes[0].write_bytes(fakes[0].read_bytes()[:100] + b"damaged" * 100)
    attributes = folder / "attributes.csv"
    first, *lines = attributes.read_text().splitlines()
    called = [f"{line},{NICKNAME if '000' in line else 'nobody'}" for line in lines]
    attributes.write_text("\n".join([f"{first},nickname", *called]))
    return folder


def make_settings(source, store, state, *more):
    return load_settings(
        overrides=[
            f"source={source}",
            f"store={store}",
            f"state={state}",
            "videos_per_shard=5",
            "extract.sampling.every_frames=5",
            "extract.sampling.max_frames=2",
            "train.features=[{name: pixels, size_px: 8}]",
            "train.split.folds=2",
            "train.forest.n_estimators=[5]",
            "train.xgboost=null",
            "train.evaluation.sheets={faces: 2}",
            "report.faces=100",
            *more,
        ],
        environ={},
    )


def settle(settings, tables, shard, fingerprint):
    done = [
        extract_video(video, settings=settings.extract, limits=settings.limits, s3=settings.s3)
        for video in shard.videos
    ]
    keys = [video.key for video in shard.videos]
    return steps._settle_faces(
        done, tables=tables, fingerprint=fingerprint, shard=shard.name, keys=keys, limits="l", by=BY
    )[0]


def preprocess(settings, tables, *, leave=0):
    """Do what the flow does, but for the last shards; return the plan of these."""
    plan = plan_faces(steps.refresh_catalog(settings, tables, by=BY), tables, settings)
    for shard in list(plan.shards())[leave:]:
        tables.commit(settle(settings, tables, shard, plan.fingerprint), by=BY)
    sets = settings.train.features
    for features in plan_features(tables, sets, faces_fingerprint=plan.fingerprint, videos_per_shard=2):
        for shard in features.works():
            tables.commit(steps._settle_features((tables, features, BY), shard), by=BY)
    write_report(make_report(settings, run_id="r"), report_folder(tables, "r"), faces=example_faces(settings))
    return plan


class DiedError(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def template(source, tmp_path_factory):
    """A store with all that runs leave: committed rows, a merged file, and files of an attempt that died."""
    folder = tmp_path_factory.mktemp("template")
    settings = make_settings(source, folder / "store", folder / "state")
    tables = open_tables(settings.store, settings.s3)
    plan = preprocess(settings, tables, leave=1)
    compact(tables, target_bytes=10**6, by=BY)

    def die(*_args, **_options):
        raise DiedError

    with pytest.MonkeyPatch.context() as dying:
        dying.setattr(Tables, "_claim", die)
        with pytest.raises(DiedError):
            settle(settings, tables, next(plan.shards()), plan.fingerprint)
    # The same videos once more, in other hands and to the end.
    preprocess(settings, tables)
    tables.log("faces").open().create_checkpoint()
    (folder / "store/tables/faces/fingerprint=x").mkdir()
    (folder / "store/tables/faces/fingerprint=x/.a.parquet.7-7.partial").write_bytes(first_crop(tables))
    return folder / "store"


def first_crop(tables):
    faces = tables.read("faces", videos=["ffpp/original/c23/000"], columns=["crop_png"])
    return faces["crop_png"][0].as_py()


@pytest.fixture
def local(source, template, tmp_path):
    shutil.copytree(template, tmp_path / "store")
    return make_settings(source, tmp_path / "store", tmp_path / "state")


@pytest.fixture
def remote(source, template, tmp_path, bucket, s3, monkeypatch):
    store = open_location(f"{bucket}/store", s3)
    store.fs.put(f"{template}/", f"{store.path}/", recursive=True)
    for name, value in boto_environment(s3).items():
        monkeypatch.setenv(name, value)
    settings = make_settings(source, store.url, tmp_path / "state")
    return settings.model_copy(update={"s3": s3})


def train(settings, at=None):
    """Do what the flow does; return the record, and whether it was made now."""
    tracking = training.connect_tracking(settings)
    tables = open_tables(settings.store, settings.s3)
    tables = tables_as_they_are(tables) if at is None else tables_as_of(tables, tracking, at, settings)
    faces = extract_fingerprint(settings.extract)
    catalog = steps.load_catalog(tables)
    usable = usable_videos(catalog, tables, faces_fingerprint=faces)
    fingerprint = training_fingerprint(usable, settings.train, faces_fingerprint=faces)
    if found := find_finished(tracking, fingerprint):
        return found, False
    videos, data = load_training_data(catalog, tables, settings.train.features, faces_fingerprint=faces)
    split = training.split_videos(videos, data, settings.train.split)
    found = search(data, split.folds, candidates(settings.train))
    record = training.record(
        tracking,
        settings=settings,
        data=data,
        split=split,
        found=found,
        evaluations=training.evaluate_best(
            tracking, videos, data, split, found, settings.train, fingerprint=fingerprint
        ),
        fingerprint=fingerprint,
        faces_fingerprint=faces,
        tags=training.training_tags(tables, BY),
    )
    draw(settings, record)
    return record, True


def draw(settings, record):
    """Draw the training's sheets, as the flow does after each; return how many were drawn."""
    tables = open_tables(settings.store, settings.s3)
    return draw_sheets(
        training.connect_tracking(settings),
        record.run_id,
        tables,
        steps.load_catalog(tables),
        settings.train.evaluation.sheets,
        faces_fingerprint=extract_fingerprint(settings.extract),
    )


def objects(settings):
    store = open_location(settings.store, settings.s3)
    return {path.removeprefix(f"{store.path}/"): store.fs.cat_file(path) for path in store.fs.find(store.path)}


def values_in(column):
    """Yield every string and byte string in a column, however deep."""
    if pa.types.is_struct(column.type):
        for index in range(column.type.num_fields):
            yield from values_in(pc.struct_field(column, [index]))
    elif pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type) or pa.types.is_string(column.type):
        yield from (value.encode() if isinstance(value, str) else value for value in column.to_pylist() if value)


def places_of(settings, needles):
    """Return the folders in which any of these bytes stand: as they are, or inside Parquet, where they are packed."""
    found = set()
    for path, content in objects(settings).items():
        parts = [content]
        if path.endswith(".parquet"):
            table = pq.read_table(io.BytesIO(content))
            parts += [b"\0".join(values_in(column)) for column in table.columns]
        if any(needle in part for part in parts for needle in needles):
            found.add(path.partition("fingerprint=")[0].rpartition("/")[0])
    return found


def hers(settings):
    """Return the video_ids of the person, and the bytes that must not be found any more."""
    tables = Tables(settings.store, settings.s3)
    catalog = [video for video in to_videos(tables.read("catalog")) if PERSON in video.identities]
    ids = {video.video_id for video in catalog}
    faces, frames = (tables.read(table, videos=ids) for table in ("faces", "frames"))
    pictures = {*faces["crop_png"].to_pylist(), *frames["jpeg"].to_pylist()}
    assert len(pictures) > len(ids)
    names = {PERSON, NICKNAME, *ids, *(video.content_id for video in catalog)}
    names |= {escape_markdown(name) for name in names}
    pictures |= {b64encode(face.jpeg) for face in example_faces(settings) if face.video_id in ids}
    return ids, {*(name.encode() for name in names), *pictures, *sheets(settings, ids).values()}


def sheets(settings, ids):
    """Return the bytes of every sheet in MLflow that shows one of these videos, by path."""
    stored = objects(settings)
    return {
        str(PurePosixPath(path).with_name(name)): stored[str(PurePosixPath(path).with_name(name))]
        for path, content in stored.items()
        if path.endswith("/sheets.json")
        for name, video_ids in json.loads(content)["sheets"].items()
        if ids.intersection(video_ids)
    }


def others(settings, ids):
    """Return all rows of everybody else, table by table, without what a run says of itself."""
    tables = Tables(settings.store, settings.s3)
    return {
        table: sorted(repr(sorted(row.items())) for row in tables.read(table).to_pylist() if row["video_id"] not in ids)
        for table in SCHEMAS
    }


@pytest.mark.parametrize("store", ["local", pytest.param("remote", marks=pytest.mark.services)])
def test_nothing_of_her_is_left_and_nothing_of_others_is_lost(store, request, capsys):
    settings = request.getfixturevalue(store)
    tables = Tables(settings.store, settings.s3)
    record, _ = train(settings)
    reason = f"sharper than ever on {PERSON}."
    promote(settings.model_copy(update={"gate": STRICT}), record.model_version, force=True, reason=reason)
    ids, needles = hers(settings)
    assert {"examples_real.png", "examples_fake.png"} <= {PurePosixPath(path).name for path in sheets(settings, ids)}
    places = {"tables/faces", "tables/faces/_delta_log", "tables/claims", "tables/catalog", "reports/r", "registry"}
    assert places <= places_of(settings, needles)
    assert any(place.startswith("mlflow/") for place in places_of(settings, needles))
    before = others(settings, ids)
    shown = {b64encode(face.jpeg) for face in example_faces(settings) if face.video_id not in ids}

    found = look_for(settings, identities=[PERSON])
    assert set(found.videos) == ids
    receipt = forget(settings, found)

    assert places_of(settings, needles) == set()
    assert others(settings, ids) == before
    assert all(face in objects(settings)["reports/r/report.html"] for face in shown)
    # What is drawn of the training from now on is without her.
    assert draw(settings, record) > 0
    assert draw(settings, record) == 0
    assert any(path.endswith("/examples_fake.png") for path in objects(settings))
    assert places_of(settings, needles) == set()
    # The log is still one that readers of every kind accept, at every version.
    for table in SCHEMAS:
        for version in range(tables.version(table) + 1):
            assert tables.log(table).open(version=version).version() == version

    # The receipt tells all of it, and names nobody; nor does the list of what is forgotten.
    (path,) = [path for path in objects(settings) if path.startswith("receipts/")]
    told = json.loads(objects(settings)[path])
    assert told["videos"] == len(ids)
    assert told["rows"]["catalog"] == len(ids)
    assert told["rows"]["faces"] == found.rows["faces"] > 0
    assert min(told[name] for name in ("files", "size_bytes", "log_entries", "reports", "artifacts")) > 0
    assert told["reasons"] == 1
    assert [one.reason for one in read_history(settings)] == ["(forgotten)"]
    assert told["trainings"][0]["model_version"] == record.model_version
    print_receipt(receipt)
    printed = capsys.readouterr().out
    assert f"version {record.model_version}" in printed
    assert not any(needle in printed.encode() for needle in needles)

    # The model is marked wherever it is shown.
    tracking = training.connect_tracking(settings)
    assert forgotten_by(tracking, record.model_name, record.model_version) == receipt.id
    assert receipt.id in tracking.client.get_model_version(record.model_name, record.model_version).description
    assert tracking.client.get_run(record.run_id).data.tags["dfpipe.forgotten"] == receipt.id

    # A rerun has nothing left to do, and the next run does not take her up again, though the source has her still.
    again = forget(settings, look_for(settings, identities=[PERSON]))
    assert not again.did_anything
    assert [path for path in objects(settings) if path.startswith("receipts/")] == [f"receipts/{receipt.id}.json"]
    plan = preprocess(settings, tables)
    assert plan.num_shards == 0
    assert places_of(settings, needles) == set()
    assert others(settings, ids) == before
    second, now = train(settings)
    assert now
    assert forgotten_by(tracking, second.model_name, second.model_version) is None


def test_a_training_is_made_again_of_the_rows_that_it_read(local):
    """Without pinned versions it reads no rows, or more; without the check, what a vacuum took is no clear line."""
    tables = Tables(local.store, local.s3)
    steps.refresh_catalog(local, tables, by=BY)
    whole = tables.read("catalog")
    tables.replace("catalog", whole.filter(pc.not_equal(whole["target"], PERSON)), by=BY)
    first, now = train(local)
    assert now
    tracking = training.connect_tracking(local)
    tags = tracking.client.get_run(first.run_id).data.tags
    assert {tags[f"dfpipe.version.{table}"] for table in ("catalog", "videos", "features")} == {
        str(tables.version(table)) for table in ("catalog", "videos", "features")
    }
    assert (tags["dfpipe.store"], tags["dfpipe.dfpipe_version"]) == (local.store, BY.dfpipe_version)
    used = versions_in_use(tracking)
    assert used == {table: [tables.version(table)] for table in ("catalog", "videos", "features")}

    # More videos in the catalog, rows that are gone, and everything in other files.
    tables.replace("catalog", whole, by=BY)
    tables.delete_videos("features", {(row["video_id"], row["content_id"]) for row in whole.to_pylist()}, by=BY)
    compact(tables, target_bytes=10**9, by=BY)
    vacuum(tables, retention_hours=0, keep_versions=used, by=BY)
    assert train(local, at=first.run_id) == (first, False)
    # Trained again, the rows are the same to the last byte.
    tracking.client.delete_model_version(first.model_name, first.model_version)
    again, now = train(local, at=first.run_id)
    assert now
    new = tracking.client.get_run(again.run_id).data.tags
    for tag in ("fingerprint", "rows_sha256", "split_sha256", "version.features", "version.videos", "version.catalog"):
        assert new[f"dfpipe.{tag}"] == tags[f"dfpipe.{tag}"]
    vacuum(tables, retention_hours=0, keep_versions={}, by=BY)
    with pytest.raises(StoreError, match=rf"run {first.run_id} read, is not whole any more: `dfpipe vacuum` or"):
        train(local, at=first.run_id)
    with pytest.raises(ModelNotFoundError, match="has no run 'nonsense'"):
        train(local, at="nonsense")
    child = next(
        run for run in tracking.client.search_runs([first.experiment_id]) if "dfpipe.fingerprint" not in run.data.tags
    )
    with pytest.raises(ModelNotFoundError, match="recorded no versions"):
        train(local, at=child.info.run_id)


def forget_without(step, monkeypatch, settings):
    """Forget her with one step taken out."""
    room, name, instead = {
        "remembering": (
            forgetting,
            "remember_forgotten",
            lambda tables, marks, **_: load_forgotten(tables).extended(marks),
        ),
        "rows": (Tables, "delete_videos", lambda *_, **__: []),
        "bytes": (erase, "_remove", lambda _: None),
        "halves": (erase, "_leftovers", lambda _: ()),
        "logs": (erase, "_scrub", lambda _: 0),
        "commits": (erase, "_scrub_commit", lambda *_: None),
        "checkpoints": (erase, "_scrub_checkpoint", lambda *_: None),
        "catalog": (forgetting, "_forget_in_catalog", lambda *_: 0),
        "reports": (forgetting, "_forget_in_reports", lambda *_: 0),
        "artifacts": (forgetting, "remove_names", lambda *_: 0),
    }[step]
    monkeypatch.setattr(room, name, instead)
    forget(settings, look_for(settings, identities=[PERSON]))


@pytest.mark.parametrize(
    ("step", "left"),
    [
        ("rows", "tables/faces"),
        ("bytes", "tables/faces"),
        ("halves", "tables/faces"),
        ("logs", "tables/faces/_delta_log"),
        ("commits", "tables/faces/_delta_log"),
        ("checkpoints", "tables/faces/_delta_log"),
        ("catalog", "tables/catalog"),
        ("reports", "reports/r"),
    ],
)
def test_each_step_is_needed(step, left, local, monkeypatch):
    _, needles = hers(local)
    forget_without(step, monkeypatch, local)
    assert left in places_of(local, needles)


def test_names_in_what_trainings_left_are_found_without_the_step_that_removes_them(local, monkeypatch):
    train(local)
    _, needles = hers(local)
    forget_without("artifacts", monkeypatch, local)
    assert {place.partition("/")[0] for place in places_of(local, needles)} == {"mlflow"}


@pytest.mark.parametrize(
    ("room", "name", "instead"), [(lineage, "remove_sheets", lambda *_: 0), (tracked, "_write_shown", lambda *_: None)]
)
def test_sheets_that_show_her_are_found_without_the_step_that_takes_them_away(local, monkeypatch, room, name, instead):
    train(local)
    _, needles = hers(local)
    with monkeypatch.context() as without:
        without.setattr(room, name, instead)
        forget(local, look_for(local, identities=[PERSON]))
    assert {place.partition("/")[0] for place in places_of(local, needles)} == {"mlflow"}
    # The next call makes it whole.
    forget(local, look_for(local, identities=[PERSON]))
    assert places_of(local, needles) == set()


def test_without_the_list_the_next_run_brings_her_back(local, monkeypatch):
    ids, _ = hers(local)
    tables = Tables(local.store, local.s3)
    forget_without("remembering", monkeypatch, local)
    preprocess(local, tables)
    assert ids <= set(tables.read("videos")["video_id"].to_pylist())
