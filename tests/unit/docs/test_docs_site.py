"""The site builds strictly, and a browser that opens it asks nobody else for anything."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        check=True,
        timeout=280,
    )
    return folder


def test_every_page_is_there(site):
    pages = {page.stem for page in (ROOT / "docs").glob("*.md")} | {"settings", "command-line"}
    assert pages <= {page.stem for page in site.glob("*.html")}
    assert not list(site.rglob("*.py"))


def test_nothing_is_loaded_from_elsewhere(site):
    loads = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]+)")
    styles = re.compile(r"(?:url\(|@import\s+)[\"']?((?:https?:)?//[^\"')]+)")
    found = {}
    for page in site.rglob("*.html"):
        found[page.name] = loads.findall(page.read_text(encoding="utf-8"))
    for sheet in site.rglob("*.css"):
        found[sheet.name] = styles.findall(sheet.read_text(encoding="utf-8"))
    assert {name: hosts for name, hosts in found.items() if hosts} == {}
    assert loads.findall('<link rel="stylesheet" href="https://elsewhere.example/a.css">')


def test_pictures_are_small():
    assert [one.name for one in (ROOT / "docs" / "pictures").glob("*.png") if one.stat().st_size > 300_000] == []
