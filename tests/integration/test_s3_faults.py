"""A real S3 server on bad days: what fails is tried again, and the bytes arrive whole and once.

Each test runs a second time with one attempt and a fault that stays, and must fail then: so it does fail without the
retries that it guards.
"""

import asyncio
import gc

import fsspec.asyn
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from dfpipe.errors import StoreError
from dfpipe.storage import _clients, _location, arrow_file_system, delta_options, open_location, storage_errors
from dfpipe.testing import Rule

pytestmark = [pytest.mark.services, pytest.mark.slow]

DATA = bytes(range(256)) * 20_000
OVERLOADED, FAILED = "the server is overloaded and stayed so", "the server failed several times"
SILENT, BROKEN = "the server took the request and gave no answer", "the server broke off the connection"
# deltalake does not say why a request did not get through.
NOBODY = "nobody answers at the endpoint"

FAULTS = {
    "slow_down": (OVERLOADED, OVERLOADED),
    "internal_error": (FAILED, FAILED),
    "lost_answer": (FAILED, FAILED),
    "hang": (SILENT, f"{SILENT}|{NOBODY}"),
    "reset": (BROKEN, f"{BROKEN}|{NOBODY}"),
    "half_request": (BROKEN, f"{BROKEN}|{NOBODY}"),
    "half_response": (BROKEN, BROKEN),
}


@pytest.fixture(params=["with retries", "without"])
def met(request, proxy, hurried, monkeypatch):
    """Injects a fault twice, or for good where there are no retries; says whether there are."""
    retries = request.param == "with retries"
    if not retries:
        monkeypatch.setattr(_clients, "ATTEMPTS", 1)

    def inject(fault, **where):
        proxy.inject(Rule(fault, times=2 if retries else None, **where))
        return retries

    return inject


async def others_end():
    """Wait for what else runs in this loop."""
    if others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.wait(others)


def faults(proxy):
    return sum(seen.fault is not None for seen in proxy.seen)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "half_response"])
def test_a_put_is_tried_again(bucket, s3, proxy, met, fault):
    retries = met(fault, method="PUT")
    target = open_location(f"{bucket}/x", proxy.settings)
    if not retries:
        with pytest.raises(StoreError, match=FAULTS[fault][0]):
            target.write_bytes(DATA)
        return
    target.write_bytes(DATA)
    assert faults(proxy) == 2
    assert open_location(f"{bucket}/x", s3).read_bytes() == DATA


@pytest.mark.parametrize("fault", [*FAULTS])
@pytest.mark.parametrize("way", ["read_bytes", "open"])
def test_a_get_is_tried_again(bucket, s3, proxy, met, fault, way):
    open_location(f"{bucket}/x", s3).write_bytes(DATA)
    retries = met(fault, method="GET")
    source = open_location(f"{bucket}/x", proxy.settings)

    def get():
        if way == "read_bytes":
            return source.read_bytes()
        with storage_errors("read", source.url), source.fs.open(source.path) as opened:
            return opened.read()

    if not retries:
        with pytest.raises(StoreError, match=FAULTS[fault][0]):
            get()
        return
    assert get() == DATA
    assert faults(proxy) == 2


@pytest.mark.parametrize("fault", [*FAULTS])
def test_arrow_tries_a_get_again(bucket, s3, proxy, met, fault):
    open_location(f"{bucket}/x", s3).write_bytes(DATA)
    retries = met(fault, method="GET")

    def get():
        path = f"{bucket}/x".removeprefix("s3://")
        with storage_errors("read", bucket), arrow_file_system(proxy.settings).open_input_file(path) as file:
            return file.read()

    if not retries:
        with pytest.raises(StoreError, match=FAULTS[fault][1] + f"|{NOBODY}"):
            get()
        return
    assert get() == DATA
    assert faults(proxy) == 2


# s3fs leaves the parts open beside one that broke off; they close as they are collected.
@pytest.mark.filterwarnings("ignore:Unclosed connection:ResourceWarning")
def test_a_large_object_is_read_whole_though_its_parts_break_off(bucket, s3, proxy, met):
    # In parts of 50 MiB, in which s3fs itself retries no body.
    data = DATA * 11
    open_location(f"{bucket}/x", s3).write_bytes(data)
    retries = met("half_response", method="GET")
    source = open_location(f"{bucket}/x", proxy.settings)
    if not retries:
        with pytest.raises(StoreError, match=BROKEN):
            source.read_bytes()
        fsspec.asyn.sync(source.fs.loop, others_end)
        gc.collect()
        return
    assert source.read_bytes() == data
    assert faults(proxy) == 2


BROKEN_OFF = ("hang", "reset", "half_request")
COMMIT = "*_delta_log/*.json"


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        *(("*.parquet", fault) for fault in FAULTS if fault != "half_response"),
        *((COMMIT, fault) for fault in FAULTS if fault not in ("half_response", *BROKEN_OFF)),
    ],
)
def test_a_table_is_written_once(bucket, s3, proxy, met, fault, path):
    url = f"{bucket}/table"
    write_deltalake(url, pa.table({"n": [1]}), storage_options=delta_options(url, s3))
    retries = met(fault, method="PUT", path=path)

    def append():
        with storage_errors("write", url):
            options = delta_options(url, proxy.settings)
            write_deltalake(url, pa.table({"n": [2]}), mode="append", storage_options=options)

    def rows():
        return sorted(DeltaTable(url, storage_options=delta_options(url, s3)).to_pyarrow_table()["n"].to_pylist())

    if not retries:
        with pytest.raises(StoreError, match=FAULTS[fault][1]):
            append()
        return
    append()
    assert faults(proxy) >= 1
    # Also where the commit went through and its answer was lost: the second commit adds the same file again.
    assert rows() == [1, 2]


