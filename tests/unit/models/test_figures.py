import io

import numpy as np
import pytest

from dfpipe.models import (
    Candidate,
    classification_text,
    confusion_figure,
    refit_and_evaluate,
    roc_figure,
    split_groups,
)


@pytest.fixture(scope="module")
def evaluations(data):
    train, test = split_groups(data.groups, data.video_labels, test_fraction=0.25, seed=0)
    return [
        refit_and_evaluate(data, data.rows_of(train), data.rows_of(test), Candidate(model, (("n_estimators", 5),), 0))
        for model in ("forest", "xgboost")
    ]


def texts(figure):
    return [text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text"))]


def test_confusion_shows_the_counts(evaluations):
    shown = texts(confusion_figure(evaluations[0]))
    for scores in (evaluations[0].frame, evaluations[0].video):
        for (row, _), count in np.ndenumerate(scores.confusion):
            assert f"{count}\n{count / scores.confusion[row].sum():.0%}" in shown
    assert evaluations[0].candidate.name in shown


def test_roc_has_a_curve_for_each_model_and_names_its_auc(evaluations):
    figure = roc_figure(evaluations)
    assert [len(axes.lines) for axes in figure.axes] == [3, 3]
    for evaluation in evaluations:
        assert f"{evaluation.candidate.name}\nAUC {evaluation.video.auc:.3f}" in texts(figure)


def test_pictures_are_pngs_of_a_readable_size(evaluations):
    for figure in (confusion_figure(evaluations[0]), roc_figure(evaluations)):
        buffer = io.BytesIO()
        figure.savefig(buffer, dpi=110)
        assert buffer.getvalue().startswith(b"\x89PNG")
        assert figure.get_size_inches()[0] * 110 > 900


def test_pyplot_keeps_no_figure(evaluations):
    from matplotlib import pyplot

    confusion_figure(evaluations[0])
    roc_figure(evaluations)
    assert pyplot.get_fignums() == []


def test_report_names_classes_and_counts(evaluations):
    report = classification_text(evaluations[0])
    assert "held-out faces" in report
    assert "held-out videos" in report
    for word in ("precision", "recall", "f1-score", "support", "real", "fake", "macro avg"):
        assert word in report
    assert str(len(evaluations[0].y_frame)) in report
