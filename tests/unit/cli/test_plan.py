"""`dfpipe plan` in words: what is told, and what the options that narrow a run accept."""

import json
from typing import get_args

import pytest

from dfpipe.cli._run import duration, in_words, print_plan
from dfpipe.errors import VideoStatus
from dfpipe.preview import Estimate, StagePlan


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "metadata.csv").write_text("video,label,identity\na.mp4,real,A\nb.mp4,fake,B\n")
    for name in "ab":
        (folder / f"{name}.mp4").write_bytes(name.encode())


def test_every_state_can_be_asked_for_again_and_no_other(dfpipe, source):
    for status in get_args(VideoStatus):
        assert dfpipe("plan", "--set", "source=videos", "--until", "faces", "--retry", status)[0] == 0
    code, _, complaint = dfpipe("plan", "--set", "source=videos", "--retry", "broken")
    assert code == 2
    assert complaint.startswith("dfpipe: --retry got 'broken', expected one of ok, no_face, ")
    assert complaint.count("\n") == 1


def test_it_says_what_and_why(dfpipe, source):
    code, told, _ = dfpipe("plan", "--set", "source=videos", "--until", "faces", "--videos", "*/a")
    assert code == 0
    # Folded to the width of the terminal.
    assert " ".join(told.split()).endswith(
        "faces 1 videos 1 1 new kept: 1 left out by the selection "
        "reads 1 byte; what it takes is not known before the first run"
    )


def test_json_has_all_of_it(dfpipe, source):
    _, told, _ = dfpipe("plan", "--set", "source=videos", "--json", "--dataset", "videos", "--since", "2000-01-01")
    stages = json.loads(told)
    assert [stage["stage"] for stage in stages] == ["catalog", "faces", "features", "train"]
    assert stages[1]["estimate"]["read_bytes"] == 2
    assert stages[1]["reasons"] == {"new": 2}


@pytest.mark.parametrize(
    ("option", "line"),
    [
        (
            ("--since", "yesterday"),
            "dfpipe: --since got 'yesterday', expected a date such as 2026-11-24 or a time such",
        ),
        (("--videos", "c*"), "dfpipe: no video of the catalog matches c*; `dfpipe catalog --json` lists ids"),
        (
            ("--dataset", "ffpp"),
            "dfpipe: no video of the catalog matches ffpp; `dfpipe catalog --json` lists ids, and the data",
        ),
    ],
)
def test_what_cannot_be_meant_is_one_line(dfpipe, source, option, line):
    code, _, complaint = dfpipe("plan", "--set", "source=videos", *option)
    assert code == 2
    assert complaint.startswith(line)
    assert complaint.count("\n") == 1


def test_a_training_is_not_counted(capsys):
    print_plan([StagePlan("train", 1, 0, "training", {"rows will change": 1})])
    assert capsys.readouterr().out.split()[-5:] == ["training", "0", "rows", "will", "change"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (2.345, "2.3 s"), (99, "99 s"), (600, "10 min"), (7200, "2.0 h"), (864000, "10.0 days")],
)
def test_durations_have_two_figures_or_so(seconds, words):
    assert duration(seconds) == words


def test_an_estimate_names_the_workers_where_they_are_known():
    assert in_words(Estimate(10**9, 10**6, 7200.0, 4, 1800.0)) == (
        "about 2.0 h of processor time, 30 min on 4 workers; reads 1.0 GB, writes 1.0 MB"
    )
    assert in_words(Estimate(10**9, 10**6, 7200.0, None, None)) == (
        "about 2.0 h of processor time; reads 1.0 GB, writes 1.0 MB"
    )
