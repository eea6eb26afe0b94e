"""A labelled data set of drawn people: real videos and, of the same takes, fakes."""

from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import SettingsError
from dfpipe.storage import storage_errors
from dfpipe.synth.encode import RATES, Mp4Writer, draw_encoding
from dfpipe.synth.fake import Donor, draw_style, lift_face, place_face
from dfpipe.synth.head import Expression, Head
from dfpipe.synth.layouts import Layout, Shot, lay_out
from dfpipe.synth.person import draw_person, random_stream
from dfpipe.synth.scene import Camera, Scene
from dfpipe.synth.workshop import Progress, SynthReport, check_strength, claim_folder, run_all

__all__ = ["DEFAULT_HEIGHTS", "DEFAULT_STRENGTH", "SynthPlan", "write_dataset"]

DEFAULT_HEIGHTS = (360, 480, 720, 360, 360, 480, 360, 360, 1080, 360, 480, 360, 360, 720, 360, 480, 360, 360, 480, 360)
DEFAULT_STRENGTH = 0.6


@dataclass(frozen=True, slots=True)
class SynthPlan:
    """Everything that decides the bytes of a made data set."""

    num_identities: int
    """People who are filmed, one video each."""
    layout: Layout = "ffpp"
    """Data set whose folders and names are used."""
    strength: float = DEFAULT_STRENGTH
    """How coarse the fakes are: 0 leaves hardly a trace, 1 a plain one."""
    seed: int = 0
    """Another seed gives other people."""
    first_identity: int = 0
    """Number of the first person; the same seed with higher numbers gives people not seen yet."""
    num_frames: tuple[int, int] = (184, 200)
    """Fewest and most frames of a video."""
    heights: tuple[int, ...] = DEFAULT_HEIGHTS
    """Heights in pixels, dealt out over the videos; pictures are 16:9."""

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if self.num_identities < 1:
            raise SettingsError(f"got {self.num_identities} identities, expected 1 or more")
        if self.seed < 0 or self.first_identity < 0:
            raise SettingsError(f"got seed {self.seed} and first identity {self.first_identity}, expected 0 or more")
        if not 1 <= self.num_frames[0] <= self.num_frames[1]:
            raise SettingsError(f"got {self.num_frames} frames, expected the fewest, 1 or more, and the most")
        if not self.heights or any(height < 64 or height % 2 for height in self.heights):
            raise SettingsError(f"got heights {self.heights}, expected even numbers of at least 64 pixels")


