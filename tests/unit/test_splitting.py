"""Protocols: who goes where, and what is refused."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from dfpipe.errors import TrainingDataError
from dfpipe.models import ColumnBlock, FaceJoins, TrainingData, identity_groups, join_groups, split_record
from dfpipe.settings import FaceDuplicateSettings, SplitSettings
from dfpipe.splitting import official_sides, split_by_identity, split_videos
from dfpipe.testing import make_video

FRAMES = 3
OFFICIAL = SplitSettings(protocol="official")
MARKED = SplitSettings(protocol="official", official_leaks="mark")


def data_of(videos, frames=FRAMES):
    labels = np.array([video.label == "fake" for video in videos], np.int8)
    rows = np.repeat(np.arange(len(videos), dtype=np.int32), frames)
    return TrainingData(
        X=np.zeros((len(rows), 2), np.float32),
        y=labels[rows],
        video=rows,
        video_ids=tuple(video.video_id for video in videos),
        groups=identity_groups([(*video.identities, video.content_id) for video in videos]),
        columns=(ColumnBlock("pixels", 0, 2),),
    )


def ffpp(pairs=10, sides=("train",) * 6 + ("val",) * 2 + ("test",) * 2):
    """Two people a pair, each with a real video and two fakes of the other's face, as the official lists pair them."""
    videos = []
    for pair in range(pairs):
        people = (f"{2 * pair:03}", f"{2 * pair + 1:03}")
        for target, source in (people, people[::-1]):
            common = {"dataset": "ffpp", "target": f"ffpp:{target}", "split": sides[pair]}
            videos.append(make_video(f"ffpp/original/c23/{target}", f"c{target}", **common))
            for method in ("Deepfakes", "Face2Face"):
                name, more = f"ffpp/{method}/c23/{target}_{source}", {"label": "fake", "manipulation": method}
                videos.append(make_video(name, f"c{name}", **common, **more, source=f"ffpp:{source}"))
    return sorted(videos, key=lambda video: video.video_id)


def celebdf(shares_people=False):
    videos = []
    for number in range(8):
        side = "test" if number < 2 else "train"
        other = "id9" if shares_people and number in (0, 5) else f"id{number}"
        common = {"dataset": "celebdf", "split": side}
        videos.append(make_video(f"celebdf/original/id{number}", f"r{number}", target=f"celebdf:{other}", **common))
        more = {"label": "fake", "manipulation": "Celeb-synthesis", "source": f"celebdf:x{number}"}
        videos.append(
            make_video(f"celebdf/Celeb-synthesis/{number}", f"f{number}", target=f"celebdf:{other}", **more, **common)
        )
    return sorted(videos, key=lambda video: video.video_id)


def names(data, rows):
    return {data.video_ids[video] for video in data.video[rows]}


def on_side(videos, *sides):
    return {video.video_id for video in videos if video.split in sides}


def test_ffpp_officially_learns_from_train_chooses_by_val_and_is_judged_on_test():
    videos = ffpp()
    data = data_of(videos)
    split = split_videos(videos, data, OFFICIAL)
    assert names(data, split.train_rows) == on_side(videos, "train")
    assert names(data, split.test_rows) == on_side(videos, "test")
    ((learnt, valid),) = split.folds
    assert np.array_equal(learnt, split.train_rows)
    assert names(data, valid) == on_side(videos, "val")
    assert (split.protocol, split.leaky, dict(split.left_out)) == ("official", False, {})


def test_a_data_set_without_val_makes_folds_of_all_that_is_not_test():
    videos = sorted([*ffpp(), *celebdf()], key=lambda video: video.video_id)
    data = data_of(videos)
    split = split_videos(videos, data, OFFICIAL)
    assert names(data, split.train_rows) == on_side(videos, "train", "val")
    assert names(data, split.test_rows) == on_side(videos, "test")
    assert len(split.folds) == 3
    assert {row for _, valid in split.folds for row in valid.tolist()} == set(split.train_rows.tolist())


