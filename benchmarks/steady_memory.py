"""Whether scheduler and flow process grow: their memory after each of ten runs in a row on one cluster.

usage: python benchmarks/steady_memory.py [--runs N] [--videos N] [--markdown]

Scheduler and workers are processes of their own, started once, as `dask scheduler` and `dask worker` would. Each run is
a Prefect flow in this process: it connects, submits a task for each shard within a window, has every video's result
travel between workers and written there, and computes something for every shard by `Engine.run`. The Prefect server is
a process of its own too; the benchmark starts and stops everything. Memory is the resident set after a full garbage
collection, when Prefect has sent what it had to say of the run.
"""

# Prefect reads its settings when it is imported.
# ruff: noqa: PLC0415

import argparse
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
from _table import machine, show
from orchestration import VIDEOS_PER_SHARD, ref

from dfpipe.catalog import VideoRef
from dfpipe.engine import Engine, open_engine
from dfpipe.services import down, up
from dfpipe.settings import DaskSettings
from dfpipe.testing import free_port

WORKERS = 2
RESULT_BYTES = 100_000
"""What a video's task hands to the one that writes; a real video's crops are about eight times that."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10, help="in a row (%(default)s)")
    parser.add_argument("--videos", type=int, default=1000, help="in each run (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print tables as GitHub-flavoured Markdown")
    options = parser.parse_args()
    where = machine()
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dfpipe-memory-")))
        [server] = up(state, ["prefect"], mlflow_backend="", artifact_root="", ports={"prefect": free_port()})
        stack.callback(down, state)
        os.environ |= {
            "PREFECT_API_URL": f"{server.url}/api",
            "PREFECT_HOME": str(state),
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
        }
        port = free_port()
        address = f"tcp://127.0.0.1:{port}"
        scheduler = stack.enter_context(
            dask_process(
                "dask_scheduler", "--host", "127.0.0.1", "--port", f"{port}", "--dashboard-address", "127.0.0.1:0"
            )
        )
        for _ in range(WORKERS):
            stack.enter_context(
                dask_process(
                    "dask_worker", address, "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--nthreads", "1"
                )
            )
        run = make_run(address, options.videos)
        seen = []
        for _ in range(options.runs):
            run()
            gc.collect()
            seen.append((rss_bytes(scheduler.pid), rss_bytes(os.getpid())))
    report(seen, options, where)


def make_run(address: str, videos: int):
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner

    from flows._window import submit_within
    from flows.run_here import last_words
    from tasks._options import TASK_OPTIONS

    @task(name="extract little", **TASK_OPTIONS)
    def extract(engine: Engine, shard: list[VideoRef]) -> int:
        written: int = engine.map_then_write(little, shard, write=len, lost=little, on_done=lambda: None)
        return written

    @task(name="compute little", **TASK_OPTIONS)
    def compute(engine: Engine, shards: int) -> int:
        return sum(engine.run(one_of, range(shards), shared=bytes(RESULT_BYTES)))

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=8), persist_result=False)
    def run() -> None:
        starts = range(0, videos, VIDEOS_PER_SHARD)
        # Found again after the settings of the first run: the scheduler may take a while to start.
        with open_engine(DaskSettings(scheduler=address)) as engine:
            calls = ((engine, [ref(n) for n in range(at, min(at + VIDEOS_PER_SHARD, videos))]) for at in starts)
            window = min(8, engine.shards_at_once(VIDEOS_PER_SHARD))
            assert sum(future.result() for future in submit_within(extract, calls, window=window)) == videos
            assert compute(engine, len(starts)) == len(starts)

    def to_the_end() -> None:
        with last_words():
            run()

    return to_the_end


def little(video: VideoRef) -> tuple[VideoRef, bytes]:
    return video, bytes(RESULT_BYTES)


def one_of(_shared: bytes, _shard: int) -> int:
    return 1


def rss_bytes(pid: int) -> int:
    return int(psutil.Process(pid).memory_info().rss)


@contextmanager
def dask_process(module: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        [sys.executable, "-m", f"distributed.cli.{module}", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def report(seen: list[tuple[int, int]], options: argparse.Namespace, where: str) -> None:
    base = seen[min(1, len(seen) - 1)]
    rows = [
        [
            f"{number}",
            f"{scheduler / 1e6:.1f}",
            f"{100 * (scheduler / base[0] - 1):+.1f} %",
            f"{flow / 1e6:.1f}",
            f"{100 * (flow / base[1] - 1):+.1f} %",
        ]
        for number, (scheduler, flow) in enumerate(seen, 1)
    ]
    columns = ["after run", "scheduler, MB", "to run 2", "flow process, MB", "to run 2"]
    title = f"{options.runs} runs of {options.videos} videos on one cluster; asked: within 10 % from run 2 on"
    show(title, columns, rows, note=where, markdown=options.markdown)


if __name__ == "__main__":
    main()
