"""Listing, content identity, and the laws that hold whatever the layout."""

import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfpipe.catalog import read_catalog, to_videos
from dfpipe.catalog._batches import as_table
from dfpipe.catalog._entry import Entry, stem
from dfpipe.catalog._ffpp import entries
from dfpipe.catalog._listing import FILES, Listing, list_files
from dfpipe.errors import CatalogError, StoreError
from dfpipe.settings import S3Settings
from dfpipe.storage import open_location

TWO = {"metadata.csv": "video,label\na.mp4,real\nb.mp4,fake\n", "a.mp4": "aaaa", "b.mp4": "bbbb"}


def ids(catalog):
    return dict(zip(catalog["video_id"].to_pylist(), catalog["content_id"].to_pylist(), strict=True))


def test_missing_and_empty_roots(place):
    with pytest.raises(CatalogError, match=f"no files under {place.root.url}, expected videos"):
        read_catalog(place.root)
    with pytest.raises(CatalogError, match=r"no (folder|files under) .*nowhere"):
        read_catalog(place.root.child("nowhere"))


def test_root_is_a_file(place):
    place.fill({"a.mp4": "a"})
    with pytest.raises(CatalogError, match=r"a.mp4 is an? (file|object), expected"):
        read_catalog(place.root.child("a.mp4"))


def test_missing_bucket(s3):
    with pytest.raises(StoreError, match="there is no such bucket"):
        read_catalog(open_location("s3://never-made/data", s3))


@pytest.mark.slow  # the client tries again a few times
def test_unreachable_endpoint():
    settings = S3Settings(endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key="b")
    with pytest.raises(StoreError, match="nobody answers at the endpoint"):
        read_catalog(open_location("s3://bucket/data", settings))


def test_whole_bucket_as_root(bucket, s3):
    bucket.fill(TWO)
    root = open_location(bucket.root.url.removesuffix("/data"), s3)
    with pytest.raises(CatalogError, match=f"give {bucket.root.url}$"):
        read_catalog(root)
    root.fs.mv(bucket.root.path + "/a.mp4", root.path + "/a.mp4")
    root.fs.pipe_file(f"{root.path}/metadata.csv", b"video,label\na.mp4,real\n")
    assert read_catalog(root, layout="csv")["video_id"].to_pylist() == [f"{root.path}/original/a"]


def as_nobody(action):
    # root may read everything, so the kernel is asked as somebody else
    if os.geteuid() != 0:
        return action()
    os.seteuid(65534)
    try:
        return action()
    finally:
        os.seteuid(0)


@pytest.fixture
def open_to_all():
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        root.chmod(0o755)
        for path, content in TWO.items():
            (root / path).write_text(content)
            (root / path).chmod(0o644)
        yield root


def test_unreadable_folder(open_to_all):
    (open_to_all / "closed").mkdir(mode=0o000)
    with pytest.raises(CatalogError, match=r"cannot read folder .*/closed: permission denied; let this user read it"):
        as_nobody(lambda: read_catalog(open_location(open_to_all, S3Settings())))


def test_unreadable_video(open_to_all):
    (open_to_all / "b.mp4").chmod(0o000)
    with pytest.raises(CatalogError, match=r"cannot read .*/b.mp4: Permission denied; mend"):
        as_nobody(lambda: read_catalog(open_location(open_to_all, S3Settings())))


def test_link_to_nowhere(folder):
    folder.fill(TWO)
    Path(folder.root.path, "a.mp4").unlink()
    Path(folder.root.path, "a.mp4").symlink_to("gone.mp4")
    with pytest.raises(CatalogError, match=r"cannot read .*/a.mp4: No such file"):
        read_catalog(folder.root)


def test_links_are_followed_and_circles_end(folder, tmp_path):
    elsewhere = tmp_path / "other disk"
    elsewhere.mkdir()
    (elsewhere / "00001.mp4").write_text("far away")
    (elsewhere / "00002.mp4").symlink_to(elsewhere / "00001.mp4")
    root = Path(folder.root.path)
    (root / "YouTube-real").symlink_to(elsewhere)
    (root / "again").symlink_to(root)
    (elsewhere / "back").symlink_to(root)
    videos = to_videos(read_catalog(folder.root))
    assert [video.video_id for video in videos] == ["celebdf/original/00001", "celebdf/original/00002"]
    assert videos[0].content_id == videos[1].content_id
    assert videos[1].size_bytes == 8


