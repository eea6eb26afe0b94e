from dataclasses import replace

import numpy as np

from dfpipe.report.losses import count_losses
from dfpipe.summary import RunSummary, Work, training_markdown
from dfpipe.tracking import TrainingRecord


def summary(**more):
    losses = count_losses(
        {
            "status": np.array(["ok", "no_face"]),
            "label": np.array(["real", "fake"]),
            **{name: np.array(["x", "x"]) for name in ("manipulation", "compression", "dataset")},
            "frames_wanted": np.array([4, 4]),
            "frames_with_face": np.array([4, 1]),
            "frames_with_kept_face": np.array([3, 0]),
        }
    )
    values = {
        "videos": 2,
        "extracted": 2,
        "kept": 0,
        "statuses": {"ok": 1, "no_face": 1},
        "faces": 3,
        "losses": losses,
        "feature_rows": 6,
        "trained": False,
        "training": None,
        "decision": None,
        "seconds": 12.0,
    }
    return RunSummary(**values | more)


def test_what_was_lost_stands_in_one_line():
    assert summary().rows() == [
        ("videos", "2 in the catalog: 2 extracted, 0 kept"),
        ("faces", "3 written (1 ok, 1 no_face)"),
        ("lost", "1 of 2 videos (real 0.0 %, fake 100.0 %), 62.5 % of the wanted frames (real 25.0 %, fake 100.0 %)"),
        ("features", "6 rows written"),
        ("took", "12 s"),
    ]
    assert "| lost | 1 of 2 videos (real 0.0 %, fake 100.0 %), " in summary().to_markdown()


def test_the_page_tells_states_speed_cost_and_where_to_look():
    work = Work({"ok": 1, "no_face": 1}, 90.0, 0.0222, 0.375, 0.001, "USD")
    text = summary(work=work, dashboard_url="http://127.0.0.1:8787/status").to_markdown()
    for row in (
        "| videos by state | 1 ok, 1 no_face |",
        "| detection loss | no face in 37.5 % of the wanted frames |",
        "| throughput | 0.0222 videos/s per core |",
        "| cost | 90.0 s of processor time, 0.001 USD |",
        "[The Dask dashboard](http://127.0.0.1:8787/status)",
    ):
        assert f"{row}\n" in text


def test_a_run_that_extracted_nothing_says_so_as_before():
    again = summary(extracted=0, kept=2, statuses={}, faces=0, feature_rows=0)
    assert again.rows() == [
        ("videos", "2 in the catalog: 0 extracted, 2 kept"),
        ("took", "12 s; nothing had to be redone"),
    ]


def training(**more):
    metrics = {"test_video_auc": 0.99, "test_video_accuracy": 0.95, "test_frame_accuracy": 0.9}
    return TrainingRecord("r1", "1", "forest", "dfpipe", "3", metrics | more.pop("metrics", {}), None, **more)


def test_an_honest_training_has_one_line_of_figures():
    assert ("held-out people", "video AUC 0.990, video accuracy 0.950, frame accuracy 0.900") in summary(
        training=training()
    ).rows()


def test_figures_stand_with_their_intervals():
    metrics = {"test_video_auc_low": 0.9512, "test_video_auc_high": 1.0}
    figures = dict(summary(training=training(metrics=metrics)).rows())["held-out people"]
    assert figures == "video AUC 0.990 (0.951 to 1.000), video accuracy 0.950, frame accuracy 0.900"


def test_the_grouped_figure_stands_beside_the_leaky_one():
    grouped = {"grouped_test_video_auc": 0.61, "grouped_test_video_accuracy": 0.6, "grouped_test_frame_accuracy": 0.55}
    rows = dict(summary(training=training(protocol="seed", leaky=True, metrics=grouped)).rows())
    assert rows["leaky (seed)"].startswith("video AUC 0.990, video accuracy 0.950, frame accuracy 0.900")
    assert rows["held-out people"] == "video AUC 0.610, video accuracy 0.600, frame accuracy 0.550"
    assert rows["gate"] == "not asked: a model of a split that leaks becomes no champion"
    rows = dict(summary(training=training(protocol="seed", leaky=True)).rows())
    assert rows["held-out people"] == "not measured, as the people cannot be divided"


def test_videos_in_no_list_are_told():
    assert ("left out", "7 videos that are in no official list") in summary(training=training(left_out=7)).rows()


def test_a_run_that_only_trains_says_the_same_of_its_training_with_links():
    record = replace(training(protocol="seed", leaky=True), url="http://127.0.0.1:5000/#/experiments/1/runs/r1")
    rows = [f"| {name} | {text} |" for name, text in summary(trained=True, training=record).rows()]
    text = training_markdown(record, now=True, decision=None, dashboard_url="http://127.0.0.1:8787/status")
    lines = text.splitlines()
    assert lines[2 : lines.index("")] == [row for row in rows if row in lines]
    assert lines[2].startswith("| training | made now: ")
    assert f"[The training in MLflow]({record.url})" in lines
    assert "[The Dask dashboard](http://127.0.0.1:8787/status)" in lines
