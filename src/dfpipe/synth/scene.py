"""A take: a person before a wall, moving, blinking and speaking, seen through a camera that drifts and makes noise."""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dfpipe.synth.head import EYE_LEVELS, HEAD_EXTENT, MOUTH_LEVELS, Expression, Head, texture
from dfpipe.synth.person import Person, random_stream

__all__ = ["Camera", "Moment", "Scene"]

_UNIT_FRACTION = 0.235
"""Length of a head unit as a share of the picture's height, on average."""
_DRIFT_FRACTION = 0.02
"""How far the camera wanders to each side, as a share of the picture's height."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One frame before the camera's noise."""

    rgb: NDArray[np.uint8]
    """Shape (height, width, 3), RGB."""
    landmarks: NDArray[np.float32]
    """Shape (5, 2), pixels: left eye, right eye, nose, left and right mouth corner, as seen in the picture."""
    expression: Expression
    """Level of the eyes, level of the mouth."""


class Scene:
    """A person in a room; the same seed and size always play the same.

    Parameters
    ----------
    person
        Who is seen.
    seed
        Seed of room and motion.
    width, height
        Size of the picture in pixels.
    """

    def __init__(self, person: Person, *, seed: int, width: int, height: int) -> None:
        rng = random_stream(seed, person.grain_seed, 2)
        self.width, self.height = width, height
        self.unit_px = height * _UNIT_FRACTION * rng.uniform(0.94, 1.06)
        self._head = Head(person, unit_px=self.unit_px)
        self._drift = round(height * _DRIFT_FRACTION)
        self._seat = (width * rng.uniform(0.42, 0.58), height * rng.uniform(0.45, 0.49))
        self._room = self._draw_room(person, rng)
        self._motion = rng

    def play(self, num_frames: int, *, rate: float) -> Iterator[Moment]:
        """Play the take frame by frame; a scene is played once.

        Parameters
        ----------
        num_frames
            Frames to play.
        rate
            Frames a second, so that motion has its natural pace.
        """
        rng = self._motion
        seconds = np.arange(num_frames) / rate
        sway = self.height * 0.022
        shift = np.stack([_wander(rng, seconds) * sway, _wander(rng, seconds) * sway * 0.6], axis=1)
        roll = _wander(rng, seconds) * np.radians(3.5)
        zoom = 1 + 0.02 * _wander(rng, seconds)
        turn = 1 - 0.035 * np.abs(_wander(rng, seconds))
        drift = np.stack([_wander(rng, seconds, slow=3), _wander(rng, seconds, slow=3)], axis=1)
        drift = np.rint((drift / 2 + 1) * self._drift / 2).astype(int) * 2
        eyes, mouth = _blinks(rng, num_frames, rate), _speech(rng, seconds)
        centre = (HEAD_EXTENT * self.unit_px - 0.5,) * 2
        for i in range(num_frames):
            x, y = (int(np.clip(d, 0, 2 * self._drift)) for d in drift[i])
            frame = self._room[y : y + self.height, x : x + self.width].copy()
            c, s = np.cos(roll[i]) * zoom[i], np.sin(roll[i]) * zoom[i]
            matrix = np.array([[c * turn[i], -s, 0], [s * turn[i], c, 0]])
            place = np.array(self._seat) + shift[i] + self._drift - (x, y)
            matrix[:, 2] = place - matrix[:, :2] @ centre
            expression = (int(eyes[i]), int(mouth[i]))
            landmarks = self._set_head(frame, expression, matrix)
            yield Moment(rgb=frame, landmarks=landmarks, expression=expression)

    def _set_head(
        self, frame: NDArray[np.uint8], expression: Expression, matrix: NDArray[np.float64]
    ) -> NDArray[np.float32]:
        """Warp the head into the frame; return where its landmarks have come to lie."""
        sprite = self._head.sprite(expression)
        side = sprite.alpha.shape[0]
        corners = np.array([[0, 0], [side, 0], [0, side], [side, side]]) @ matrix[:, :2].T + matrix[:, 2]
        x1, y1 = np.maximum(np.floor(corners.min(axis=0)).astype(int), 0).tolist()
        x2, y2 = np.minimum(np.ceil(corners.max(axis=0)).astype(int), (self.width, self.height)).tolist()
        local = matrix.copy()
        local[:, 2] -= (x1, y1)
        size = (x2 - x1, y2 - y1)
        rgb = cv2.warpAffine(sprite.rgb, local, size, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(sprite.alpha, local, size)
        frame[y1:y2, x1:x2] = cv2.blendLinear(rgb, frame[y1:y2, x1:x2], alpha, 1 - alpha)
        return np.asarray(sprite.landmarks @ matrix[:, :2].T + matrix[:, 2], np.float32)

    def _draw_room(self, person: Person, rng: Generator) -> NDArray[np.uint8]:
        """Draw the wall, and neck and shoulders, which hardly move; larger than the picture by the camera's drift."""
        height, width = self.height + 2 * self._drift, self.width + 2 * self._drift
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        # A wall lit from one side, a darker lower part, blotches of different sizes, a picture or a shelf.
        side = max(height, width)
        slope = np.clip(0.5 + (x / width - 0.5) * rng.uniform(-1, 1) + (y / height - 0.5) * 0.5, 0, 1)[..., None]
        room = person.walls[0] * (1 - slope) + person.walls[1] * slope
        for grain, depth in ((height / 2, 0.08), (height / 20, 0.02), (2.5, 0.03)):
            room *= (1 + depth * texture(rng, side, grain)[:height, :width])[..., None]
        for _ in range(rng.integers(1, 5)):
            left, top = rng.uniform(0, width), rng.uniform(0, height * 0.6)
            right, bottom = left + rng.uniform(0.1, 0.3) * width, top + rng.uniform(0.1, 0.4) * height
            patch = room[int(top) : int(bottom), int(left) : int(right)]
            patch *= rng.uniform(0.55, 1.25)
            patch += rng.normal(0, 8, 3).astype(np.float32)
        room = np.asarray(cv2.GaussianBlur(room, (0, 0), height / 420), np.float32)

        unit = self.unit_px
        seat_x, seat_y = self._seat[0] + self._drift, self._seat[1] + self._drift
        u, v = (x - seat_x) / unit, (y - seat_y) / unit
        weave = (1 + 0.06 * texture(rng, side, max(1.5, unit / 40))[:height, :width])[..., None]
        light = np.clip(1 + 0.25 * u * person.light[0] - 0.15 * np.abs(u), 0.5, 1.2)[..., None]
        slope_of_shoulders = (
            1.24
            + 0.16 * np.clip(np.abs(u) - 0.3, 0, None) ** 1.3
            + np.where(np.abs(u) > 1.6, (np.abs(u) - 1.6) ** 2, 0)
        )
        shoulders = np.clip((v - slope_of_shoulders) / 0.05 + 0.5, 0, 1)[..., None]
        neck_width = person.head_width * (0.66 + 0.12 * np.clip(v - 1.0, 0, 1))
        neck = (
            np.clip((neck_width - np.abs(u)) / 0.05 + 0.5, 0, 1)
            * (v > 0.3)
            * np.clip((1.5 - 0.9 * u**2 - v) / 0.05, 0, 1)
        )
        # The chin's shadow falls on the neck.
        throat = (
            person.skin
            * ((0.5 + 0.3 * np.clip((v - 0.95) / 0.5, 0, 1)) * np.clip(1 - (u / 0.8) ** 2 * 0.4, 0, 1))[..., None]
        )
        room += (person.clothes * weave * light - room) * shoulders
        room += (throat - room) * neck[..., None]
        return np.asarray(np.clip(room, 0, 255), np.uint8)


class Camera:
    """Turns pictures into 4:2:0 frames with sensor noise and light that drifts.

    Parameters
    ----------
    rng
        Source of the noise.
    height, width
        Size of the picture in pixels, both even.
    num_frames
        Length of the take.
    rate
        Frames a second.
    """

    def __init__(self, rng: Generator, *, height: int, width: int, num_frames: int, rate: float) -> None:
        self._margin = 64
        sigma = rng.uniform(2.6, 3.4)
        noise = rng.standard_normal((height + self._margin, width + self._margin), dtype=np.float32)
        self._noise: NDArray[np.uint8] = np.clip(128.5 + noise * sigma, 0, 255).astype(np.uint8)
        self._shifts = rng.integers(0, self._margin, (num_frames, 2))
        self._gain = 1 + 0.03 * _wander(rng, np.arange(num_frames) / rate, slow=2)
        self.height, self.width = height, width

    def noise(self, index: int) -> NDArray[np.uint8]:
        """Return the noise of a frame, shape (height, width), 128 being none."""
        y, x = self._shifts[index].tolist()
        return self._noise[y : y + self.height, x : x + self.width]

    def record(self, rgb: NDArray[np.uint8], noise: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Return the recorded frame as planes of 4:2:0, shape (height * 3 / 2, width)."""
        planes = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
        luma = planes[: self.height]
        cv2.addWeighted(luma, float(self._gain[index]), noise, 1.0, -128.0, dst=luma)
        return np.asarray(planes, np.uint8)


def _wander(rng: Generator, seconds: NDArray[np.float64], *, slow: float = 1.0) -> NDArray[np.float64]:
    """Return a smooth path within about -1 to 1."""
    periods = rng.uniform([1.6, 3.0, 6.0], [2.6, 5.0, 10.0]) * slow
    phases = rng.uniform(0, 2 * np.pi, 3)
    waves = np.sin(2 * np.pi * seconds[:, None] / periods + phases) * [0.2, 0.3, 0.5]
    return np.asarray(waves.sum(axis=1))


def _blinks(rng: Generator, num_frames: int, rate: float) -> NDArray[np.int64]:
    """Return the level of the eyes in each frame: a blink every few seconds."""
    levels = np.zeros(num_frames, np.int64)
    start = int(rng.uniform(0.3, 3) * rate)
    half, closed = EYE_LEVELS // 2, EYE_LEVELS - 1
    while start < num_frames:
        for offset, level in enumerate((half, closed, closed, half)):
            if start + offset < num_frames:
                levels[start + offset] = level
        start += int(rng.uniform(2, 5) * rate)
    return levels


def _speech(rng: Generator, seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the level of the mouth in each frame: syllables inside phrases, and pauses."""
    phrases = np.clip(_wander(rng, seconds, slow=0.6) * 2 + 0.7, 0, 1)
    syllables = np.abs(np.sin(np.pi * seconds * rng.uniform(2.2, 3.2) + rng.uniform(0, np.pi)))
    loudness = 0.6 + 0.4 * np.abs(_wander(rng, seconds, slow=0.3))
    return np.rint(phrases * syllables * loudness * (MOUTH_LEVELS - 1)).astype(np.int64)