def test_hidden_files_are_not_there(place):
    place.fill(TWO | {"._a.mp4": "resource fork", ".trash/c.mp4": "deleted", ".cache/metadata.json": "{"})
    assert len(read_catalog(place.root)) == 2


def test_folder_markers_of_a_bucket_are_not_videos(bucket, caplog):
    bucket.fill(TWO)
    bucket.root.fs.call_s3("put_object", Bucket=bucket.root.path.partition("/")[0], Key="data/clips.mp4/", Body=b"")
    assert len(read_catalog(bucket.root)) == 2
    assert "left out" not in caplog.text


def test_sizes_and_urls(place):
    place.fill(TWO)
    video = to_videos(read_catalog(place.root))[0]
    assert video.size_bytes == 4
    assert video.url == f"{place.root.url}/b.mp4"
    assert place.root.fs.cat_file(video.url) == b"bbbb"


def test_content_id_is_the_hash_of_the_bytes(folder):
    folder.fill(TWO)
    expected = hashlib.blake2b(b"aaaa", digest_size=16).hexdigest()
    assert ids(read_catalog(folder.root))["data/original/a"] == f"blake2b:{expected}"


def test_content_id_in_a_bucket_is_the_etag(bucket):
    bucket.fill(TWO)
    expected = hashlib.md5(b"aaaa").hexdigest()
    assert ids(read_catalog(bucket.root))["data/original/a"] == f"etag:{expected}-4"


def test_content_id_follows_the_bytes(place):
    place.fill(TWO)
    before = ids(read_catalog(place.root))
    place.fill({"a.mp4": "aaab"})
    after = ids(read_catalog(place.root))
    assert after["data/original/a"] != before["data/original/a"]
    assert after["data/fake/b"] == before["data/fake/b"]


def test_touching_a_file_rehashes_it_to_the_same_content(folder, monkeypatch):
    folder.fill(TWO)
    before = known = read_catalog(folder.root)
    hashed = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: hashed.append(file.name) or digest(file, kind))

    assert read_catalog(folder.root, known=known).equals(before)
    assert hashed == []

    path = Path(folder.root.path, "a.mp4")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    after = read_catalog(folder.root, known=known)
    assert hashed == [str(path)]
    assert ids(after) == ids(before)
    assert not after.equals(before)

    path.write_text("aaab")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 2))
    assert ids(read_catalog(folder.root, known=known))["data/original/a"] != ids(before)["data/original/a"]


