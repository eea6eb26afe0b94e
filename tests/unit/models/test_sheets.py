import io
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dfpipe.models import (
    JudgedVideo,
    examples_figure,
    mistakes_figure,
    pick_examples,
    pick_mistakes,
)


def judged(name="v", label=1, probability=0.9, *, group=0, method="swap", dataset="ffpp", compression="c23"):
    return JudgedVideo(
        video_id=f"{dataset}/{method}/{compression}/{name}",
        label=label,
        probability=probability,
        threshold=0.4,
        group=group,
        dataset=dataset,
        method=method,
        compression=compression,
    )


VIDEOS = st.lists(
    st.builds(
        judged,
        st.text("abc", min_size=1, max_size=4),
        method=st.sampled_from(["one", "two", "three"]),
        compression=st.sampled_from(["c23", "c40"]),
        group=st.integers(0, 3),
        probability=st.floats(0, 1),
    ),
    unique_by=lambda video: video.video_id,
    max_size=40,
)


@given(VIDEOS, st.integers(1, 30), st.integers(0, 3), st.randoms())
def test_every_kind_is_drawn_as_often_as_it_can_be_and_nothing_else_decides(videos, number, seed, random):
    drawn = pick_examples(videos, number=number, seed=seed)
    assert len({video.video_id for video in drawn}) == len(drawn) == min(number, len(videos))
    there, shown = Counter(video.kind for video in videos), Counter(video.kind for video in drawn)
    most = max(shown.values(), default=0)
    assert all(shown[kind] >= min(most - 1, there[kind]) for kind in there)
    # Neither the order of the videos nor what the model says of them.
    other = [replace(video, probability=1 - video.probability) for video in random.sample(videos, len(videos))]
    again = pick_examples(other, number=number, seed=seed)
    assert [video.video_id for video in again] == [video.video_id for video in drawn]


def test_everybody_is_shown_before_anybody_is_shown_twice():
    videos = [
        judged(f"{person}{take}", group=person) for person, takes in ((0, 30), (1, 2), (2, 1)) for take in range(takes)
    ]
    for seed in range(20):
        assert Counter(video.group for video in pick_examples(videos, number=3, seed=seed)) == {0: 1, 1: 1, 2: 1}
    drawn = {video.video_id for seed in range(200) for video in pick_examples(videos, number=3, seed=seed)}
    assert drawn == {video.video_id for video in videos}


def test_mistakes_are_the_surest_of_either_class():
    videos = [
        judged("right", 1, 0.4),
        judged("just", 1, 0.39),
        judged("sure", 1, 0.01),
        judged("surer", 1, 0.001),
        judged("real right", 0, 0.39),
        judged("real just", 0, 0.4),
        judged("real sure", 0, 0.99),
    ]
    names = lambda number: [video.video_id.rpartition("/")[2] for video in pick_mistakes(videos, number=number)]  # noqa: E731
    assert names(4) == ["surer", "sure", "real sure", "real just"]
    assert names(60) == ["surer", "sure", "just", "real sure", "real just"]
    assert pick_mistakes(videos[:1], number=4) == []


def plain(colour, size=50):
    return np.full((size, size, 3), colour, np.uint8)


