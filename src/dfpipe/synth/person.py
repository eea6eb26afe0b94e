"""Who a drawn person is: every trait follows from a seed and a number."""

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

__all__ = ["SKIN_TONES", "Person", "SkinTone", "draw_person", "random_stream", "skin_tone_of"]

SkinTone = Literal["light", "medium", "brown", "dark"]
SKIN_TONES: tuple[SkinTone, ...] = get_args(SkinTone)

Colour = NDArray[np.float32]

_SKIN: dict[SkinTone, tuple[int, int, int]] = {
    "light": (208, 166, 142),
    "medium": (204, 158, 126),
    "brown": (166, 118, 88),
    "dark": (124, 86, 66),
}
_HAIR = ((38, 30, 26), (62, 44, 34), (96, 68, 46), (128, 98, 62), (96, 92, 88))
_IRIS = ((70, 46, 30), (58, 40, 28), (84, 92, 60), (78, 104, 124))


@dataclass(frozen=True, slots=True)
class Person:
    """Traits of a drawn person; lengths are in head units (half the height of the face), colours RGB 0 to 255."""

    skin_tone: SkinTone
    """Group of the skin's colour."""
    skin: Colour
    """Colour of the skin in full light, shape (3,)."""
    hair: Colour
    """Colour of the hair, shape (3,)."""
    lips: Colour
    """Colour of the lips, shape (3,)."""
    iris: Colour
    """Colour of the iris, shape (3,)."""
    clothes: Colour
    """Colour of the clothes, shape (3,)."""
    walls: NDArray[np.float32]
    """Two colours of the room, shape (2, 3)."""
    head_width: float
    """Half the width of the head."""
    jaw_width: float
    """Width of the jaw as a share of the head's."""
    hairline: float
    """Height of the hairline; more negative is a higher forehead."""
    long_hair: bool
    """Whether the hair reaches the shoulders."""
    eye_distance: float
    """From the middle of the face to the middle of an eye."""
    eye_width: float
    """Half the width of an eye."""
    eye_height: float
    """Half the height of an open eye."""
    brow_thickness: float
    """Half the thickness of a brow."""
    brow_tilt: float
    """Slant of the brows in radians; positive falls outwards."""
    nose_length: float
    """From the line of the eyes to the tip of the nose."""
    nose_width: float
    """Half the width of the nose at its wings."""
    mouth_height: float
    """From the line of the eyes to the mouth."""
    mouth_width: float
    """Half the width of the mouth."""
    lip_thickness: float
    """Thickness of a lip."""
    smile: float
    """How far the corners of the mouth are lifted: the curve's second coefficient."""
    light: tuple[float, float]
    """Where the light comes from: x to the right, y down, each -1 to 1."""
    grain_seed: int
    """Seed of skin, hair and cloth textures."""


def random_stream(*key: int) -> Generator:
    """Return the random numbers that belong to a key; another key gives unrelated ones."""
    return np.random.default_rng(np.random.SeedSequence(key))


def skin_tone_of(identity: int) -> SkinTone:
    """Return the skin tone of person number ``identity`` of any seed: the tones take turns."""
    return SKIN_TONES[identity % len(SKIN_TONES)]


def draw_person(seed: int, identity: int) -> Person:
    """Return person number ``identity`` of a seed.

    Parameters
    ----------
    seed
        Not negative; another seed gives other people.
    identity
        Number of the person, from 0.
    """
    rng = random_stream(seed, identity, 1)
    tone = skin_tone_of(identity)
    skin = np.array(_SKIN[tone], np.float32) * rng.uniform(0.94, 1.06) + rng.normal(0, 3, 3)
    dark_skinned = tone in ("brown", "dark")
    hair = np.array(_HAIR[rng.integers(0, 2 if dark_skinned else len(_HAIR))], np.float32) * rng.uniform(0.8, 1.2)
    if tone == "dark":
        hair *= 0.6
    redness = rng.uniform(0.05, 0.25)
    lips = skin * np.array([0.84, 0.6, 0.6]) * (1 - redness) + np.array([176, 70, 76]) * redness
    # Against a dark wall dark skin has no outline, which a cameraman would avoid too.
    wall = rng.uniform(125 if dark_skinned else 105, 205) + rng.normal(0, 14, 3)
    return Person(
        skin_tone=tone,
        skin=_colour(skin),
        hair=_colour(hair),
        lips=_colour(lips),
        iris=_colour(np.array(_IRIS[rng.integers(0, 2 if dark_skinned else len(_IRIS))]) * rng.uniform(0.85, 1.15)),
        clothes=_colour(rng.uniform(30, 170) + rng.normal(0, 28, 3)),
        walls=np.stack([_colour(wall), _colour(wall * rng.uniform(0.55, 0.8) + rng.normal(0, 10, 3))]),
        head_width=float(rng.uniform(0.72, 0.8)),
        jaw_width=float(rng.uniform(0.78, 0.9)),
        hairline=float(rng.uniform(-0.72, -0.6)),
        long_hair=bool(rng.random() < 0.4),
        eye_distance=float(rng.uniform(0.305, 0.335)),
        eye_width=float(rng.uniform(0.145, 0.17)),
        eye_height=float(rng.uniform(0.066, 0.084)),
        brow_thickness=float(rng.uniform(0.03, 0.045)),
        brow_tilt=float(rng.uniform(-0.12, 0.02)),
        nose_length=float(rng.uniform(0.37, 0.43)),
        nose_width=float(rng.uniform(0.14, 0.19)),
        mouth_height=float(rng.uniform(0.64, 0.7)),
        mouth_width=float(rng.uniform(0.25, 0.31)),
        lip_thickness=float(rng.uniform(0.055, 0.08)),
        smile=float(rng.uniform(0.1, 0.6)),
        light=(float(rng.uniform(-0.35, 0.35)), float(rng.uniform(-0.5, -0.15))),
        grain_seed=int(rng.integers(2**31)),
    )


def _colour(values: NDArray[np.float64] | NDArray[np.float32]) -> Colour:
    return np.clip(values, 8, 245).astype(np.float32)
