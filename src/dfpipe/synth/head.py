"""Drawing a head: soft, shaded ellipses on a small picture of its own, with the five landmarks that are known exactly.

Coordinates are head units: x to the right and y down from the middle between the eyes' line and the face's middle,
1 being half the height of the face. The chin is near y = 1, the crown near y = -1.15.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.synth.person import Colour, Person

__all__ = ["EYE_LEVELS", "HEAD_EXTENT", "MOUTH_LEVELS", "Expression", "Head", "Sprite"]

EYE_LEVELS = 3
"""Eyes are open (0), half closed (1) or closed (2)."""
MOUTH_LEVELS = 5
"""The mouth is closed (0) to wide open (4)."""
HEAD_EXTENT = 1.5
"""A head's picture reaches this many head units from its middle to each side."""

_EYE_LINE = -0.12

Expression = tuple[int, int]
"""Level of the eyes, level of the mouth."""


@dataclass(frozen=True, slots=True)
class Sprite:
    """A head cut out of its surroundings."""

    rgb: NDArray[np.uint8]
    """Shape (side, side, 3), RGB."""
    alpha: NDArray[np.float32]
    """Shape (side, side): 1 where the head is, 0 where the background shows through."""
    landmarks: NDArray[np.float32]
    """Shape (5, 2), pixels: left eye, right eye, nose, left and right mouth corner, as seen in the picture."""


class Head:
    """A person's head at one size; each expression is drawn once, when it is first asked for.

    Parameters
    ----------
    person
        Whose head.
    unit_px
        Length of a head unit in pixels.
    """

    def __init__(self, person: Person, *, unit_px: float) -> None:
        self.person = person
        self.unit_px = unit_px
        self._sprites: dict[Expression, Sprite] = {}
        self._base: tuple[_Canvas, NDArray[np.float32]] | None = None

    def sprite(self, expression: Expression) -> Sprite:
        """Return the head with these eyes and this mouth."""
        if expression not in self._sprites:
            self._sprites[expression] = self._draw(expression)
        return self._sprites[expression]

    def _draw(self, expression: Expression) -> Sprite:
        if self._base is None:
            self._base = _draw_base(self.person, self.unit_px)
        base, alpha = self._base
        canvas = base.copy()
        closed, opened = expression[0] / (EYE_LEVELS - 1), expression[1] / (MOUTH_LEVELS - 1)
        for side in (-1, 1):
            _draw_eye(canvas, self.person, side, closed)
        _draw_mouth(canvas, self.person, opened)
        person = self.person
        points = np.array(
            [
                [-person.eye_distance, _EYE_LINE],
                [person.eye_distance, _EYE_LINE],
                [0, _EYE_LINE + person.nose_length],
                [-person.mouth_width, _EYE_LINE + person.mouth_height],
                [person.mouth_width, _EYE_LINE + person.mouth_height],
            ],
            np.float32,
        )
        return Sprite(
            rgb=np.clip(canvas.rgb, 0, 255).astype(np.uint8),
            alpha=alpha,
            landmarks=(points + HEAD_EXTENT) * self.unit_px - 0.5,
        )


