"""What a real S3 server refuses, and what dfpipe then says: one clear line each, for files and tables alike."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import botocore.auth
import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

from dfpipe.errors import StoreError
from dfpipe.storage import arrow_file_system, delta_options, open_location, storage_errors
from dfpipe.testing import Rule

pytestmark = [pytest.mark.services, pytest.mark.slow]

SOMEHOW_DENIED = "access denied, and why did not arrive; check s3.access_key_id and s3.secret_access_key, "


def put(url, s3):
    open_location(url, s3).write_bytes(b"bytes")


def create(url, s3):
    open_location(f"{url}-new", s3).create_bytes(b"bytes")


def get(url, s3):
    return open_location(url, s3).read_bytes()


def append(url, s3):
    with storage_errors("write", url):
        write_deltalake(f"{url}-t", pa.table({"n": [1]}), mode="append", storage_options=delta_options(url, s3))


def commit(url, s3):
    """Commit as shards are; unlike `DeltaTable.alter` this lets the proxy's thread answer."""
    with storage_errors("commit to", url):
        table = DeltaTable(f"{url}-t", storage_options=delta_options(url, s3))
        properties = CommitProperties(max_commit_retries=0, app_transactions=[Transaction(uuid4().hex, 1)])
        table.create_write_transaction([], "append", table.schema(), commit_properties=properties)


def read(url, s3):
    with storage_errors("read", url):
        return DeltaTable(f"{url}-t", storage_options=delta_options(url, s3)).to_pyarrow_table()


@pytest.fixture
def filled(bucket, s3):
    """URL of an object, beside which is a table."""
    url = f"{bucket}/folder/thing"
    put(url, s3)
    append(url, s3)
    return url


def told(act, url, s3):
    with pytest.raises(StoreError) as caught:
        act(url, s3)
    line = str(caught.value)
    assert url.rpartition("/")[0] in line
    assert "\n" not in line
    assert s3.secret_access_key.get_secret_value() not in line
    return line.partition(": ")[2]


@pytest.mark.parametrize("act", [put, create, append, commit])
def test_a_bucket_that_may_only_be_read(filled, make_user, set_policy, act):
    reader = make_user("reader")
    bucket = filled.split("/")[2]
    who = {"AWS": ["arn:aws:iam:::user/reader"]}
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    allowed = {"Effect": "Allow", "Principal": who, "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": resources}
    set_policy(f"s3://{bucket}", [allowed])
    assert get(filled, reader) == b"bytes"
    assert read(filled, reader).num_rows == 1
    assert told(act, filled, reader) == "access denied; check the key's rights on the bucket"
    # Nothing is changed.
    assert read(filled, reader).num_rows == 1


@pytest.mark.parametrize("act", [put, create, append, commit])
def test_a_quota_that_is_used_up(filled, s3, admin, act):
    full = "the store is full or its quota used up; free some, raise the quota, or choose another store"
    scope = ("--uid=dfpipe", "--quota-scope=user")
    admin("quota", "set", *scope, "--max-objects=1", "--max-size=1")
    admin("quota", "enable", *scope)
    try:
        assert told(act, filled, s3) == full
        assert get(filled, s3) == b"bytes"
        assert read(filled, s3).num_rows == 1
    finally:
        admin("quota", "disable", *scope)
    act(filled, s3)


@pytest.mark.parametrize("act", [put, create, get, append, commit, read])
@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (
            "expired_token",
            "the temporary credentials have expired; get new ones, or name an s3.profile that renews them",
        ),
        ("clock_skew", "this machine's clock is off; set the clock"),
        ("quota", "the store is full or its quota used up; free some, raise the quota, or choose another store"),
    ],
)
def test_answers_that_no_retry_mends(filled, s3, proxy, act, fault, line):
    proxy.inject(Rule(fault))
    assert told(act, filled, proxy.settings) == line
    # Asked once for all that it needs at the same time, and never again.
    assert len(proxy.seen) <= 3
    proxy.inject()
    act(filled, proxy.settings)


@pytest.mark.parametrize(
    ("method", "fault", "wanted_bytes", "lines"),
    [
        # Arrow's client loses the server's word to whatever its memory held behind the answer (always with
        # ARROW_DEFAULT_MEMORY_POOL=system MALLOC_PERTURB_=165), and then knows that access was denied.
        ("GET", "expired_token", 1000, ("the temporary credentials have expired; ", SOMEHOW_DENIED)),
        ("GET", "clock_skew", 1000, ("this machine's clock is off; set the clock", SOMEHOW_DENIED)),
        # It cannot say which where the answer has no body, or one longer than what it asked for.
        ("HEAD", "expired_token", 1000, (SOMEHOW_DENIED,)),
        ("GET", "expired_token", 3, ("the server refused to give some bytes; look into its logs",)),
    ],
)
def test_what_arrow_is_refused(bucket, s3, proxy, method, fault, wanted_bytes, lines):
    url = f"{bucket}/folder/thing"
    open_location(url, s3).write_bytes(bytes(1000))
    proxy.inject(Rule(fault, method=method))

    def read_by_arrow(url, s3):
        path = url.removeprefix("s3://")
        with storage_errors("read", url), arrow_file_system(s3).open_input_file(path) as file:
            return file.read(wanted_bytes)

    assert told(read_by_arrow, url, proxy.settings).startswith(lines)
    if fault != "clock_skew":
        # Asked once; of a clock that is off, the AWS client first tries to make up for it.
        assert [seen.fault for seen in proxy.seen if seen.method == method] == [fault]
    proxy.inject()
    assert read_by_arrow(url, proxy.settings) == bytes(wanted_bytes)


@pytest.mark.parametrize("act", [put, create])
def test_a_disk_that_is_full(filled, proxy, act):
    proxy.inject(Rule("full"))
    assert told(act, filled, proxy.settings).startswith("the store is full")


@pytest.mark.parametrize("act", [put, create, get])
def test_a_clock_that_is_off(filled, s3, monkeypatch, act):
    # A real request of an hour ago, which the server itself refuses; the tables' clients cannot be told the time.
    before = datetime.now(UTC).replace(tzinfo=None) - timedelta(hours=1)
    monkeypatch.setattr(botocore.auth, "get_current_datetime", lambda *_, **__: before)
    assert told(act, filled, s3) == "this machine's clock is off; set the clock"
