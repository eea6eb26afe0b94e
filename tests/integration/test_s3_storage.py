"""Objects and tables on a real S3 server, which checks signatures and conditions."""

import socket
import threading
import time
from contextlib import ExitStack, suppress

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pydantic import SecretStr

from dfpipe.errors import StoreError
from dfpipe.settings import S3Settings
from dfpipe.storage import arrow_file_system, delta_options, open_location, storage_errors
from dfpipe.testing import free_port

pytestmark = pytest.mark.services


def put(url, s3):
    open_location(url, s3).write_bytes(b"bytes")


def get(url, s3):
    return open_location(url, s3).read_bytes()


def append(url, s3, numbers=(1,)):
    with storage_errors("write", url):
        write_deltalake(url, pa.table({"n": list(numbers)}), mode="append", storage_options=delta_options(url, s3))


def read(url, s3):
    with storage_errors("read", url):
        return DeltaTable(url, storage_options=delta_options(url, s3))


def read_by_arrow(url, s3):
    with storage_errors("read", url), arrow_file_system(s3).open_input_file(url.removeprefix("s3://")) as file:
        return file.read()


def test_an_object_comes_back(bucket, s3):
    folder = open_location(f"{bucket}/folder", s3)
    folder.child("deep", "x.bin").write_bytes(b"\0first")
    folder.child("deep", "x.bin").write_bytes(b"second")
    assert folder.child("deep", "x.bin").read_bytes() == b"second"
    assert read_by_arrow(f"{bucket}/folder/deep/x.bin", s3) == b"second"
    assert [folder.url_of(path) for path in folder.fs.find(folder.path)] == [f"{bucket}/folder/deep/x.bin"]


def test_a_table_grows(bucket, s3):
    url = f"{bucket}/table"
    append(url, s3, [1, 2])
    append(url, s3, [3])
    table = read(url, s3)
    assert table.version() == 1
    assert sorted(pa.table(table.to_pyarrow_table())["n"].to_pylist()) == [1, 2, 3]


def test_writers_at_the_same_time_lose_nothing(bucket, s3):
    url = f"{bucket}/table"
    append(url, s3, [-1])
    together, failures = threading.Barrier(4), []

    def write(number):
        together.wait()
        try:
            for turn in range(4):
                append(url, s3, [10 * number + turn])
        except StoreError as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    expected = [-1, *(10 * number + turn for number in range(4) for turn in range(4))]
    assert sorted(read(url, s3).to_pyarrow_table()["n"].to_pylist()) == expected
    # One version each: no commit was written over another.
    assert read(url, s3).version() == 16


@pytest.mark.parametrize("act", [put, get, append, read, read_by_arrow])
@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"secret_access_key": SecretStr("wrong")}, "s3.secret_access_key"),
        ({"access_key_id": "NOBODY"}, "s3.access_key_id"),
    ],
)
def test_a_wrong_key_is_named(bucket, s3, act, changed, named):
    with pytest.raises(StoreError) as caught:
        act(f"{bucket}/thing", s3.model_copy(update=changed))
    assert named in str(caught.value)
    assert f"{bucket}/thing" in str(caught.value)
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize("act", [put, get, append])
def test_a_bucket_that_is_not_there(s3, act):
    with pytest.raises(StoreError, match="there is no such bucket"):
        act("s3://no-such-bucket/thing", s3)


def test_arrow_names_what_is_not_there(bucket, s3):
    for url in (f"{bucket}/missing", "s3://no-such-bucket/thing"):
        with pytest.raises(StoreError, match=f"cannot read {url}: no such file or folder; check the address"):
            read_by_arrow(url, s3)


@pytest.mark.slow
@pytest.mark.parametrize("act", [put, get, append, read, read_by_arrow])
def test_nobody_at_the_endpoint_is_told_of_soon(act):
    nobody = S3Settings(
        endpoint_url=f"http://127.0.0.1:{free_port()}", access_key_id="x", secret_access_key=SecretStr("y")
    )
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"nobody answers at the endpoint; check s3\.endpoint_url"):
        act("s3://bucket/thing", nobody)
    assert time.monotonic() - began < 60


@pytest.mark.slow
@pytest.mark.parametrize("act", [put, read])
def test_an_endpoint_that_swallows_everything_is_given_up(act):
    with socket.socket() as deaf, ExitStack() as fillers:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        # With its queue full the system answers no further connection, as a firewall would.
        with suppress(TimeoutError):
            while True:
                filler = fillers.enter_context(socket.socket())
                filler.settimeout(1)
                filler.connect(deaf.getsockname())
        silent = S3Settings(
            endpoint_url=f"http://127.0.0.1:{deaf.getsockname()[1]}",
            access_key_id="x",
            secret_access_key=SecretStr("y"),
        )
        began = time.monotonic()
        with pytest.raises(StoreError, match="nobody answers at the endpoint"):
            act("s3://bucket/thing", silent)
        assert time.monotonic() - began < 60