class _Canvas:
    """A float RGB picture over head units; every stroke touches only the box that it needs."""

    def __init__(self, unit_px: float, rgb: NDArray[np.float32]) -> None:
        self.unit_px = unit_px
        self.rgb = rgb

    def copy(self) -> "_Canvas":
        return _Canvas(self.unit_px, self.rgb.copy())

    def axes(self, rows: slice, columns: slice) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return x of shape (1, columns) and y of shape (rows, 1) in head units."""
        x, y = (
            ((np.arange(s.start, s.stop) + 0.5) / self.unit_px - HEAD_EXTENT).astype(np.float32)
            for s in (columns, rows)
        )
        return x[None, :], y[:, None]

    def box(self, centre: tuple[float, float], reach: float) -> tuple[slice, slice]:
        size = self.rgb.shape[0]
        low = [int(np.clip((c - reach + HEAD_EXTENT) * self.unit_px, 0, size - 1)) for c in centre]
        high = [int(np.clip((c + reach + HEAD_EXTENT) * self.unit_px + 1, 1, size)) for c in centre]
        return slice(low[1], high[1]), slice(low[0], high[0])

    def cover(
        self, centre: tuple[float, float], radii: tuple[float, float], soft: float, tilt: float = 0.0, bend: float = 0.0
    ) -> tuple[tuple[slice, slice], NDArray[np.float32]]:
        """Return the box of an ellipse and how much of each pixel there it covers.

        ``soft`` is the width of its rim as a share of its radius, ``tilt`` turns it (radians), ``bend`` lifts its ends.
        """
        box = self.box(centre, max(radii) * (1 + soft) + 2 / self.unit_px)
        x, y = self.axes(*box)
        x, y = x - centre[0], y - centre[1]
        y = y + bend * x**2
        c, s = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        radius = np.hypot((x * c + y * s) / radii[0], (y * c - x * s) / radii[1])
        # At least a pixel and a half wide, or the edge of a thin stroke would be a staircase.
        width = max(soft, 1.5 / (self.unit_px * min(radii)))
        return box, np.clip((1 + width / 2 - radius) / width, 0, 1)

    def ellipse(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        colour: Colour,
        *,
        soft: float = 0.3,
        opacity: float = 1.0,
        tilt: float = 0.0,
        bend: float = 0.0,
        within: tuple[tuple[slice, slice], NDArray[np.float32]] | None = None,
    ) -> None:
        """Paint an ellipse, optionally only where another one covers."""
        box, cover = self.cover(centre, radii, soft, tilt, bend)
        cover = _smooth(cover) * opacity
        if within is not None:
            full = np.zeros(self.rgb.shape[:2], np.float32)
            full[within[0]] = within[1]
            cover *= full[box]
        self.blend(box, cover, colour)

    def blend(self, box: tuple[slice, slice], cover: NDArray[np.float32], colour: NDArray[np.float32]) -> None:
        part = self.rgb[box]
        part += (colour - part) * cover[..., None]

    def shade(
        self,
        centre: tuple[float, float],
        radii: tuple[float, float],
        factor: float,
        *,
        soft: float = 1.2,
        tilt: float = 0,
    ) -> None:
        """Darken (below 1) or brighten (above 1) softly inside an ellipse."""
        box, cover = self.cover(centre, radii, soft, tilt)
        self.rgb[box] *= (1 + (factor - 1) * _smooth(cover))[..., None]


def _smooth(cover: NDArray[np.float32]) -> NDArray[np.float32]:
    return cover * cover * (3 - 2 * cover)


def texture(rng: np.random.Generator, side: int, grain_px: float) -> NDArray[np.float32]:
    """Return smooth noise of mean 0 and standard deviation 1, shape (side, side); ``grain_px`` is its feature size."""
    small = max(2, round(side / grain_px))
    noise = rng.standard_normal((small, small), dtype=np.float32)
    smooth = np.asarray(cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC), np.float32)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), np.float32)


def _draw_base(person: Person, unit_px: float) -> tuple[_Canvas, NDArray[np.float32]]:
    """Draw what no expression changes; return the picture and the head's alpha."""
    side = round(2 * HEAD_EXTENT * unit_px)
    canvas = _Canvas(unit_px, np.empty((side, side, 3), np.float32))
    rng = np.random.default_rng(person.grain_seed)
    x, y = canvas.axes(slice(0, side), slice(0, side))
    width = person.head_width
    # The face narrows from the cheekbones to the chin; above the eyes it is an ellipse.
    taper = np.where(y > 0, 1 - (1 - person.jaw_width) * np.clip(y, 0, 1) ** 1.2, 1).astype(np.float32)
    radius = np.sqrt((x / (width * taper)) ** 2 + np.where(y > 0, np.abs(y / 0.95) ** 1.2, y / 1.12) ** 2)
    edge = max(0.03, 2 / unit_px)
    face = _smooth(np.clip((1 + edge / 2 - radius) / edge, 0, 1))

    light_x, light_y = person.light
    depth = np.sqrt(np.clip(1 - radius**2, 0.02, 1))
    lambert = (x / width * light_x + y * light_y + depth * 0.85) / np.hypot(1, np.hypot(light_x, light_y))
    skin = person.skin * (0.56 + 0.58 * np.clip(lambert, 0, 1))[..., None]
    pores = texture(rng, side, max(1.0, unit_px / 90))
    blotches = texture(rng, side, unit_px / 5)
    skin *= (1 + 0.02 * pores + 0.02 * blotches)[..., None]

    strands = rng.standard_normal((side, side), dtype=np.float32)
    strands = np.asarray(cv2.GaussianBlur(strands, (0, 0), 0.6, sigmaY=unit_px / 12), np.float32)
    strands /= strands.std()
    gloss = 0.8 + 0.35 * np.clip(-y + x * light_x, 0, 1)
    hair = person.hair * (gloss * (1 + 0.16 * strands))[..., None]

    bottom = 1.15 if person.long_hair else 0.1
    mane = np.hypot(x / (width * 1.17), (y + 0.18) / 1.13)
    mane_cover = np.clip((1.03 - mane) / 0.06, 0, 1)
    if person.long_hair:
        falls = np.clip((width * 1.2 - np.abs(x)) / 0.06, 0, 1) * np.clip((bottom - y) / 0.25, 0, 1) * (y > -0.2)
        mane_cover = np.maximum(mane_cover, falls)
    else:
        mane_cover = mane_cover * np.clip((bottom - y) / 0.3, 0, 1)

    # From the back to the front: mane, ears, face, fringe.
    canvas.rgb[:] = hair
    ears = np.zeros((side, side), np.float32)
    if not person.long_hair:
        for sign in (-1, 1):
            centre = (sign * width * 1.0, 0.05)
            box, cover = canvas.cover(centre, (0.1, 0.2), 0.2)
            ears[box] = np.maximum(ears[box], cover)
            canvas.blend(box, cover, person.skin * 0.74)
            canvas.ellipse(centre, (0.05, 0.12), person.skin * 0.52, soft=0.8)
    canvas.rgb += (skin - canvas.rgb) * face[..., None]
    _draw_relief(canvas, person)
    fringe = y - (
        person.hairline
        - 0.1 * np.cos(x / width * 2.4)
        + 0.02 * texture(rng, side, unit_px / 12)
        + 0.45 * (x / width) ** 4
    )
    fringe_cover = np.clip(0.5 - fringe / 0.08, 0, 1) * np.clip((1.06 - mane) / 0.06, 0, 1)
    canvas.rgb += (hair - canvas.rgb) * fringe_cover[..., None]
    alpha = np.maximum(np.maximum(face, ears), np.maximum(mane_cover, fringe_cover)).astype(np.float32)
    return canvas, alpha


