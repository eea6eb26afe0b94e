"""Feature rows become the arrays that models learn from, with labels and people from the catalog."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dfpipe.dataset import describe_videos, join_features, load_training_data
from dfpipe.errors import TrainingDataError
from dfpipe.plan import plan_faces
from dfpipe.settings import THUMBNAILS, FaceDuplicateSettings, PixelsSettings, ResidualSettings, S3Settings, Settings
from dfpipe.shards import Tables, open_tables
from dfpipe.testing import as_catalog, finish_faces, make_video, write_features

PIXELS, RESIDUAL = PixelsSettings(size_px=4), ResidualSettings()
CATALOG = [
    make_video("a", "ca"),
    make_video("b", "cb", label="fake", target="a", source="c"),
    make_video("c", "cc"),
    make_video("d", "cd"),
]


@pytest.fixture
def store(tmp_path):
    tables = open_tables(str(tmp_path), S3Settings())
    plan = plan_faces(as_catalog(CATALOG), tables, Settings())
    finish_faces(tables, plan)
    return tables, plan.fingerprint


def load(store, catalog=CATALOG, features=(PIXELS, RESIDUAL), **options):
    tables, stage = store
    return load_training_data(as_catalog(catalog), tables, features, faces_fingerprint=stage, **options)


def test_rows_labels_and_groups_belong_together(store):
    tables, stage = store
    # Two shards, rows in no order: neither may show in the result.
    write_features(tables, PIXELS, [("d", "cd", 0, [7, 8]), ("c", "cc", 0, [9, 9])], faces_fingerprint=stage)
    write_features(
        tables,
        PIXELS,
        [("b", "cb", 0, [3, 4]), ("a", "ca", 0, [1, 2]), ("b", "cb", 30, [5, 6])],
        faces_fingerprint=stage,
    )
    rows = [
        (name, "c" + name, frame, [value])
        for name, frame, value in [("c", 0, 0.9), ("a", 0, 0.1), ("b", 0, 0.3), ("d", 0, 0.7), ("b", 30, 0.5)]
    ]
    write_features(tables, RESIDUAL, rows, faces_fingerprint=stage)
    videos, data = load(store)
    assert [video.video_id for video in videos] == list(data.video_ids) == ["a", "b", "c", "d"]
    assert data.X.dtype == np.float32
    expected = [[1, 2, 0.1], [3, 4, 0.3], [5, 6, 0.5], [9, 9, 0.9], [7, 8, 0.7]]
    np.testing.assert_array_equal(data.X, np.array(expected, np.float32))
    assert data.y.tolist() == [0, 1, 1, 0, 0]
    assert data.video.tolist() == [0, 1, 1, 2, 3]
    # a and c appear together in b; d is alone.
    assert data.groups.tolist() == [0, 0, 0, 1]
    assert [tuple(block) for block in data.columns] == [("pixels", 0, 2), ("residual", 2, 3)]


def test_one_uint8_feature_stays_uint8_and_stands_column_by_column(store):
    tables, stage = store
    rows = [(video.video_id, video.content_id, 0, [1, 255]) for video in CATALOG]
    write_features(tables, PIXELS, rows, faces_fingerprint=stage)
    X = load(store, features=[PIXELS])[1].X
    assert X.dtype == np.uint8
    assert X.flags.f_contiguous


def test_a_commit_in_the_middle_does_not_mix_rows(store, monkeypatch):
    tables, stage = store
    rows = [(video.video_id, video.content_id, 0, [number]) for number, video in enumerate(CATALOG)]
    write_features(tables, PIXELS, rows, faces_fingerprint=stage)
    plain = Tables.read_batches

    def late(*args, **options):
        for number in range(5):
            write_features(tables, PIXELS, [("a", f"before {number}", 0, [99])], faces_fingerprint=stage)
        return plain(*args, **options)

    monkeypatch.setattr(Tables, "read_batches", late)
    assert load(store, features=[PIXELS])[1].X.ravel().tolist() == [0, 1, 2, 3]


@settings(max_examples=5)
@given(seed=st.integers(0, 999), files=st.integers(1, 3), faces=st.integers(1, 30))
def test_every_row_comes_to_its_place_whatever_file_it_is_in(tmp_path_factory, seed, files, faces):
    tables = open_tables(str(tmp_path_factory.mktemp("store")), S3Settings())
    plan = plan_faces(as_catalog(CATALOG), tables, Settings())
    finish_faces(tables, plan)
    rng = np.random.default_rng(seed)
    # Of the last video of the catalog and of an earlier content nothing is wanted.
    videos = [(video.video_id, content) for video in CATALOG for content in (video.content_id, "before")]
    written = []
    for part in np.array_split(rng.permutation(len(videos)), files):
        rows = [(*videos[n], frame, rng.integers(0, 256, 3).tolist()) for n in part for frame in range(faces)]
        written += rows
        write_features(
            tables, PIXELS, [rows[n] for n in rng.permutation(len(rows))], faces_fingerprint=plan.fingerprint
        )
    _, data = load((tables, plan.fingerprint), catalog=CATALOG[:3], features=[PIXELS])
    names = {video.video_id for video in CATALOG[:3]}
    wanted = sorted(row for row in written if row[0] in names and row[1] != "before")
    assert data.X.tolist() == [row[3] for row in wanted]
    assert [data.video_ids[video] for video in data.video] == [row[0] for row in wanted]


def test_rows_of_earlier_content_are_left_out(store):
    tables, stage = store
    rows = [(video.video_id, video.content_id, 0, [1]) for video in CATALOG] + [("a", "before", 0, [2])]
    write_features(tables, PIXELS, rows, faces_fingerprint=stage)
    assert load(store, features=[PIXELS])[1].X.ravel().tolist() == [1, 1, 1, 1]


def test_a_feature_set_with_fewer_rows_is_refused(store):
    tables, stage = store
    rows = [(video.video_id, video.content_id, 0, [1]) for video in CATALOG]
    write_features(tables, PIXELS, rows, faces_fingerprint=stage)
    write_features(tables, RESIDUAL, rows[1:], faces_fingerprint=stage)
    with pytest.raises(TrainingDataError, match="residual has 3 rows where pixels has 4"):
        load(store)


def test_the_same_bytes_under_two_names_stay_together(store):
    tables, stage = store
    catalog = [*CATALOG[:3], make_video("d", "ca")]
    finish_faces(tables, plan_faces(as_catalog(catalog), tables, Settings()))
    rows = [(video.video_id, video.content_id, 0, [1]) for video in catalog]
    write_features(tables, PIXELS, rows, faces_fingerprint=stage)
    assert load(store, catalog=catalog, features=[PIXELS])[1].groups.tolist() == [0, 0, 0, 0]


def test_videos_that_look_the_same_are_one_group(store):
    tables, stage = store
    catalog = [*CATALOG, make_video("e", "ce")]
    finish_faces(tables, plan_faces(as_catalog(catalog), tables, Settings()))
    rng = np.random.default_rng(0)
    looks = {name: rng.integers(0, 256, (4, 4)).repeat(8, 0).repeat(8, 1).ravel() for name in "abcd"}
    looks["e"] = looks["d"] // 2 + 60
    pixels = [(name, "c" + name, frame, [1]) for name in looks for frame in (0, 30)]
    write_features(tables, PIXELS, pixels, faces_fingerprint=stage)
    faces = [(name, "c" + name, frame, look.tolist()) for name, look in looks.items() for frame in (0, 30)]
    write_features(tables, THUMBNAILS, faces[:1:-1], faces_fingerprint=stage)
    compared = {"catalog": catalog, "features": [PIXELS], "face_duplicates": FaceDuplicateSettings()}
    with pytest.raises(TrainingDataError, match="of 10 there are 8; run `dfpipe run --until features`"):
        load(store, **compared)
    write_features(tables, THUMBNAILS, faces[:2], faces_fingerprint=stage)
    for rows in ("face", "video"):
        _, data = load(store, **compared, rows=rows)
        assert data.groups.tolist() == [0, 0, 0, 1, 1]
        assert data.face_joins.pairs.tolist() == [[3, 4]]
        assert data.face_joins.people.tolist() == [0, 0, 0, 1, 2]
    assert load(store, catalog=catalog, features=[PIXELS])[1].face_joins is None


def test_no_usable_video_at_all(store):
    with pytest.raises(TrainingDataError, match="none of the 1 videos"):
        load(store, catalog=[make_video("z")])


def test_video_rows_are_mean_deviation_least_and_greatest_of_the_faces(store):
    tables, stage = store
    frames = [("a", 1), ("b", 250), ("b", 10), ("b", 10), ("c", 5), ("d", 7), ("d", 8)]
    for feature, scale in ((PIXELS, 1), (RESIDUAL, 0.5)):
        rows = [(name, "c" + name, place, [scale * level]) for place, (name, level) in enumerate(frames)]
        write_features(tables, feature, rows, faces_fingerprint=stage)
    videos, data = load(store, rows="video")
    assert [video.video_id for video in videos] == ["a", "b", "c", "d"]
    assert data.X.dtype == np.float32
    pixels = [[1, 0, 1, 1], [90, 160 / np.sqrt(2), 10, 250], [5, 0, 5, 5], [7.5, 0.5, 7, 8]]
    np.testing.assert_allclose(data.X, np.concatenate([pixels, np.array(pixels) / 2], axis=1), rtol=1e-6)
    assert [tuple(block) for block in data.columns] == [("pixels", 0, 4), ("residual", 4, 8)]
    assert (data.y.tolist(), data.video.tolist()) == ([0, 1, 0, 0], [0, 1, 2, 3])
    assert data.groups.tolist() == [0, 0, 0, 1]
    # Nothing of it is in the store: faces are there as they were.
    assert load(store)[1].X.shape == (7, 2)


@settings(deadline=None)
@given(
    block=arrays(np.float32, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(-99, 99, width=32)),
    seed=st.integers(0, 99),
)
def test_a_video_is_described_the_same_among_others_alone_and_in_any_order(block, seed):
    rng = np.random.default_rng(seed)
    video = rng.integers(0, 3, len(block))
    described = describe_videos(block, video)
    for row, number in zip(described, np.unique(video), strict=True):
        alone = block[video == number]
        np.testing.assert_array_equal(describe_videos(alone, np.zeros(len(alone), int))[0], row)
        expected = np.concatenate([getattr(np, name)(alone, axis=0) for name in ("mean", "std", "min", "max")])
        np.testing.assert_allclose(row, expected, rtol=1e-4, atol=1e-3)
    order = rng.permutation(len(block))
    np.testing.assert_allclose(describe_videos(block[order], video[order]), described, rtol=1e-5, atol=1e-5)


def test_two_sets_of_one_name_are_blocks_of_their_own(store):
    tables, stage = store
    features = [PIXELS, PixelsSettings(size_px=4, channels="luma")]
    for place, feature in enumerate(features):
        rows = [(video.video_id, video.content_id, 0, [place]) for video in CATALOG]
        write_features(tables, feature, rows, faces_fingerprint=stage)
    data = load(store, features=features)[1]
    assert data.X[0].tolist() == [0, 1]
    assert [block.feature for block in data.columns] == ["pixels(channels=rgb)", "pixels(channels=luma)"]


def test_join_names_the_columns():
    X, columns = join_features([np.zeros((2, 3), np.uint8), np.zeros((2, 1), np.float32)], ["p", "r"])
    assert (X.shape, X.dtype) == ((2, 4), np.float32)
    assert [tuple(block) for block in columns] == [("p", 0, 3), ("r", 3, 4)]
