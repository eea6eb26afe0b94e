"""Which videos a made data set has, and the names and side files that each known layout gives them."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from numpy.random import Generator

from dfpipe.synth.person import skin_tone_of

__all__ = ["Layout", "Shot", "couple", "lay_out"]

Layout = Literal["ffpp", "celebdf", "dfdc"]

_FIRST_STRANGER = 1_000_000
"""Identities from here on give faces to fakes and never appear themselves."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One take of one person: a real video and, of the very same frames, a fake."""

    target: int
    """Identity that is filmed."""
    source: int
    """Identity whose face the fake puts in; the target's own for a self-blended one."""
    real: str
    """Path of the real video below the data set's root."""
    fake: str | None
    """Path of the fake, None where there is only the real video."""


def lay_out(layout: Layout, identities: Sequence[int], rng: Generator) -> tuple[list[Shot], dict[str, str]]:
    """Return the shots of a data set and its side files, by path below the root.

    Parameters
    ----------
    layout
        Which data set's names and folders to use.
    identities
        Numbers of those who are filmed.
    rng
        Chance by which pairs are made.
    """
    shots, side_files = _DEALERS[layout](identities, rng)
    return shots, {**side_files, "attributes.csv": _attributes(shots)}


def _attributes(shots: Sequence[Shot]) -> str:
    """Tell the skin tone of the one who is filmed, for the real video and for its fake."""
    told = {path: skin_tone_of(shot.target) for shot in shots for path in (shot.real, shot.fake) if path is not None}
    return "".join(f"{path},{value}\n" for path, value in (("video", "skin_tone"), *sorted(told.items())))


def couple(identities: Sequence[int], rng: Generator) -> list[tuple[int, int]]:
    """Return (target, source) for each identity: pairs that swap faces, a ring of three if one is left over.

    Groups stay as small as they can be, since everyone who appears together must stay on one side of a split.
    One person alone gives the face to themself.

    Examples
    --------
    >>> import numpy as np
    >>> sorted(couple([7], np.random.default_rng(0)))
    [(7, 7)]
    >>> len(couple([0, 1, 2, 3, 4], np.random.default_rng(0)))
    5
    """
    order = [identities[i] for i in rng.permutation(len(identities))]
    sizes = [2] * (len(order) // 2)
    if len(order) % 2:
        sizes = [*sizes[:-1], 3] if sizes else [1]
    couples: list[tuple[int, int]] = []
    for size in sizes:
        ring, order = order[:size], order[size:]
        couples += [(target, ring[(i + 1) % size]) for i, target in enumerate(ring)]
    return couples


def _ffpp(identities: Sequence[int], rng: Generator) -> tuple[list[Shot], dict[str, str]]:
    shots = [
        Shot(
            target=target,
            source=source,
            real=f"original_sequences/youtube/c23/videos/{target:03d}.mp4",
            fake=f"manipulated_sequences/Deepfakes/c23/videos/{target:03d}_{source:03d}.mp4",
        )
        for target, source in couple(identities, rng)
    ]
    return shots, {}


def _celebdf(identities: Sequence[int], rng: Generator) -> tuple[list[Shot], dict[str, str]]:
    # An eighth are people of whom there are only real videos.
    num_strangers = max(1, len(identities) // 8) if len(identities) > 2 else 0
    celebrities, strangers = identities[num_strangers:], identities[:num_strangers]
    shots = [
        Shot(
            target=target,
            source=source,
            real=f"Celeb-real/id{target}_0000.mp4",
            fake=f"Celeb-synthesis/id{target}_id{source}_0000.mp4",
        )
        for target, source in couple(celebrities, rng)
    ]
    # Couples stand side by side in the list, so its end cuts none of them apart by more than a ring.
    tested = shots[-max(2, len(shots) // 5 // 2 * 2) :]
    people = {identity for shot in tested for identity in (shot.target, shot.source)}
    tested = [shot for shot in shots if shot.target in people]
    strange = [
        Shot(target=identity, source=identity, real=f"YouTube-real/{identity:05d}.mp4", fake=None)
        for identity in strangers
    ]
    lines = [f"1 {shot.real}" for shot in [*strange[: len(strange) // 2 + 1], *tested]]
    lines += [f"0 {shot.fake}" for shot in tested]
    return [*shots, *strange], {"List_of_testing_videos.txt": "".join(f"{line}\n" for line in lines)}


def _dfdc(identities: Sequence[int], rng: Generator) -> tuple[list[Shot], dict[str, str]]:
    # This layout does not tell who gave a face. Faces of people who never appear keep the secret harmless.
    folder = "dfdc_train_part_0"
    shots: list[Shot] = []
    metadata: dict[str, dict[str, str]] = {}
    for identity in identities:
        real, fake = (f"{''.join(chr(97 + int(c)) for c in rng.integers(0, 26, 10))}.mp4" for _ in range(2))
        shots.append(
            Shot(
                target=identity,
                source=identity + _FIRST_STRANGER,
                real=f"{folder}/{real}",
                fake=f"{folder}/{fake}",
            )
        )
        metadata[real] = {"label": "REAL", "split": "train"}
        metadata[fake] = {"label": "FAKE", "split": "train", "original": real}
    ordered = {name: metadata[name] for name in sorted(metadata)}
    return shots, {f"{folder}/metadata.json": json.dumps(ordered, indent=1) + "\n"}


_DEALERS: Mapping[Layout, Callable[[Sequence[int], Generator], tuple[list[Shot], dict[str, str]]]] = {
    "ffpp": _ffpp,
    "celebdf": _celebdf,
    "dfdc": _dfdc,
}
