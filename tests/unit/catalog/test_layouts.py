"""Every layout, listed on a file system and in a bucket."""

import json
import logging

import pytest

from dfpipe.catalog import Video, to_videos
from dfpipe.catalog import read_catalog as read_table
from dfpipe.errors import CatalogError

FFPP = {
    "original_sequences/youtube/c23/videos/000.mp4": "r0",
    "original_sequences/youtube/c23/videos/003.mp4": "r3",
    "original_sequences/youtube/c40/videos/000.mp4": "r0 c40",
    "original_sequences/actors/c23/videos/01__exit_phone_room.mp4": "a1",
    "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4": "d",
    "manipulated_sequences/Face2Face/c23/videos/000_003.mp4": "f2f",
    "manipulated_sequences/Deepfakes/c23/videos/003_500.mp4": "across the split",
    "manipulated_sequences/DeepFakeDetection/raw/videos/01_02__outside_talking_still_laughing__YVGY8LOK.mp4": "dfd",
    "manipulated_sequences/Deepfakes/masks/videos/000_003.mp4": "mask",
    "train.json": '[["000", "003"], ["003", "000"]]',
    "splits/test.json": '[["500", "501"]]',
}
CELEBDF = {
    "Celeb-real/id0_0000.mp4": "c0",
    "Celeb-real/id1_0000.mp4": "c1",
    "YouTube-real/00170.mp4": "y",
    "Celeb-synthesis/id0_id1_0000.mp4": "s",
    "List_of_testing_videos.txt": "1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id0_id1_0000.mp4\n",
}
DFDC = {
    "dfdc_train_part_0/metadata.json": json.dumps(
        {
            "abc.mp4": {"label": "FAKE", "split": "train", "original": "xyz.mp4"},
            "xyz.mp4": {"label": "REAL", "split": "train", "original": None},
        }
    ),
    "dfdc_train_part_0/abc.mp4": "fake",
    "dfdc_train_part_0/xyz.mp4": "real",
    "dfdc_train_part_1/metadata.json": '{"uvw.mp4": {"label": "REAL"}}',
    "dfdc_train_part_1/uvw.mp4": "another",
}
CSV = {
    "metadata.csv": "video,label,identity,source,split\nanna.mp4,real,anna,,train\nfakes/1.mov,FAKE,anna,ben,\n",
    "anna.mp4": "anna",
    "videos/fakes/1.mov": "anna as ben",
}


def read_catalog(root, **options):
    return to_videos(read_table(root, **options))


def by_id(videos: list[Video]) -> dict[str, Video]:
    return {video.video_id: video for video in videos}


def facts(video: Video) -> tuple[object, ...]:
    return (video.label, video.manipulation, video.compression, video.target, video.source, video.split)


def test_ffpp(place, caplog):
    place.fill(FFPP)
    videos = read_catalog(place.root)
    dfd = "ffpp/DeepFakeDetection/raw/01_02__outside_talking_still_laughing__YVGY8LOK"
    assert {name: facts(video) for name, video in by_id(videos).items()} == {
        "ffpp/original/c23/000": ("real", "original", "c23", "ffpp:000", None, "train"),
        "ffpp/original/c23/003": ("real", "original", "c23", "ffpp:003", None, "train"),
        "ffpp/original/c40/000": ("real", "original", "c40", "ffpp:000", None, "train"),
        "ffpp/original/c23/01__exit_phone_room": ("real", "original", "c23", "ffpp:actor:01", None, None),
        "ffpp/Deepfakes/c23/000_003": ("fake", "Deepfakes", "c23", "ffpp:000", "ffpp:003", "train"),
        "ffpp/Face2Face/c23/000_003": ("fake", "Face2Face", "c23", "ffpp:000", "ffpp:003", "train"),
        "ffpp/Deepfakes/c23/003_500": ("fake", "Deepfakes", "c23", "ffpp:003", "ffpp:500", None),
        dfd: ("fake", "DeepFakeDetection", "raw", "ffpp:actor:01", "ffpp:actor:02", None),
    }
    assert [video.video_id for video in videos] == sorted(video.video_id for video in videos)
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("1 of 4 names in ")
    assert message.endswith("the first is 501"), "masks are expected and need no warning"


def test_ffpp_without_official_split(place):
    place.fill({path: content for path, content in FFPP.items() if not path.endswith(".json")})
    assert {video.split for video in read_catalog(place.root, layout="ffpp")} == {None}


def test_celebdf(place):
    place.fill(CELEBDF)
    assert {name: facts(video) for name, video in by_id(read_catalog(place.root)).items()} == {
        "celebdf/original/id0_0000": ("real", "original", "", "celebdf:id0", None, "train"),
        "celebdf/original/id1_0000": ("real", "original", "", "celebdf:id1", None, "train"),
        "celebdf/original/00170": ("real", "original", "", "celebdf:youtube:00170", None, "test"),
        "celebdf/Celeb-synthesis/id0_id1_0000": (
            "fake",
            "Celeb-synthesis",
            "",
            "celebdf:id0",
            "celebdf:id1",
            "test",
        ),
    }


