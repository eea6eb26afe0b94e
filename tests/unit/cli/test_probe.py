"""Facts about videos on the terminal and as JSON; a bad one is a line, and the others are told all the same."""

import json


def test_the_good_are_in_a_table_and_the_bad_are_named(dfpipe, small_clip, tmp_path):
    bad = tmp_path / "x\x1b[2J.mp4"
    bad.write_text("no video")
    code, text, _ = dfpipe("probe", str(bad), str(small_clip))
    assert code == 2
    _, facts, fault = text.splitlines()
    cells = facts.split()
    assert cells[:11] == ["mov", "h264", "96", "x", "64", "yuv420p", "0", "25", "30", "3", "1.20"]
    assert cells[12:] == ["no", "1", str(small_clip)]
    assert fault.startswith(f" unsupported  {tmp_path}/x\\x1b[2J.mp4: ")


def test_a_check_has_a_column_of_its_own(dfpipe, small_clip):
    code, text, _ = dfpipe("probe", "--check", str(small_clip))
    assert code == 0
    heading, facts = (line.split() for line in text.splitlines())
    assert heading[-2:] == ["damaged", "video"]
    assert facts[-2:] == ["0", str(small_clip)]
    assert "damaged" not in dfpipe("probe", str(small_clip))[1]


def test_json(dfpipe, small_clip, tmp_path):
    code, text, _ = dfpipe("probe", "--json", str(small_clip), str(tmp_path / "nowhere.mp4"))
    good, bad = json.loads(text)
    assert code == 2
    assert (good["info"]["keyframes"], good["fault"]) == ([0, 10, 20], None)
    assert (bad["info"], bad["fault"]) == (None, "unreachable")
