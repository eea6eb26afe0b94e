"""Every error dfpipe raises on purpose.

::

    DfpipeError
    ├── UserError                  the user can mend it; exit code 2
    │   ├── SettingsError          (ValueError)
    │   ├── CatalogError           (ValueError)
    │   ├── StoreError             (OSError)
    │   ├── LossError              (RuntimeError)
    │   ├── IncompleteError        (RuntimeError)
    │   ├── TrainingDataError      (ValueError)
    │   ├── TooLargeError          (RuntimeError)
    │   ├── ModelNotFoundError     (LookupError)
    │   ├── PromotionError         (RuntimeError)
    │   ├── ServiceError           (RuntimeError)
    │   └── StoppedError           (RuntimeError)
    └── VideoError                 (ValueError) this video cannot be used; becomes a ledger row

A message is one line: what was got, what was expected, what to do.
Anything that is not a ``DfpipeError`` is a defect in the program and exits with code 1.
"""

from typing import Literal

__all__ = [
    "CatalogError",
    "DfpipeError",
    "IncompleteError",
    "LossError",
    "ModelNotFoundError",
    "PromotionError",
    "ServiceError",
    "SettingsError",
    "StoppedError",
    "StoreError",
    "TooLargeError",
    "TrainingDataError",
    "UserError",
    "VideoError",
    "VideoFault",
    "VideoStatus",
]

VideoFault = Literal[
    "empty",
    "corrupt",
    "truncated",
    "unsupported",
    "filtered",
    "few_frames",
    "too_large",
    "too_long",
    "timeout",
    "crashed",
]
"""Why a video could not be used; the same words stand in the ledger's ``status`` column."""

VideoStatus = Literal["ok", "no_face", VideoFault]
"""The one state in which a video ends, for a given fingerprint."""


class DfpipeError(Exception):
    """The root of the tree."""


class UserError(DfpipeError):
    """Something the user can mend; the command line prints its one line and exits with 2."""


class SettingsError(UserError, ValueError):
    """A settings file, variable or ``--set`` that cannot be used."""


class CatalogError(UserError, ValueError):
    """A data set that is missing, empty or of no known layout."""


class StoreError(UserError, OSError):
    """A store that cannot be reached, read or written."""


class LossError(UserError, RuntimeError):
    """Preprocessing lost more than the user allows; what it did get is committed."""


class IncompleteError(UserError, RuntimeError):
    """A run of which some shards could not be done; all others are committed, and the next run does only these."""


class TrainingDataError(UserError, ValueError):
    """Rows from which no honest model can be trained."""


class TooLargeError(UserError, RuntimeError):
    """A fit that is predicted to need more memory than there is; it was not tried."""


class ModelNotFoundError(UserError, LookupError):
    """A registered model, alias or version that is not there."""


class PromotionError(UserError, RuntimeError):
    """A version that may not become the champion; what the gate said of it is on record."""


class ServiceError(UserError, RuntimeError):
    """A server that cannot be started or reached."""


class StoppedError(UserError, RuntimeError):
    """Work that was broken off because the run it belongs to ends; trying it again there is no use."""


class VideoError(DfpipeError, ValueError):
    """A video that cannot be used; the run goes on and its ledger row says why.

    Parameters
    ----------
    fault
        The ledger status it becomes.
    reason
        One sentence a person understands.
    """

    def __init__(self, fault: VideoFault, reason: str) -> None:
        super().__init__(reason)
        self.fault: VideoFault = fault
        self.reason = reason

    def __reduce__(self) -> tuple[type["VideoError"], tuple[VideoFault, str]]:
        # Crosses process boundaries on its way back from a worker.
        return (VideoError, (self.fault, self.reason))