@dataclass(frozen=True, slots=True)
class Filming:
    """One shot with all that was drawn for it; a piece of work for one process."""

    shot: Shot
    """Who is filmed, who gives the face, and where the videos go."""
    out: Path
    """Root of the data set."""
    seed: int
    """Seed of the data set."""
    strength: float
    """How coarse the fake is."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    rate: Fraction
    """Frames a second."""
    num_frames: int
    """Length of both videos."""

    @property
    def cost(self) -> int:
        """Pixels to make, for an even load."""
        return self.width * self.height * self.num_frames


def write_dataset(
    out: str | Path,
    *,
    num_identities: int,
    layout: Layout = "ffpp",
    strength: float = DEFAULT_STRENGTH,
    seed: int = 0,
    first_identity: int = 0,
    num_frames: tuple[int, int] = (184, 200),
    heights: tuple[int, ...] = DEFAULT_HEIGHTS,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> SynthReport:
    """Write a labelled data set of drawn people, each in a real video and in a fake of the same take.

    The same options write the same bytes, with any number of processes. What an earlier, interrupted call
    with the same options has written is kept.

    Parameters
    ----------
    out
        A folder that is new, empty, or claimed by an earlier call with the same options.
    num_identities, layout, strength, seed, first_identity, num_frames, heights
        See `SynthPlan`.
    jobs
        Processes to spread the work over.
    on_progress
        Told how many takes are done, and of how many.

    Raises
    ------
    SettingsError
        An option outside its range.
    StoreError
        A folder that holds something else or cannot be written.
    """
    plan = SynthPlan(
        num_identities=num_identities,
        layout=layout,
        strength=strength,
        seed=seed,
        first_identity=first_identity,
        num_frames=num_frames,
        heights=heights,
    )
    root = Path(out)
    claim_folder(root, asdict(plan))
    filmings, side_files = _prepare(plan, root)
    todo = sorted((f for f in filmings if _missing(f)), key=lambda f: f.cost, reverse=True)
    written = sum(len(_missing(f)) for f in todo)
    with storage_errors("write", str(root)):
        run_all(film, todo, jobs=jobs, on_progress=on_progress)
        for path, text in side_files.items():
            (root / path).write_text(text, encoding="utf-8")
    return SynthReport(
        root=root,
        layout=layout,
        num_real=len(filmings),
        num_fake=sum(f.shot.fake is not None for f in filmings),
        num_written=written,
    )


def _prepare(plan: SynthPlan, out: Path) -> tuple[list[Filming], dict[str, str]]:
    rng = random_stream(plan.seed, plan.first_identity, 0)
    identities = range(plan.first_identity, plan.first_identity + plan.num_identities)
    shots, side_files = lay_out(plan.layout, identities, rng)
    heights = [plan.heights[i % len(plan.heights)] for i in range(len(shots))]
    filmings = []
    orders = (rng.permutation(len(shots)) for _ in range(2))
    for shot, i, j in zip(shots, *orders, strict=True):
        height = heights[i]
        filmings.append(
            Filming(
                shot=shot,
                out=out,
                seed=plan.seed,
                strength=plan.strength,
                width=round(height * 16 / 9 / 2) * 2,
                height=height,
                rate=RATES[j % len(RATES)],
                num_frames=int(rng.integers(plan.num_frames[0], plan.num_frames[1] + 1)),
            )
        )
    return filmings, side_files


def _missing(filming: Filming) -> list[str]:
    return [path for path in (filming.shot.real, filming.shot.fake) if path and not (filming.out / path).is_file()]


def film(filming: Filming) -> None:
    """Play one take and write its real video and its fake, which share every pixel outside the face."""
    shot, rate = filming.shot, float(filming.rate)
    width, height, num_frames = filming.width, filming.height, filming.num_frames
    rng = random_stream(filming.seed, shot.target, 3)
    scene = Scene(draw_person(filming.seed, shot.target), seed=filming.seed, width=width, height=height)
    camera = Camera(rng, width=width, height=height, num_frames=num_frames, rate=rate)
    style = draw_style(rng, strength=filming.strength)
    source = Head(draw_person(filming.seed, shot.source), unit_px=scene.unit_px)
    donors: dict[Expression, Donor] = {}
    # One encoding for both: twins that differ in the face alone then differ in no fact of the file that repeats.
    encoding = draw_encoding(rng)
    open_mp4 = partial(Mp4Writer, width=width, height=height, rate=filming.rate, encoding=encoding)
    real = open_mp4(filming.out / shot.real)
    if shot.fake is None:
        with real:
            for index, moment in enumerate(scene.play(num_frames, rate=rate)):
                real.write(camera.record(moment.rgb, camera.noise(index), index))
        return
    with real, open_mp4(filming.out / shot.fake) as fake:
        for index, moment in enumerate(scene.play(num_frames, rate=rate)):
            noise = camera.noise(index)
            real.write(camera.record(moment.rgb, noise, index))
            if moment.expression not in donors:
                sprite = source.sprite(moment.expression)
                left, right = moment.landmarks[:2]
                eye_distance = float(np.hypot(*(right - left)))
                donors[moment.expression] = lift_face(
                    sprite.rgb, sprite.landmarks, eye_distance_px=eye_distance, style=style
                )
            patch = place_face(moment.rgb, moment.landmarks, donors[moment.expression], style, rng)
            quiet = _quieten(noise, patch.box, patch.mask * (1 - style.noise_kept))
            fake.write(camera.record(moment.rgb, quiet, index))


def _quieten(noise: NDArray[np.uint8], box: tuple[slice, slice], share: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Take a share of the noise out of a box: a face that went through a network has lost its camera's noise."""
    quiet = noise.copy()
    part = np.ascontiguousarray(noise[box])
    if part.size:
        quiet[box] = cv2.blendLinear(part, np.full_like(part, 128), 1 - share, share)
    return quiet
