"""The policy that docs/storage.md gives is enough for dfpipe, and no more than enough."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dfpipe.errors import StoreError
from dfpipe.storage import arrow_file_system, delta_options, open_location, storage_errors

pytestmark = [pytest.mark.services, pytest.mark.slow]

TEXT = (Path(__file__).parents[2] / "docs" / "storage.md").read_text(encoding="utf-8")
(POLICY,) = (json.loads(block) for block in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL))


@pytest.fixture
def worker(make_user):
    return make_user("worker")


def statements(bucket, name, *, without=()):
    """Return what the policy says of a bucket, as the bucket's own policy for the user."""
    found = []
    for statement in POLICY["Statement"]:
        mine = [one.replace(name, bucket.removeprefix("s3://")) for one in statement["Resource"] if name in one]
        actions = [action for action in statement["Action"] if action not in without]
        if mine and actions:
            who = {"AWS": ["arn:aws:iam:::user/worker"]}
            found.append({"Effect": "Allow", "Principal": who, "Action": actions, "Resource": mine})
    return found


def read_by_arrow(url, s3):
    with storage_errors("read", url), arrow_file_system(s3).open_input_file(url.removeprefix("s3://")) as file:
        return file.read()


@pytest.fixture
def store(bucket, s3):
    """URL of a store in which something lies that another user has put."""
    open_location(f"{bucket}/store/of-another", s3).write_bytes(b"bytes")
    return f"{bucket}/store"


def everything(url, s3):
    """Do to a store what dfpipe does."""
    store = open_location(url, s3)
    store.check_writable()
    store.child("shard").create_bytes(b"bytes")
    assert store.child("shard").read_bytes() == b"bytes"
    # Ceph lets whoever put an object read it, whatever the policy says; most of a store was put by others.
    assert store.child("of-another").read_bytes() == b"bytes"
    assert read_by_arrow(f"{url}/of-another", s3) == b"bytes"
    table = f"{url}/table"
    with storage_errors("write", table):
        for number in (1, 2):
            data = pa.table({"n": [number]})
            write_deltalake(table, data, mode="overwrite", storage_options=delta_options(url, s3))
        opened = DeltaTable(table, storage_options=delta_options(url, s3))
        assert opened.to_pyarrow_table().num_rows == 1
    assert store.fs.find(store.path)


def test_it_is_enough_for_a_store(bucket, store, worker, set_policy):
    set_policy(bucket, statements(bucket, "your-store"))
    everything(store, worker)
    # In several parts.
    open_location(f"{store}/large", worker).write_bytes(bytes(101 * 2**20))


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"])
def test_nothing_of_it_is_too_much(bucket, store, worker, set_policy, action):
    set_policy(bucket, statements(bucket, "your-store", without=(action,)))
    with pytest.raises((StoreError, PermissionError)):
        everything(store, worker)


def test_a_source_can_be_read_and_not_written(bucket, s3, worker, set_policy):
    open_location(f"{bucket}/x.mp4", s3).write_bytes(b"video")
    set_policy(bucket, statements(bucket, "your-videos"))
    source = open_location(bucket, worker)
    assert source.fs.find(source.path) == [f"{source.path}/x.mp4"]
    assert source.child("x.mp4").read_bytes() == b"video"
    assert read_by_arrow(f"{bucket}/x.mp4", worker) == b"video"
    with pytest.raises(StoreError, match="access denied"):
        source.child("x.mp4").write_bytes(b"other")
