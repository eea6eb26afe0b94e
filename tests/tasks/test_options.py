"""Only what may go better the second time is tried again."""

import pytest

from dfpipe.errors import CatalogError, StoppedError, StoreError, TrainingDataError
from tasks._options import is_transient


class Failed:
    def __init__(self, error):
        self.error = error

    def result(self, *, raise_on_failure):
        return self.error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (StoreError("503 SlowDown"), True),
        (ConnectionResetError("by peer"), True),
        (StoppedError("the run was ended"), False),
        (CatalogError("no such folder"), False),
        (TrainingDataError("one class only"), False),
    ],
)
def test_which_errors_deserve_another_try(error, again):
    assert is_transient(None, None, Failed(error)) is again
