"""What happens to a run on bad days, on real processes, sockets and disks: nothing is lost, doubled or done again.

A docstring names the mechanism that its test guards, and what the test is to say without it. The long form of the kills
is benchmarks/faults.py.
"""

import json
import os
import random
import shutil
import subprocess
import threading
from collections import Counter
from contextlib import contextmanager

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from dfpipe.services import find
from dfpipe.shards import log
from dfpipe.shards.upkeep import drop
from dfpipe.storage import _clients
from dfpipe.testing import BY, Corpus, DaskCluster, FaultyS3, Rule, disturb, make_row, wait_for

# A run takes seconds on a quiet machine; several of them on a busy one take longer than other tests may.
pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(900)]

VIDEOS = 16
VIDEOS_PER_SHARD = 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, prefect_url):
    folder = tmp_path_factory.mktemp("faults")
    environment = {"DFPIPE_PREFECT__API_URL": prefect_url, "PREFECT_HOME": str(folder / "prefect")}
    with Corpus(folder, environment, people=VIDEOS // 2).ready() as made:
        yield made


@pytest.fixture
def name(request):
    """Name of a store of one's own."""
    return "".join(sign if sign.isalnum() else "-" for sign in request.node.name)


@pytest.fixture
def proxy(s3):
    with FaultyS3(s3) as running:
        yield running


@pytest.fixture
def behind_proxy(corpus, name, s3, bucket, proxy):
    """A store in a bucket, which runs reach through the proxy and the test does not."""
    return corpus.new_store(name, s3=s3, bucket=bucket, through=proxy.settings.endpoint_url)


def one_line(ended):
    """Return the line of a run that ended with 2."""
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    [line] = [line for line in ended.err.splitlines() if line.startswith("dfpipe: ")]
    return line


def expect_whole(corpus, store):
    """Expect the rows of an undisturbed run, all of them settled and in the ledger."""
    contents = store.contents()
    assert [table for table in contents if contents[table] != corpus.expected[table]] == []
    assert store.strays() == store.orphans() == []


@contextmanager
def decoded(corpus):
    """Count decodes in the block, by video."""
    before, counts = corpus.decodes(), Counter()
    yield counts
    counts.update(corpus.decodes() - before)


@pytest.mark.parametrize(
    ("kill", "seed"), [("flow", 7), ("flow on s3", 3), ("worker", 8), ("scheduler", 5), ("server", 4)]
)
def test_a_process_killed_at_a_random_moment(corpus, name, request, kill, seed):
    """All of it together; the tests after this one take single mechanisms."""
    store_options, more = {}, {}
    if kill in ("flow on s3", "server"):
        bucket = request.getfixturevalue("bucket")
        store_options = {"s3": request.getfixturevalue("s3"), "bucket": bucket}
        more = {"s3_state": request.getfixturevalue("s3_state")}
    store = corpus.new_store(name, **store_options)
    chance = random.Random(seed)
    what = kill.partition(" ")[0]
    if kill == "scheduler":
        with DaskCluster() as cluster:
            found = disturb(corpus, store, what, kills=1, chance=chance, cluster=cluster)
    else:
        found = disturb(corpus, store, what, kills=1, chance=chance, **more)
    assert found.kills == 1
    assert found.defects == 0, found.complaints
    assert found.strays == found.again == found.differs == []
    assert found.decodes.total() == VIDEOS
    assert max(found.decodes) <= 2
    if kill == "server":
        assert find(more["s3_state"], "s3") is not None


def test_a_flow_killed_between_a_claim_and_the_last_commit(corpus, name):
    """Finishing the commits of what was claimed (Tables.roll_forward).

    If that does nothing, the rerun leaves the videos to whoever claimed them, who is dead: rows are missing for ever.
    """
    store = corpus.new_store(name)
    tables = corpus.folder / "stores" / name / "tables"

    def commits(table):
        return len(list(tables.glob(f"{table}/_delta_log/*.json")))

    run = corpus.start(store)
    # The first commit of a table is the making of it.
    wait_for(lambda: commits("claims") > max(commits("videos"), 1) or run.poll() is not None, "a claim")
    run.kill()
    assert corpus.end(run).code == -9
    committed, claimed = store.committed(), {row["video_id"] for row in store.rows("claims")}
    assert committed < claimed
    assert store.strays() == []

    with decoded(corpus) as decodes:
        assert corpus.run(store).code == 0
    assert claimed.isdisjoint(decodes)
    expect_whole(corpus, store)


def test_short_faults_of_s3_are_ridden_out(corpus, behind_proxy, proxy):
    """Retries of single requests (storage.ATTEMPTS).

    With one attempt a request the run ends with 2, or decodes videos again in a second try of the task.
    """
    # Of two rules for one request the first counts, so the rarest come first.
    proxy.inject(
        Rule("lost_answer", method="PUT", path="*/faces/*.parquet", skip=1, times=1),
        Rule("hang", method="GET", path="*/_delta_log/*", skip=40, times=1),
        Rule("half_request", method="PUT", path="*.parquet", skip=3, times=2),
        Rule("reset", method="PUT", path="*/_delta_log/*", skip=2, times=2),
        Rule("slow_down", method="PUT", every=9),
        Rule("slow_down", method="GET", every=31),
    )
    with decoded(corpus) as decodes:
        ended = corpus.run(behind_proxy)
    assert ended.code == 0, ended
    assert {seen.fault for seen in proxy.seen} == {None, "slow_down", "half_request", "reset", "lost_answer", "hang"}
    assert set(decodes.values()) == {1}
    expect_whole(corpus, behind_proxy)


def test_a_shard_that_cannot_be_put_fails_alone(corpus, behind_proxy, proxy):
    """Failures that are kept until all shards are through (flows._window.Ends).

    If the first is raised at once, the others are not committed.
    """
    claims = corpus.undisturbed.rows("claims")
    doomed = min(row["shard"] for row in claims if row["video_id"] == min(corpus.ids.values()))
    videos = {row["video_id"] for row in claims if row["shard"] == doomed}
    proxy.inject(Rule("internal_error", method="PUT", path=f"*/{doomed.partition('-')[0]}-*"))
    line = one_line(corpus.run(behind_proxy))
    assert f"1 of {VIDEOS // VIDEOS_PER_SHARD} shards of videos failed" in line
    assert behind_proxy.committed() == set(corpus.ids.values()) - videos
    assert behind_proxy.strays() == behind_proxy.orphans() == []
    # Features of all others are there too.
    assert {row["video_id"] for row in behind_proxy.rows("features")} == behind_proxy.committed()

    proxy.inject()
    with decoded(corpus) as decodes:
        assert corpus.run(behind_proxy).code == 0
    assert decodes == dict.fromkeys(videos, 1)
    expect_whole(corpus, behind_proxy)


def test_a_commit_that_fails_after_its_claim_is_made_by_the_next_try(corpus, behind_proxy, proxy):
    """The roll-forward of one's own claims in steps.extract_shard.

    Without it the task's second try leaves the videos to whoever claimed them, itself, and the run ends with 0 and
    without them in the ledger.
    """
    # As many as one try of the task sends, in a single shard that nobody shares them with, and then it is well again.
    # Passed by is what creates the table.
    times = log.ATTEMPTS * _clients.ATTEMPTS
    proxy.inject(Rule("internal_error", method="PUT", path="*/tables/videos/_delta_log/*", skip=1, times=times))
    with decoded(corpus) as decodes:
        ended = corpus.run(behind_proxy, f"--set=videos_per_shard={VIDEOS}")
    assert ended.code == 0, ended
    assert sum(seen.fault is not None for seen in proxy.seen) == times
    assert set(decodes.values()) == {1}
    expect_whole(corpus, behind_proxy)


def test_credentials_that_expire_in_the_middle(corpus, behind_proxy, proxy):
    """The server's word for it, told in one line (storage.server_codes), and the plan's look at the ledger.

    Without the first the line names the class of an error; without the second the next run means to extract everything,
    and only the claims keep it from decoding again.
    """
    run = corpus.start(behind_proxy)
    wait_for(lambda: len(behind_proxy.committed()) >= VIDEOS // 4 or run.poll() is not None, "the first shards")
    proxy.inject(Rule("expired_token"))
    line = one_line(corpus.end(run))
    assert "credentials have expired; get new ones" in line
    assert behind_proxy.strays() == []
    committed = behind_proxy.committed()
    assert 0 < len(committed) < VIDEOS

    proxy.inject()
    with decoded(corpus) as decodes:
        ended = corpus.run(behind_proxy)
    assert ended.code == 0, ended
    assert json.loads(ended.out)["extracted"] <= VIDEOS - len(committed)
    assert committed.isdisjoint(decodes)
    expect_whole(corpus, behind_proxy)


@pytest.fixture
def small_disk(corpus, name):
    """Mount a disk for a store, of half of the size that it needs; return what makes it large enough."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    template, whole = corpus.folder / "stores" / "template", corpus.folder / "stores" / "undisturbed"
    disk = corpus.folder / "disk"
    disk.mkdir(exist_ok=True)
    size_bytes = (used_bytes(template) + used_bytes(whole)) // 2
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small disk")
    yield disk, lambda: subprocess.run(["mount", "-o", "remount,size=1G", str(disk)], check=True)
    subprocess.run(["umount", str(disk)], check=True)


def used_bytes(folder):
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*"))


def test_a_full_disk(corpus, small_disk):
    """Files put whole or not at all (Location._put_local).

    If they are written in place, the next run takes the half of one for a shard that is put.
    """
    disk, enlarge = small_disk
    store = corpus.new_store("store", folder=disk)
    line = one_line(corpus.run(store))
    assert "no space left" in line
    assert store.strays() == []
    committed = store.committed()
    assert len(committed) < VIDEOS

    enlarge()
    with decoded(corpus) as decodes:
        assert corpus.run(store).code == 0
    assert committed.isdisjoint(decodes)
    expect_whole(corpus, store)


def test_another_writer_who_appends_all_the_time(corpus, name):
    """Deciding anew when another's commit came between (TableLog.transact).

    Without it the task fails, or its next try finds the videos claimed and counts no faces of them. Even the workers of
    an undisturbed run hinder each other then, and decode some videos twice.
    """
    store = corpus.new_store(name)
    table = str(store.tables.location("faces").url)
    row = make_row("faces", video_id="foreign", fingerprint="foreign")
    written, stop = 0, threading.Event()

    def append():
        nonlocal written
        while not stop.is_set():
            opened = DeltaTable(table)
            try:
                write_deltalake(
                    opened, pa.Table.from_pylist([row], schema=pa.schema(opened.schema().to_arrow())), mode="append"
                )
                written += 1
            except CommitFailedError:
                continue

    with decoded(corpus) as decodes:
        run = corpus.start(store)
        wait_for(lambda: store.rows("faces") or run.poll() is not None, "the first commit")
        other = threading.Thread(target=append)
        other.start()
        try:
            ended = corpus.end(run)
        finally:
            stop.set()
            other.join()
    assert ended.code == 0, ended
    assert written > 0
    assert set(decodes.values()) == {1}
    assert json.loads(ended.out)["faces"] == corpus.expected["faces"].total()
    contents = store.contents()
    foreign = {key: number for key, number in contents["faces"].items() if ("foreign" in key)}
    assert sum(foreign.values()) == written
    contents["faces"] -= Counter(foreign)
    assert contents == corpus.expected


@pytest.fixture
def copied(corpus, name):
    """Copy the store of the undisturbed run; return it with its folder of tables."""
    shutil.copytree(corpus.folder / "stores" / "undisturbed", corpus.folder / "stores" / name)
    return corpus.local(name), corpus.folder / "stores" / name / "tables"


OTHER_FEATURES = "--set=train.features=[{name: pixels, size_px: 4}]"
"""These are computed of the faces that are there."""


def test_a_foreign_file_in_a_table_s_folder(corpus, copied):
    """Reading by the log and not by the folder (Tables.read).

    If the folder is listed, there are more faces, and the features of some come twice.
    """
    store, tables = copied
    first, *_ = sorted(tables.glob("faces/fingerprint=*/*.parquet"))
    shutil.copy(first, first.with_name("foreign.parquet"))
    (first.parent / "notes.txt").write_text("not a table")
    with decoded(corpus) as decodes:
        ended = corpus.run(store, OTHER_FEATURES)
    assert ended.code == 0, ended
    assert not decodes
    assert len(store.rows("features")) == 2 * corpus.expected["features"].total()


def test_a_file_that_somebody_deleted(corpus, copied):
    """Errors of the libraries told in one line that names the file (storage_errors in Tables.read_file).

    Without it the run ends with 1 and calls it a defect. What is lost is made again after a drop.
    """
    store, tables = copied
    first, *_ = sorted(tables.glob("faces/fingerprint=*/*.parquet"))
    first.unlink()
    line = one_line(corpus.run(store, OTHER_FEATURES))
    assert f"cannot read {first}: no such file" in line

    drop(store.tables, store.tables.fingerprints("claims"), by=BY)
    assert corpus.run(store).code == 0
    expect_whole(corpus, store)


def test_a_ledger_that_somebody_removed(corpus, copied):
    """The look at what ends a commit (Tables._expect_last_files).

    Without it the run ends with 0, does nothing as all is claimed, and leaves the ledger empty.
    """
    store, tables = copied
    shutil.rmtree(tables / "videos")
    line = one_line(corpus.run(store))
    assert "tables/videos has lost" in line
    [fingerprint] = {row["fingerprint"] for row in store.rows("faces")}
    assert f"`dfpipe vacuum --drop {fingerprint}`" in line

    drop(store.tables, store.tables.fingerprints("claims"), by=BY)
    assert corpus.run(store).code == 0
    expect_whole(corpus, store)
