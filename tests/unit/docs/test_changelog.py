"""CHANGELOG.md keeps the form that it says it follows, and the version is a semantic one."""

import re
import tomllib
from pathlib import Path

import dfpipe

ROOT = Path(__file__).parents[3]
SEMANTIC = r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?"


def test_the_version_is_semantic_and_told_once():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert re.fullmatch(SEMANTIC, version)
    assert dfpipe.__version__ == version


def test_the_changelog_keeps_its_form():
    lines = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# Changelog"
    first, *releases = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    assert first == "Unreleased"
    numbers = []
    for release in releases:
        match = re.fullmatch(rf"{SEMANTIC} - \d{{4}}-\d\d-\d\d", release)
        assert match, f"{release!r}, expected a version and a day, as 0.2.0 - 2026-12-31"
        numbers.append(tuple(int(part) for part in match.groups()[:3]))
    assert numbers == sorted(numbers, reverse=True), "newest first"
    kinds = {line.removeprefix("### ") for line in lines if line.startswith("### ")}
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
