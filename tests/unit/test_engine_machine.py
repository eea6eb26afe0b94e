"""What a process may use, read from control groups that stand in for this machine's."""

import io
import os

import pytest

from dfpipe.engine import Engine, usable_cores
from dfpipe.engine._clusters import _memory_per_worker
from dfpipe.errors import SettingsError

GIB = 2**30


@pytest.mark.parametrize(
    ("bound_to", "quota", "expected"),
    [
        (4, "max 100000", 4),
        (4, "200000 100000", 2),
        (4, "50000 100000", 1),
        (4, "150000 100000", 2),
        (1, "max 100000", 1),
    ],
)
def test_cores_are_those_of_the_affinity_and_of_the_quota(monkeypatch, bound_to, quota, expected):
    # By affinity alone the second row would be 4: two workers for each core that the container gets.
    files = {"/proc/self/cgroup": "0::/pod\n", "/sys/fs/cgroup/pod/cpu.max": f"{quota}\n"}

    def open_group(path, *_):
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr("dask.system.open", open_group, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(bound_to)))
    monkeypatch.setattr(os, "process_cpu_count", lambda: bound_to, raising=False)
    monkeypatch.setattr("dask.system.psutil", None)
    assert usable_cores() == expected


@pytest.mark.parametrize(
    ("text", "workers", "expected"),
    [
        ("auto", 1, 8 * GIB),
        ("auto", 3, 8 * GIB // 3),
        ("2GiB", 3, 2 * GIB),
        ("500 MB", 3, 500_000_000),
        ("1TiB", 1, 8 * GIB),
    ],
)
def test_a_worker_s_memory_is_its_share_or_what_is_asked_and_there(monkeypatch, text, workers, expected):
    monkeypatch.setattr("dfpipe.engine._clusters.usable_memory_bytes", lambda: 8 * GIB)
    assert _memory_per_worker(text, workers) == expected


@pytest.mark.parametrize("text", ["plenty", "", "0", "-1GiB", "nan"])
def test_memory_that_is_no_size(text):
    with pytest.raises(SettingsError, match=r"dask\.memory_per_worker got .*, expected auto or a size such as 2GiB"):
        _memory_per_worker(text, 1)


class Threads:
    """A client that knows how many threads there are."""

    def __init__(self, threads):
        self.threads = threads

    def scheduler_info(self, n_workers):
        return {"total_threads": self.threads, "workers": {}}


@pytest.mark.parametrize("threads", [0, 1, 2, 16, 1000])
@pytest.mark.parametrize("videos_per_shard", [1, 64, 256, 100_000])
def test_shards_at_once_keep_threads_busy_and_the_scheduler_small(threads, videos_per_shard):
    shards = Engine(Threads(threads), patience_seconds=1).shards_at_once(videos_per_shard)
    assert 3 <= shards <= 64
    # While two are written, the others have work for every thread, but for the bound on shards.
    assert (shards - 2) * videos_per_shard >= min(threads, 62 * videos_per_shard)
    assert shards * videos_per_shard <= 2 * threads + 3 * videos_per_shard
