"""How videos are divided into those that a model learns from and those that it is judged on."""

from typing import Literal

from pydantic import Field

from dfpipe.settings.section import Section

__all__ = ["FaceDuplicateSettings", "SplitProtocol", "SplitSettings"]

SplitProtocol = Literal["identity", "official", "seed"]


class FaceDuplicateSettings(Section):
    """When two videos are taken for copies of the same footage, by the crops of their faces."""

    max_distance: float = Field(0.2, gt=0, le=1)
    """Greatest distance of two faces that count as the same picture: 0 is the same but for brightness and contrast,
    1.41 has nothing in common. docs/splits.md says what lies how far apart."""
    min_share: float = Field(0.5, gt=0, le=1)
    """Share of the faces of one of two videos that must be found in the other."""


class SplitSettings(Section):
    """How videos are divided; docs/splits.md tells what each protocol needs and what its figures mean."""

    protocol: SplitProtocol = "identity"
    """identity: in whole groups of people who appear together; official: as the data sets' own lists say; seed: faces
    at random, as the seed study did, which puts every video on both sides: for comparison only, and marked as leaky."""
    test_fraction: float | None = Field(None, gt=0, lt=1)
    """Share of the videos of each class and method (by seed: of all faces) held out for the final figures; null is
    0.25, and 0.2 by seed. An official split has its own."""
    folds: int = Field(3, ge=2)
    """Cross-validation folds inside the rest; an official split with validation videos has one fold, which they are."""
    seed: int = 42
    """Seed of the division; the seed study's is 42."""
    official_leaks: Literal["refuse", "mark"] = "refuse"
    """What to do with an official split that has a person or a video's bytes on two sides: refuse it, or train all the
    same and mark the run as leaky. Celeb-DF's list is such a one."""
    # Left out of hashes where it is not set: trainings were made before there was a choice.
    face_duplicates: FaceDuplicateSettings | None = Field(None, exclude_if=lambda value: value is None)
    """Take videos that show the same pictures of a face for videos of the same people, whatever their names say; null:
    names alone count. {} has the defaults."""
    dfdc_test_parts: list[int] = Field([])
    """Numbers N of the folders dfdc_train_part_N that an official split holds out for the test."""
    dfdc_val_parts: list[int] = Field([])
    """Numbers N of the folders dfdc_train_part_N that an official split validates on."""

    @property
    def held_out(self) -> float:
        """The share that is held out: what is set, else the protocol's own."""
        if self.test_fraction is not None:
            return self.test_fraction
        return 0.2 if self.protocol == "seed" else 0.25