def drawn(figure):
    """Return the page as it is drawn, and the places of all texts on it, in pixels from the top left."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    page = np.asarray(canvas.buffer_rgba())[:, :, :3]
    texts = figure.axes[0].texts
    boxes = [text.get_window_extent() for text in texts]
    return page, {
        text.get_text(): (box.x0, page.shape[0] - box.y1, box.x1, page.shape[0] - box.y0)
        for text, box in zip(texts, boxes, strict=True)
    }


def area(page, colour):
    return int((page == colour).all(axis=2).sum())


def apart(boxes):
    boxes = list(boxes)
    return all(
        one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] + 1 or other[3] <= one[1] + 1
        for place, one in enumerate(boxes)
        for other in boxes[:place]
    )


def test_examples_are_squares_of_one_size_with_name_kind_and_verdict_below():
    videos = [judged("a", 1, 0.873), judged("b", 1, 0.1), judged("c", 1, 0.5, method="$x$", dataset="other")]
    colours = {"a": (250, 0, 0), "b": (0, 250, 0)}
    crops = {video.video_id: [plain(colours[name])] for name, video in zip("ab", videos, strict=False)}
    page, texts = drawn(examples_figure(videos, crops, label=1, of=7))
    assert area(page, (250, 0, 0)) == area(page, (0, 250, 0)) == 160**2
    assert area(page, (228, 228, 228)) > 0.9 * 160**2
    assert {"a", "b", "c", "ffpp swap c23", "other $x$ c23", "0.873: fake", "0.100: real", "no crop"} < texts.keys()
    assert "3 of 7 held-out fake videos" in texts
    assert not any("…" in text for text in texts)
    left, top, *_ = texts["a"]
    ys, xs = np.nonzero((page == (250, 0, 0)).all(axis=2))
    assert abs(xs.min() - left) < 3
    assert 0 < top - ys.max() < 8
    assert apart(texts.values())
    assert all(x0 >= 0 and y0 >= 0 and x1 <= page.shape[1] and y1 <= page.shape[0] for x0, y0, x1, y1 in texts.values())


def test_a_mistake_has_its_faces_in_a_row_and_says_how_wrong_it_is():
    videos = [judged("a", 1, 0.02), judged("b", 0, 0.98, method="original"), judged("c", 0, 0.6, method="original")]
    crops = {
        videos[0].video_id: [plain((10 * n, 0, 250)) for n in range(3)],
        videos[1].video_id: [plain((0, 0, 9))] * 9,
    }
    page, texts = drawn(mistakes_figure(videos, crops, of=[*videos, judged("d", 1)], faces=3))
    at = [np.argwhere((page == (10 * n, 0, 250)).all(axis=2)) for n in range(3)]
    assert at[0][:, 1].max() < at[1][:, 1].min() <= at[1][:, 1].max() < at[2][:, 1].min()
    assert {len(one) for one in at} == {160**2}
    assert area(page, (0, 0, 9)) == 3 * 160**2, "no more than three of the nine"
    assert {"a", "swap c23: 0.020, threshold 0.400", "original c23: 0.980, threshold 0.400", "no crop"} < texts.keys()
    assert {"fake, called real: 1 of 2 videos, 1 shown", "real, called fake: 2 of 2 videos, 2 shown"} < texts.keys()
    assert not any("…" in text for text in texts)
    assert texts["a"][0] < page.shape[1] / 2 <= texts["b"][0]
    assert apart(texts.values())


def test_a_side_without_mistakes_says_so():
    _, texts = drawn(mistakes_figure([judged("a", 1, 0.02)], {}, of=[judged("a", 1, 0.02)], faces=2))
    assert {"real, called fake: 0 of 0 videos, 0 shown", "none"} < texts.keys()


def test_long_and_strange_names_fit_and_are_no_formulas():
    names = ["x" * 300, "$\\frac$ {", "line\nbreak", "名前"]
    videos = [judged(name, 1, 0.9, method="m" * 99) for name in names]
    page, texts = drawn(examples_figure(videos, {}, label=1, of=4))
    assert all(x1 <= page.shape[1] for _, _, x1, _ in texts.values())
    assert {"$\\frac$ {", "line?break", "??"} < texts.keys()
    assert any(text.startswith("xxx") and "…" in text for text in texts)
    assert apart(box for text, box in texts.items() if text != "no crop")


@pytest.mark.parametrize("faces", [1, 4, 5])
def test_a_sheet_is_no_large_file(faces):
    """Noise is the worst that a PNG can have to keep."""
    rng = np.random.default_rng(0)
    videos = [judged(f"{number:02}", number % 2, 1 - number % 2) for number in range(24)]
    crops = {video.video_id: list(rng.integers(0, 256, (faces, 300, 300, 3), np.uint8)) for video in videos}
    file = io.BytesIO()
    mistakes_figure(videos, crops, of=videos, faces=faces).savefig(file)
    assert 200_000 < len(file.getvalue()) < 1_800_000
