"""Which model was the champion when, and why: an append-only history in the store.

An entry is an object of its own, ``registry/0000000007.json``, put whole and only where none stands. So of two who
decide at the same time one comes second, and decides again on what the first has written.
"""

from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from dfpipe.errors import StoreError
from dfpipe.models.gate import Check
from dfpipe.settings import GateSettings
from dfpipe.storage import Location, storage_errors

__all__ = ["Decision", "append", "former_champions", "read_decisions", "remove_reasons"]

FORGOTTEN = "(forgotten)"
"""In the place of a reason that named somebody."""


class Decision(BaseModel):
    """One entry: what was asked, what the gate said, and which version is the champion since."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    number: int
    """1 for the first of the store, and so on without gaps."""
    decided_at: str
    """When, in UTC."""
    action: Literal["train", "promote", "rollback"]
    """What asked for it: a training, or one of the commands."""
    model: str
    """Registered model."""
    alias: str
    """Alias that it is about."""
    version: str
    """Version that was to become the champion."""
    run_id: str
    """Run of the training that made this version."""
    champion_before: str | None
    """Version that was the champion; None where there was none."""
    champion_after: str | None
    """Version that is the champion since."""
    forced: bool
    """Whether it was made the champion against the gate."""
    reason: str
    """Why, in the words of whoever forced it or rolled back."""
    passed: bool | None
    """Whether the gate let it pass; None where it was not asked, as for a rollback."""
    refusals: tuple[str, ...]
    """Why it did not, a sentence each."""
    checks: tuple[Check, ...]
    """The figures."""
    videos: int
    """Held-out videos that it was judged on."""
    groups: int
    """Groups of people in them."""
    compared_videos: int
    """Those that the champion was judged on too."""
    compared_groups: int
    """Groups of people in these."""
    rules: GateSettings
    """Bounds and tolerances in force."""
    dfpipe_version: str
    """Version that decided."""

    @property
    def promoted(self) -> bool:
        """Whether this version is the champion since."""
        return self.champion_after == self.version

    def line(self) -> str:
        """Say in one line what was decided."""
        if self.action == "rollback":
            return f"version {self.version} is {self.alias} again, in the place of version {self.champion_before}"
        refused = "; ".join(self.refusals)
        if not self.promoted:
            champion = f"version {self.champion_after} stays {self.alias}" if self.champion_after else "there is none"
            return f"version {self.version} does not become {self.alias}, {champion}: {refused}"
        place = f", in the place of version {self.champion_before}" if self.champion_before else ""
        return f"version {self.version} became {self.alias}{place}" + (f", forced although {refused}" * self.forced)

    def to_json(self) -> str:
        """Return it as indented JSON."""
        return self.model_dump_json(indent=1) + "\n"


def read_decisions(registry: Location) -> list[Decision]:
    """Read the whole history, oldest first.

    Parameters
    ----------
    registry
        Its folder in the store.

    Raises
    ------
    StoreError
        It cannot be read, or an entry is missing or is none.
    """
    decisions = []
    for number, (name, decision) in enumerate(_entries(registry), start=1):
        if decision.number != number or name != _name(number):
            raise StoreError(
                f"the history of champions in {registry.url} has {name} where {_name(number)} should be; restore what "
                "is missing"
            )
        decisions.append(decision)
    return decisions


def append(registry: Location, decision: Decision) -> bool:
    """Put an entry behind the last; False where another came first with this number.

    Raises
    ------
    StoreError
        It cannot be written.
    """
    location, data = registry.child(_name(decision.number)), decision.to_json().encode()
    # A request that was repeated finds what it has put itself.
    return location.create_bytes(data) or location.read_bytes() == data


def remove_reasons(registry: Location, names_somebody: Callable[[str], bool]) -> int:
    """Take out the reasons in which somebody is named who is to be forgotten; return how many there were.

    Nothing else in an entry is written by people, and nothing else names a video or a person.

    Parameters
    ----------
    registry
        Its folder in the store.
    names_somebody
        Says it of a reason.

    Raises
    ------
    StoreError
        The history cannot be read or written.
    """
    meant = [(name, decision) for name, decision in _entries(registry) if names_somebody(decision.reason)]
    for name, decision in meant:
        registry.child(name).write_bytes(decision.model_copy(update={"reason": FORGOTTEN}).to_json().encode())
    return len(meant)


def former_champions(decisions: Sequence[Decision]) -> list[str]:
    """Return the versions that led to the present champion, oldest first, the champion last.

    A rollback goes back to an earlier one and takes away what came after it, so two of them go back by two.

    Parameters
    ----------
    decisions
        The history of one model and alias, oldest first.
    """
    line: list[str] = []
    for decision in decisions:
        after = decision.champion_after
        if after is None or after == decision.champion_before:
            continue
        if decision.action == "rollback" and after in line:
            del line[line.index(after) + 1 :]
            continue
        if decision.champion_before is not None and line[-1:] != [decision.champion_before]:
            # Somebody has moved the alias by other means.
            line.append(decision.champion_before)
        line.append(after)
    return line


def _entries(registry: Location) -> list[tuple[str, Decision]]:
    with storage_errors("read", registry.url):
        paths = sorted(path for path in registry.fs.find(registry.path) if path.endswith(".json"))
        contents = registry.fs.cat(paths, recursive=False) if paths else {}
    entries = []
    for path in paths:
        name = PurePosixPath(path).name
        try:
            entries.append((name, Decision.model_validate_json(contents[path])))
        except ValidationError as error:
            raise StoreError(
                f"{registry.child(name).url} is no entry of the history of champions ({error.errors()[0]['msg']}); "
                "restore it, or read it with the dfpipe version that wrote it"
            ) from error
    return entries


def _name(number: int) -> str:
    return f"{number:010}.json"