def test_a_video_in_no_list_is_left_out_and_counted(caplog):
    videos = [*ffpp(), make_video("ffpp/original/c23/actor", "ca", dataset="ffpp")]
    data = data_of(videos)
    split = split_videos(videos, data, OFFICIAL)
    assert dict(split.left_out) == {60: "in no official list"}
    rows = np.concatenate([split.train_rows, split.test_rows, split.folds[0][1]])
    assert 60 not in data.video[rows]
    assert f"1 of {len(videos)} videos are left out of the training: in no official list" in caplog.text
    record = json.loads(split_record(data, split, OFFICIAL))
    assert record["left_out"] == {"ffpp/original/c23/actor": {"group": 10, "reason": "in no official list"}}
    assert {fold for one in record["val"].values() for fold in [one["fold"]]} == {0}
    assert sum(len(record[side]) for side in ("train", "val", "test", "left_out")) == len(videos)


@pytest.mark.parametrize(
    ("dataset", "file"),
    [
        ("ffpp", r"train\.json, val\.json and test\.json"),
        ("celebdf", r"List_of_testing_videos\.txt"),
        ("dfdc", r"train\.split\.dfdc_test_parts"),
        ("mine", r"a column split .* metadata\.csv"),
    ],
)
def test_a_missing_list_is_told_with_its_name_and_where_it_was_looked_for(dataset, file):
    videos = [*ffpp(), *(make_video(f"{dataset}/{n}", f"c{n}", dataset=dataset) for n in range(2))]
    if dataset == "ffpp":
        videos = [replace(video, split=None) for video in ffpp()]
    with pytest.raises(TrainingDataError, match=rf"data set {dataset} has no official .* looked in s3://b/d, .*{file}"):
        split_videos(videos, data_of(videos), OFFICIAL, lists="s3://b/d")


@pytest.mark.parametrize("gone", ["train", "test"])
def test_half_a_list_is_no_list(gone):
    videos = [replace(video, split=None if video.split == gone else video.split) for video in ffpp()]
    with pytest.raises(
        TrainingDataError, match=f"ffpp has no official {'training' if gone == 'train' else gone} videos"
    ):
        split_videos(videos, data_of(videos), OFFICIAL)


def test_a_side_of_one_class_is_told():
    videos = [video for video in ffpp() if video.split != "test" or video.label == "real"]
    with pytest.raises(TrainingDataError, match="has 4 real and 0 fake videos for test"):
        split_videos(videos, data_of(videos), OFFICIAL)


def test_dfdc_goes_by_folders():
    folders = {
        "dfdc_train_part_00": "train",
        "dfdc_train_part_1": "test",
        "dfdc_train_part_02": "val",
        "dfdc_train_part_10": "train",
        "test_videos": "test",
        "validation": "val",
        "other": None,
    }
    settings = SplitSettings(protocol="official", dfdc_test_parts=[1], dfdc_val_parts=[2])
    # That the whole lies in a folder called test says nothing.
    videos = [
        make_video(f"dfdc/{folder}", dataset="dfdc", url=f"s3://b/test/{folder}/x.mp4", split=None)
        for folder in folders
    ]
    assert official_sides(videos, settings, lists="") == list(folders.values())
    told = [replace(video, split="train") for video in videos]
    assert official_sides(told, settings, lists="")[-1] == "train"


def test_an_official_split_that_leaks_is_refused_or_marked():
    videos = celebdf(shares_people=True)
    data = data_of(videos)
    with pytest.raises(TrainingDataError, match=r"identity celebdf:id9 stands on two sides .*official_leaks to mark"):
        split_videos(videos, data, OFFICIAL)
    split = split_videos(videos, data, MARKED)
    assert split.leaky
    assert dict(split.shared) == {"identity": 1, "group": 1}
    assert names(data, split.test_rows) == on_side(videos, "test")
    assert json.loads(split_record(data, split, MARKED))["on_two_sides"] == {"identity": 1, "group": 1}
    assert "id9" not in split_record(data, split, MARKED).replace("original/id9", ""), "people are named nowhere"


