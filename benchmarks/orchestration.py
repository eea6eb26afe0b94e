"""What orchestration costs a video: shards in Prefect and videos in Dask, against a Prefect task for every video.

usage: python benchmarks/orchestration.py [--videos N] [--task-per-video N] [--rounds N] [--markdown]

The videos are no work at all. The first way is a run's own: a flow on Prefect's thread pool submits a task for each
shard within a window, and `Engine.map_then_write` sends a Dask task for every video and one that writes. The second
way is a task for every video on the Dask task runner, on the same workers and against the same Prefect server, which
the benchmark starts and stops; it gets fewer videos and is given per video. It needs the package prefect-dask, which
dfpipe does not; without it only the first way is measured. To keep it out of your environment:

    pip install --no-deps --target /tmp/prefect-dask prefect-dask
    PYTHONPATH=/tmp/prefect-dask python benchmarks/orchestration.py

Timed is a whole flow run, from the call to its end; starting the server and the workers is not.
"""

# Prefect reads its settings when it is imported.
# ruff: noqa: PLC0415

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from _table import add_options, machine, show
from workers import Taken, watched

from dfpipe.catalog import VideoRef
from dfpipe.engine import Engine, open_engine
from dfpipe.services import down, up
from dfpipe.settings import DaskSettings, Settings
from dfpipe.testing import free_port

VIDEOS_PER_SHARD = Settings().videos_per_shard
"""Videos that store nothing fill no shard by their bytes."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, rounds=3)
    parser.add_argument("--videos", type=int, default=5000, help="through shards (%(default)s)")
    parser.add_argument("--task-per-video", type=int, default=300, help="through tasks of their own (%(default)s)")
    options = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory(prefix="dfpipe-orchestration-") as folder:
        state = Path(folder)
        [server] = up(state, ["prefect"], mlflow_backend="", artifact_root="", ports={"prefect": free_port()})
        try:
            # Before Prefect is imported, here and on the workers.
            os.environ |= {
                "PREFECT_API_URL": f"{server.url}/api",
                "PREFECT_HOME": folder,
                "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            }
            ways = measure(options)
        finally:
            down(state)
    report(ways, options, where)


def measure(options: argparse.Namespace) -> dict[str, tuple[int, list[Taken]]]:
    """Run the ways in turn; return how many videos each got and what each round took."""
    with open_engine(DaskSettings()) as engine:
        flows: dict[str, tuple[int, Callable[[], None]]] = {
            "a Prefect task a shard, a Dask task a video": (options.videos, by_shard(engine, options.videos))
        }
        if task_runner := dask_task_runner(engine):
            flows["a Prefect task a video, on Dask"] = (
                options.task_per_video,
                by_video(task_runner, options.task_per_video),
            )
        taken: dict[str, tuple[int, list[Taken]]] = {name: (videos, []) for name, (videos, _) in flows.items()}
        # What only the first flow of a process pays for.
        by_shard(engine, VIDEOS_PER_SHARD)()
        for _ in range(options.rounds):
            for name, (_, flow) in flows.items():
                with watched(os.getpid()) as spent:
                    flow()
                taken[name][1].append(spent)
    return taken


def by_shard(engine: Engine, videos: int) -> Callable[[], None]:
    """Return a flow of a run's shape."""
    from prefect import flow, task
    from prefect.task_runners import ThreadPoolTaskRunner
    from prefect.utilities.annotations import quote

    from flows._window import submit_within
    from tasks._options import TASK_OPTIONS

    @task(name="extract nothing", **TASK_OPTIONS)
    def extract(engine: Engine, shard: Sequence[VideoRef]) -> int:
        written: int = engine.map_then_write(nothing, shard, write=len, lost=nothing, on_done=lambda: None)
        return written

    window = engine.shards_at_once(VIDEOS_PER_SHARD)

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=window), persist_result=False)
    def shards() -> None:
        starts = range(0, videos, VIDEOS_PER_SHARD)
        calls = ((engine, quote([ref(n) for n in range(at, min(at + VIDEOS_PER_SHARD, videos))])) for at in starts)
        written = sum(future.result() for future in submit_within(extract, calls, window=window))
        assert written == videos

    return shards


def by_video(task_runner: Any, videos: int) -> Callable[[], None]:
    """Return a flow with a task for every video."""
    from prefect import flow, task
    from prefect.cache_policies import NO_CACHE

    extract = task(nothing, name="extract nothing", cache_policy=NO_CACHE, persist_result=False)

    @flow(task_runner=task_runner, persist_result=False)
    def single_videos() -> None:
        futures = [extract.submit(ref(number)) for number in range(videos)]
        assert all(future.result() == ref(number) for number, future in enumerate(futures))

    return single_videos


def dask_task_runner(engine: Engine) -> Any:
    try:
        from prefect_dask import DaskTaskRunner
    except ImportError:
        return None
    return DaskTaskRunner(address=engine._client.scheduler.address)


def nothing(video: VideoRef) -> VideoRef:
    return video


def ref(number: int) -> VideoRef:
    return VideoRef(
        video_id=f"{number:07d}", url=f"/videos/{number:07d}.mp4", content_id=f"sha256:{number:064x}", size_bytes=10**7
    )


def report(ways: dict[str, tuple[int, list[Taken]]], options: argparse.Namespace, where: str) -> None:
    ms = {name: [1000 * each.seconds / videos for each in rounds] for name, (videos, rounds) in ways.items()}
    base = next(iter(ms.values()))
    rows = []
    for name, (videos, rounds) in ways.items():
        ratios = [other / own for other, own in zip(ms[name], base, strict=True)]
        rows.append(
            [
                name,
                f"{videos}",
                f"{statistics.median(ms[name]):.2f}",
                f"{min(ms[name]):.2f} to {max(ms[name]):.2f}",
                f"{statistics.median(1000 * each.cpu_seconds / videos for each in rounds):.2f}",
                f"{statistics.median(ratios):.1f}",
                "at most 5" if ms[name] is base else "",
            ]
        )
    columns = ["way", "videos", "ms a video", "range", "CPU ms a video", "times the first", "asked, ms"]
    title = f"Orchestration alone, shards of {VIDEOS_PER_SHARD}, {options.rounds} rounds; CPU without Prefect's server"
    show(title, columns, rows, note=where, markdown=options.markdown)
    if len(ways) == 1:
        print("prefect-dask is not installed: a task for every video was not measured")


if __name__ == "__main__":
    main()
