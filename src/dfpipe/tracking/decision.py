"""A decision on a version, as MLflow shows it: figures and words in the run of its training, and the alias."""

import time

from dfpipe.decisions import Decision
from dfpipe.tracking.connection import Tracking, tracking_errors
from dfpipe.tracking.registry import artifact_errors, find_version, point_alias

__all__ = ["carry_out", "is_carried_out"]

GATE_FILE = "gate.json"
GATE_TAG = "dfpipe.gate"
CHAMPION_TAG = "dfpipe.gate_champion"
NUMBER_TAG = "dfpipe.decision"
"""Number of the newest decision on a run's version that was carried out; set last."""

MOST_CHARACTERS = 4000
"""Of a tag, for which MLflow's databases have 5000 to 8000."""


def carry_out(tracking: Tracking, decision: Decision) -> None:
    """Write a decision into the run of the version's training, and move the alias; once more does no harm.

    Metrics ``gate.…`` hold the figures with their intervals, ``gate.json`` all of it but the reason, the tag
    ``dfpipe.gate`` the outcome, in the run and on the registered version.

    Raises
    ------
    ServiceError, StoreError
        MLflow or its artifacts cannot be written.
    """
    from mlflow.entities import Metric, RunTag  # noqa: PLC0415 - slow to import

    client, settings = tracking.client, tracking.settings
    now = int(time.time() * 1000)
    # People write reasons, and may name somebody: `dfpipe forget` then has one place to look at.
    shown = decision.model_copy(update={"reason": ""})
    with tracking_errors("record the decision in", tracking.uri):
        client.log_batch(decision.run_id, metrics=[Metric(name, value, now, 0) for name, value in _figures(decision)])
        with artifact_errors("write", f"{GATE_FILE} of run {decision.run_id}"):
            client.log_text(decision.run_id, shown.to_json(), GATE_FILE)
    if decision.promoted:
        point_alias(tracking, settings.alias, decision.version)
    else:
        point_alias(tracking, settings.challenger_alias, decision.version)
    outcome = _outcome(decision)
    tags = {GATE_TAG: outcome, CHAMPION_TAG: decision.champion_before or "", NUMBER_TAG: str(decision.number)}
    with tracking_errors("record the decision in", tracking.uri):
        client.set_model_version_tag(settings.registered_model, decision.version, GATE_TAG, outcome)
        client.log_batch(decision.run_id, tags=[RunTag(name, value) for name, value in tags.items()])


def is_carried_out(tracking: Tracking, decision: Decision) -> bool:
    """Whether the newest decision was carried out to its end; whoever made it may have died between two steps.

    Of a training or a version that somebody has deleted since there is nothing left to do.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    with tracking_errors("read a run from", tracking.uri):
        try:
            run = tracking.client.get_run(decision.run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return True
        # A deleted run is there still, and takes no figure and no tag.
        if run.data.tags.get(NUMBER_TAG) == str(decision.number) or run.info.lifecycle_stage == "deleted":
            return True
        return find_version(tracking, decision.model, decision.version) is None


def _figures(decision: Decision) -> list[tuple[str, float]]:
    if decision.passed is None:
        return []
    figures = [("gate.passed", float(decision.passed))]
    for check in decision.checks:
        for suffix, value in (("", check.value), ("_low", check.low), ("_high", check.high)):
            figures.append((f"gate.{check.name}{suffix}", value))
    counts = ("videos", "groups", "compared_videos", "compared_groups")
    return [*figures, *((f"gate.{name}", float(getattr(decision, name))) for name in counts)]


def _outcome(decision: Decision) -> str:
    if decision.action == "rollback":
        return "champion again after a rollback"
    if decision.passed:
        return "passed"
    words = "forced: " if decision.forced else "refused: "
    return (words + "; ".join(decision.refusals))[:MOST_CHARACTERS]