def test_the_same_bytes_on_two_official_sides_are_refused():
    videos = celebdf()
    one, other = (next(i for i, video in enumerate(videos) if video.split == side) for side in ("train", "test"))
    videos[other] = replace(videos[other], content_id=videos[one].content_id)
    with pytest.raises(TrainingDataError, match=f"content {videos[one].content_id} stands on two sides"):
        split_videos(videos, data_of(videos), OFFICIAL)


def test_a_source_on_two_official_sides_is_refused():
    videos = celebdf()
    one, other = (
        next(i for i, video in enumerate(videos) if video.split == side and video.source) for side in ("train", "test")
    )
    videos[other] = replace(videos[other], source=videos[one].source)
    with pytest.raises(TrainingDataError, match=f"identity {videos[one].source} stands on two sides"):
        split_videos(videos, data_of(videos), OFFICIAL)


def test_by_identity_a_wrong_grouping_is_refused():
    videos = ffpp()
    data = data_of(videos)
    scattered = replace(data, groups=np.arange(len(videos), dtype=np.int32))
    with pytest.raises(TrainingDataError, match=r"identity ffpp:0\d\d"):
        split_by_identity(videos, scattered, SplitSettings())


def test_every_side_has_every_method():
    videos = ffpp(pairs=24, sides=(None,) * 24)
    data = data_of(videos)
    split = split_videos(videos, data, SplitSettings())
    for rows in (split.train_rows, split.test_rows, *(valid for _, valid in split.folds)):
        counts = {}
        for index in np.unique(data.video[rows]):
            method = videos[index].manipulation
            counts[method] = counts.get(method, 0) + 1
        assert len(set(counts.values())) == 1, counts
        assert set(counts) == {"original", "Deepfakes", "Face2Face"}


def test_the_seed_protocol_is_leaky_and_holds_out_a_fifth_of_the_faces(caplog):
    videos = ffpp()
    data = data_of(videos)
    settings = SplitSettings(protocol="seed")
    split = split_videos(videos, data, settings)
    assert split.leaky
    assert split.shared["video"] > 0
    assert len(split.test_rows) == 36
    assert len(data.y) == 180
    assert sorted([*split.train_rows, *split.test_rows]) == list(range(180))
    assert "this training is leaky (on two sides: video" in caplog.text
    record = json.loads(split_record(data, split, settings))
    assert set(record["train"]) & set(record["test"])
    assert record["rows_sha256"]["test"] == hashlib.sha256(split.test_rows.astype("<i8").tobytes()).hexdigest()
    assert split_by_identity(videos, data, settings).leaky is False


@pytest.mark.parametrize("protocol", ["identity", "official", "seed"])
def test_a_split_is_written_the_same_in_every_run(protocol):
    settings = SplitSettings(protocol=protocol)
    texts = {split_record(data_of(v), split_videos(v, data_of(v), settings), settings) for v in (ffpp(), ffpp())}
    (text,) = texts
    divided = {name: value for name, value in json.loads(text).items() if name != "settings"}
    digest = hashlib.sha256(json.dumps(divided, sort_keys=True).encode()).hexdigest()
    # Another digest is another division of the same videos: then plan.TRAIN_VERSION goes up.
    assert digest[:12] == {"identity": "37d4f1b37388", "official": "bea46b8e0251", "seed": "c55b9a7ee4d8"}[protocol]


def test_a_moved_video_is_another_split():
    videos = ffpp()
    data = data_of(videos)
    texts = {
        split_record(data, split_videos(videos, data, settings), settings.model_copy(update={"seed": 0}))
        for settings in (
            SplitSettings(protocol=protocol, seed=seed) for protocol in ("identity", "seed") for seed in (1, 2)
        )
    }
    assert len(texts) == 4


