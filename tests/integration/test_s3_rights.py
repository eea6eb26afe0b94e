"""The policy that docs/storage.md gives is enough for dfpipe, and no more than enough."""

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from dfpipe.errors import StoreError
from dfpipe.storage import delta_options, open_location, storage_errors

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


def everything(url, s3):
    """Do to a store what dfpipe does."""
    store = open_location(url, s3)
    store.check_writable()
    store.child("shard").create_bytes(b"bytes")
    assert store.child("shard").read_bytes() == b"bytes"
    store.child("large").write_bytes(bytes(101 * 2**20))
    table = f"{url}/table"
    with storage_errors("write", table):
        for number in (1, 2):
            data = pa.table({"n": [number]})
            write_deltalake(table, data, mode="overwrite", storage_options=delta_options(url, s3))
        opened = DeltaTable(table, storage_options=delta_options(url, s3))
        assert opened.to_pyarrow_table().num_rows == 1
    assert store.fs.find(store.path)


def test_it_is_enough_for_a_store(bucket, worker, set_policy):
    set_policy(bucket, statements(bucket, "your-store"))
    everything(f"{bucket}/store", worker)


@pytest.mark.parametrize("action", ["s3:ListBucket", "s3:GetObject", "s3:PutObject", "s3:DeleteObject"])
def test_nothing_of_it_is_too_much(bucket, worker, set_policy, action):
    set_policy(bucket, statements(bucket, "your-store", without=(action,)))
    with pytest.raises((StoreError, PermissionError)):
        everything(f"{bucket}/store", worker)


def test_a_source_can_be_read_and_not_written(bucket, s3, worker, set_policy):
    open_location(f"{bucket}/x.mp4", s3).write_bytes(b"video")
    set_policy(bucket, statements(bucket, "your-videos"))
    source = open_location(bucket, worker)
    assert source.fs.find(source.path) == [f"{source.path}/x.mp4"]
    assert source.child("x.mp4").read_bytes() == b"video"
    with pytest.raises(StoreError, match="access denied"):
        source.child("x.mp4").write_bytes(b"other")
