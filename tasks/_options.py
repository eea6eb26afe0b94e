"""What all tasks have in common: above all another try when the world may have changed, and none when it has not."""

from typing import Any

from prefect.cache_policies import NO_CACHE

from dfpipe.errors import ServiceError, StoreError, UserError

__all__ = ["TASK_OPTIONS", "is_transient"]


def is_transient(_task: Any, _run: Any, state: Any) -> bool:
    """Say whether a task that failed is worth another try: lost workers, stores and servers are, mistakes are not."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, StoreError | ServiceError) or not isinstance(error, UserError)


# No tags: of each set of them Prefect asks its server whether there is a limit, which takes a second.
TASK_OPTIONS: dict[str, Any] = {
    "retries": 2,
    "retry_delay_seconds": [1, 10],
    "retry_jitter_factor": 0.5,
    "retry_condition_fn": is_transient,
    # The store knows what is done; a second memory could only disagree with it.
    "persist_result": False,
    "cache_policy": NO_CACHE,
}
