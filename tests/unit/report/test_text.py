import re

import pytest

from dfpipe.report import make_report, report_sections, to_markdown
from dfpipe.report.text import escape_markdown, printable
from dfpipe.testing import make_video


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("", ""),
        ("plain words, 14:50", "plain words, 14:50"),
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        ("<img src=x>&amp;", "&lt;img src=x&gt;&amp;amp;"),
        ("[x](http://e.org)", r"\[x\](http\://e.org)"),
        ("www.e.org me@e.org", r"www\.e.org me\@e.org"),
        ("`a` *b* _c_ ~d~ $e$", r"\`a\` \*b\* \_c\_ \~d\~ \$e\$"),
        ("a\n\n# b", r"a\\n\\n# b"),
        ("\x1b[2J\u202egpj", r"\\x1b\[2J\\u202egpj"),
    ],
)
def test_markdown_shows_the_text_and_does_nothing_else(text, markdown):
    assert escape_markdown(text) == markdown


def test_what_would_steer_a_terminal_is_written_out():
    assert printable("ä 漢 \x1b[31m\u200b\r") == r"ä 漢 \x1b[31m\u200b\r"


def test_sections(store, settings):
    sections = {section.title: section for section in report_sections(make_report(settings, run_id="first"))}
    assert list(sections) == [
        "Videos",
        "Frames and faces",
        "Losses, whole store",
        "Distributions",
        "Formats, whole store",
        "Throughput and cost",
        "Videos that ended without a face, whole store",
    ]
    assert "1 of them pending" in sections["Videos"].notes[0]
    assert ("all", "9", "2") in sections["Videos"].rows
    videos, frames = sections["Losses, whole store"].notes[:2]
    assert videos.startswith("0.0 % of the real videos and 80.0 % of the fake ones end without a face")
    assert frames.startswith("Real videos lose 21.4 % of their wanted frames and fake ones 90.5 %")
    assert ("+ missing", "1", "1") in sections["Frames and faces"].rows
    for section in sections.values():
        assert {len(row) for row in section.rows} == {len(section.header)}


def test_an_empty_store_has_nothing_to_say(settings):
    assert report_sections(make_report(settings)) == []


def test_sums_that_do_not_come_out_even_are_a_defect(finish, settings):
    finish([make_video("a")], {"a": {"faces_found": 1}})
    sections = {section.title: section for section in report_sections(make_report(settings))}
    assert "The sums of 1 videos do not come out even" in sections["Frames and faces"].notes[0]


def test_the_rest_of_the_failures_is_told(store, settings, monkeypatch):
    monkeypatch.setattr("dfpipe.report.numbers.MAX_FAILURES", 1)
    assert "\n3 more: dfpipe status --failures lists all." in to_markdown(make_report(settings))


def test_names_of_files_stay_in_their_cells(finish, settings):
    """Every row of a table has as many cells as its heading, whatever videos are called."""
    evil = "d/<script>|x\n| --- |\n# [a](b)"
    finish([make_video(evil), make_video("fine")], {evil: {"status": "corrupt", "reason": "|\n|"}, "fine": {}})
    markdown = to_markdown(make_report(settings), picture="distributions.png")
    assert "<script>" not in markdown
    for table in re.findall(r"(?:^\|.*\|\n)+", markdown, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}) == 1
    assert len(re.findall("^#", markdown, re.MULTILINE)) == len(report_sections(make_report(settings))) + 1


def test_the_picture_stands_where_it_is_named(store, settings):
    report = make_report(settings)
    assert "](p.png)" in to_markdown(report, picture="p.png")
    assert "![" not in to_markdown(report)
