"""The report as one page: self-contained, and hostile names are text."""

import re
from html.parser import HTMLParser

import pytest

from dfpipe.forget import _cells
from dfpipe.report import ExampleFace, make_report, to_html
from dfpipe.report.charts import status_bars, ticks
from dfpipe.testing import make_video
from dfpipe.tracking import TrainingRecord

HOSTILE = "d/<script>alert(1)</script>\"'&|{{7*7}}\u202e/x"
TRAINING = TrainingRecord(
    run_id="abc",
    experiment_id="1",
    candidate="forest n=10 <b>",
    model_name="dfpipe",
    model_version="3",
    metrics={"test_video_auc": 0.9123, "test_video_auc_low": 0.8, "test_video_auc_high": 0.95, "val_video_auc": 0.93},
    url="http://127.0.0.1:5000/#/experiments/1/runs/abc",
)


class Page(HTMLParser):
    """Every element with its attributes, and the text."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words = [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.words.append(data)

    def __contains__(self, text):
        return text in "".join(self.words)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 0, [0]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (24, 31, [24, 26, 28, 30]), (-1, 1, [-1, -0.5, 0, 0.5, 1])],
)
def test_ticks_are_round_and_within(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


def test_states_fill_the_bar():
    assert status_bars({}) == ()
    bars = status_bars({"ok": 6, "pending": 3, "corrupt": 1})
    assert [(bar.kind, bar.start, bar.width) for bar in bars] == [("ok", 0, 60), ("aside", 60, 30), ("lost", 90, 10)]


def test_it_tells_what_the_text_tells_and_needs_nothing_else(store, settings):
    page = Page(to_html(make_report(settings, run_id="first"), training=TRAINING))
    for text in ("1 of them pending", "21.4 % (", "no face was found in 7 frames", "puppet", "0.912 (0.800 to 0.950)"):
        assert text in page
    tags = {tag for tag, _ in page.elements}
    assert {"table", "svg", "style"} <= tags
    assert tags.isdisjoint({"script", "img", "iframe", "object", "image", "use"})
    for tag, attributes in page.elements:
        assert not [name for name in attributes if name.startswith("on") or name == "src"]
        if tag != "a" and "href" in attributes:
            assert attributes["href"] == "data:,"
    assert [attributes["href"] for tag, attributes in page.elements if tag == "a"] == [TRAINING.url]
    # Real and fake, of four measures.
    assert sum(tag == "path" for tag, _ in page.elements) == 8


def test_hostile_names_are_text_and_can_be_found_again(finish, settings):
    finish([make_video(HOSTILE)], {HOSTILE: {"status": "corrupt", "reason": "</td></tr>\n<img src=x onerror=1>"}})
    html = to_html(make_report(settings), training=TRAINING)
    page = Page(html)
    assert {tag for tag, _ in page.elements}.isdisjoint({"script", "img", "b"})
    assert HOSTILE.replace("\u202e", r"\u202e") in page
    assert "</td></tr>\\n<img src=x onerror=1>" in page
    (row,) = [line for line in html.splitlines() if "corrupt" in line and "img" in line]
    assert HOSTILE in _cells(row)


def test_a_face_is_a_line_by_which_its_video_is_found(store, settings):
    face = ExampleFace(HOSTILE, "fake", "</figure>", b"\xff\xd8")
    html = to_html(make_report(settings), faces=[face])
    page = Page(html)
    (picture,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert picture == {"alt": "", "src": "data:image/jpeg;base64,/9g="}
    (line,) = [line for line in html.splitlines() if "<img" in line]
    assert HOSTILE in _cells(line)
    assert "Example faces" not in to_html(make_report(settings))


def test_a_link_is_one_to_a_server_or_none(store, settings):
    from dataclasses import replace

    for url in (None, "javascript:alert(1)", "file:///etc/passwd"):
        page = Page(to_html(make_report(settings), training=replace(TRAINING, url=url)))
        assert "a" not in {tag for tag, _ in page.elements}


def test_a_leaky_training_is_marked(store, settings):
    from dataclasses import replace

    leaky = replace(TRAINING, leaky=True, protocol="seed", metrics={"grouped_test_video_auc": 0.61})
    page = Page(to_html(make_report(settings), training=leaky))
    assert "too good to be true" in page
    assert "0.610" in page
    assert "AUC on held-out people" not in page


def test_an_empty_store_is_a_page_too(settings):
    html = to_html(make_report(settings))
    assert "<h1>dfpipe report" in html
    assert not re.search(r"nan|inf\b", html)