def with_faces(data, *pairs):
    """Return the same where faces join pairs of videos, by name."""
    places = np.array([[data.video_ids.index(name) for name in pair] for pair in pairs], np.int32).reshape(-1, 2)
    joins = FaceJoins(np.sort(places, axis=1), data.groups)
    return replace(data, groups=join_groups(data.groups, joins.pairs), face_joins=joins)


COPY = ("ffpp/original/c23/000", "ffpp/original/c23/019")
"""Of the first pair of people, who are learned from officially, and of the last, who are judged on."""


def test_copies_stay_on_one_side_and_are_on_record():
    videos = ffpp()
    data = with_faces(data_of(videos), COPY)
    for seed in range(5):
        settings = SplitSettings(seed=seed, face_duplicates=FaceDuplicateSettings())
        split = split_videos(videos, data, settings)
        sides = [{video_id in names(data, rows) for video_id in COPY} for rows in (split.train_rows, split.test_rows)]
        assert sides in ([{True}, {False}], [{False}, {True}])
    record = json.loads(split_record(data, split, settings))
    assert record["settings"]["face_duplicates"] == {"max_distance": 0.2, "min_share": 0.5}
    group = str(data.groups[data.video_ids.index(COPY[0])])
    assert record["face_duplicates"] == {
        "pairs": 1,
        "groups_of_people": 10,
        "groups": 9,
        "joined": {group: {"groups_of_people": 2, "videos": 12, "pairs": 1}},
    }
    told = {**record["train"], **record["test"]}
    assert {name: about["looks_like"] for name, about in told.items() if "looks_like" in about} == {
        COPY[0]: [COPY[1]],
        COPY[1]: [COPY[0]],
    }
    assert "looks_like" not in split_record(data_of(videos), split, SplitSettings())


def test_an_official_split_with_a_copy_on_two_sides_is_refused_or_marked():
    videos = ffpp()
    data = with_faces(data_of(videos), COPY)
    with pytest.raises(TrainingDataError, match=f"one of 1 face duplicates .*in video {COPY[0]} and in {COPY[1]}"):
        split_videos(videos, data, OFFICIAL)
    split = split_videos(videos, data, MARKED)
    assert split.leaky
    assert split.shared == {"face duplicate": 1, "group": 1}


def test_a_seed_split_counts_copies_on_two_sides():
    videos = ffpp()
    shared = split_videos(videos, with_faces(data_of(videos), COPY), SplitSettings(protocol="seed")).shared
    assert shared["face duplicate"] == 1
    assert "face duplicate" not in split_videos(videos, data_of(videos), SplitSettings(protocol="seed")).shared


def test_a_chain_of_faces_is_named_where_groups_are_too_few(caplog):
    videos = ffpp()
    originals = [video.video_id for video in videos if video.label == "real"]
    data = with_faces(data_of(videos), *pairwise(originals))
    with pytest.raises(TrainingDataError, match=r"face duplicates made 1 groups of 10, the largest of 60 of 60 videos"):
        split_videos(videos, data, SplitSettings())
    assert "face duplicates joined 60 of 60 videos to one group" in caplog.text
    alone = replace(data_of(videos), groups=np.zeros(60, np.int32))
    with pytest.raises(TrainingDataError) as caught:
        split_videos(videos, alone, SplitSettings())
    assert "face duplicates" not in str(caught.value)


def test_a_group_that_faces_made_too_large_is_warned_of(caplog):
    videos = ffpp()
    originals = [f"ffpp/original/c23/{number:03}" for number in range(0, 10, 2)]
    chained = with_faces(data_of(videos), *pairwise(originals))
    split_videos(videos, chained, SplitSettings(folds=2))
    assert "joined 30 of 60 videos to one group, more than a side or a fold should have (25 %)" in caplog.text
    caplog.clear()
    split_videos(videos, with_faces(data_of(videos), COPY), SplitSettings())
    assert "face duplicates" not in caplog.text
