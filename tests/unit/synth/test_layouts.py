import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.synth.layouts import couple, lay_out
from dfpipe.synth.person import draw_person


@pytest.mark.parametrize(("number", "groups"), [(0, 0), (1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (7, 3)], ids=str)
def test_couples_are_pairs_with_one_ring_of_three(number, groups):
    couples = couple(range(number), np.random.default_rng(0))
    source = dict(couples)
    rings = set()
    for first in range(number):
        ring, last = {first}, first
        while source[last] not in ring:
            last = source[last]
            ring.add(last)
        rings.add(frozenset(ring))
    assert len(rings) == groups
    assert all(len(ring) <= 3 for ring in rings)


@given(number=st.integers(2, 60), seed=st.integers(0, 2**32))
def test_everyone_gives_and_gets_one_face_of_another(number, seed):
    couples = couple(range(number), np.random.default_rng(seed))
    assert sorted(target for target, _ in couples) == list(range(number))
    assert sorted(source for _, source in couples) == list(range(number))
    assert all(target != source for target, source in couples)


def test_ffpp_names_tell_target_and_source():
    shots, side_files = lay_out("ffpp", range(4), np.random.default_rng(0))
    assert list(side_files) == ["attributes.csv"]
    for shot in shots:
        assert shot.real == f"original_sequences/youtube/c23/videos/{shot.target:03d}.mp4"
        assert shot.fake == f"manipulated_sequences/Deepfakes/c23/videos/{shot.target:03d}_{shot.source:03d}.mp4"


def test_celebdf_has_strangers_and_a_list_that_names_its_videos():
    shots, side_files = lay_out("celebdf", range(17), np.random.default_rng(0))
    paths = {path for shot in shots for path in (shot.real, shot.fake) if path}
    lines = [line.split(" ") for line in side_files["List_of_testing_videos.txt"].splitlines()]
    assert {path for _, path in lines} < paths
    assert all((label == "1") == (not path.startswith("Celeb-synthesis/")) for label, path in lines)
    assert sum(path.startswith("YouTube-real/") for path in paths) == 2


@given(number=st.integers(3, 40), seed=st.integers(0, 1000))
def test_celebdf_tests_nobody_it_trains_on(number, seed):
    shots, side_files = lay_out("celebdf", range(number), np.random.default_rng(seed))
    tested = {line.split(" ")[1] for line in side_files["List_of_testing_videos.txt"].splitlines()}
    inside = {i for shot in shots for i in (shot.target, shot.source) if shot.real in tested}
    outside = {i for shot in shots for i in (shot.target, shot.source) if shot.real not in tested}
    assert not inside & outside


def test_dfdc_metadata_covers_every_video_and_no_face_giver_is_filmed():
    shots, side_files = lay_out("dfdc", range(5), np.random.default_rng(0))
    metadata = json.loads(side_files["dfdc_train_part_0/metadata.json"])
    assert {f"dfdc_train_part_0/{name}" for name in metadata} == {p for s in shots for p in (s.real, s.fake)}
    fakes = {name: row for name, row in metadata.items() if row["label"] == "FAKE"}
    assert len(fakes) == 5
    assert all(metadata[row["original"]]["label"] == "REAL" for row in fakes.values())
    assert not {shot.source for shot in shots} & {shot.target for shot in shots}


@pytest.mark.parametrize("layout", ["ffpp", "celebdf", "dfdc"])
def test_the_skin_tone_of_whoever_is_filmed_stands_beside_every_video(layout):
    shots, side_files = lay_out(layout, range(9), np.random.default_rng(0))
    first, *lines = side_files["attributes.csv"].splitlines()
    told = dict(line.split(",") for line in lines)
    assert first == "video,skin_tone"
    assert told == {
        path: draw_person(3, shot.target).skin_tone for shot in shots for path in (shot.real, shot.fake) if path
    }