def _draw_relief(canvas: _Canvas, person: Person) -> None:
    """Shade sockets, cheeks, nose and chin, and draw brows; darker skin gets the deeper contrast that it needs."""
    deep = {"light": 0.66, "medium": 0.66, "brown": 0.64, "dark": 0.6}[person.skin_tone]
    eye_x, nose_y = person.eye_distance, _EYE_LINE + person.nose_length
    mouth_y = _EYE_LINE + person.mouth_height
    skin = person.skin
    canvas.shade((0, -0.5), (0.45, 0.24), 1.1)
    for sign in (-1, 1):
        canvas.shade((sign * eye_x, _EYE_LINE - 0.03), (0.25, 0.16), deep)
        canvas.shade((sign * 0.38, 0.27), (0.22, 0.2), 1.12)
        canvas.ellipse(
            (sign * 0.42, 0.36), (0.22, 0.18), skin * np.array([1.02, 0.8, 0.78], np.float32), soft=1.4, opacity=0.3
        )
        # The fold from the wing of the nose to the corner of the mouth.
        canvas.shade((sign * (person.nose_width + 0.09), nose_y + 0.13), (0.035, 0.15), 0.91, tilt=-sign * 0.5)
        canvas.shade((sign * 0.62, 0.45), (0.2, 0.5), 0.84)
    # Nose: shadowed flank away from the light, bright ridge and tip, wings and nostrils.
    flank = -1 if person.light[0] > 0 else 1
    canvas.shade((flank * 0.095, _EYE_LINE + 0.22), (0.05, 0.27), deep + 0.06)
    canvas.shade((-flank * 0.1, _EYE_LINE + 0.22), (0.04, 0.25), deep + 0.14)
    canvas.shade((0, _EYE_LINE + 0.2), (0.05, 0.3), 1.12)
    canvas.shade((0, nose_y - 0.01), (0.1, 0.085), 1.13)
    canvas.shade((0, nose_y + 0.1), (person.nose_width, 0.06), deep)
    for sign in (-1, 1):
        wing = (sign * person.nose_width * 0.82, nose_y + 0.02)
        canvas.shade((wing[0] + sign * 0.045, wing[1]), (0.03, 0.07), deep)
        canvas.ellipse(
            (sign * person.nose_width * 0.48, nose_y + 0.072),
            (0.05, 0.028),
            skin * 0.22,
            soft=0.7,
            opacity=0.9,
            tilt=sign * 0.3,
        )
    canvas.shade((0, mouth_y - 0.15), (0.05, 0.07), 0.9)
    canvas.shade((0, mouth_y + 0.15), (0.2, 0.06), deep)
    canvas.shade((0, 0.86), (0.18, 0.11), 1.1)
    brow = person.hair * 0.4 + skin * 0.1
    for sign in (-1, 1):
        centre = (sign * (eye_x + 0.01), _EYE_LINE - 0.2)
        canvas.ellipse(
            centre,
            (person.eye_width * 1.35, person.brow_thickness),
            brow,
            soft=0.6,
            opacity=0.92,
            tilt=sign * person.brow_tilt,
            bend=-0.9,
        )


