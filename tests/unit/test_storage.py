import errno
import logging
import os
import pickle
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
)
from deltalake import DeltaTable, write_deltalake
from moto.server import ThreadedMotoServer
from pydantic import SecretStr, ValidationError

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.storage import Location, boto_environment, delta_options, open_location, storage_errors


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Settings]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server.start()
    host, port = server.get_host_and_port()
    yield S3Settings(
        endpoint_url=f"http://{host}:{port}", access_key_id="test", secret_access_key=SecretStr("not-checked")
    )
    server.stop()


@pytest.fixture(params=["folder", "bucket"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    if request.param == "folder":
        return open_location(tmp_path / "store", S3Settings())
    settings: S3Settings = request.getfixturevalue("s3")
    name = f"bucket-{uuid.uuid4().hex}"
    location = open_location(f"s3://{name}/store", settings)
    location.fs.call_s3("create_bucket", Bucket=name)
    return location


# Opening


def test_local_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_location("store", S3Settings()).url == f"{tmp_path}/store"
    assert open_location("store/", S3Settings()).path == f"{tmp_path}/store"
    assert open_location(Path("store"), S3Settings()).url == f"{tmp_path}/store"
    assert open_location("~/store", S3Settings()).url == f"{tmp_path}/home/store"
    assert open_location(f"file://{tmp_path}/store/", S3Settings()).url == f"{tmp_path}/store"
    assert open_location("/", S3Settings()).url == "/"


def test_buckets(s3):
    location = open_location("s3://bucket/a/b/", s3)
    assert (location.url, location.path, location.is_local) == ("s3://bucket/a/b", "bucket/a/b", False)
    assert location.url_of("bucket/a/b/c.mp4") == "s3://bucket/a/b/c.mp4"
    assert location.child("c", "d.mp4").url == "s3://bucket/a/b/c/d.mp4"
    assert location.child("c", "d.mp4").path == "bucket/a/b/c/d.mp4"


@pytest.mark.parametrize("url", ["", "  ", "gs://bucket", "http://host/x", "s3://", "s3:///key", "file://"])
def test_an_address_that_is_none(url):
    with pytest.raises(StoreError, match="expected a local path or "):
        open_location(url, S3Settings())


# Reading and writing


def test_bytes_come_back(root):
    file = root.child("deep", "down", "file.bin")
    for data in (b"first", b"", b"second" * 100_000):
        file.write_bytes(data)
        assert file.read_bytes() == data
    assert root.fs.find(root.path) == [file.path]


def test_reading_what_is_not_there(root):
    with pytest.raises(StoreError, match=r"cannot read .*/store/nothing: no such file or folder; check the address$"):
        root.child("nothing").read_bytes()


def test_a_local_write_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    file = open_location(tmp_path, S3Settings()).child("file.bin")
    file.write_bytes(b"before")

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no space left on the device; free some or choose another store"):
        file.write_bytes(b"after")
    assert file.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


FILL = """
import resource, signal, sys
from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.storage import open_location

file = open_location(sys.argv[1], S3Settings())
file.write_bytes(b"before")
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for write in (file.write_bytes, open_location(sys.argv[1] + "-new", S3Settings()).create_bytes):
    try:
        write(b"x" * 100_000)
    except StoreError as error:
        print(error)
print(file.read_bytes())
"""


def test_a_file_that_outgrows_its_bound_leaves_what_was_there(tmp_path):
    # A bound that the system itself enforces, in the middle of the write. Written in place, half of it would stand.
    argv = [sys.executable, "-c", FILL, str(tmp_path / "store" / "file.bin")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    first, second, content = done.stdout.splitlines()
    assert "the file is larger than this process may write" in first
    assert "the file is larger than this process may write" in second
    assert content == "b'before'"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["file.bin"]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root may mount a file system, and not in every container")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_what_was_there(small_disk):
    file = open_location(small_disk / "store", S3Settings()).child("file.bin")
    file.write_bytes(b"before")
    told = "no space left on the device; free some or choose another store"
    with pytest.raises(StoreError, match=told):
        file.write_bytes(b"x" * 2_000_000)
    with pytest.raises(StoreError, match=told):
        open_location(file.url + "-new", S3Settings()).create_bytes(b"x" * 2_000_000)
    with pytest.raises(StoreError, match=told), storage_errors("write", file.url):
        write_deltalake(str(small_disk / "table"), pa.table({"x": [os.urandom(2_000_000)]}))
    with pytest.raises(StoreError, match="there is no table"), storage_errors("read", file.url):
        DeltaTable(str(small_disk / "table"))
    assert file.read_bytes() == b"before"
    assert [path.name for path in (small_disk / "store").iterdir()] == ["file.bin"]


def test_a_folder_that_may_only_be_read(tmp_path):
    # Nobody, as root may write everywhere.
    folder = tmp_path / "store"
    folder.mkdir()
    (folder / "file.bin").write_bytes(b"before")
    folder.chmod(0o555)
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o055)
    script = (
        "import os, sys\n"
        "from dfpipe.settings import S3Settings\n"
        "from dfpipe.storage import open_location\n"
        "os.geteuid() == 0 and os.setuid(65534)\n"
        "open_location(sys.argv[1], S3Settings()).write_bytes(b'after')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "file.bin")], capture_output=True, text=True, check=False
    )
    assert "StoreError: cannot write" in done.stderr
    assert "permission denied; check the rights of the path or key, or choose another" in done.stderr
    assert (folder / "file.bin").read_bytes() == b"before"
    assert [path.name for path in folder.iterdir()] == ["file.bin"]


def test_a_reader_never_sees_half_a_file_however_many_write_it(tmp_path):
    file = open_location(tmp_path, S3Settings()).child("file.bin")
    contents = [bytes([number]) * 200_000 for number in range(4)]
    file.write_bytes(contents[0])
    barrier = threading.Barrier(len(contents))
    errors = []

    def write(data):
        barrier.wait()
        try:
            for _ in range(5):
                file.write_bytes(data)
        except StoreError as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        seen.add(file.read_bytes())
    for thread in threads:
        thread.join()
    assert not errors
    assert seen <= set(contents)
    assert [path.name for path in tmp_path.iterdir()] == ["file.bin"]


def test_a_file_where_a_folder_is_needed(tmp_path):
    (tmp_path / "store").write_text("a file")
    with pytest.raises(StoreError, match=r"cannot write .*: a (file stands|part of the path is)"):
        open_location(tmp_path / "store", S3Settings()).child("x").write_bytes(b"")


def test_a_bucket_that_is_not_there(s3):
    file = open_location("s3://never-made/x", s3)
    for action in (file.read_bytes, lambda: file.write_bytes(b"")):
        with pytest.raises(StoreError, match="s3://never-made/x: there is no such bucket; create it or check the name"):
            action()


def test_no_credentials(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match=r"no credentials were found; set s3.access_key_id and s3.secret_access_key"):
        open_location("s3://bucket/x", S3Settings(endpoint_url=s3.endpoint_url)).read_bytes()


@pytest.mark.slow  # the client tries again a few times
def test_nobody_answers():
    settings = S3Settings(endpoint_url="http://127.0.0.1:9", access_key_id="a", secret_access_key=SecretStr("b"))
    with pytest.raises(StoreError, match=r"nobody answers at the endpoint; check s3.endpoint_url"):
        open_location("s3://bucket/x", settings).read_bytes()
    with pytest.raises(StoreError, match="nobody answers at the endpoint"), storage_errors("read", "s3://bucket/t"):
        DeltaTable("s3://bucket/t", storage_options=delta_options("s3://bucket/t", settings))


# One settings section for three libraries


def test_a_table_and_a_file_reach_the_same_store(root, s3):
    url = root.child("table").url
    options = delta_options(url, s3)
    if root.is_local:
        Path(root.path).mkdir()
    write_deltalake(url, pa.table({"a": [1, 2, 3]}), storage_options=options)
    assert DeltaTable(url, storage_options=options).to_pyarrow_table()["a"].to_pylist() == [1, 2, 3]
    assert any(path.endswith(".parquet") for path in root.fs.find(root.path))


def test_a_table_that_is_not_there(root, s3):
    url = root.child("table").url
    with pytest.raises(StoreError, match="there is no table"), storage_errors("read", url):
        DeltaTable(url, storage_options=delta_options(url, s3))


def test_boto_reaches_the_same_store(s3, monkeypatch):
    import boto3

    for name, value in boto_environment(s3).items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex}"
    client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
    client.create_bucket(Bucket=name)
    open_location(f"s3://{name}/x", s3).write_bytes(b"hello")
    answer = client.get_object(Bucket=name, Key="x")["Body"]
    assert answer.read() == b"hello"
    answer.close()
    client.close()


def test_temporary_credentials_and_region_go_everywhere():
    settings = S3Settings(
        region="eu-central-1", access_key_id="a", secret_access_key=SecretStr("b"), session_token=SecretStr("c")
    )
    options, environment = delta_options("s3://bucket/t", settings), boto_environment(settings)
    fs = open_location("s3://bucket/x", settings).fs
    assert (options["AWS_SESSION_TOKEN"], environment["AWS_SESSION_TOKEN"], fs.token) == ("c", "c", "c")
    assert (options["AWS_SECRET_ACCESS_KEY"], environment["AWS_SECRET_ACCESS_KEY"], fs.secret) == ("b", "b", "b")
    assert options["AWS_REGION"] == environment["AWS_DEFAULT_REGION"] == fs.client_kwargs["region_name"]
    assert delta_options("/local/table", settings) == {}


def test_public_buckets_are_asked_without_a_signature():
    settings = S3Settings(anonymous=True)
    assert open_location("s3://bucket/x", settings).fs.anon
    assert delta_options("s3://bucket/t", settings)["AWS_SKIP_SIGNATURE"] == "true"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"access_key_id": "a", "secret_access_key": "b"}, "got both s3.profile and s3.access_key_id"),
        ({"anonymous": True}, "got s3.profile and s3.anonymous"),
    ],
)
def test_a_profile_goes_with_no_other_key(more, told):
    with pytest.raises(ValidationError, match=told):
        S3Settings(profile="x", **more)


