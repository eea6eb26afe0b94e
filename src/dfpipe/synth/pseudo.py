"""Pseudo-fakes of anybody's own real videos, and the real ones through the same encoder, as a ``csv`` data set."""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count, cycle
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from dfpipe.errors import CatalogError, SettingsError, VideoError
from dfpipe.faces import open_detector
from dfpipe.settings import LimitSettings, MtcnnSettings
from dfpipe.storage import storage_errors
from dfpipe.synth.dataset import DEFAULT_STRENGTH
from dfpipe.synth.encode import Mp4Writer, draw_encoding
from dfpipe.synth.fake import draw_style, lift_face, place_face
from dfpipe.synth.layouts import couple
from dfpipe.synth.person import random_stream
from dfpipe.synth.track import track_face
from dfpipe.synth.workshop import Progress, Skipped, SynthReport, check_strength, claim_folder, run_all
from dfpipe.video import open_video

__all__ = ["Donors", "write_pseudo_fakes"]

Donors = Literal["self", "other"]

_SUFFIXES = frozenset({".mp4", ".mkv", ".mov", ".avi", ".webm"})
_LIMITS = LimitSettings(timeout_seconds=24 * 3600)
_MOST_DONOR_FRAMES = 60


@dataclass(frozen=True, slots=True)
class Tracked:
    """A real video and where its face is."""

    path: Path
    """The file."""
    name: str
    """Its path below the folder given."""
    identity: str
    """Who is in it."""
    landmarks: NDArray[np.float32]
    """Of each frame, shape (num_frames, 5, 2), not a number where there is no face."""


@dataclass(frozen=True, slots=True)
class Forging:
    """One video to write twice, real and fake; a piece of work for one process."""

    target: Tracked
    """The video."""
    donor: Tracked | None
    """Video that gives the face, None if each frame's own face is blended into it."""
    real: Path
    """Where the real one goes."""
    fake: Path
    """Where the fake goes."""
    strength: float
    """How coarse the fake is."""
    key: tuple[int, int]
    """Key of its random numbers."""


def write_pseudo_fakes(
    real: str | Path,
    out: str | Path,
    *,
    donors: Donors = "self",
    strength: float = DEFAULT_STRENGTH,
    seed: int = 0,
    jobs: int = 1,
    on_progress: Progress | None = None,
) -> SynthReport:
    """Write a data set of real videos and of pseudo-fakes of them; landmarks come from the detector.

    Both go through the same encoder with the same settings, so that the label lives in the face alone. Who is who
    is read from ``identities.csv`` (columns video, identity) or ``metadata.csv`` (with a column identity) in the
    folder; without them each video is a person of its own.

    Parameters
    ----------
    real
        Folder of real videos (mp4, mkv, mov, avi, webm), searched with its subfolders.
    out
        A folder that is new, empty, or claimed by an earlier call with the same options; not inside ``real``.
    donors
        ``self`` blends each face into itself, which ties no two people together; ``other`` swaps faces between
        people, in pairs.
    strength
        How coarse the fakes are: 0 leaves hardly a trace, 1 a plain one.
    seed
        Seed of everything drawn by chance.
    jobs
        Processes to spread the work over.
    on_progress
        Told how many steps are done, and of how many; each video takes two.

    Returns
    -------
    SynthReport
        Videos that cannot be read or show no face are in ``skipped``.

    Raises
    ------
    CatalogError
        The folder is missing, holds fakes too, or no video in it shows a face.
    SettingsError
        An option outside its range.
    StoreError
        A folder that holds something else or cannot be written.
    """
    check_strength(strength)
    if seed < 0:
        raise SettingsError(f"got seed {seed}, expected 0 or more")
    source, root = Path(real).absolute(), Path(out)
    paths = _find_videos(source)
    if root.resolve().is_relative_to(source.resolve()):
        raise SettingsError(f"got {root} inside {source}; choose a folder outside, or fakes would be taken for real")
    identities = _read_identities(source)
    claim_folder(root, {"from": str(source), "donors": donors, "strength": strength, "seed": seed})

    total = 2 * len(paths)
    report = on_progress or (lambda _done, _total: None)
    named = [(path, path.relative_to(source).as_posix()) for path in paths]
    asked = [(path, name, identities.get(name, identities.get(path.name, name))) for path, name in named]
    looks = run_all(_track, asked, jobs=jobs, on_progress=lambda done, _: report(done, total))
    tracked = [look for look in looks if isinstance(look, Tracked)]
    skipped = tuple(look for look in looks if isinstance(look, Skipped))
    if not tracked:
        first = f"{skipped[0].video}: {skipped[0].reason}"
        raise CatalogError(f"none of {len(paths)} videos under {source} can be used, the first is {first}")

    forgings = _plan(tracked, root, donors=donors, strength=strength, seed=seed)
    todo = [one for one in forgings if not (one.real.is_file() and one.fake.is_file())]
    done_before = len(paths) + len(forgings) - len(todo)
    with storage_errors("write", str(root)):
        run_all(_forge, todo, jobs=jobs, on_progress=lambda done, _: report(done_before + done, total))
        (root / "metadata.csv").write_text(_metadata(forgings, root), encoding="utf-8")
    report(total, total)
    return SynthReport(
        root=root,
        layout="csv",
        num_real=len(forgings),
        num_fake=len(forgings),
        num_written=2 * len(todo),
        skipped=skipped,
    )


