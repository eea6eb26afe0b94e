"""What made videos are for: faces that the detector finds, and a label that lives in the face alone."""

import re
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from dfpipe.faces import Face, crop_face, open_detector
from dfpipe.settings import CropSettings, LimitSettings, MtcnnSettings
from dfpipe.synth import write_dataset
from dfpipe.synth.person import SKIN_TONES, draw_person
from dfpipe.video import every, open_video

pytestmark = pytest.mark.slow

SEED, IDENTITIES = 42, 48


@dataclass(frozen=True)
class Look:
    identities: tuple[int, ...]
    num_frames: int
    crops: np.ndarray
    facts: np.ndarray
    outside: np.ndarray

    @property
    def is_fake(self) -> bool:
        return len(self.identities) > 1


def look_at_take(take: tuple[Path, Path]) -> tuple[Look, Look]:
    """Look at the real video and the fake of one take."""
    facts, pictures = zip(*(read(path) for path in take), strict=True)
    faces = [[find(image) for image in images] for images in pictures]
    # One blank for both: each twin's own box would show, by its place alone, what the detector made of the face.
    blanks = {
        number: both_boxes(pair)
        for number, pair in enumerate(zip(*faces, strict=True))
        if all(face is not None for face in pair)
    }
    return tuple(
        Look(
            identities=tuple(int(number) for number in re.findall(r"\d+", path.stem)),
            num_frames=len(images),
            crops=np.stack(
                [
                    residual(crop_face(image, face, CropSettings()))
                    for image, face in zip(images, found, strict=True)
                    if face is not None
                ]
            ),
            facts=fact,
            outside=np.stack([describe_outside(images[number], blank) for number, blank in blanks.items()]),
        )
        for path, fact, images, found in zip(take, facts, pictures, faces, strict=True)
    )


def read(path: Path) -> tuple[np.ndarray, list[np.ndarray]]:
    with open_video(str(path), limits=LimitSettings()) as video:
        info = video.info
        images = [frame.image for frame in video.frames(every(info.num_frames, every_frames=30, max_frames=7))]
    facts = [info.size_bytes, info.duration_seconds, info.size_bytes / info.duration_seconds]
    return np.array([[*facts, info.num_frames, info.width, info.height, info.frame_rate]]), images


def find(image: np.ndarray) -> Face | None:
    faces = open_detector(MtcnnSettings()).detect([image])[0]
    return faces[0] if faces else None


def both_boxes(pair: tuple[Face, Face]) -> np.ndarray:
    first, second = (face.box for face in pair)
    return np.concatenate([np.minimum(first[:2], second[:2]), np.maximum(first[2:], second[2:])])


def residual(image: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    noise = grey - cv2.GaussianBlur(grey, (0, 0), 1.0)
    return np.array([part.std() for row in np.array_split(noise, 8) for part in np.array_split(row, 8, axis=1)])


def describe_outside(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = box
    width, height = x2 - x1, y2 - y1
    blank = image.copy()
    rows = slice(max(0, int(y1 - 0.2 * height)), int(y2 + 0.2 * height))
    blank[rows, max(0, int(x1 - 0.25 * width)) : int(x2 + 0.25 * width)] = 0
    return np.concatenate([cv2.resize(blank, (16, 9), interpolation=cv2.INTER_AREA).ravel(), residual(blank)])


@pytest.fixture(scope="module")
def looks(tmp_path_factory):
    root = tmp_path_factory.mktemp("synth")
    write_dataset(root, num_identities=IDENTITIES, seed=SEED, heights=(360, 360, 480), jobs=2)
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        real, fake = (sorted((root / f"{side}_sequences").rglob("*.mp4")) for side in ("original", "manipulated"))
        return [one for take in pool.map(look_at_take, zip(real, fake, strict=True)) for one in take]


def held_out_auc(looks: list[Look], rows: list[np.ndarray], *, divisions: int = 6) -> float:
    """Mean video AUC on people whom the forest has not seen, over repeated divisions in halves."""
    label = np.array([one.is_fake for one in looks])
    video = np.repeat(np.arange(len(looks)), [len(part) for part in rows])
    features = np.concatenate(rows)
    partner = {one.identities[0]: one.identities[1] for one in looks if one.is_fake}
    group = np.array([min(one.identities[0], partner[one.identities[0]]) for one in looks])
    aucs = []
    for seed in range(divisions):
        chosen = np.random.default_rng(seed).permutation(np.unique(group))
        for half in np.array_split(chosen, 2):
            test = np.isin(group, half)
            forest = RandomForestClassifier(200, min_samples_leaf=3, random_state=seed)
            forest.fit(features[~test[video]], label[video][~test[video]])
            score = forest.predict_proba(features[test[video]])[:, 1]
            mean = np.bincount(video[test[video]], score, len(looks)) / np.bincount(video, minlength=len(looks))
            aucs.append(roc_auc_score(label[test], mean[test]))
    return float(np.mean(aucs))


@pytest.mark.parametrize("tone", SKIN_TONES)
def test_nearly_every_sampled_frame_yields_a_face(looks, tone):
    mine = [one for one in looks if draw_person(SEED, one.identities[0]).skin_tone == tone]
    sampled, found = sum(one.num_frames for one in mine), sum(len(one.crops) for one in mine)
    assert sampled == 7 * IDENTITIES // 4 * 2
    assert found / sampled >= 0.97


def test_facts_of_the_file_do_not_tell(looks):
    assert held_out_auc(looks, [one.facts for one in looks]) == pytest.approx(0.5, abs=0.1)


def test_pixels_outside_the_face_do_not_tell(looks):
    assert held_out_auc(looks, [one.outside for one in looks]) == pytest.approx(0.5, abs=0.1)


def test_the_face_tells(looks):
    assert held_out_auc(looks, [one.crops for one in looks]) >= 0.9
