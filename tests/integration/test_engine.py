"""The engine on real worker processes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from functools import partial
from uuid import uuid4

import dask
import pytest

from dfpipe import __version__
from dfpipe.cli._app import progress_bars
from dfpipe.engine import open_engine, usable_memory_bytes
from dfpipe.errors import ServiceError, StoppedError
from dfpipe.settings import DaskSettings
from dfpipe.testing import free_port

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def engine():
    with open_engine(DaskSettings(workers=2)) as engine:
        yield engine


def times(factor, number):
    return factor * number


def double_or_die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


def double_or_raise(number):
    if number == 3:
        raise KeyError("a defect")
    return 2 * number


def total(numbers):
    return sum(numbers), os.getpid()


def minus_one(number):
    return -1


def test_shared_values_reach_every_call(engine):
    assert sorted(engine.run(times, range(20), shared=3)) == [3 * number for number in range(20)]


def test_results_are_written_where_they_are(engine):
    done = []
    result, pid = engine.map_then_write(
        double_or_die, [0, 1, 2], write=total, lost=minus_one, on_done=lambda: done.append(1)
    )
    assert (result, len(done)) == (6, 3)
    assert pid != os.getpid()


def test_an_item_that_kills_its_worker_is_replaced_and_the_others_survive(engine):
    # Without the second, lonely try its neighbours on the dead worker would be lost too.
    result, _ = engine.map_then_write(double_or_die, list(range(8)), write=total, lost=minus_one, on_done=lambda: None)
    assert result == 2 * (0 + 1 + 2 + 4 + 5 + 6 + 7) - 1


def test_an_exception_is_raised_here(engine):
    with pytest.raises(KeyError, match="a defect"):
        engine.map_then_write(double_or_raise, [1, 3], write=total, lost=minus_one, on_done=lambda: None)


def test_work_is_taken_a_few_items_for_each_thread(engine):
    # Submitted all at once, 200 items are taken before the first result is seen.
    taken, seen, most = [], 0, 0

    def items():
        for number in range(200):
            taken.append(number)
            yield number

    for _ in engine.run(times, items(), shared=3):
        seen += 1
        most = max(most, len(taken) - seen)
    assert seen == 200
    assert most <= 2 * engine.threads


def die_the_first_time(folder, number):
    mark = folder / f"{number}"
    if number == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def die(_, number):
    os.kill(os.getpid(), signal.SIGKILL)


def test_work_whose_worker_dies_is_done_again_once(engine, tmp_path):
    # Without the second try the first death is the end of the run.
    assert sorted(engine.run(die_the_first_time, range(6), shared=tmp_path)) == list(range(6))
    with pytest.raises(ServiceError, match="died twice"):
        list(engine.run(die, range(1)))


def test_a_shared_value_is_told_again_while_all_workers_die(engine, tmp_path):
    # To whom it is told may die meanwhile, or nobody is back yet: both were errors of the run.
    assert list(engine.run(die, range(4), shared=tmp_path, lost=minus_one)) == [-1] * 4


def test_a_worker_that_takes_long_to_come_back_is_not_given_up(tmp_path):
    # Dask gives up a worker of its own that is not back in 15 s, and whoever waits for it waits for ever.
    slow = tmp_path / "slow"
    preload = f"import os, time; os.path.exists({str(slow)!r}) and time.sleep(18)"
    with (
        dask.config.set({"distributed.worker.preload": [preload]}),
        open_engine(DaskSettings(workers=1, patience_seconds=120)) as engine,
    ):
        slow.touch()
        assert list(engine.run(die_the_first_time, [3], shared=tmp_path)) == [3]


def times_or_die(factor, number):
    time.sleep(0.1)
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.1)
    return factor * number


def test_work_that_kills_its_worker_is_replaced_and_the_others_survive():
    # Were the second try not alone, its neighbours on the dying worker would be lost with it.
    with open_engine(DaskSettings(workers=1, threads=4)) as crowded:
        results = crowded.run(times_or_die, range(6), shared=2, lost=minus_one)
        assert sorted(results) == [-1, 0, 2, 4, 8, 10]


def test_a_worker_says_how_much_room_a_task_has(engine):
    room = engine.room_bytes(2**20)
    assert 0 < room < usable_memory_bytes() // 2
    assert engine.room_bytes(2**20 + 1000) == room - 1000
    assert engine.room_bytes(2**60) == 0


def note(folder, number):
    (folder / f"{number}-{uuid4().hex}").touch()
    return number


def total_after_a_death(folder, numbers):
    if not (folder / "died").exists():
        (folder / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(numbers)


def test_a_write_whose_worker_dies_is_done_again_and_no_item_a_third_time(engine, tmp_path):
    # If the error is raised, whoever tries again begins with all items: those of the dead worker are done thrice.
    items = partial(note, tmp_path), [1, 2, 3, 4]
    written = engine.map_then_write(
        *items, write=partial(total_after_a_death, tmp_path), lost=minus_one, on_done=lambda: None
    )
    assert written == 10
    done = Counter(path.name[0] for path in tmp_path.iterdir() if path.name != "died")
    assert done.keys() == set("1234")
    assert max(done.values()) <= 2


def tasks_held(engine):
    return engine._client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks))


def expect_empty_scheduler(engine):
    # Each look is a message to the scheduler, behind the ones that take the tasks away.
    deadline = time.monotonic() + 60
    while tasks_held(engine):
        assert time.monotonic() < deadline, f"{tasks_held(engine)} tasks stay in the scheduler"


def test_nothing_stays_in_the_scheduler(engine):
    # Without the cancelling, an abandoned run's tasks and its shared value stay, and a failed shard's tasks.
    results = engine.run(times, range(50), shared=3)
    next(results)
    assert tasks_held(engine)
    results.close()
    expect_empty_scheduler(engine)
    assert len(list(engine.run(times, range(50), shared=3))) == 50
    expect_empty_scheduler(engine)
    engine.map_then_write(double_or_die, [0, 1, 3], write=total, lost=minus_one, on_done=lambda: None)
    expect_empty_scheduler(engine)
    with pytest.raises(KeyError, match="a defect"):
        engine.map_then_write(double_or_raise, [1, 3], write=total, lost=minus_one, on_done=lambda: None)
    expect_empty_scheduler(engine)


def workers_of(engine):
    return list(engine._client.scheduler_info(n_workers=-1)["workers"].values())


def test_where_to_watch_is_said_where_somebody_reads(capsys):
    # As `dfpipe run` does; stderr is no terminal here either.
    with progress_bars(), open_engine(DaskSettings(workers=1)) as engine:
        assert f"Dask workers: 1, threads: 1; dashboard at {engine.dashboard_url}\n" in capsys.readouterr().err


def test_local_workers_share_what_this_process_may_use(engine):
    # A test before this one may have killed a worker that is on its way back.
    engine._client.wait_for_workers(2)
    workers = workers_of(engine)
    assert [worker["nthreads"] for worker in workers] == [1, 1]
    assert {worker["memory_limit"] for worker in workers} == {usable_memory_bytes() // 2}
    assert engine.dashboard_url.startswith("http://127.0.0.1:")


met = threading.Barrier(2)


def alone_or_not(_):
    """Say whether another task of this process was under way at the same time."""
    try:
        met.wait(timeout=3)
    except threading.BrokenBarrierError:
        met.reset()
        return False
    return True


@pytest.mark.parametrize(("asked_bytes", "together"), [(None, True), (400 * 2**20, True), (600 * 2**20, False)])
def test_tasks_run_together_only_where_their_memory_fits(asked_bytes, together):
    # The first row is what happens without the mechanism: two threads, two tasks at once, whatever they take.
    with open_engine(DaskSettings(workers=1, threads=2, memory_per_worker="1GiB")) as engine:
        results = engine.map_then_write(
            alone_or_not,
            range(2),
            write=list,
            lost=minus_one,
            on_done=lambda: None,
            task_memory_bytes=asked_bytes,
            # More than there is: the whole worker, not a wait for ever.
            write_memory_bytes=2**40,
        )
    assert results == [together, together]


def test_nobody_at_the_address(monkeypatch):
    monkeypatch.setattr("dfpipe.engine._clusters.CONNECT_SECONDS", 1)
    with (
        pytest.raises(ServiceError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"),
        open_engine(DaskSettings(scheduler="tcp://127.0.0.1:1")),
    ):
        pass


@contextmanager
def dask_process(module, *arguments, **environment):
    """Run a scheduler or worker as its own process for the length of the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.fixture
