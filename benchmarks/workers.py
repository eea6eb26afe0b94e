"""What a Dask worker takes on 1080p videos, and what a second one adds: memory, cores, videos per second.

usage: python benchmarks/workers.py [--videos N] [--rounds N] [--s3] [--markdown]

Shards are extracted as a run does it: workers of `dfpipe.engine`, `steps.extract_shard`, several shards under way at
once, frames, crops and ledger committed to a store in a temporary folder; with --s3, videos and store both lie on a
local S3 server (Ceph's gateway), which is started and stopped and takes its share of the same cores. Memory is that of
the worker's process and of all its children, sampled while it works. Processor time of the second table is that of
everything the benchmark started, the scheduler included (not of the S3 server). What others took of the machine
meanwhile stands beside it: with fewer free cores than workers, the second one cannot add much, whatever dfpipe does.
What processor time alone would allow, if both cores were free, is therefore given too.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import uuid4

import psutil
from _clips import enlarged, real, video_ref
from _table import add_options, machine, show

from dfpipe.catalog import VideoRef
from dfpipe.engine import Engine, open_engine
from dfpipe.plan import Shard
from dfpipe.services import down, s3_access, up
from dfpipe.settings import DaskSettings, ExtractSettings, LimitSettings, S3Settings, Settings
from dfpipe.shards import Tables
from dfpipe.steps import extract_shard
from dfpipe.storage import open_location
from dfpipe.testing import BY, free_port

SHARDS_AT_ONCE = 4
"""As `Engine.shards_at_once` has it for a few workers."""

VIDEOS_PER_SHARD = 64

BUCKET = "benchmark"

Place = Callable[[str], tuple[str, S3Settings]]
"""Gives the URL of a store of that name, and how it is reached."""

SAMPLE_SECONDS = 0.1


@dataclass(slots=True)
class Taken:
    """What processes took while they were watched."""

    seconds: float = 0.0
    """Time on the clock."""
    cpu_seconds: float = 0.0
    """Processor time of the watched process and everything below it."""
    others_cores: float = 0.0
    """Cores that everything else on the machine kept busy."""
    rss_bytes: int = 0
    """Most memory at once, counting what processes share in each of them."""
    pss_bytes: int = 0
    """Most memory at once, counting what processes share once."""
    processes: int = 0
    """Most processes at once."""


def main() -> None:
    options = read_options()
    where = machine()
    with tempfile.TemporaryDirectory(prefix="dfpipe-workers-") as temporary:
        folder = Path(temporary)
        clips = enlarged(real(options.data, "asl")[::5], folder, width_px=1920, height_px=1080)
        if not options.s3:
            measure(
                [video_ref(clip) for clip in clips], lambda name: (str(folder / name), S3Settings()), options, where
            )
            return
        state = folder / "services"
        try:
            up(state, ["s3"], mlflow_backend="", artifact_root="", ports={"s3": free_port()}, s3_buckets=[BUCKET])
            s3 = s3_access(state).settings
            videos = [uploaded(clip, s3) for clip in clips]
            measure(videos, lambda name: (f"s3://{BUCKET}/{name}", s3), options, where)
        finally:
            down(state)


def measure(videos: Sequence[VideoRef], place: Place, options: argparse.Namespace, note: str) -> None:
    if options.videos:
        one_worker(videos, place, videos=options.videos, note=note, markdown=options.markdown)
    if options.rounds:
        second_worker(videos, place, videos=options.scaling_videos, options=options, note=note)


def uploaded(clip: Path, s3: S3Settings) -> VideoRef:
    place = open_location(f"s3://{BUCKET}/videos/{clip.name}", s3)
    place.write_bytes(clip.read_bytes())
    return replace(video_ref(clip), url=place.url)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, rounds=3)
    parser.add_argument(
        "--videos", type=int, default=64, help="for memory and cores, in shards of 64; 0 leaves it out (%(default)s)"
    )
    parser.add_argument("--s3", action="store_true", help="videos and store on a local S3 server")
    parser.add_argument("--scaling-videos", type=int, default=24, help="for throughput, in four shards (%(default)s)")
    parser.add_argument("--data", type=Path, help="folder that holds asl/")
    return parser.parse_args()


def one_worker(clips: Sequence[VideoRef], place: Place, *, videos: int, note: str, markdown: bool) -> None:
    shards = make_shards(clips, videos=videos, videos_per_shard=VIDEOS_PER_SHARD)
    with open_engine(DaskSettings(workers=1)) as engine:
        warm_up(engine, clips, place)
        with watched(worker_pid(engine), memory=True) as worker:
            run(engine, shards, place("one"))
    rows = [
        ["memory of the worker and its children, MB", f"{worker.rss_bytes / 1e6:.0f}", "at most 1000"],
        ["the same, shared pages counted once, MB", f"{worker.pss_bytes / 1e6:.0f}", ""],
        ["processes", f"{worker.processes}", ""],
        ["cores used", f"{worker.cpu_seconds / worker.seconds:.2f}", "1"],
        ["cores used by others meanwhile", f"{worker.others_cores:.2f}", ""],
        ["CPU s a video", f"{worker.cpu_seconds / videos:.3f}", ""],
    ]
    title = f"One worker with one thread: {videos} videos of 1920 x 1080, {VIDEOS_PER_SHARD} a shard"
    show(title, ["", "measured", "asked"], rows, note=note, markdown=markdown)


def second_worker(
    clips: Sequence[VideoRef], place: Place, *, videos: int, options: argparse.Namespace, note: str
) -> None:
    shards = make_shards(clips, videos=videos, videos_per_shard=max(1, videos // SHARDS_AT_ONCE))
    taken: dict[int, list[Taken]] = {1: [], 2: []}
    for number in range(options.rounds):
        for workers, record in taken.items():
            with open_engine(DaskSettings(workers=workers)) as engine:
                warm_up(engine, clips, place)
                with watched(os.getpid()) as everything:
                    run(engine, shards, place(f"{workers}-{number}"))
            record.append(everything)
    pairs = list(zip(taken[1], taken[2], strict=True))
    ratios = [one.seconds / two.seconds for one, two in pairs]
    at_most = statistics.median(2 * one.cpu_seconds / two.cpu_seconds for one, two in pairs)
    rows = []
    for workers, record in taken.items():
        seconds = statistics.median(each.seconds for each in record)
        cpu_seconds = statistics.median(each.cpu_seconds for each in record)
        others = [each.others_cores for each in record]
        rows.append(
            [
                f"{workers}",
                f"{videos / seconds:.2f}",
                "1.00" if workers == 1 else f"{statistics.median(ratios):.2f}",
                "" if workers == 1 else f"{min(ratios):.2f} to {max(ratios):.2f}",
                "" if workers == 1 else "at least 1.8",
                "" if workers == 1 else f"{at_most:.2f}",
                f"{cpu_seconds / videos:.3f}",
                f"{statistics.median(each.cpu_seconds / each.seconds for each in record):.2f}",
                f"{min(others):.2f} to {max(others):.2f}",
            ]
        )
    columns = ["workers", "videos/s", "times one", "range", "asked", "by CPU time", "CPU s a video", "cores used"]
    columns.append("cores used by others")
    title = f"A second worker: {videos} videos of 1920 x 1080, {len(shards)} shards, {options.rounds} rounds"
    show(title, columns, rows, note=note, markdown=options.markdown)


def make_shards(clips: Sequence[VideoRef], *, videos: int, videos_per_shard: int) -> list[Shard]:
    """Cut that many videos into shards; the same clips come again under other names."""
    refs = [
        replace(clips[number % len(clips)], video_id=f"{number:04d}", content_id=f"number:{number}")
        for number in range(videos)
    ]
    starts = range(0, videos, videos_per_shard)
    cut = [(start, tuple(refs[start : start + videos_per_shard])) for start in starts]
    return [Shard(f"from{start:04d}", some, (None,) * len(some)) for start, some in cut]


def run(engine: Engine, shards: Sequence[Shard], store: tuple[str, S3Settings]) -> None:
    tables = Tables(*store)

    def extract(shard: Shard) -> dict[str, int]:
        result = extract_shard(
            engine,
            tables,
            shard,
            fingerprint="benchmark",
            settings=ExtractSettings(),
            limits=LimitSettings(),
            shard_bytes=Settings().shard_bytes,
            by=BY,
        )
        return dict(result.statuses)

    with ThreadPoolExecutor(SHARDS_AT_ONCE) as pool:
        for shard, statuses in zip(shards, pool.map(extract, shards), strict=True):
            if statuses != {"ok": len(shard.videos)}:
                sys.exit(f"videos were lost, so nothing was measured: {statuses} of {len(shard.videos)}")


def warm_up(engine: Engine, clips: Sequence[VideoRef], place: Place) -> None:
    """Have every worker import, load its models and write a shard, which no run pays for more than once."""
    run(engine, make_shards(clips, videos=4 * engine.workers, videos_per_shard=2), place(f"warm-{uuid4().hex}"))


def worker_pid(engine: Engine) -> int:
    [pid] = engine.run(lambda _shared, _item: os.getpid(), [None])
    return int(pid)


@contextmanager
def watched(pid: int, *, memory: bool = False) -> Iterator[Taken]:
    """Fill in what a process and everything below it take until the block ends.

    Memory is only sampled when asked for, as sampling takes processor time of the watching process.
    """
    process, taken, stop = psutil.Process(pid), Taken(), threading.Event()
    busy, cpu_seconds, started = machine_seconds(), tree_seconds(process), time.perf_counter()

    def sample() -> None:
        while not stop.wait(SAMPLE_SECONDS):
            members = list(memory_of_tree(process))
            taken.rss_bytes = max(taken.rss_bytes, sum(rss for rss, _ in members))
            taken.pss_bytes = max(taken.pss_bytes, sum(pss for _, pss in members))
            taken.processes = max(taken.processes, len(members))

    sampler = threading.Thread(target=sample)
    if memory:
        sampler.start()
    try:
        yield taken
    finally:
        taken.seconds = time.perf_counter() - started
        taken.cpu_seconds = tree_seconds(process) - cpu_seconds
        taken.others_cores = max(0.0, (machine_seconds() - busy - taken.cpu_seconds) / taken.seconds)
        if memory:
            stop.set()
            sampler.join()


def memory_of_tree(process: psutil.Process) -> Iterator[tuple[int, int]]:
    for member in [process, *process.children(recursive=True)]:
        try:
            memory = member.memory_full_info()
        except psutil.NoSuchProcess:
            continue  # it ended in between
        yield memory.rss, memory.pss


def tree_seconds(process: psutil.Process) -> float:
    """Return the processor time of a process, of all that live below it, and of all that have ended there."""
    total = 0.0
    for member in [process, *process.children(recursive=True)]:
        try:
            times = member.cpu_times()
        except psutil.NoSuchProcess:
            continue  # it is among its parent's ended children from now on
        total += times.user + times.system + times.children_user + times.children_system
    return total


def machine_seconds() -> float:
    """Return how long all cores together have been busy since the machine started."""
    times = psutil.cpu_times()
    return float(times.user + times.nice + times.system + times.irq + times.softirq + times.steal)


if __name__ == "__main__":
    main()