def test_a_list_that_names_unknown_videos_is_told(folder, caplog):
    more = "1 YouTube-real/00171.mp4\n0 Celeb-synthesis/id0_id2_0000.mp4\n"
    folder.fill(CELEBDF | {"List_of_testing_videos.txt": CELEBDF["List_of_testing_videos.txt"] + more})
    read_catalog(folder.root)
    (message,) = (record.getMessage() for record in caplog.records)
    assert message.startswith("2 of 4 names in ")
    assert message.endswith("the first is Celeb-synthesis/id0_id2_0000.mp4")


@pytest.mark.parametrize(
    ("files", "lists"),
    [(FFPP, ("train.json", "splits/test.json")), (CELEBDF, ("List_of_testing_videos.txt",))],
)
def test_lists_may_lie_elsewhere(place, files, lists):
    place.fill({path: content for path, content in files.items() if path not in lists})
    elsewhere = place.root.child("..").child("lists") if place.root.is_local else place.root.child("lists")
    for path in lists:
        elsewhere.child(path).write_bytes(files[path].encode())
    assert {video.split for video in read_catalog(place.root)} == {None}
    there = {video.split for video in read_catalog(place.root, lists=elsewhere)}
    assert {"train"} < there


def test_celebdf_without_a_list_has_no_split(folder):
    folder.fill({path: content for path, content in CELEBDF.items() if path.endswith(".mp4")})
    assert {video.split for video in read_catalog(folder.root)} == {None}


def test_dfdc(place):
    place.fill(DFDC)
    assert {name: facts(video) for name, video in by_id(read_catalog(place.root)).items()} == {
        "dfdc/dfdc/abc": ("fake", "dfdc", "", "dfdc:xyz", None, "train"),
        "dfdc/original/xyz": ("real", "original", "", "dfdc:xyz", None, "train"),
        "dfdc/original/uvw": ("real", "original", "", "dfdc:uvw", None, None),
    }


def test_dfdc_counts_what_is_named_but_absent_and_there_but_not_named(folder, caplog):
    folder.fill(DFDC | {"dfdc_train_part_1/stray.mp4": "who am I"})
    (absent := folder.root.child("dfdc_train_part_0", "abc.mp4")).fs.rm(absent.path)
    assert len(read_catalog(folder.root)) == 2
    messages = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(messages) == 2
    assert "1 videos named in metadata.json" in messages[0]
    assert "dfdc_train_part_0/abc.mp4" in messages[0]
    assert "1 videos under" in messages[1]
    assert "dfdc_train_part_1/stray.mp4" in messages[1]


def test_csv(place):
    place.fill(CSV)
    assert {name: facts(video) for name, video in by_id(read_catalog(place.root)).items()} == {
        "data/original/anna": ("real", "original", "", "data:anna", None, "train"),
        "data/fake/fakes/1": ("fake", "fake", "", "data:anna", "data:ben", None),
    }


def test_csv_all_columns(folder):
    folder.fill(
        {
            # As a spreadsheet writes it: byte order mark, blanks, capitals, a short last line.
            "metadata.csv": "\ufeffVideo, Label ,manipulation,target,source,split,compression,dataset\r\n"
            "a.mp4,Fake,FaceSwap,anna,ben,validation,c23,mine\r\nb.mp4,real\r\n",
            "a.mp4": "",
            "b.mp4": "",
        }
    )
    videos = by_id(read_catalog(folder.root))
    assert facts(videos["mine/FaceSwap/c23/a"]) == ("fake", "FaceSwap", "c23", "mine:anna", "mine:ben", "val")
    assert facts(videos["data/original/b"]) == ("real", "original", "", "data:b", None, None)


def test_csv_same_name_in_two_folders_are_two_videos_of_two_people(folder, caplog):
    folder.fill({"metadata.csv": "video,label\nx/1.mp4,real\ny/1.mp4,real\n", "x/1.mp4": "", "y/1.mp4": ""})
    videos = read_catalog(folder.root)
    assert [(video.video_id, video.target) for video in videos] == [
        ("data/original/x/1", "data:x/1"),
        ("data/original/y/1", "data:y/1"),
    ]
    assert "each video counts as a person of its own" in caplog.text