def scheduler():
    """A scheduler without workers: its address and its process."""
    port = free_port()
    with dask_process("dask_scheduler", "--host", "127.0.0.1", "--port", f"{port}", "--no-dashboard") as process:
        deadline = time.monotonic() + 60
        while not listens(port):
            assert process.poll() is None, "the scheduler does not start"
            assert time.monotonic() < deadline, "the scheduler does not answer"
        yield f"tcp://127.0.0.1:{port}", process


@contextmanager
def worker(address, **environment):
    arguments = (address, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--nthreads", "1")
    with dask_process("dask_worker", *arguments, **environment) as process:
        yield process


def test_no_worker_comes(scheduler):
    address, _ = scheduler
    settings = DaskSettings(scheduler=address, patience_seconds=0.5)
    with (
        pytest.raises(ServiceError, match=r"no worker has come .* in 0\.5 s; .* dask\.patience_seconds"),
        open_engine(settings),
    ):
        pass


def test_a_running_scheduler_s_worker_is_awaited_and_used(scheduler):
    address, _ = scheduler
    with worker(address), open_engine(DaskSettings(scheduler=address)) as engine:
        assert engine.workers == 1
        # It declares no memory: what tasks say they take must not keep them from running.
        result, _ = engine.map_then_write(
            double_or_raise, [1], write=total, lost=minus_one, on_done=lambda: None, task_memory_bytes=1
        )
        assert result == 2


def test_workers_with_another_dfpipe_are_refused(scheduler, tmp_path):
    address, _ = scheduler
    other = tmp_path / "dfpipe-99.9.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: dfpipe\nVersion: 99.9\n")
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    with (
        worker(address, PYTHONPATH=path),
        pytest.raises(
            ServiceError, match=rf"worker at tcp://\S+ has dfpipe 99\.9 on .*, expected dfpipe {__version__}"
        ),
        open_engine(DaskSettings(scheduler=address)),
    ):
        pass


