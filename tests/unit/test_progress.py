from dfpipe import progress


def test_a_listener_hears_what_was_expected_and_done():
    heard = []
    with progress.listen(lambda *change: heard.append(change)):
        progress.expect("faces", 3)
        progress.advance("faces")
        progress.advance("faces", 2)
        progress.report("videos", 5, 9)
    progress.advance("faces")
    assert heard == [("faces", 0, 3), ("faces", 1, 3), ("faces", 3, 3), ("videos", 5, 9)]


def test_every_listener_starts_from_nothing():
    heard = []
    for _ in range(2):
        with progress.listen(lambda *change: heard.append(change)):
            progress.advance("faces")
    assert heard == [("faces", 1, 0), ("faces", 1, 0)]


def test_who_joins_later_takes_nothing_from_who_listens():
    heard = []
    with progress.listen(lambda *change: heard.append(change)):
        progress.expect("faces", 2)
        with progress.listen(lambda *_: None):
            progress.advance("faces")
    assert heard == [("faces", 0, 2), ("faces", 1, 2)]


def test_lines_reach_who_reads_them_while_the_block_runs():
    read = []
    with progress.listen(lambda *_: None, on_line=read.append), progress.listen(lambda *_: None):
        progress.tell("here")
    progress.tell("nobody")
    assert read == ["here"]
