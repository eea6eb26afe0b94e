"""A run that is ended in the middle loses nothing that it had committed, and leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import psutil
import pytest
from deltalake import DeltaTable

from dfpipe.synth import write_dataset

pytestmark = [pytest.mark.slow, pytest.mark.services]

SETTINGS = ["--set=source=videos", "--set=store=store", "--set=videos_per_shard=2"]
PATIENCE_SECONDS = 120


def rows(folder, table):
    path = folder / "store" / "tables" / table
    return DeltaTable(path).to_pyarrow_table().to_pylist() if (path / "_delta_log").exists() else []


def wait_for(condition, what):
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"waited {PATIENCE_SECONDS} s for {what}"
        time.sleep(0.05)


# Ctrl-C and TERM are taken politely, KILL cannot be; in no case may a row be lost or doubled.
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_the_next_run_does_only_the_rest(dfpipe, tmp_path, sent, code):
    write_dataset(tmp_path / "videos", num_identities=10, num_frames=(40, 60), heights=(360,), seed=5, jobs=2)
    command = [sys.executable, "-m", "dfpipe.cli", "run", "--until=faces", *SETTINGS]
    environment = {**os.environ, **dfpipe.environment}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as run:
        wait_for(lambda: rows(tmp_path, "videos") or run.poll() is not None, "the first committed shard")
        family = psutil.Process(run.pid).children(recursive=True)
        run.send_signal(sent)
        _, complaint = run.communicate(timeout=PATIENCE_SECONDS)
    assert run.returncode == code
    assert "Traceback" not in complaint
    wait_for(lambda: not [one for one in family if one.is_running() and one.status() != "zombie"], "its workers' end")

    committed = {row["video_id"]: row["finished_at"] for row in rows(tmp_path, "videos")}
    assert 0 < len(committed) < 20
    again = dfpipe("run", "--json", "--until=faces", *SETTINGS).json
    assert again["kept"] >= len(committed)
    ledger = rows(tmp_path, "videos")
    assert len(ledger) == len({row["video_id"] for row in ledger}) == 20
    # What was committed was not done again.
    assert committed.items() <= {row["video_id"]: row["finished_at"] for row in ledger}.items()
    faces = Counter(row["video_id"] for row in rows(tmp_path, "faces"))
    assert faces == {row["video_id"]: row["faces_kept"] for row in ledger if row["faces_kept"]}
