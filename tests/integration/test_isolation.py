"""Real child processes that crash, hang, hoard, lie and are left alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from dfpipe.catalog import VideoRef
from dfpipe.engine import open_engine
from dfpipe.errors import StoreError
from dfpipe.isolation import extract, extract_isolated
from dfpipe.settings import DaskSettings, ExtractSettings, LimitSettings, S3Settings

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent


STRANGERS = set()
"""Children of this process that other tests have left, ended ones that nobody has waited for among them."""


@pytest.fixture(autouse=True, scope="module")
def no_child_of_other_tests():
    # It would not know this folder.
    extract._mine.__dict__.pop("child", None)
    STRANGERS.update(child.pid for child in psutil.Process().children())


@pytest.fixture(autouse=True)
def own_path(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    monkeypatch.setattr("dfpipe.isolation.extract.GRACE_SECONDS", 0.5)


def isolate(work, *, url="/dev/null", seconds=60.0, max_memory_bytes=2**28):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dfpipe.isolation.extract.WORK", f"misbehaving:{work}")
        rows = extract_isolated(
            VideoRef("d/v", str(url), 1, "c"),
            settings=ExtractSettings(),
            limits=LimitSettings(timeout_seconds=seconds, max_memory_bytes=max_memory_bytes),
            s3=S3Settings(),
        )
    assert (rows.video["video_id"], rows.video["content_id"]) == ("d/v", "c")
    return rows.video["status"], rows.video["reason"]


def children():
    own = [child for child in psutil.Process().children() if child.pid not in STRANGERS]
    return [child for child in own if "dfpipe.isolation.inside" in child.cmdline()]


def gone(pid, within_seconds=10.0):
    deadline = time.monotonic() + within_seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_one_child_does_video_after_video():
    pids = {isolate("tell_pid")[1] for _ in range(3)}
    assert len(pids) == 1
    assert str(os.getpid()) not in pids


def test_a_limit_longer_than_the_kernel_can_count():
    assert isolate("tell_pid", seconds=1e9)[0] == "corrupt"


def test_a_child_of_other_code_is_no_fault_of_the_video(monkeypatch):
    extract._mine.__dict__.pop("child", None)
    monkeypatch.setattr("dfpipe.isolation.extract.VERSION", "of an earlier release")
    with pytest.raises(RuntimeError, match="was changed while it ran"):
        isolate("tell_pid")


def test_a_child_is_replaced_after_so_many_videos(monkeypatch):
    monkeypatch.setattr("dfpipe.isolation.extract.VIDEOS_PER_CHILD", 1)
    first, second = (isolate("tell_pid")[1] for _ in range(2))
    assert first != second
    assert gone(int(first))


def test_a_child_that_died_in_its_sleep_costs_no_attempt():
    first = int(isolate("tell_pid")[1])
    os.kill(first, signal.SIGKILL)
    time.sleep(0.2)
    status, second = isolate("tell_pid")
    assert (status, int(second) != first) == ("corrupt", True)


@pytest.mark.parametrize(
    ("work", "reason"),
    [
        ("segfault", "its process was ended by SIGSEGV twice"),
        ("abort_with_words", "its process was ended by SIGABRT (so it ends [31m here) twice"),
        ("leave", "its process ended by itself with status 0 twice"),
        (
            "die_differently",
            "its process was ended by SIGABRT; when tried again it ended by itself with status 3",
        ),
        (
            "answer_garbage",
            "its process gave an answer that is none "
            "(JSONDecodeError: Expecting value: line 1 column 1 (char 0)) twice",
        ),
        (
            "announce_much",
            "its process announced an answer of 1099511627776 bytes, more than the 1048576 it may give twice",
        ),
        (
            "speak_of_another",
            "its process gave an answer that is none (ValueError: the video are another video's) twice",
        ),
    ],
)
def test_whoever_loses_its_process_twice_has_crashed(work, reason, tmp_path):
    assert isolate(work, url=tmp_path / "marker") == ("crashed", reason)
    assert isolate("tell_pid")[0] == "corrupt", "the next video gets a sound child"


def test_a_loss_is_tried_again(tmp_path):
    assert isolate("segfault_once", url=tmp_path / "marker")[0] == "corrupt"


@pytest.mark.parametrize("work", ["sleep", "spin", "close_stderr_and_sleep"])
def test_a_hang_is_ended_from_outside_and_not_tried_again(work, tmp_path):
    isolate("tell_pid")
    started, cpu_started = time.monotonic(), time.process_time()
    status, reason = isolate(work, url=tmp_path / "attempts", seconds=1)
    assert (status, reason) == ("timeout", "not done after limits.timeout_seconds = 1; its process was stopped")
    assert time.monotonic() - started >= 1.5, "the limit and the grace"
    assert (tmp_path / "attempts").read_text() == "attempt\n"
    assert time.process_time() - cpu_started < 0.5, "waiting costs nothing"
    assert children() == []


@pytest.mark.parametrize("work", ["allocate_in_python", "allocate_in_opencv", "abort_for_want_of_memory"])
def test_too_much_memory_is_too_large(work):
    assert isolate(work) == ("too_large", "takes more memory than limits.max_memory_bytes = 268435456")


def test_addresses_are_not_memory():
    assert isolate("address_much_use_little")[0] == "corrupt"


def test_what_libraries_print_is_neither_answer_nor_shown(capfd):
    assert isolate("print_much")[0] == "corrupt"
    assert capfd.readouterr() == ("", "")


def test_nothing_that_comes_back_is_run(tmp_path):
    status, reason = isolate("answer_with_a_pickle", url=tmp_path / "canary")
    assert status == "crashed"
    assert "are no Arrow table" in reason
    assert not (tmp_path / "canary").exists()


def test_what_the_user_can_mend_is_raised_as_it_is():
    with pytest.raises(StoreError, match=r"^cannot read s3://bucket/key: access denied$"):
        isolate("raise_store_error")


@pytest.mark.parametrize(
    ("work", "told"),
    [("raise_defect", "KeyError: 'a defect'"), ("forget_a_column", "reason is missing in rows of video")],
)
def test_a_defect_is_raised_with_its_traceback(work, told):
    with pytest.raises(RuntimeError, match=f"(?s)in the process that extracts videos:.*Traceback.*{told}"):
        isolate(work)


def test_a_child_that_cannot_start_is_a_defect(monkeypatch, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no module named so >&2\nexit 3\n")
    python.chmod(0o755)
    monkeypatch.setattr("dfpipe.isolation.extract.VIDEOS_PER_CHILD", 0)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(RuntimeError, match=r"(?s)does not start: it ended by itself with status 3.*no module named so"):
        isolate("tell_pid")


@pytest.fixture
def interruptible():
    # Shells start what they put into the background with interrupts ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_takes_the_child_along():
    isolate("tell_pid")
    (child,) = children()
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        isolate("sleep")
    assert gone(child.pid)


def test_a_child_ends_with_its_thread():
    told = []
    thread = threading.Thread(target=lambda: told.append(int(isolate("tell_pid")[1])))
    thread.start()
    thread.join()
    assert gone(told[0])


@pytest.mark.parametrize("work", ["sleep", "spin", "tell_pid"])
def test_a_child_does_not_outlive_a_killed_parent(work, tmp_path):
    busy = tmp_path / "busy"
    script = f"import test_isolation as t, time, pathlib; t.isolate({work!r}, url={str(busy)!r})"
    # Of the three, only the last comes back, so that its child is at rest.
    script += f"; pathlib.Path({str(busy)!r}).touch(); time.sleep(99)"
    path = os.pathsep.join([str(HERE), *sys.path])
    with subprocess.Popen([sys.executable, "-c", script], env=os.environ | {"PYTHONPATH": path}) as parent:
        deadline = time.monotonic() + 60
        while not busy.exists() and time.monotonic() < deadline:
            time.sleep(0.1)
        (child,) = psutil.Process(parent.pid).children()
        parent.kill()
    assert gone(child.pid)


def test_keys_are_in_no_argument_and_no_variable():
    isolate("tell_pid")
    (child,) = children()
    assert child.cmdline()[-2:] == ["dfpipe.isolation.inside", str(os.getpid())]


def extract_on_worker(work, number):
    sys.path.insert(0, str(HERE))
    return isolate(work), [child.pid for child in children()]


def test_on_a_cluster_that_leaves_nothing_behind():
    with open_engine(DaskSettings(workers=2)) as engine:
        told = list(engine.run(extract_on_worker, range(6), shared="tell_pid"))
        ((crashed, _),) = engine.run(extract_on_worker, [0], shared="segfault")
        assert engine.workers == 2, "the workers survived"
        pids = {pid for _, found in told for pid in found}
    assert crashed[0] == "crashed"
    assert {status for (status, _), _ in told} == {"corrupt"}
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)
