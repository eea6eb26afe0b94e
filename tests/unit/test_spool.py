"""Searches that wait until their training is on record."""

import os
import time
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.errors import ServiceError, StoreError, TooLargeError, TrainingDataError
from dfpipe.models import (
    Candidate,
    CandidateResult,
    ColumnBlock,
    FoldResult,
    SearchResult,
    Split,
    TrainingData,
    rule_of,
    search,
)
from dfpipe.models.cross import CrossCell, CrossMatrix
from dfpipe.settings import EvaluationSettings, SearchSettings
from dfpipe.spool import (
    KEPT_DAYS,
    drop_matrix,
    drop_search,
    find_matrix,
    find_search,
    keep_matrix,
    keep_search,
    kept_file,
    kept_matrix,
    telling_of_kept_matrix,
    telling_of_kept_search,
)

FOREST = Candidate("forest", (("max_depth", None), ("n_estimators", 5)), 3, "upsample")
SMALLER = Candidate("forest", (("max_depth", None), ("n_estimators", 2)), 3, "upsample")
LOGISTIC = Candidate("logistic", (("C", 0.1),), 0)
BROKEN = Candidate("forest", (("max_features", "nonsense"),), 0)


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    labels = (np.arange(20) % 2).astype(np.int8)
    rows = np.repeat(np.arange(20, dtype=np.int32), 2)
    return TrainingData(
        X=rng.integers(0, 255, (40, 6)).astype(np.uint8),
        y=labels[rows],
        video=rows,
        video_ids=tuple(f"set/somebody/{number:03d}" for number in range(20)),
        groups=np.arange(20, dtype=np.int32) // 2,
        columns=(ColumnBlock("pixels", 0, 6),),
    )


@pytest.fixture(scope="module")
def split():
    # Folds whose validation rows are neither alike in number nor in the order of the rows.
    one, other = np.arange(20, 32), np.arange(20)
    return Split(np.arange(32), np.arange(32, 40), ((other, one), (one, other)))


@pytest.fixture(scope="module")
def found(data, split):
    return search(
        data, split.folds, [FOREST, SMALLER, LOGISTIC, BROKEN], settings=SearchSettings(method="halving", factor=2)
    )


def assert_same(one, other):
    assert one.scoring == other.scoring
    assert [result.candidate for result in one.ranking] == [result.candidate for result in other.ranking]
    for left, right in zip(one.ranking, other.ranking, strict=True):
        assert (left.round, left.share, left.seconds) == (right.round, right.share, right.seconds)
        assert len(left.folds) == len(right.folds)
        for a, b in zip(left.folds, right.folds, strict=True):
            assert (a.candidate, a.fold, a.error) == (b.candidate, b.fold, b.error)
            np.testing.assert_equal(dict(a.metrics), dict(b.metrics))
            assert list(a.metrics) == list(b.metrics)
            for name in ("rows", "proba"):
                assert getattr(a, name).dtype == getattr(b, name).dtype
                assert np.array_equal(getattr(a, name), getattr(b, name))


def test_a_search_comes_back_as_it_was(tmp_path, data, split, found):
    assert find_search(tmp_path, "f", data, split) is None
    keep_search(tmp_path, "f", data, split, found)
    back = find_search(tmp_path, "f", data, split)
    assert_same(back, found)
    assert back.ranking[-1].error is not None
    assert {result.round for result in back.ranking} == {0, 1, 2}
    assert rule_of(data, back.best, EvaluationSettings()) == rule_of(data, found.best, EvaluationSettings())
    assert find_search(tmp_path, "another", data, split) is None
    drop_search(tmp_path, "f")
    drop_search(tmp_path, "f")
    assert find_search(tmp_path, "f", data, split) is None
    assert list((tmp_path / "searches").iterdir()) == []


PARAMS = st.dictionaries(
    st.text(min_size=1, max_size=5), st.none() | st.integers() | st.text(max_size=5) | st.floats(allow_nan=False)
)
NUMBERS = st.floats(width=64)


