"""What a child process costs: extraction in it against extraction in this process, side by side.

usage: python benchmarks/isolation_cost.py CLIPS_FOLDER [ROUNDS]

CPU time, the parent's and the child's together; what the first video of each side pays (imports, the detector) is
shown apart.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

# Before the libraries look at it: one core each, as on a worker.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

import psutil
from rich.console import Console
from rich.table import Table

from dfpipe.catalog import VideoRef
from dfpipe.extract import VideoRows, extract_video
from dfpipe.isolation import extract_isolated
from dfpipe.settings import ExtractSettings, LimitSettings, S3Settings

VIDEO_ENDINGS = {".mp4", ".mkv", ".mov", ".avi", ".webm"}
SIDES: dict[str, Callable[..., VideoRows]] = {"in this process": extract_video, "in a child": extract_isolated}


def main(folder: str, rounds: str = "5") -> None:
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in VIDEO_ENDINGS)
    first = {side: cpu_seconds(function, paths[0]) for side, function in SIDES.items()}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(int(rounds)):
        for side, function in SIDES.items():
            seconds[side].append(sum(cpu_seconds(function, path) for path in paths) / len(paths))
    table = Table("extraction", "first video, CPU ms", "CPU ms a video (median)", "ratio")
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    base = medians["in this process"]
    for side, median in medians.items():
        table.add_row(side, f"{1000 * first[side]:.0f}", f"{1000 * median:.1f}", f"{median / base:.3f}")
    console = Console()
    console.print(f"{len(paths)} clips, {rounds} rounds")
    console.print(table)
    (child,) = psutil.Process().children()
    console.print(f"a child at rest keeps {child.memory_info().rss / 1e6:.0f} MB")


def cpu_seconds(function: Callable[..., VideoRows], path: Path) -> float:
    before = _cpu_now()
    video = VideoRef(path.stem, str(path), path.stat().st_size, "c")
    function(video, settings=ExtractSettings(), limits=LimitSettings(), s3=S3Settings())
    # The child tidies up after it has answered.
    time.sleep(0.05)
    return _cpu_now() - before


def _cpu_now() -> float:
    children = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(times.user + times.system for times in children)


if __name__ == "__main__":
    main(*sys.argv[1:])
