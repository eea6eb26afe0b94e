"""What becomes of a run some of whose shards fail; no server is asked."""

import pytest

from dfpipe.errors import IncompleteError, StoreError
from flows._window import FAILURES_IN_A_ROW, Ends


class Ended:
    """A task run that has ended with a value, or with an error."""

    def __init__(self, end):
        self.end = end

    def result(self, *, raise_on_failure):
        assert not raise_on_failure
        return self.end


def run(*ends):
    """Return what comes of these, how many were begun, and the ends."""
    begun = []
    kept = Ends()
    return list(kept.of(Ended(begun.append(end) or end) for end in ends)), len(begun), kept


def test_nothing_is_said_where_all_is_well():
    results, begun, ends = run(1, 2)
    assert (results, begun) == ([1, 2], 2)
    ends.check(of=2, what="shards")
    Ends().check(of=0, what="shards")


def test_those_that_fail_are_counted_at_the_end():
    results, _, ends = run(1, StoreError("the disk is full"), 2, StoreError("no"))
    assert results == [1, 2]
    with pytest.raises(IncompleteError, match="2 of 4 shards failed, the first for this: the disk is full; all others"):
        ends.check(of=4, what="shards")


def test_a_defect_ends_it_and_is_raised_as_it_is():
    _, begun, ends = run(StoreError("no"), ZeroDivisionError("oh"), 1)
    assert begun == 2
    with pytest.raises(ZeroDivisionError):
        ends.check(of=3, what="shards")


def test_many_failures_in_a_row_end_it():
    broken = [StoreError("nobody answers")] * FAILURES_IN_A_ROW
    results, begun, ends = run(*broken[1:], 1, *broken, 2)
    assert (results, begun) == ([1], 2 * FAILURES_IN_A_ROW)
    with pytest.raises(IncompleteError, match="and the rest was given up"):
        ends.check(of=99, what="shards")