def test_a_row_of_another_place_spares_nothing(folder, tmp_path):
    folder.fill(TWO)
    before = read_catalog(folder.root)
    moved = tmp_path / "elsewhere" / "data"
    moved.mkdir(parents=True)
    for path in TWO:
        content = (Path(folder.root.path) / path).read_bytes()
        (moved / path).write_bytes(content if path.endswith("csv") else content.upper())
        stat = (Path(folder.root.path) / path).stat()
        os.utime(moved / path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = read_catalog(open_location(moved, S3Settings()), known=before)
    assert not set(ids(after).values()) & set(ids(before).values())


def test_nothing_of_a_video_is_downloaded_from_a_bucket(bucket, monkeypatch):
    bucket.fill(TWO)
    fs = bucket.root.fs
    sent = []
    call = fs._call_s3

    async def spy(method, *args, **options):
        sent.append((method, options.get("Key")))
        return await call(method, *args, **options)

    monkeypatch.setattr(fs, "_call_s3", spy)
    assert len(read_catalog(bucket.root)) == 2
    assert [key for method, key in sent if method == "get_object"] == ["data/metadata.csv"]


def test_a_listing_of_many_pages_and_batches_is_whole_and_sorted(place, monkeypatch):
    """Fails if only the first page of a bucket's listing is read, or only the first batch of rows is kept."""
    monkeypatch.setattr("dfpipe.catalog._batches.BATCH_ROWS", 7)
    names = [f"YouTube-real/{number:05}.mp4" for number in range(30)]
    place.fill({name: name for name in reversed(names)})
    if not place.root.is_local:
        call = place.root.fs.call_s3
        monkeypatch.setattr(place.root.fs, "call_s3", lambda *args, **more: call(*args, MaxKeys=8, **more))
    catalog = read_catalog(place.root)
    assert catalog["video_id"].to_pylist() == [f"celebdf/original/{number:05}" for number in range(30)]
    assert [url.removeprefix(place.root.url + "/") for url in catalog["url"].to_pylist()] == names
    assert len(set(ids(catalog).values())) == 30


def test_only_what_changed_is_hashed_and_every_hash_finds_its_video(folder):
    """Fails if hashes are handed out in another order than that of the videos they belong to."""
    files = {f"YouTube-real/{number:02}.mp4": f"content {number}" for number in range(9)}
    folder.fill(files)
    before = read_catalog(folder.root)
    folder.fill({f"YouTube-real/{number:02}.mp4": f"other content {number}" for number in (2, 3, 7)})
    folder.fill({"YouTube-real/045.mp4": "new"})
    after = read_catalog(folder.root, known=before)
    assert after.equals(read_catalog(folder.root))
    changed = {name for name, content in ids(after).items() if ids(before).get(name) != content}
    assert changed == {f"celebdf/original/{name}" for name in ("02", "03", "07", "045")}


def test_a_name_that_is_no_text(folder):
    folder.fill(TWO)
    root = os.fsencode(folder.root.path)
    Path(os.fsdecode(root + b"/na\xefve.txt")).write_text("nobody needs it")
    assert len(read_catalog(folder.root)) == 2
    Path(os.fsdecode(root + b"/na\xefve.mp4")).write_text("a video")
    with pytest.raises(CatalogError, match=r"na\\udcefve.mp4' is not UTF-8; rename it"):
        read_catalog(folder.root)


def test_a_folder_below_begins_and_ends_where_its_paths_do(folder):
    folder.fill(dict.fromkeys(("a.mp4", "a/1.mp4", "a/b/2.mp4", "a0/3.mp4", "a-/4.mp4", "b/5.mp4", "ä/6.mp4"), ""))
    listing = list_files(folder.root)
    assert listing.folders() == {"a", "a0", "a-", "b", "ä"}
    assert listing.below("a").files["path"].to_pylist() == ["1.mp4", "b/2.mp4"]
    assert listing.below("ä").files["path"].to_pylist() == ["6.mp4"]
    assert "a/1.mp4" in listing
    assert "1.mp4" not in listing


numbers = st.integers(0, 20).map("{:03}".format)
compressions = st.sampled_from(["raw", "c23", "c40"])
ffpp_paths = st.one_of(
    st.builds("original_sequences/youtube/{}/videos/{}.mp4".format, compressions, numbers),
    st.builds("original_sequences/actors/{}/videos/{}__kitchen_pan.mp4".format, compressions, numbers),
    st.builds(
        "manipulated_sequences/{}/{}/videos/{}_{}.mp4".format,
        st.sampled_from(["Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures", "FaceShifter"]),
        compressions,
        numbers,
        numbers,
    ),
    st.builds(
        "manipulated_sequences/DeepFakeDetection/{}/videos/{}_{}__kitchen_pan__ABCDEFGH.mp4".format,
        compressions,
        numbers,
        numbers,
    ),
)


@settings(deadline=None)
@given(st.sets(ffpp_paths))
def test_every_path_of_the_scheme_is_one_video_with_an_id_of_its_own(paths):
    files = as_table(((path, 0, "", "") for path in sorted(paths)), FILES)
    listing = Listing(open_location("data", S3Settings()), files)
    found = list(entries(listing, listing))
    assert {entry.path for entry in found} == paths
    assert len({entry.video_id for entry in found}) == len(paths)
    for entry in found:
        assert entry.video_id.startswith("ffpp/")
        assert (entry.source is None) == (entry.label == "real") == (entry.manipulation == "original")
        # Actor 001 and YouTube's 001 are two people.
        assert entry.target.startswith("actor:") == ("__" in stem(entry.path))


@given(st.tuples(*[st.sampled_from(["", "a", "b"])] * 2), st.sampled_from(["x", "y"]))
def test_empty_parts_leave_no_trace_in_the_id(middle, name):
    manipulation, compression = middle
    entry = Entry(
        path="p",
        dataset="d",
        name=name,
        label="real",
        manipulation=manipulation,
        compression=compression,
        target="t",
    )
    assert entry.video_id.split("/") == ["d", *(part for part in middle if part), name]
