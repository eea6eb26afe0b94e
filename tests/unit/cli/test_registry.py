"""`dfpipe promote`, `rollback` and `models history` in words and in JSON; nobody is asked."""

import json
from dataclasses import dataclass

import pytest

from dfpipe.cli._app import say_json
from dfpipe.decisions import Decision
from dfpipe.errors import PromotionError
from dfpipe.models.gate import Check
from dfpipe.settings import GateSettings

AUC = Check("auc", "bound", 0.912, 0.85, 0.97, 0.5, True)
LOSS = Check("log_loss", "champion", 0.2, 0.1, 0.31, 0.1, False)


def decision(**more):
    values = {
        "number": 2,
        "decided_at": "2026-11-29T06:00:00+00:00",
        "action": "promote",
        "model": "dfpipe",
        "alias": "champion",
        "version": "2",
        "run_id": "r",
        "champion_before": "1",
        "champion_after": "2",
        "forced": False,
        "reason": "",
        "passed": True,
        "refusals": (),
        "checks": (AUC,),
        "videos": 8,
        "groups": 4,
        "compared_videos": 8,
        "compared_groups": 4,
        "rules": GateSettings(),
        "dfpipe_version": "0",
    }
    return Decision(**values | more)


REFUSED = decision(champion_after="1", passed=False, refusals=(str(LOSS),), checks=(AUC, LOSS))


@pytest.fixture
def answer(monkeypatch):
    """Let the library answer so; returns what it was asked."""
    asked = []

    def let(name, value):
        def call(settings, *arguments, **options):
            asked.append((arguments, options))
            if isinstance(value, Exception):
                raise value
            return value

        monkeypatch.setattr(f"dfpipe.promotion.{name}", call)
        return asked

    return let


def test_a_model_that_passes(dfpipe, answer):
    asked = answer("promote", decision())
    code, out, _ = dfpipe("promote", "2")
    assert (code, asked) == (0, [(("2",), {"force": False, "reason": ""})])
    assert out.splitlines() == [
        "dfpipe: version 2 became champion, in the place of version 1",
        "  video AUC is 0.912 (0.850 to 0.970), and the lower end must be at least 0.5",
    ]
    code, out, _ = dfpipe("promote", "--json")
    assert (code, json.loads(out)["champion_after"], json.loads(out)["checks"][0]["low"]) == (0, "2", 0.85)
    assert asked[-1] == ((None,), {"force": False, "reason": ""})


def test_a_model_that_does_not_pass_is_one_line_and_exit_code_2(dfpipe, answer):
    answer("promote", REFUSED)
    code, out, err = dfpipe("promote")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err == (
        "dfpipe: version 2 does not become champion, version 1 stays champion: video log loss minus the champion's is "
        "0.200 (0.100 to 0.310), and the upper end must be at most 0.1, not 0.310; "
        "`dfpipe promote 2 --force --reason TEXT` overrules\n"
    )
    code, out, _ = dfpipe("promote", "--json")
    assert json.loads(out)["exit_code"] == code == 2


@pytest.mark.parametrize("reason", [[], ["--reason", " "]])
def test_whoever_goes_past_the_gate_says_why(dfpipe, answer, reason):
    asked = answer("promote", decision())
    code, _, err = dfpipe("promote", "2", "--force", *reason)
    assert (code, asked, err.count("\n")) == (2, [], 1)
    assert "say why with --reason TEXT" in err
    assert dfpipe("promote", "2", "--force", "--reason", "a study")[0] == 0
    assert asked == [(("2",), {"force": True, "reason": "a study"})]


def test_rolling_back(dfpipe, answer):
    asked = answer("rollback", decision(action="rollback", version="1", champion_before="2", champion_after="1"))
    code, out, _ = dfpipe("rollback", "--reason", "too slow")
    assert (code, asked) == (0, [((), {"reason": "too slow"})])
    assert out.startswith("dfpipe: version 1 is champion again, in the place of version 2\n")
    answer("rollback", PromotionError("the history has no champion before 1"))
    assert dfpipe("rollback") == (2, "", "dfpipe: the history has no champion before 1\n")


def test_the_history(dfpipe, answer):
    answer("read_history", [])
    assert dfpipe("models", "history") == (0, "nothing was decided yet on dfpipe\n", "")
    forced = decision(number=3, version="3", champion_after="3", forced=True, reason="a [study]", passed=False)
    answer("read_history", [decision(), REFUSED, forced])
    code, out, _ = dfpipe("models", "history")
    assert code == 0
    for words in ("promote", "video AUC is 0.912", "at most 0.1, not 0.310", "forced", "a [study]"):
        assert words in out
    rows = json.loads(dfpipe("models", "history", "--json")[1])
    assert [row["champion_after"] for row in rows] == ["2", "1", "3"]


def test_a_run_tells_the_decision_as_json_too(capsys):
    @dataclass
    class Summary:
        decision: Decision

    say_json(Summary(REFUSED))
    assert json.loads(capsys.readouterr().out)["decision"] == REFUSED.model_dump(mode="json")
