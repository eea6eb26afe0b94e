import inspect
import pickle
from typing import get_args

import pytest

from dfpipe import errors
from dfpipe.errors import DfpipeError, UserError, VideoError, VideoFault, VideoStatus

CLASSES = [one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, Exception)]


@pytest.mark.parametrize(
    ("name", "builtin"),
    [
        ("SettingsError", ValueError),
        ("CatalogError", ValueError),
        ("StoreError", OSError),
        ("LossError", RuntimeError),
        ("IncompleteError", RuntimeError),
        ("TrainingDataError", ValueError),
        ("ModelNotFoundError", LookupError),
        ("PromotionError", RuntimeError),
        ("ServiceError", RuntimeError),
    ],
)
def test_a_user_s_mistake_is_also_the_builtin_that_a_caller_would_catch(name, builtin):
    kind = getattr(errors, name)
    with pytest.raises(builtin, match="what to do"):
        raise kind("what to do")
    assert issubclass(kind, UserError)


@pytest.mark.parametrize("kind", CLASSES)
def test_one_tree(kind):
    assert issubclass(kind, DfpipeError)
    assert kind.__name__ in errors.__all__
    assert f" {kind.__name__} " in f"{errors.__doc__} ".replace("\n", " "), (
        "the tree on top of the module leaves it out"
    )


@pytest.mark.parametrize("kind", [one for one in CLASSES if one is not VideoError])
def test_message_survives_the_way_back_from_another_process(kind):
    error = pickle.loads(pickle.dumps(kind("got x, expected y; do z")))
    assert type(error) is kind
    assert str(error) == "got x, expected y; do z"


@pytest.mark.parametrize("fault", get_args(VideoFault))
def test_a_bad_video_survives_the_way_back_from_another_process(fault):
    error = pickle.loads(pickle.dumps(VideoError(fault, "moov atom not found")))
    assert (error.fault, error.reason, str(error)) == (fault, "moov atom not found", "moov atom not found")


def test_a_bad_video_is_nobody_s_mistake():
    assert not issubclass(VideoError, UserError)


def test_every_fault_is_a_state_of_the_ledger():
    assert set(get_args(VideoFault)) == set(get_args(VideoStatus)) - {"ok", "no_face"}
