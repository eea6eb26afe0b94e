"""Sheets of faces that reviewers look at: examples of both classes, and the videos of which a model is most wrong."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.models.data import REAL_AND_FAKE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Crops",
    "JudgedVideo",
    "draw_evenly",
    "examples_figure",
    "mistakes_figure",
    "pick_examples",
    "pick_mistakes",
]

Crops = Mapping[str, Sequence[NDArray[np.uint8]]]
"""Crops by video_id, along time: uint8, shape (height, width, 3), RGB."""

DPI = 110
PHOTO_PIXELS = 520_000
"""Pixels of all crops of a sheet together. PNG keeps photographs at about two bytes a pixel: a sheet is about 1 MB."""
SMALLEST_PX, LARGEST_PX = 64, 160
"""Bounds of a crop's side on a sheet."""
GAP_PX, MARGIN_PX, HEAD_PX, LINE_PX = 10, 14, 66, 14
TITLE_PT, TEXT_PT = 10.5, 7.0
TITLE_WIDTH_PX = 660
RIGHT, WRONG, PALE = "0.25", "tab:red", "0.55"
NO_CROP_GREY = 228


@dataclass(frozen=True, slots=True)
class JudgedVideo:
    """What is told of a held-out video beside its faces."""

    video_id: str
    """Key of the video."""
    label: int
    """The truth: 0 real, 1 fake."""
    probability: float
    """Calibrated probability of fake."""
    threshold: float
    """Called fake from this probability on."""
    group: int
    """Group of people."""
    dataset: str
    """Data set."""
    method: str
    """Manipulation; ``original`` for a real video."""
    compression: str
    """Compression; may be empty."""

    @property
    def called(self) -> int:
        """The verdict: 0 real, 1 fake."""
        return int(self.probability >= self.threshold)

    @property
    def kind(self) -> tuple[str, str, str]:
        """Data set, method and compression."""
        return (self.dataset, self.method, self.compression)


def pick_examples(videos: Sequence[JudgedVideo], *, number: int, seed: int) -> list[JudgedVideo]:
    """Draw videos so that every kind, and then everybody, is shown about equally often, whatever a model says of them.

    Parameters
    ----------
    videos
        In any order; the draw does not depend on it.
    number
        How many, if there are so many.
    seed
        Seed of the draw.

    Returns
    -------
    list of JudgedVideo
        Sorted by kind and video_id.
    """
    of = sorted(videos, key=lambda video: video.video_id)
    kinds = {kind: place for place, kind in enumerate(sorted({video.kind for video in of}))}
    kind = np.array([kinds[video.kind] for video in of], np.intp)
    _, group = np.unique([video.group for video in of], return_inverse=True)
    drawn = [of[place] for place in draw_evenly(kind, group, number=number, seed=seed)]
    return sorted(drawn, key=lambda video: (video.kind, video.video_id))


def draw_evenly(kind: NDArray[np.integer], group: NDArray[np.integer], *, number: int, seed: int) -> NDArray[np.intp]:
    """Draw rows so that every kind, and then every group, is drawn about equally often.

    One after the other, a row is drawn at random from those of the kind that was drawn least so far, and among them
    from those of the group that was drawn least.

    Parameters
    ----------
    kind
        Kind of each row, counted from 0, shape (n,).
    group
        Group of each row, counted from 0, shape (n,).
    number
        How many, if there are so many.
    seed
        Seed of the draw.

    Returns
    -------
    ndarray of intp, shape (min(number, n),)
        Their places, rising.

    Examples
    --------
    >>> draw_evenly(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 0]), number=3, seed=0).tolist()[1:]
    [3, 4]
    """
    chance = np.random.default_rng(seed).permutation(len(kind))
    kind_drawn = np.zeros(kind.max(initial=-1) + 1, np.intp)
    group_drawn = np.zeros(group.max(initial=-1) + 1, np.intp)
    left = np.ones(len(kind), bool)
    for _ in range(min(number, len(kind))):
        at = np.flatnonzero(left)
        best = at[np.lexsort((chance[at], group_drawn[group[at]], kind_drawn[kind[at]]))[0]]
        left[best] = False
        kind_drawn[kind[best]] += 1
        group_drawn[group[best]] += 1
    return np.flatnonzero(~left)


