"""Which of a video's crops people look at; that they are read right is in the tests of sheets."""

import pytest

from dfpipe.crops import evenly_along


@pytest.mark.parametrize(
    ("length", "number", "places"),
    [(0, 3, []), (1, 3, [0]), (7, 1, [3]), (9, 3, [1, 4, 7]), (10, 4, [1, 3, 6, 8])],
)
def test_faces_are_taken_evenly_along_time(length, number, places):
    assert evenly_along(length, number).tolist() == places
