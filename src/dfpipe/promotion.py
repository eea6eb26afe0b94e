"""Which version is the champion: the gate is asked, the history is written, then the alias moves."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

from dfpipe import __version__
from dfpipe.comparison import judge
from dfpipe.decisions import Decision, append, former_champions, read_decisions
from dfpipe.errors import ModelNotFoundError, PromotionError, ServiceError
from dfpipe.models.gate import Verdict
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.storage import Location, open_location
from dfpipe.tracking import (
    Tracking,
    alias_version,
    carry_out,
    is_carried_out,
    is_leaky,
    read_held_out,
    run_of,
)
from dfpipe.tracking.lineage import LEAKY_TAG
from dfpipe.training import find_store_tracking

__all__ = ["decide_promotion", "promote", "read_history", "rollback"]

TRIES = 5
"""How often others may decide something while this is being decided."""


def read_history(settings: Settings) -> list[Decision]:
    """Return the decisions on the registered model and alias in the settings, oldest first.

    Raises
    ------
    StoreError
        The store cannot be read.
    """
    return _own(read_decisions(_registry(settings)), settings)


def decide_promotion(settings: Settings, tracking: Tracking, version: str) -> Decision | None:
    """Ask the gate about a version that a training registered, unless it was asked before.

    A version is asked about once; what people decide afterwards, by promoting or rolling back, stands.

    Parameters
    ----------
    settings
        Rules, names and places.
    tracking
        Open connection.
    version
        Version of the registered model.

    Returns
    -------
    Decision or None
        This one or the earlier one, which is carried out. None where the gate is not asked: the version comes from a
        split that leaks, or is the champion though nobody ever decided that here.

    Raises
    ------
    ModelNotFoundError, TrainingDataError
        A version that cannot be judged.
    StoreError, ServiceError
        The store or MLflow cannot be reached.
    """
    leaky = _comes_of_a_leak(settings, tracking, version)

    def next_one(history: list[Decision], champion: str | None) -> Decision | None:
        earlier = [one for one in _of_today(tracking, history, version) if one.action != "rollback"]
        if earlier or version == champion or leaky:
            return earlier[-1] if earlier else None
        return _judged(settings, tracking, version, champion, action="train")

    return _decide(settings, tracking, next_one)


def promote(settings: Settings, version: str | None, *, force: bool = False, reason: str = "") -> Decision:
    """Ask the gate about a version, and make it the champion if it passes.

    Parameters
    ----------
    settings
        Rules, names and places.
    version
        Version of the registered model; None is the challenger.
    force
        Make it the champion whatever the gate says; not where it comes from a split that leaks.
    reason
        Why, for the history.

    Returns
    -------
    Decision
        It may say that the version did not pass.

    Raises
    ------
    PromotionError
        It is the champion already, or comes from a split that leaks.
    ModelNotFoundError, TrainingDataError
        No such version, or one that cannot be judged.
    StoreError, ServiceError
        The store or MLflow cannot be reached.
    """
    tracking = _open(settings)
    named = version or settings.mlflow.challenger_alias
    asked = alias_version(tracking, named)
    if asked is None:
        raise ModelNotFoundError(
            f"registered model {settings.mlflow.registered_model!r} has no version or alias {named!r}; "
            "`dfpipe models history` names those that were decided on"
        )
    if _comes_of_a_leak(settings, tracking, asked):
        raise PromotionError(
            f"version {asked} of {settings.mlflow.registered_model} was trained on a split that leaks (its run has the "
            f"tag {LEAKY_TAG}), so no figure of it says how it does on people that it never saw; it becomes no "
            f"{settings.mlflow.alias}, with --force neither: name a version of another train.split.protocol"
        )

    def next_one(_history: list[Decision], champion: str | None) -> Decision:
        if asked == champion:
            raise PromotionError(
                f"version {asked} of {settings.mlflow.registered_model} is the {settings.mlflow.alias} already"
            )
        return _judged(settings, tracking, asked, champion, action="promote", force=force, reason=reason)

    decision = _decide(settings, tracking, next_one)
    assert decision is not None  # noqa: S101 - next_one always decides
    return decision


def rollback(settings: Settings, *, reason: str = "") -> Decision:
    """Make the version the champion that was it before the present one.

    Twice goes back by two. Versions that were deleted since, or that come from a split that leaks, are passed over.

    Parameters
    ----------
    settings
        Names and places.
    reason
        Why, for the history.

    Raises
    ------
    PromotionError
        There is nothing to go back to.
    StoreError, ServiceError
        The store or MLflow cannot be reached.
    """
    tracking = _open(settings)
    name, alias = settings.mlflow.registered_model, settings.mlflow.alias

    def next_one(history: list[Decision], champion: str | None) -> Decision:
        versions = dict.fromkeys(one.version for one in history)
        of_today = {one.number for version in versions for one in _of_today(tracking, history, version)}
        line = former_champions([one for one in history if one.number in of_today])
        if champion in line:
            line = line[: line.index(champion)]
        there = [
            (version, run_id)
            for version in line
            # Somebody may have given one that leaks the alias by hand.
            if (run_id := run_of(tracking, name, version)) and not is_leaky(tracking, run_id)
        ]
        if not there:
            raise PromotionError(
                f"the history has no {alias} of {name} before {champion or 'now'} that is still there; "
                "name a version with `dfpipe promote VERSION`"
            )
        version, run_id = there[-1]
        return _decision(settings, version, run_id, champion, action="rollback", champion_after=version, reason=reason)

    decision = _decide(settings, tracking, next_one)
    assert decision is not None  # noqa: S101 - next_one always decides
    return decision


def _decide(
    settings: Settings, tracking: Tracking, next_one: Callable[[list[Decision], str | None], Decision | None]
) -> Decision | None:
    """Append the decision that follows from history and champion, and carry it out.

    The history comes first, so that nothing moves unrecorded. Whoever dies after that leaves it to the next.
    """
    registry = _registry(settings)
    for _ in range(TRIES):
        all_of_them = read_decisions(registry)
        history = _own(all_of_them, settings)
        if history and not is_carried_out(tracking, history[-1]):
            _carry_out(settings, tracking, history[-1])
        decision = next_one(history, alias_version(tracking, settings.mlflow.alias))
        if decision is None or decision in history:
            return decision
        decision = decision.model_copy(update={"number": len(all_of_them) + 1})
        if append(registry, decision):
            _carry_out(settings, tracking, decision)
            return decision
    raise ServiceError(
        f"others decided on models {TRIES} times while this was being decided; look at `dfpipe models history`, "
        "then try again"
    )


def _carry_out(settings: Settings, tracking: Tracking, decision: Decision) -> None:
    """Carry out a decision, then what others decided meanwhile: the slower one must not move the alias back."""
    while True:
        carry_out(tracking, decision)
        newest = read_history(settings)[-1]
        if newest.number == decision.number:
            return
        decision = newest


def _of_today(tracking: Tracking, history: list[Decision], version: str) -> list[Decision]:
    """Return the decisions on a version, without those on another model of its number.

    The history outlives MLflow's database, and a new one counts from 1 again.
    """
    run_id = run_of(tracking, tracking.settings.registered_model, version)
    return [one for one in history if one.version == version and run_id in (None, one.run_id)]


def _judged(
    settings: Settings,
    tracking: Tracking,
    version: str,
    champion: str | None,
    *,
    action: Literal["train", "promote"],
    force: bool = False,
    reason: str = "",
) -> Decision:
    tables = _tables(settings)
    challenger = read_held_out(tracking, version, store=tables.url)
    verdict = judge(settings, tracking, tables, challenger, champion)
    forced = force and not verdict.passed
    return _decision(
        settings,
        version,
        challenger.run_id,
        champion,
        action=action,
        champion_after=version if verdict.passed or forced else champion,
        forced=forced,
        reason=reason,
        verdict=verdict,
    )


def _decision(
    settings: Settings,
    version: str,
    run_id: str,
    champion: str | None,
    *,
    action: Literal["train", "promote", "rollback"],
    champion_after: str | None,
    forced: bool = False,
    reason: str = "",
    verdict: Verdict | None = None,
) -> Decision:
    return Decision(
        number=1,
        decided_at=datetime.now(UTC).isoformat(timespec="seconds"),
        action=action,
        model=settings.mlflow.registered_model,
        alias=settings.mlflow.alias,
        version=version,
        run_id=run_id,
        champion_before=champion,
        champion_after=champion_after,
        forced=forced,
        reason=reason,
        passed=None if verdict is None else verdict.passed,
        refusals=() if verdict is None else verdict.reasons,
        checks=() if verdict is None else verdict.checks,
        videos=0 if verdict is None else verdict.videos,
        groups=0 if verdict is None else verdict.groups,
        compared_videos=0 if verdict is None else verdict.compared_videos,
        compared_groups=0 if verdict is None else verdict.compared_groups,
        rules=settings.gate,
        dfpipe_version=__version__,
    )


def _comes_of_a_leak(settings: Settings, tracking: Tracking, version: str) -> bool:
    run_id = run_of(tracking, settings.mlflow.registered_model, version)
    return run_id is not None and is_leaky(tracking, run_id)


def _own(decisions: list[Decision], settings: Settings) -> list[Decision]:
    names = settings.mlflow
    return [one for one in decisions if (one.model, one.alias) == (names.registered_model, names.alias)]


def _open(settings: Settings) -> Tracking:
    tracking = find_store_tracking(settings)
    if tracking is None:
        raise ModelNotFoundError("no training of this store is on record in MLflow; train a model with `dfpipe run`")
    return tracking


def _tables(settings: Settings) -> Tables:
    return Tables(open_location(settings.store, settings.s3).url, settings.s3)


def _registry(settings: Settings) -> Location:
    return open_location(settings.store, settings.s3).child("registry")