def test_csv_column_that_looks_like_another_is_told(folder, caplog):
    folder.fill({"metadata.csv": "video,label,identiy\na.mp4,real,anna\n", "a.mp4": ""})
    read_catalog(folder.root)
    assert "has a column identiy, which is kept as an attribute; did you mean identity?" in caplog.text


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "expected video and label"),
        ("video;label\na.mp4;real\n", r"columns video;label, expected video and label, separated by commas"),
        ("video,label\na.mp4,1\n", r"line 2 has label '1', expected real or fake; data sets disagree"),
        ("video,label\na.mp4,real\ngone.mp4,fake\nalso.mp4,fake\n", r"names 2 of 3 videos .* the first is 'gone.mp4'"),
        ("video,label,split\na.mp4,real,dev\n", r"line 2 has split 'dev', expected train, val or test"),
        ("video,label,identity,target\na.mp4,real,x,y\n", "keep one"),
        ("video,label,manipulation\na.mp4,real,FaceSwap\n", r"is real but has manipulation 'FaceSwap'"),
        ("video,label,manipulation\na.mp4,fake,original\n", r"is fake but has manipulation 'original'"),
        ("video,label,dataset\na.mp4,real,my/set\n", r"data set 'my/set', expected a name without"),
        ("video,label\na.mp4,real\na.mp4,fake\na.mp4,real\n", r"would both be video data/original/a"),
        (b"video,label\n\xff.mp4,real\n", "is not UTF-8"),
        ("video,label\n../data/a.mp4,real\n", r"the first is '../data/a.mp4'"),
    ],
)
def test_csv_that_cannot_be_used(folder, table, message):
    folder.fill({"metadata.csv": table, "a.mp4": ""})
    with pytest.raises(CatalogError, match=message) as caught:
        read_catalog(folder.root, layout="csv")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (DFDC | {"dfdc_train_part_0/metadata.json": "{"}, "is not JSON"),
        (DFDC | {"dfdc_train_part_0/metadata.json": "[]"}, "holds a list"),
        (DFDC | {"dfdc_train_part_0/metadata.json": '{"abc.mp4": "FAKE"}'}, "has 'FAKE' for abc.mp4"),
        (
            DFDC | {"dfdc_train_part_0/metadata.json": '{"abc.mp4": {}}'},
            "abc.mp4 the label None, expected REAL or FAKE",
        ),
        (
            DFDC
            | {"dfdc_train_part_1/metadata.json": '{"abc.mp4": {"label": "fake"}}', "dfdc_train_part_1/abc.mp4": ""},
            "would both be video dfdc/dfdc/abc",
        ),
        (FFPP | {"train.json": '{"train": ["000"]}'}, "is not a list of pairs"),
        (FFPP | {"train.json": "["}, "is not a list of pairs"),
        (FFPP | {"original_sequences/youtube/c23/videos/000.avi": ""}, "would both be video ffpp/original/c23/000"),
    ],
)
def test_data_sets_that_contradict_themselves(folder, files, message):
    folder.fill(files)
    with pytest.raises(CatalogError, match=message) as caught:
        read_catalog(folder.root)
    assert "\n" not in str(caught.value)


def test_two_layouts_in_one_root(folder):
    folder.fill(CELEBDF | CSV)
    with pytest.raises(CatalogError, match="looks like celebdf and like csv, expected one layout; set layout"):
        read_catalog(folder.root)
    assert len(read_catalog(folder.root, layout="csv")) == 2
    assert len(read_catalog(folder.root, layout="celebdf")) == 4


@pytest.mark.parametrize(("layout", "files"), [("ffpp", CELEBDF), ("celebdf", DFDC), ("dfdc", CSV), ("csv", FFPP)])
def test_a_named_layout_that_does_not_fit(place, layout, files):
    place.fill(files)
    with pytest.raises(CatalogError, match=f"no videos of layout {layout} .*it looks like (celebdf|dfdc|csv|ffpp), so"):
        read_catalog(place.root, layout=layout)


def test_no_known_layout(place):
    place.fill({f"clips/{number}.mp4": "" for number in range(3)} | {f"{letter}.txt": "" for letter in "abcdefg"})
    with pytest.raises(CatalogError) as caught:
        read_catalog(place.root)
    message = str(caught.value)
    assert "found a.txt, b.txt, c.txt, clips/, d.txt and 3 more" in message
    assert all(f"{name}: " in message for name in ("ffpp", "celebdf", "dfdc", "csv"))
    assert "write a metadata.csv" in message
    assert "\n" not in message


def test_one_folder_too_high(place):
    place.fill({f"FaceForensics/{path}": content for path, content in FFPP.items()})
    with pytest.raises(CatalogError, match=r"its folder FaceForensics is; give .*/data/FaceForensics$"):
        read_catalog(place.root)


def test_layout_without_a_single_video(place):
    place.fill({"train.json": "[]", "original_sequences/README": "to be downloaded"})
    with pytest.raises(CatalogError, match=r"no videos of layout ffpp .* found original_sequences/, train.json"):
        read_catalog(place.root)