@given(
    params=PARAMS,
    metrics=st.dictionaries(st.text(max_size=8), NUMBERS, min_size=1, max_size=4),
    seconds=st.floats(0, 1e9),
    error=st.none() | st.text(min_size=1),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_figure_and_parameter_comes_back_to_the_last_bit(
    tmp_path_factory, data, split, params, metrics, seconds, error, seed
):
    state = tmp_path_factory.mktemp("state")
    candidate = Candidate("xgboost", tuple(sorted(params.items())), seed)
    rng = np.random.default_rng(seed)
    folds = [
        FoldResult(candidate, number, {}, seconds, error)
        if error is not None
        else FoldResult(candidate, number, metrics, seconds, None, valid, rng.random(len(valid), np.float32))
        for number, (_, valid) in enumerate(split.folds)
    ]
    found = SearchResult((CandidateResult(candidate, tuple(folds), 2, 1 / 3),), "frame_auc")
    keep_search(state, "f", data, split, found)
    assert_same(find_search(state, "f", data, split), found)


def test_a_search_of_other_rows_is_not_used(tmp_path, data, split, found, caplog):
    keep_search(tmp_path, "f", data, split, found)
    others = [
        (replace(data, video_ids=(*data.video_ids[:-1], "set/other")), split),
        (replace(data, groups=data.groups // 2), split),
        (replace(data, y=1 - data.y), split),
        (data, replace(split, folds=split.folds[::-1])),
        (data, replace(split, test_rows=split.test_rows[:-1])),
    ]
    for other_data, other_split in others:
        assert find_search(tmp_path, "f", other_data, other_split) is None
    assert caplog.text.count("is not used: it was made of other rows") == len(others)
    assert find_search(tmp_path, "f", data, split) is not None


def test_a_damaged_file_is_not_used(tmp_path, data, split, found, caplog):
    keep_search(tmp_path, "f", data, split, found)
    file = kept_file(tmp_path, "f")
    whole = file.read_bytes()
    table = pq.read_table(file)
    for damaged in (b"", b"PAR1", whole[:-40], whole[: len(whole) // 2]):
        file.write_bytes(damaged)
        assert find_search(tmp_path, "f", data, split) is None
    for other in (
        table.replace_schema_metadata({}),
        table.drop_columns("proba"),
        table.set_column(8, table.schema.field("proba"), pa.array([[0.5]] * len(table), pa.large_list(pa.float32()))),
        table.set_column(1, table.schema.field("candidate"), pa.array(["[]"] * len(table))),
    ):
        pq.write_table(other, file)
        assert find_search(tmp_path, "f", data, split) is None
    assert caplog.text.count("is not used") == 8


def test_it_names_nobody_and_is_for_its_owner_alone(tmp_path, data, split, found):
    keep_search(tmp_path, "f", data, split, found)
    file = kept_file(tmp_path, "f")
    pq.write_table(pq.read_table(file), tmp_path / "plain", compression="none", use_dictionary=False)
    assert b"somebody" not in (tmp_path / "plain").read_bytes()
    assert file.stat().st_mode & 0o077 == 0


def test_what_nobody_came_back_for_goes(tmp_path, data, split, found):
    for name, days in (("old", KEPT_DAYS + 1), ("young", KEPT_DAYS - 1)):
        keep_search(tmp_path, name, data, split, found)
        then = time.time() - days * 86_400
        os.utime(kept_file(tmp_path, name), (then, then))
    keep_search(tmp_path, "new", data, split, found)
    assert {file.stem for file in (tmp_path / "searches").iterdir()} == {"young", "new"}


def test_what_somebody_came_back_for_stays(tmp_path, data, split, found):
    keep_search(tmp_path, "waiting", data, split, found)
    then = time.time() - (KEPT_DAYS + 1) * 86_400
    os.utime(kept_file(tmp_path, "waiting"), (then, then))
    assert find_search(tmp_path, "waiting", data, split) is not None
    keep_search(tmp_path, "new", data, split, found)
    assert kept_file(tmp_path, "waiting").exists()


def test_a_file_that_goes_while_old_ones_are_looked_for_hinders_nothing(tmp_path, data, split, found, caplog):
    keep_search(tmp_path, "old", data, split, found)
    # It is listed, and not there any more.
    kept_file(tmp_path, "gone").symlink_to("nowhere")
    keep_search(tmp_path, "new", data, split, found)
    assert_same(find_search(tmp_path, "new", data, split), found)
    assert not caplog.records


def test_a_folder_that_cannot_be_written_is_a_warning(tmp_path, data, split, found, caplog):
    (tmp_path / "searches").write_text("a file")
    keep_search(tmp_path, "f", data, split, found)
    assert "the search cannot be kept in" in caplog.text
    assert find_search(tmp_path, "f", data, split) is None
    drop_search(tmp_path, "f")


def test_a_search_that_cannot_be_written_down_is_a_warning(tmp_path, data, split, found, caplog):
    first = found.best.folds[0]
    odd = replace(first, error="a path that is no text: \udc80")
    broken = replace(found, ranking=(replace(found.best, folds=(odd,)),))
    keep_search(tmp_path, "f", data, split, broken)
    assert "the search cannot be kept in" in caplog.text


def test_a_search_that_is_broken_off_in_writing_leaves_nothing(tmp_path, data, split, found, monkeypatch, caplog):
    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dfpipe.spool.pq.write_table", full)
    keep_search(tmp_path, "f", data, split, found)
    assert "No space left on device" in caplog.text
    assert list((tmp_path / "searches").iterdir()) == []


@pytest.mark.parametrize("kind", [ServiceError, StoreError, TooLargeError])
def test_an_error_of_a_server_says_what_is_kept(tmp_path, data, split, found, kind):
    with pytest.raises(kind, match=r"^nobody answers$"), telling_of_kept_search(tmp_path, "f"):
        raise kind("nobody answers")
    keep_search(tmp_path, "f", data, split, found)
    expected = (
        rf"^nobody answers; the search is kept in {kept_file(tmp_path, 'f')}: mend this, and the next `dfpipe run`"
    )
    with pytest.raises(kind, match=expected), telling_of_kept_search(tmp_path, "f"):
        raise kind("nobody answers")
    with pytest.raises(TrainingDataError, match=r"^one class$"), telling_of_kept_search(tmp_path, "f"):
        raise TrainingDataError("one class")


NAMES = st.text(min_size=1, max_size=8)


@given(
    cells=st.lists(
        st.builds(
            CrossCell,
            train=NAMES,
            test=NAMES,
            auc=st.floats(0, 1),
            low=st.none() | st.floats(0, 1),
            high=st.none() | st.floats(0, 1),
            videos=st.integers(1),
        ),
        max_size=4,
    ),
    params=PARAMS,
    left_out=st.dictionaries(NAMES, st.text(), max_size=2),
)
def test_any_matrix_comes_back_as_it_was(tmp_path_factory, data, split, cells, params, left_out):
    state = tmp_path_factory.mktemp("state")
    kinds = tuple(dict.fromkeys(cell.train for cell in cells))
    candidate = Candidate("xgboost", tuple(sorted(params.items())), 3)
    matrix = CrossMatrix("method", kinds, candidate, tuple(cells), left_out)
    keep_matrix(state, "f", data, split, matrix)
    assert find_matrix(state, "f", data, split) == matrix
    assert find_matrix(state, "g", data, split) is None
    drop_matrix(state, "f")
    assert find_matrix(state, "f", data, split) is None


def test_a_matrix_of_other_rows_or_in_pieces_is_not_used(tmp_path, data, split, caplog):
    cell = CrossCell("a", "b", 0.5, None, None, 3)
    keep_matrix(tmp_path, "f", data, split, CrossMatrix("method", ("a", "b"), FOREST, (cell,), {}))
    file = kept_matrix(tmp_path, "f")
    assert file.stat().st_mode & 0o077 == 0
    assert find_matrix(tmp_path, "f", replace(data, groups=data.groups // 2), split) is None
    assert "is not used: it was made of other rows" in caplog.text
    whole = file.read_bytes()
    for damaged in (b"", whole[:-9], b"[]", b"{}", whole.replace(b'"auc"', b'"acu"')):
        file.write_bytes(damaged)
        assert find_matrix(tmp_path, "f", data, split) is None
    assert caplog.text.count("is not used") == 6
    with (
        pytest.raises(
            ServiceError, match=r"^nobody answers; the matrix is kept in .*, and the same command records it"
        ),
        telling_of_kept_matrix(tmp_path, "f"),
    ):
        raise ServiceError("nobody answers")
