import numpy as np
import pytest

from dfpipe.errors import TrainingDataError
from dfpipe.models import Candidate, ColumnBlock, Split, TrainingData, fit_bytes, refit_and_evaluate, split_groups
from dfpipe.models.cross import cross_evaluate, cross_figure, cross_kinds

FOREST = Candidate("forest", (("n_estimators", 30),), 0)


def make(kinds=("a", "b"), pairs=40, frames=2, seed=0):
    """Videos of kinds whose fakes each give themselves away in a column of their own; a real one is of both."""
    rng = np.random.default_rng(seed)
    values, labels, groups, X = [], [], [], []
    for group in range(pairs):
        for kind in ("original", *kinds):
            row = rng.normal(size=(frames, len(kinds)))
            if kind != "original":
                row[:, kinds.index(kind)] += 4
            values.append(kind)
            labels.append(int(kind != "original"))
            groups.append(group)
            X.append(row)
    video = np.repeat(np.arange(len(values), dtype=np.int32), frames)
    labels = np.array(labels, np.int8)
    data = TrainingData(
        X=np.concatenate(X).astype(np.float32),
        y=labels[video],
        video=video,
        video_ids=tuple(map(str, range(len(values)))),
        groups=np.array(groups, np.int32),
        columns=(ColumnBlock("made", 0, len(kinds)),),
    )
    train, test = split_groups(data.groups, labels, test_fraction=0.3, seed=0, strata=values)
    return values, data, Split(data.rows_of(train), data.rows_of(test), ())


@pytest.fixture(scope="module")
def made():
    values, data, split = make()
    kinds = cross_kinds(values, data.video_labels, real_of=["d"] * len(values))
    return data, split, kinds, cross_evaluate(data, split, kinds, FOREST, by="method")


def test_a_method_is_recognised_by_what_learned_from_it_only(made):
    _, _, _, matrix = made
    assert matrix.kinds == ("a", "b")
    assert [(cell.train, cell.test) for cell in matrix.cells] == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    assert matrix.auc.diagonal().min() > 0.95
    assert max(matrix.auc[0, 1], matrix.auc[1, 0]) < 0.75


def test_a_cell_is_the_candidate_fitted_to_one_kind_and_judged_on_another(made):
    data, split, kinds, matrix = made
    train = split.train_rows[np.isin(data.video[split.train_rows], kinds["a"])]
    test = split.test_rows[np.isin(data.video[split.test_rows], kinds["b"])]
    by_hand = refit_and_evaluate(data, train, test, FOREST)
    cell = matrix.cells[1]
    assert cell.auc == pytest.approx(by_hand.video.auc, abs=1e-12)
    assert cell.videos == len(by_hand.predictions) == 24
    assert cell.low < cell.auc < cell.high
    assert cell.high - cell.low < 0.6
    assert not set(data.groups[data.video[train]]) & set(data.groups[data.video[test]])


def test_kinds_without_both_classes_are_left_out_and_told(made):
    data, split, kinds, _ = made
    fakes = np.flatnonzero(data.video_labels == 1)
    matrix = cross_evaluate(data, split, kinds | {"lonely": fakes}, FOREST, by="method")
    assert matrix.kinds == ("a", "b")
    assert matrix.left_out == {"lonely": "training has only one class"}
    with pytest.raises(TrainingDataError, match=r"got 1 kinds by method with both classes .* \(a\), expected 2"):
        cross_evaluate(data, split, {"a": kinds["a"], "lonely": fakes}, FOREST, by="method")


def test_kinds_that_cannot_be_fitted_are_left_out_and_told(made):
    data, split, kinds, _ = made
    # A machine's probabilities take three groups of people, and of this kind there is one to learn from.
    first = split.train_rows[0]
    few = np.unique(data.video[np.r_[np.flatnonzero(data.groups[data.video] == data.groups[data.video[first]])]])
    few = np.union1d(few, np.setdiff1d(kinds["a"], data.video[split.train_rows]))
    svm = Candidate("rbf_svm", (("C", 1.0),), 0)
    matrix = cross_evaluate(data, split, kinds | {"few": few}, svm, by="method")
    assert matrix.kinds == ("a", "b")
    assert matrix.left_out["few"].startswith("an SVM's probabilities come from 3 parts of its training side: got 1")
    with pytest.raises(TrainingDataError, match=r"got 1 kinds by method to which the model .* 2 or more; few: an SVM"):
        cross_evaluate(data, split, {"a": kinds["a"], "few": few}, svm, by="method")


def test_kinds_that_exhaust_a_worker_are_left_out_and_told(made):
    data, split, kinds, whole = made

    def run_tasks(function, items, *, shared, lost):
        return [lost(item) if item[0] == "a" else function(shared, item) for item in items]

    both = {**kinds, "all": np.union1d(kinds["a"], kinds["b"])}
    matrix = cross_evaluate(data, split, both, FOREST, by="method", run_tasks=run_tasks)
    assert (matrix.kinds, list(matrix.left_out)) == (("all", "b"), ["a"])
    assert "its worker died twice" in matrix.left_out["a"]
    assert matrix.cells[-1] == whole.cells[-1]

    room = fit_bytes(FOREST, data, int(np.isin(data.video[split.train_rows], kinds["a"]).sum()))
    matrix = cross_evaluate(data, split, both, FOREST, by="method", memory_bytes=room)
    assert matrix.kinds == ("a", "b")
    assert matrix.left_out["all"].startswith("not tried: fitting 168 rows of 2 columns needs")


def test_real_videos_go_with_the_methods_of_their_own_data_set():
    values = ["original", "swap", "original", "morph", "swap"]
    labels = np.array([0, 1, 0, 1, 1], np.int8)
    kinds = cross_kinds(values, labels, real_of=["x", "x", "y", "y", "y"])
    assert {kind: videos.tolist() for kind, videos in kinds.items()} == {"morph": [2, 3], "swap": [0, 1, 2, 4]}
    whole = cross_kinds(["x", "x", "y", "y", "y"], labels)
    assert {kind: videos.tolist() for kind, videos in whole.items()} == {"x": [0, 1], "y": [2, 3, 4]}


def test_a_single_group_has_no_interval():
    values, data, split = make(pairs=2)
    kinds = cross_kinds(values, data.video_labels, real_of=["d"] * len(values))
    matrix = cross_evaluate(data, split, kinds, FOREST, by="method")
    assert all((cell.low, cell.high) == (None, None) for cell in matrix.cells)


def test_the_picture_has_a_cell_for_each_pair(made):
    figure = cross_figure(made[3])
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert [text.splitlines()[0] for text in texts] == [f"{cell.auc:.2f}" for cell in made[3].cells]
