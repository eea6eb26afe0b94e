"""Bounded submission, against a real Prefect server."""

import gc
import logging
import threading
import time
import weakref

import pytest

from flows._window import submit_within

pytestmark = [pytest.mark.slow, pytest.mark.services]

WINDOW = 3


@pytest.fixture
def flow(prefect_url):
    """Decorator that runs a function as a flow with many more threads than the window."""
    from prefect import flow
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows.run_here import last_words

    with temporary_settings({PREFECT_API_URL: prefect_url}), last_words():
        yield lambda function: flow(function, task_runner=ThreadPoolTaskRunner(max_workers=16), persist_result=False)()


def make_task(function):
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    return task(function, cache_policy=NO_CACHE, persist_result=False)


class Answer:
    def __init__(self, number):
        self.number = number


@pytest.fixture
def no_log_records():
    """Prefect's log records hold the run, and pytest holds the records."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def test_calls_are_taken_as_room_becomes_free_and_nothing_is_kept(flow, no_log_records):
    # With all calls submitted at once, 12 are taken before the first run is seen; with the runs kept in a list, 12
    # answers live on.
    taken, answers, most_taken = [], [], 0

    def calls():
        for number in range(12):
            taken.append(number)
            yield (number,)

    def answer(number):
        made = Answer(number)
        answers.append(weakref.ref(made))
        return made

    task = make_task(answer)

    @flow
    def body():
        nonlocal most_taken
        runs = submit_within(task, calls(), window=WINDOW)
        seen = set()
        for future in runs:
            seen.add(future.result().number)
            most_taken = max(most_taken, len(taken) - len(seen) + 1)
            del future
        assert seen == set(range(12))
        # Prefect holds a run until it has sent its events, from a thread of its own.
        deadline = time.monotonic() + 60
        while any(answer() is not None for answer in answers):
            assert time.monotonic() < deadline, "answers are kept"
            gc.collect()
        del runs

    assert most_taken <= WINDOW + 1


def test_runs_come_in_the_order_in_which_they_end(flow):
    # The first call waits for the last: taken in their own order, the flow would never end.
    last = threading.Event()

    def hold(number):
        if number == 0:
            assert last.wait(60)
        if number == 5:
            last.set()
        return number

    task = make_task(hold)
    order = []

    @flow
    def body():
        order.extend(future.result() for future in submit_within(task, ((n,) for n in range(6)), window=WINDOW))

    assert sorted(order) == list(range(6))
    assert order.index(0) >= 3


def test_a_run_that_fails_is_yielded_and_the_others_go_on(flow):
    def fail_second(number):
        if number == 1:
            raise KeyError("out of luck")
        return number

    task = make_task(fail_second)
    good, bad = [], []

    @flow
    def body():
        for future in submit_within(task, ((n,) for n in range(6)), window=WINDOW):
            (bad if future.state.is_failed() else good).append(future)
        with pytest.raises(KeyError, match="out of luck"):
            bad[0].result()

    assert sorted(future.result() for future in good) == [0, 2, 3, 4, 5]
    assert len(bad) == 1


def test_no_calls_no_runs(flow):
    task = make_task(lambda: None)

    @flow
    def body():
        assert list(submit_within(task, [], window=WINDOW)) == []