def pick_mistakes(videos: Sequence[JudgedVideo], *, number: int) -> list[JudgedVideo]:
    """Return the videos that were judged wrong, the surest first: of either class no more than half the number."""
    wrong = [video for video in videos if video.called != video.label]
    picked = []
    for label in (1, 0):
        of = [video for video in wrong if video.label == label]
        # A fake one is the worse the less probable it was called, a real one the more.
        of.sort(key=lambda video: (video.probability if label else -video.probability, video.video_id))
        picked += of[: number // 2]
    return picked


def examples_figure(videos: Sequence[JudgedVideo], crops: Crops, *, label: int, of: int) -> "Figure":
    """Draw one face of each video with name, kind, probability and verdict below it.

    Parameters
    ----------
    videos
        What is shown, at least one.
    crops
        The first of each video is shown; one without any gets an empty field.
    label
        Class of all of them.
    of
        How many held-out videos of this class there are.
    """
    tile = _tile_px(len(videos))
    columns = min(len(videos), int(np.ceil(np.sqrt(1.5 * len(videos)))))
    rows = -(-len(videos) // columns)
    across, down = tile + GAP_PX, tile + 3 * LINE_PX + GAP_PX
    sheet = _Sheet(max(columns * across, TITLE_WIDTH_PX), HEAD_PX + rows * down)
    sheet.title(
        f"{len(videos)} of {of} held-out {REAL_AND_FAKE[label]} videos",
        "drawn evenly over methods and people; probability of fake and verdict "
        f"(fake from {videos[0].threshold:.3f} on), red where wrong",
    )
    for place, video in enumerate(videos):
        x, y = (place % columns) * across, HEAD_PX + (place // columns) * down
        sheet.crop(x, y, tile, next(iter(crops.get(video.video_id, ())), None))
        colour = RIGHT if video.called == video.label else WRONG
        lines = (
            (_name(video), RIGHT),
            (_kind(video, videos), PALE),
            (f"{video.probability:.3f}: {REAL_AND_FAKE[video.called]}", colour),
        )
        for line, (text, shade) in enumerate(lines):
            sheet.text(x, y + tile + line * LINE_PX, text, width=tile, colour=shade)
    return sheet.figure()


def mistakes_figure(videos: Sequence[JudgedVideo], crops: Crops, *, of: Sequence[JudgedVideo], faces: int) -> "Figure":
    """Draw the videos that a model is most wrong of, fake ones called real on the left, each with faces along time.

    Parameters
    ----------
    videos
        As `pick_mistakes` returns them, at least one.
    crops
        Faces of each; one without any gets an empty field.
    of
        All held-out videos.
    faces
        Most faces of a video.
    """
    sides = [[video for video in videos if video.label == label] for label in (1, 0)]
    rows = max(map(len, sides))
    tile = _tile_px(len(videos) * faces)
    half = max(faces * (tile + GAP_PX // 2), 300) + 2 * GAP_PX
    down = 2 * LINE_PX + tile + GAP_PX
    sheet = _Sheet(2 * half, HEAD_PX + 2 * LINE_PX + rows * down)
    sheet.title(
        "the worst mistakes on held-out videos",
        "the surest first; name, then method, compression and probability of fake; faces along time",
    )
    for side, label in enumerate((1, 0)):
        wrong = [video for video in of if video.label == label and video.called != label]
        all_of = sum(video.label == label for video in of)
        x, y = side * half, HEAD_PX
        title = (
            f"{REAL_AND_FAKE[label]}, called {REAL_AND_FAKE[1 - label]}: "
            f"{len(wrong)} of {all_of} videos, {len(sides[side])} shown"
        )
        sheet.text(x, y - 4, title, width=half - GAP_PX, size=8.5)
        if not sides[side]:
            sheet.text(x, y + LINE_PX + GAP_PX, "none", width=half, colour=PALE)
        for row, video in enumerate(sides[side]):
            top = y + LINE_PX + GAP_PX + row * down
            told = f"{_kind(video, of)}: {video.probability:.3f}, threshold {video.threshold:.3f}"
            sheet.text(x, top, _name(video), width=half - 2 * GAP_PX)
            sheet.text(x, top + LINE_PX, told, width=half - 2 * GAP_PX, colour=WRONG)
            for place, crop in enumerate(crops.get(video.video_id, ())[:faces] or [None]):
                sheet.crop(x + place * (tile + GAP_PX // 2), top + 2 * LINE_PX + 2, tile, crop)
    return sheet.figure()


def _tile_px(tiles: int) -> int:
    return int(np.clip(np.sqrt(PHOTO_PIXELS / tiles), SMALLEST_PX, LARGEST_PX))


def _name(video: JudgedVideo) -> str:
    """Return the last part of the video_id: what is before it stands in the next line."""
    return video.video_id.rpartition("/")[2]


def _kind(video: JudgedVideo, among: Sequence[JudgedVideo]) -> str:
    several = len({one.dataset for one in among}) > 1
    return " ".join(part for part in (video.dataset if several else "", video.method, video.compression) if part)


class _Sheet:
    """A page in pixels: crops are put into one array, so that each shows pixel for pixel, and texts laid over it."""

    def __init__(self, width: int, height: int) -> None:
        self._page = np.full((height + MARGIN_PX, width + 2 * MARGIN_PX, 3), 255, np.uint8)
        self._texts: list[tuple[float, float, str, dict[str, Any]]] = []

    def title(self, first: str, second: str) -> None:
        width = self._page.shape[1] - 2 * MARGIN_PX
        self.text(0, MARGIN_PX, first, width=width, size=TITLE_PT, colour="black")
        self.text(0, MARGIN_PX + 22, second, width=width, colour=PALE)

    def crop(self, x: int, y: int, side: int, crop: NDArray[np.uint8] | None) -> None:
        x += MARGIN_PX
        field = self._page[y : y + side, x : x + side]
        if crop is None:
            field[:] = NO_CROP_GREY
            self._texts.append((x + side / 2, y + side / 2, "no crop", {"ha": "center", "va": "center", "color": PALE}))
            return
        height, width = crop.shape[:2]
        scale = side / max(height, width)
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        field[: size[1], : size[0]] = cv2.resize(crop, size, interpolation=method)

    def text(self, x: int, y: int, text: str, *, width: int, size: float = TEXT_PT, colour: str = RIGHT) -> None:
        style = {"va": "top", "color": colour, "fontsize": size}
        self._texts.append((x + MARGIN_PX, y + 2, _fitting(text, width, size), style))

    def figure(self) -> "Figure":
        from matplotlib.figure import Figure  # noqa: PLC0415 - slow to import

        height, width = self._page.shape[:2]
        figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
        axes = figure.add_axes((0, 0, 1, 1))
        axes.imshow(self._page, interpolation="none", extent=(0, width, height, 0), aspect="auto")
        axes.set_axis_off()
        for x, y, text, style in self._texts:
            # A name may hold a dollar sign, which is no formula.
            axes.text(x, y, text, parse_math=False, **{"fontsize": TEXT_PT} | style)
        return figure


def _fitting(text: str, width_px: int, size_pt: float) -> str:
    """Return a text that fits: cut in the middle, and with a question mark for what the font cannot show."""
    from matplotlib.backends.backend_agg import get_hinting_flag  # noqa: PLC0415 - slow to import
    from matplotlib.font_manager import findfont, get_font  # noqa: PLC0415 - slow to import

    font = get_font(findfont("DejaVu Sans"))
    font.set_size(size_pt, DPI)
    known = font.get_charmap()
    hinting: Any = get_hinting_flag
    text = "".join(letter if ord(letter) in known else "?" for letter in text)

    def is_wide(text: str) -> bool:
        font.set_text(text, 0.0, flags=hinting())
        return bool(font.get_width_height()[0] / 64 > width_px)

    shown, kept = text, len(text)
    while kept > 1 and is_wide(shown):
        kept -= 1
        shown = f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"
    return shown