def test_locations_with_a_profile_reach_workers():
    location = open_location("s3://bucket/x", S3Settings(profile="someone", endpoint_url="http://127.0.0.1:9"))
    again = pickle.loads(pickle.dumps(location))
    assert again.fs.kwargs["profile"] == "someone"


# What the libraries raise


def answer(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": f"{code} says the server"}}, "GetObject")


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (answer("InvalidAccessKeyId"), "the server does not know this access key; check s3.access_key_id"),
        (answer("SignatureDoesNotMatch"), "the secret key does not fit the access key; check s3.secret_access_key"),
        (answer("RequestTimeTooSkewed"), "this machine's clock is off; set the clock"),
        (answer("ExpiredToken"), "the temporary credentials have expired; get new ones"),
        (answer("ExpiredTokenException"), "the temporary credentials have expired; get new ones"),
        (answer("QuotaExceeded"), "the store is full or its quota used up"),
        (answer("XMinioStorageFull"), "the store is full or its quota used up"),
        (answer("507"), "the store is full or its quota used up"),
        (answer("SlowDown"), "the server is overloaded and stayed so"),
        (answer("NoSuchBucket"), "there is no such bucket; create it or check the name"),
        (answer("AccessDenied"), "access denied; check the key's rights on the bucket"),
        (NoCredentialsError(), "no credentials were found"),
        (EndpointConnectionError(endpoint_url="http://x"), "nobody answers at the endpoint"),
        (ConnectTimeoutError(endpoint_url="http://x"), "nobody answers at the endpoint"),
        (PermissionError(errno.EACCES, "Permission denied"), "permission denied; check the rights"),
        (OSError(errno.EROFS, "Read-only file system"), "the file system is read-only; choose another store"),
        (FileExistsError(errno.EEXIST, "File exists"), "a file stands where a folder is needed"),
        (OSError(errno.EIO, "first line\nsecond line"), "OSError [Errno 5] first line second line"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_advice(error, advice):
    with pytest.raises(StoreError) as caught, storage_errors("write", "s3://bucket/x"):
        raise error
    assert str(caught.value).startswith(f"cannot write s3://bucket/x: {advice}")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is error


def test_the_server_s_word_is_found_behind_the_file_system_s():
    error = PermissionError("The request signature we calculated does not match")
    error.__cause__ = answer("SignatureDoesNotMatch")
    with pytest.raises(StoreError, match="the secret key does not fit"), storage_errors("read", "s3://b"):
        raise error


def test_a_defect_of_the_program_passes_through():
    with pytest.raises(KeyError), storage_errors("read", "x"):
        raise KeyError("x")


def test_a_store_error_is_not_told_twice():
    with pytest.raises(StoreError, match=r"^told once$"), storage_errors("read", "x"):
        raise StoreError("told once")