def _draw_eye(canvas: _Canvas, person: Person, sign: int, closed: float) -> None:
    centre = (sign * person.eye_distance, _EYE_LINE)
    width, height = person.eye_width, person.eye_height * (1 - closed)
    skin, ink = person.skin, np.array([24, 17, 16], np.float32)
    if closed >= 1:
        canvas.ellipse(centre, (width * 1.05, person.eye_height * 0.9), skin * 0.78, soft=0.5, opacity=0.8)
        canvas.ellipse((centre[0], centre[1] + 0.03), (width * 1.05, 0.02), ink, soft=0.6, opacity=0.9)
        return
    canvas.ellipse(centre, (width * 1.12, height * 1.35), skin * 0.4, soft=0.5, opacity=0.75)
    opening = canvas.cover(centre, (width, height), 0.22)
    white = np.array([236, 232, 228], np.float32) * (0.92 if person.skin_tone in ("light", "medium") else 0.98)
    canvas.blend(*opening, white)
    iris = person.eye_height * 1.06
    canvas.ellipse(centre, (iris, iris), person.iris, soft=0.2, within=opening)
    canvas.ellipse(centre, (iris * 0.5, iris * 0.5), ink, soft=0.25, within=opening)
    canvas.ellipse((centre[0], centre[1] - height), (width, height * 0.75), ink, soft=0.9, opacity=0.5, within=opening)
    glint = (centre[0] + person.light[0] * 0.03 + 0.012, centre[1] - 0.02)
    canvas.ellipse(glint, (0.017, 0.017), np.array([255, 255, 255], np.float32), soft=0.5, within=opening)
    # Lashes above, a crease over them, a faint line below.
    canvas.ellipse((centre[0], centre[1] - height * 0.98), (width * 1.06, 0.022), ink, soft=0.6, opacity=0.95)
    canvas.ellipse((centre[0], centre[1] - height - 0.055), (width * 1.05, 0.014), skin * 0.5, soft=0.8, opacity=0.6)
    canvas.ellipse((centre[0], centre[1] + height * 1.05), (width * 0.92, 0.012), skin * 0.45, soft=0.8, opacity=0.7)


def _draw_mouth(canvas: _Canvas, person: Person, opened: float) -> None:
    middle = _EYE_LINE + person.mouth_height
    width = person.mouth_width * (1 - 0.12 * opened)
    gap, lip, smile = 0.13 * opened, person.lip_thickness, person.smile
    ink, teeth = np.array([52, 20, 20], np.float32), np.array([226, 218, 206], np.float32)
    top, bottom = middle - gap * 0.25, middle + gap * 0.75
    between = (0, (top + bottom) / 2)
    canvas.ellipse(between, (width * 1.04, gap / 2 + lip * 0.85), person.lips * 0.84, soft=0.3, bend=smile)
    for sign in (-1, 1):
        bow = (sign * width * 0.3, top - lip * 0.45 - smile * (width * 0.3) ** 2)
        canvas.ellipse(bow, (width * 0.5, lip * 0.55), person.lips * 0.86, soft=0.6, tilt=sign * 0.12)
    canvas.ellipse((0, bottom + lip * 0.5), (width * 0.72, lip * 0.72), person.lips * 1.06, soft=0.5, bend=smile * 1.2)
    canvas.ellipse((0, bottom + lip * 0.5), (width * 0.3, lip * 0.25), person.lips * 1.3, soft=1.0, opacity=0.5)
    canvas.ellipse(between, (width * 0.98, max(0.014, gap / 2)), ink, soft=0.4, bend=smile)
    if opened > 0.3:
        inside = canvas.cover(between, (width * 0.9, gap / 2), 0.3, bend=smile)
        canvas.ellipse((0, top + gap * 0.12), (width * 0.62, gap * 0.3), teeth, soft=0.3, within=inside)
        tongue = np.array([150, 74, 74], np.float32)
        canvas.ellipse((0, bottom), (width * 0.5, gap * 0.35), tongue, soft=0.6, within=inside)
