"""The engine on real worker processes."""

import os
import signal

import pytest

from dfpipe.engine import open_engine
from dfpipe.errors import ServiceError
from dfpipe.settings import DaskSettings

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


def test_nobody_at_the_address(monkeypatch):
    monkeypatch.setattr("dfpipe.engine.CONNECT_SECONDS", 1)
    with (
        pytest.raises(ServiceError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1"),
        open_engine(DaskSettings(scheduler="tcp://127.0.0.1:1")),
    ):
        pass
