"""The command line without servers: exit codes, errors, JSON, and settings that explain themselves."""

import json
import signal
from pathlib import Path

import pytest
import yaml

from dfpipe.cli import _commands
from dfpipe.cli._config import to_documented_yaml
from dfpipe.settings import Settings, load_settings


def test_version(dfpipe):
    assert dfpipe("--version") == (0, "dfpipe 0.1.0\n", "")


def commands_in(text):
    """Names that a help text lists."""
    return [line.split()[0] for line in text.split("Commands:")[1].splitlines() if line.strip()]


def test_every_command_has_help_json_and_debug(dfpipe):
    code, text, _ = dfpipe("--help")
    commands = [[name] for name in commands_in(text)]
    assert code == 0
    names = {"synth", "catalog", "plan", "run", "status", "predict", "models", "up", "down", "doctor", "config"}
    assert {name for (name,) in commands} >= names
    for command in commands:
        code, text, _ = dfpipe(*command, "--help")
        assert code == 0
        if "Commands:" in text:
            commands += [[*command, name] for name in commands_in(text)]
            continue
        assert "--json" in text, command
        assert "--debug" in text, command
    assert ["models", "fetch"] in commands


@pytest.mark.parametrize("arguments", [["nonsense"], ["run", "--until", "dinner"], ["run", "--nonsense"]])
def test_a_wrong_command_line_exits_with_2(dfpipe, arguments):
    code, text, complaint = dfpipe(*arguments)
    assert (code, text) == (2, "")
    assert complaint


def test_a_users_mistake_exits_with_2_and_one_line(dfpipe):
    code, text, complaint = dfpipe("config", "--set", "sorce=x")
    assert (code, text) == (2, "")
    assert complaint == "dfpipe: unknown setting 'sorce'; did you mean 'source'?\n"


def test_a_defect_exits_with_1_and_one_line(dfpipe, monkeypatch):
    monkeypatch.setattr(_commands, "read_settings", lambda *_: 1 / 0)
    code, text, complaint = dfpipe("config")
    assert (code, text) == (1, "")
    assert complaint.startswith("dfpipe: a defect in dfpipe (ZeroDivisionError: ")
    assert complaint.count("\n") == 1


def test_debug_shows_the_traceback(dfpipe, monkeypatch):
    monkeypatch.setattr(_commands, "read_settings", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dfpipe("config", "--debug")


def test_an_interrupted_command_says_what_stays(dfpipe, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_commands, "read_settings", interrupt)
    code, _, complaint = dfpipe("config")
    assert code == 130
    assert "what was committed stays" in complaint


@pytest.fixture
def hangup():
    """The handler for a closed terminal as it was, when the test has ended."""
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_that_is_to_end_or_whose_terminal_is_closed_tidies_up(dfpipe, monkeypatch, hangup, sent):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    tidied = []

    def work(*_):
        # Without a handler the test's process would end here.
        assert callable(signal.getsignal(sent))
        try:
            signal.raise_signal(sent)
        finally:
            tidied.append(sent)

    monkeypatch.setattr(_commands, "read_settings", work)
    code, _, complaint = dfpipe("config")
    assert (code, tidied) == (143, [sent])
    assert "what was committed stays" in complaint


def test_what_was_started_to_outlive_its_terminal_does(dfpipe, hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    dfpipe("--version")
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_json_is_all_there_is_on_stdout(dfpipe):
    code, text, _ = dfpipe("config", "--json")
    assert code == 0
    assert json.loads(text)["extract"]["crop"]["size_px"] == 320
    code, text, _ = dfpipe("config", "--json", "--set", "sorce=x")
    assert json.loads(text) == {"error": "unknown setting 'sorce'; did you mean 'source'?", "exit_code": 2}


def test_secrets_are_masked(dfpipe):
    for arguments in (["config"], ["config", "--json"]):
        _, text, _ = dfpipe(
            *arguments, "--set=s3.access_key_id=k", "--set=s3.secret_access_key=hush", "--set=s3.session_token=hush"
        )
        assert "hush" not in text
        assert "**********" in text
    _, text, _ = dfpipe("config", "--set=mlflow.tracking_uri=postgresql://me:hu@sh@db/mlflow")
    assert 'tracking_uri: "postgresql://me:**********@db/mlflow"' in text


def test_the_settings_file_in_the_folder_is_found(dfpipe, tmp_path):
    (tmp_path / "dfpipe.yaml").write_text("videos_per_shard: 3\n")
    assert json.loads(dfpipe("config", "--json")[1])["videos_per_shard"] == 3
    (tmp_path / "other.yaml").write_text("videos_per_shard: 4\n")
    assert json.loads(dfpipe("config", "--json", "--config", "other.yaml")[1])["videos_per_shard"] == 4


def test_documented_settings_read_back_as_themselves():
    settings = load_settings(overrides=["train.forest=null", "source=s3://b/videos"], environ={})
    text = to_documented_yaml(settings)
    assert Settings.model_validate(yaml.safe_load(text)) == settings
    assert "# Width and height of a stored crop in pixels." in text


def test_the_documented_example_is_what_the_command_prints():
    example = Path(__file__).parents[3] / "deployments" / "dfpipe.yaml"
    assert example.read_text() == to_documented_yaml(Settings()), "run: dfpipe config > deployments/dfpipe.yaml"


def test_down_where_nothing_runs(dfpipe):
    assert json.loads(dfpipe("down", "--json")[1]) == []
    assert dfpipe("down") == (0, "nothing was running\n", "")


@pytest.mark.parametrize("arguments", [["--donors", "self"], ["--from", ".", "--identities", "3"]])
def test_synth_refuses_options_that_would_do_nothing(dfpipe, arguments):
    code, _, complaint = dfpipe("synth", "out", *arguments)
    assert code == 2
    assert "leave" in complaint


def test_models_are_listed_and_missing_ones_named(dfpipe, monkeypatch, tmp_path):
    monkeypatch.setenv("DFPIPE_MODELS", str(tmp_path / "models"))
    code, text, _ = dfpipe("models", "list", "--json")
    assert code == 0
    states = {row["name"]: (row["state"], row["path"].startswith(str(tmp_path))) for row in json.loads(text)}
    assert states == dict.fromkeys(["retinaface", "dlib", "cascade"], ("absent", True))
    code, _, complaint = dfpipe("models", "fetch", "nonsense")
    assert code == 2
    assert complaint == "dfpipe: there are no weights called 'nonsense'; expected one of retinaface, dlib, cascade\n"
    (tmp_path / "models").mkdir()
    (tmp_path / "models/retinaface-frozen_graph.pb").write_bytes(b"half of it")
    code, text, _ = dfpipe("models", "list")
    assert "damaged" in text