@pytest.mark.parametrize("fault", [*FAULTS])
@pytest.mark.parametrize("path", ["*.parquet", COMMIT])
def test_a_table_is_read_whole(bucket, s3, proxy, met, fault, path):
    url = f"{bucket}/table"
    write_deltalake(url, pa.table({"n": range(100_000)}), storage_options=delta_options(url, s3))
    retries = met(fault, method="GET", path=path)

    def read():
        with storage_errors("read", url):
            return DeltaTable(url, storage_options=delta_options(url, proxy.settings)).to_pyarrow_table().num_rows

    if not retries:
        with pytest.raises(StoreError, match=FAULTS[fault][1]):
            read()
        return
    assert read() == 100_000
    assert faults(proxy) == 2


@pytest.mark.parametrize("fault", BROKEN_OFF)
def test_a_commit_of_which_nothing_is_heard_is_left_to_the_caller(bucket, s3, proxy, hurried, fault):
    # object_store repeats no conditional put that it knows nothing of; whoever commits looks again and then repeats.
    url = f"{bucket}/table"
    write_deltalake(url, pa.table({"n": [1]}), storage_options=delta_options(url, s3))
    proxy.inject(Rule(fault, method="PUT", path=COMMIT, times=1))

    def append():
        with storage_errors("write", url):
            options = delta_options(url, proxy.settings)
            write_deltalake(url, pa.table({"n": [2]}), mode="append", storage_options=options)

    def rows():
        return sorted(DeltaTable(url, storage_options=delta_options(url, s3)).to_pyarrow_table()["n"].to_pylist())

    with pytest.raises(StoreError, match=FAULTS[fault][1]):
        append()
    assert rows() == [1]
    append()
    assert rows() == [1, 2]


def test_a_commit_whose_answer_was_lost_looks_like_a_conflict(bucket, s3, proxy):
    # So whoever compares and swaps must look again at the table before taking it for lost.
    url = f"{bucket}/table"
    write_deltalake(url, pa.table({"n": [1]}), storage_options=delta_options(url, s3))
    proxy.inject(Rule("lost_answer", method="PUT", path=COMMIT, times=1))
    with pytest.raises(CommitFailedError):
        write_deltalake(
            url,
            pa.table({"n": [2]}),
            mode="append",
            storage_options=delta_options(url, proxy.settings),
            commit_properties=CommitProperties(max_commit_retries=0),
        )
    table = DeltaTable(url, storage_options=delta_options(url, s3))
    assert (table.version(), sorted(table.to_pyarrow_table()["n"].to_pylist())) == (1, [1, 2])


# Objects that must not be there yet


def test_what_was_created_though_the_answer_was_lost_is_there_whole(bucket, s3, proxy):
    proxy.inject(Rule("lost_answer", method="PUT", times=1))
    assert open_location(f"{bucket}/x", proxy.settings).create_bytes(DATA) is False
    assert [seen.fault for seen in proxy.seen] == ["lost_answer", None]
    assert open_location(f"{bucket}/x", s3).read_bytes() == DATA


def test_a_large_object_is_not_created_over_another(bucket, s3):
    # In parts, as s3fs puts what is as large as this by itself, the server would overlook the condition.
    first, second = DATA * 21, b"\1" * len(DATA) * 21
    target = open_location(f"{bucket}/x", s3)
    assert target.create_bytes(first)
    assert not target.create_bytes(second)
    assert target.read_bytes() == first


def test_larger_than_one_request_is_refused_with_the_remedy(bucket, s3, monkeypatch):
    monkeypatch.setattr(_location, "PUT_BYTES", 1000)
    with pytest.raises(StoreError, match=r"got 1000 bytes, expected fewer than 1000, .*; lower shard_bytes"):
        open_location(f"{bucket}/x", s3).create_bytes(b"x" * 1000)
    assert open_location(f"{bucket}/x", s3).create_bytes(b"x" * 999)


@pytest.mark.parametrize("pauses", [(0.1, 0.1), ()])
def test_another_s_put_of_the_same_name_is_waited_for(bucket, proxy, monkeypatch, pauses):
    monkeypatch.setattr(_location, "PAUSES_SECONDS", pauses)
    proxy.inject(Rule("conflict", method="PUT", times=2))
    target = open_location(f"{bucket}/x", proxy.settings)
    if not pauses:
        with pytest.raises(StoreError, match="ConditionalRequestConflict"):
            target.create_bytes(DATA)
        return
    assert target.create_bytes(DATA)
    assert target.read_bytes() == DATA


# On and on


def test_much_goes_through_a_bad_network(bucket, s3, proxy):
    faulty = [Rule(fault, probability=0.05) for fault in ("slow_down", "internal_error", "reset", "half_response")]
    proxy.inject(*faulty)
    folder = open_location(f"{bucket}/folder", proxy.settings)
    for number in range(60):
        folder.child(str(number)).write_bytes(b"%d" % number)
    assert faults(proxy) > 5
    proxy.inject()
    plain = open_location(f"{bucket}/folder", s3)
    assert [plain.child(str(number)).read_bytes() for number in range(60)] == [b"%d" % number for number in range(60)]


def test_a_server_that_never_answers_is_given_up_after_as_many_attempts(bucket, proxy, hurried):
    # s3fs' own loops around botocore's would make 25 requests of 5, and 125 for a read.
    proxy.inject(Rule("hang"))
    with pytest.raises(StoreError, match=SILENT):
        open_location(f"{bucket}/x", proxy.settings).read_bytes()
    assert len(proxy.seen) == _clients.ATTEMPTS