def test_the_last_worker_s_end_is_one_line(scheduler):
    # Dask would wait for another for ever.
    address, _ = scheduler
    gone = pytest.raises(ServiceError, match=r"no Dask worker has been there for 0\.5 s")
    settings = DaskSettings(scheduler=address, patience_seconds=0.5)
    for call in (
        lambda engine: list(engine.run(times, [1, 2], shared=2)),
        lambda engine: engine.map_then_write(abs, [1, 2], write=total, lost=minus_one, on_done=lambda: None),
    ):
        with worker(address) as process:
            with open_engine(DaskSettings(scheduler=address)):
                pass  # it has come, which takes as long as the machine is busy
            with gone, open_engine(settings) as engine:
                process.kill()
                call(engine)


def test_a_scheduler_that_dies_is_one_line(scheduler, monkeypatch):
    # Whoever tries again does so without a scheduler: if what the client raises then is not caught, that is a defect.
    monkeypatch.setattr("dfpipe.engine._clusters.CONNECT_SECONDS", 5)
    address, process = scheduler
    lost = pytest.raises(ServiceError, match="connection to the Dask scheduler was lost")
    with worker(address), open_engine(DaskSettings(scheduler=address)) as engine:
        for on_done in (process.kill, print):
            with lost:
                engine.map_then_write(double_or_raise, [1, 2], write=total, lost=minus_one, on_done=on_done)
        with lost:
            list(engine.run(times, [1, 2], shared=2))
        with lost:
            engine.shards_at_once(1)


def test_work_that_outlives_its_engine_is_stopped_and_not_called_lost():
    # A run that is cancelled closes its engine under the tasks; what they raise then must not be tried again.
    with open_engine(DaskSettings(workers=1)) as engine:
        pass
    with pytest.raises(StoppedError, match="the run was ended"):
        list(engine.run(times, [1, 2], shared=2))
    with pytest.raises(StoppedError, match="the run was ended"):
        engine.map_then_write(abs, [1, 2], write=total, lost=minus_one, on_done=lambda: None)
