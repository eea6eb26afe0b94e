"""The history of champions: append-only, without gaps, and what a rollback makes of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfpipe.decisions import FORGOTTEN, Decision, append, former_champions, read_decisions, remove_reasons
from dfpipe.errors import StoreError
from dfpipe.models.gate import Check
from dfpipe.settings import GateSettings, S3Settings
from dfpipe.storage import open_location


def decision(number=1, before=None, after="1", action="train", version=None, **more):
    values = {
        "number": number,
        "decided_at": "2026-11-29T06:00:00+00:00",
        "action": action,
        "model": "dfpipe",
        "alias": "champion",
        "version": version or after or "1",
        "run_id": "r",
        "champion_before": before,
        "champion_after": after,
        "forced": False,
        "reason": "",
        "passed": True,
        "refusals": (),
        "checks": (Check("auc", "bound", 0.9, 0.8, 1.0, 0.5, True),),
        "videos": 8,
        "groups": 4,
        "compared_videos": 0,
        "compared_groups": 0,
        "rules": GateSettings(),
        "dfpipe_version": "0",
    }
    return Decision(**values | more)


@pytest.fixture
def registry(tmp_path):
    return open_location(tmp_path / "registry", S3Settings())


def test_it_comes_back_as_it_was_put(registry):
    assert read_decisions(registry) == []
    made = [decision(1), decision(2, "1", "1", version="2", passed=False, refusals=("too bad",))]
    assert all(append(registry, one) for one in made)
    assert read_decisions(registry) == made


def test_nothing_is_written_over(registry):
    assert append(registry, decision(1, after="1"))
    assert not append(registry, decision(1, after="2"))
    # Whoever repeats a request whose answer was lost has put it.
    assert append(registry, decision(1, after="1"))
    assert [one.version for one in read_decisions(registry)] == ["1"]


def test_a_gap_or_another_file_is_told(registry, tmp_path):
    for number in (1, 2, 3):
        append(registry, decision(number))
    (tmp_path / "registry/0000000002.json").unlink()
    with pytest.raises(StoreError, match=r"has 0000000003\.json where 0000000002\.json should be"):
        read_decisions(registry)
    (tmp_path / "registry/0000000002.json").write_text("{}")
    with pytest.raises(StoreError, match=r"0000000002\.json is no entry"):
        read_decisions(registry)


def test_only_the_reasons_that_are_meant_go(registry):
    made = [decision(1, reason="of ann"), decision(2, "1", "2"), decision(3, "2", "3", reason="of bob")]
    for one in made:
        append(registry, one)
    assert remove_reasons(registry, lambda reason: "ann" in reason) == 1
    assert read_decisions(registry) == [made[0].model_copy(update={"reason": FORGOTTEN}), *made[1:]]
    assert remove_reasons(registry, lambda reason: "ann" in reason) == 0


def test_rollbacks_go_further_back_each_time():
    history = [decision(1, None, "1"), decision(2, "1", "2"), decision(3, "2", "3")]
    assert former_champions(history) == ["1", "2", "3"]
    history.append(decision(4, "3", "2", action="rollback"))
    assert former_champions(history) == ["1", "2"]
    history.append(decision(5, "2", "2", version="4", passed=False))
    history.append(decision(6, "2", "1", action="rollback"))
    assert former_champions(history) == ["1"]
    history.append(decision(7, "1", "3", action="promote"))
    assert former_champions(history) == ["1", "3"]


def test_an_alias_that_somebody_moved_by_hand_is_a_champion_too():
    assert former_champions([decision(1, None, "1"), decision(2, "7", "2")]) == ["1", "7", "2"]


@given(st.lists(st.sampled_from(["new", "refused", "rollback"]), max_size=12))
def test_the_last_of_the_line_is_always_the_champion(steps):
    history, champion, newest = [], None, 0
    for number, step in enumerate(steps, start=1):
        line = former_champions(history)
        if step == "rollback" and len(line) > 1:
            history.append(decision(number, champion, line[-2], action="rollback"))
            champion = line[-2]
        elif step != "rollback":
            newest += 1
            after = str(newest) if step == "new" else champion
            history.append(decision(number, champion, after, version=str(newest)))
            champion = after
    line = former_champions(history)
    assert line[-1:] == ([champion] if champion else [])
    assert len(set(line)) == len(line)


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (decision(after="1"), "version 1 became champion"),
        (decision(before="1", after="2"), "version 2 became champion, in the place of version 1"),
        (
            decision(before="1", after="1", version="2", passed=False, refusals=("bad", "worse")),
            "version 2 does not become champion, version 1 stays champion: bad; worse",
        ),
        (
            decision(after=None, version="2", passed=False, refusals=("bad",)),
            "version 2 does not become champion, there is none: bad",
        ),
        (
            decision(before="1", after="2", forced=True, passed=False, refusals=("bad",)),
            "version 2 became champion, in the place of version 1, forced although bad",
        ),
        (
            decision(before="3", after="2", action="rollback"),
            "version 2 is champion again, in the place of version 3",
        ),
    ],
)
def test_it_is_told_in_a_line(made, words):
    assert made.line() == words
