"""The pages made from the code hold all of it, and every command that any page shows is understood."""

import importlib.util
from pathlib import Path

import pytest
from pydantic import BaseModel

from dfpipe.testing import code_blocks, shell_commands

ROOT = Path(__file__).parents[3]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site_hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def keys(settings: BaseModel, path: str = "") -> list[str]:
    found = []
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        found.append(f"{path}{name}")
        if isinstance(value, BaseModel):
            found += keys(value, f"{path}{name}.")
    return found


def test_every_setting_is_told_with_its_meaning(hooks):
    from dfpipe.settings import Settings

    page = hooks.settings_page()
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| `")}
    missing = [key for key in keys(Settings()) if f"`{key}`" not in rows]
    assert not missing
    # What is null or another choice by default, too.
    for key in ("extract.face_video.size_px", "train.lightgbm.num_leaves", "extract.sampling.every_frames"):
        assert f"`{key}`" in rows
    assert not [key for key, row in rows.items() if row.rstrip().endswith("|  |")]
    assert "integer ≥ 1" in rows["`shard_bytes`"]
    assert "134217728" in rows["`shard_bytes`"]


def test_every_command_and_option_is_told(hooks):
    page = hooks.command_line_page()
    commands = dict(hooks.walk_commands())
    assert {"dfpipe run", "dfpipe models fetch"} <= commands.keys()
    shared = page.partition("## dfpipe ")[0]
    for name, command in commands.items():
        section = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for one in command.params:
            for option in one.opts if one.param_type_name == "option" else ():
                assert f"`{option}`" in (shared if one.name in hooks.SHARED_OPTIONS else section), (name, option)


def test_exit_codes_are_those_of_the_program(hooks):
    from dfpipe.cli import _main

    codes = [code for code, _ in hooks.exit_codes()]
    assert codes[:3] == ["0", "1", "2"]
    assert {str(_main.INTERRUPTED), str(_main.TERMINATED)} <= set(codes)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_on_every_page_are_understood(page, hooks):
    """Parsed as the command line would, so a wrong option, choice or number of arguments fails; not run."""
    commands = dict(hooks.walk_commands())
    for language, block in code_blocks(page.read_text(encoding="utf-8")):
        if language not in ("", "sh", "bash") or not block.startswith("dfpipe "):
            continue
        for words in shell_commands(block):
            if words[0] != "dfpipe":
                continue
            name = max((one for one in commands if " ".join(words).startswith(one)), key=len, default=None)
            assert name, f"{page.name}: {' '.join(words)}"
            commands[name].make_context(name, words[len(name.split()) :])


def test_lists_after_a_paragraph_are_lists(hooks):
    assert hooks.blank_before_lists("Two:\n- a\n- b\n") == "Two:\n\n- a\n- b\n"
    assert hooks.blank_before_lists("```\nx\n- a\n```\n") == "```\nx\n- a\n```\n"
    assert hooks.blank_before_lists("- a\n  b\n- c\n") == "- a\n  b\n- c\n"


def test_a_file_of_the_checkout_is_named_and_a_missing_one_is_told(hooks, caplog):
    docs = ROOT / "docs"
    assert hooks.name_checkout_files("[x](../Makefile) [y](tables.md)", docs, "a.md") == "`Makefile` [y](tables.md)"
    assert not caplog.records
    hooks.name_checkout_files("[x](../no-such-file)", docs, "a.md")
    assert "no-such-file" in caplog.text