def _find_videos(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise CatalogError(f"{folder} is not a folder; give a folder of real videos")
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    if not paths:
        raise CatalogError(f"no videos under {folder}, expected files ending in {', '.join(sorted(_SUFFIXES))}")
    return paths


def _read_identities(folder: Path) -> dict[str, str]:
    """Return who is in which video, by the name that the table gives it."""
    for name in ("identities.csv", "metadata.csv"):
        path = folder / name
        if path.is_file():
            rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline="")))
            if any((row.get("label") or "").lower() == "fake" for row in rows):
                raise CatalogError(f"{path} names fakes, expected real videos alone; give a folder without the fakes")
            return {row["video"]: row["identity"] for row in rows if row.get("video") and row.get("identity")}
    return {}


def _track(asked: tuple[Path, str, str]) -> Tracked | Skipped:
    path, name, identity = asked
    try:
        with open_video(str(path), limits=_LIMITS) as video:
            landmarks = track_face(video, open_detector(MtcnnSettings()))
    except VideoError as error:
        return Skipped(video=name, reason=error.reason)
    except OSError as error:
        return Skipped(video=name, reason=f"cannot be read: {error.strerror}")
    if np.isnan(landmarks).all():
        return Skipped(video=name, reason="no face found")
    return Tracked(path=path, name=name, identity=identity, landmarks=landmarks)


def _plan(videos: Sequence[Tracked], root: Path, *, donors: Donors, strength: float, seed: int) -> list[Forging]:
    people = sorted({video.identity for video in videos})
    gives = dict(couple(range(len(people)), random_stream(seed, 5))) if donors == "other" else {}
    forgings: list[Forging] = []
    names: set[str] = set()
    for number, video in enumerate(videos):
        person = people.index(video.identity)
        donor = None
        if gives.get(person, person) != person:
            theirs = [other for other in videos if other.identity == people[gives[person]]]
            donor = theirs[number % len(theirs)]
        name = video.name.rpartition(".")[0].replace("/", "__")
        # Two files may differ in their endings alone.
        tries = chain([name], (f"{name}_{i}" for i in count(2)))
        name = next(one for one in tries if not {one, f"{one}_fake"} & names)
        names |= {name, f"{name}_fake"}
        real, fake = (root / "videos" / f"{n}.mp4" for n in (name, f"{name}_fake"))
        forgings.append(Forging(target=video, donor=donor, real=real, fake=fake, strength=strength, key=(seed, number)))
    return forgings


def _metadata(forgings: Sequence[Forging], root: Path) -> str:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["video", "label", "manipulation", "target", "source"])
    for one in forgings:
        target = one.target.identity
        source = one.donor.identity if one.donor else target
        method = "face_swap" if one.donor else "self_blend"
        writer.writerow([one.real.relative_to(root).as_posix(), "real", "original", target, ""])
        writer.writerow([one.fake.relative_to(root).as_posix(), "fake", method, target, source])
    return table.getvalue()


def _forge(forging: Forging) -> None:
    """Write a video twice: as it is, and with another face wherever there is one."""
    target = forging.target
    rng = random_stream(*forging.key, 6)
    style = draw_style(rng, strength=forging.strength)
    encoding = draw_encoding(rng)
    with open_video(str(target.path), limits=_LIMITS) as video:
        # 4:2:0 needs even sides.
        width, height = video.info.width // 2 * 2, video.info.height // 2 * 2
        rate = Fraction(video.info.frame_rate or 25).limit_denominator(1001)
        gallery = _gallery(forging.donor) if forging.donor else None
        with (
            Mp4Writer(forging.real, width=width, height=height, rate=rate, encoding=encoding) as real,
            Mp4Writer(forging.fake, width=width, height=height, rate=rate, encoding=encoding) as fake,
        ):
            for frame in video.frames(range(video.info.num_frames)):
                image, landmarks = np.ascontiguousarray(frame.image[:height, :width]), target.landmarks[frame.index]
                real.write(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False))
                if not np.isnan(landmarks).any():
                    giving, points = next(gallery) if gallery else (image, landmarks)
                    eye_distance = float(np.hypot(*(landmarks[1] - landmarks[0])))
                    donor = lift_face(giving, points, eye_distance_px=eye_distance, style=style)
                    place_face(image, landmarks, donor, style, rng)
                fake.write(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420).astype(np.uint8, copy=False))


def _gallery(donor: Tracked) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.float32]]]:
    """Yield pictures of another person's face with its landmarks, to and fro, without end."""
    shown = np.flatnonzero(~np.isnan(donor.landmarks).any(axis=(1, 2)))[:_MOST_DONOR_FRAMES]
    with open_video(str(donor.path), limits=_LIMITS) as video:
        pictures = [_cut(frame.image, donor.landmarks[frame.index]) for frame in video.frames(shown.tolist())]
    return cycle([*pictures, *pictures[-2:0:-1]])


def _cut(image: NDArray[np.uint8], landmarks: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Keep only the surroundings of a face, so that many fit into memory."""
    reach = 2 * np.ptp(landmarks, axis=0).max()
    low = np.maximum(landmarks.min(axis=0) - reach, 0).astype(int)
    high = (landmarks.max(axis=0) + reach).astype(int)
    return image[low[1] : high[1], low[0] : high[0]].copy(), landmarks - low.astype(np.float32)
