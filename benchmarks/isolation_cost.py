"""What a child process costs: extraction in it against extraction in this process, side by side.

usage: python benchmarks/isolation_cost.py FOLDER [--rounds N] [--markdown]

CPU time, the parent's and the child's together; what the first video of each side pays (imports, the detector) is
shown apart.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

# Before the libraries look at it: one core each, as on a worker.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}

import psutil
from _clips import below, video_ref
from _table import add_options, machine, show

from dfpipe.extract import VideoRows, extract_video
from dfpipe.isolation import extract_isolated
from dfpipe.settings import ExtractSettings, LimitSettings, S3Settings

SIDES: dict[str, Callable[..., VideoRows]] = {"in this process": extract_video, "in a child": extract_isolated}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of videos")
    add_options(parser)
    options = parser.parse_args()
    paths = below(options.folder)
    first = {side: cpu_seconds(function, paths[0]) for side, function in SIDES.items()}
    seconds: dict[str, list[float]] = {side: [] for side in SIDES}
    for _ in range(options.rounds):
        for side, function in SIDES.items():
            seconds[side].append(sum(cpu_seconds(function, path) for path in paths) / len(paths))
    medians = {side: statistics.median(times) for side, times in seconds.items()}
    base = medians["in this process"]
    rows = [
        (side, f"{1000 * first[side]:.0f}", f"{1000 * median:.1f}", f"{median / base:.3f}")
        for side, median in medians.items()
    ]
    (child,) = psutil.Process().children()
    show(
        f"{len(paths)} videos, medians of {options.rounds} rounds",
        ("extraction", "first video, CPU ms", "CPU ms a video", "ratio"),
        rows,
        note=f"A child at rest keeps {child.memory_info().rss / 1e6:.0f} MB. {machine()}",
        markdown=options.markdown,
    )


def cpu_seconds(function: Callable[..., VideoRows], path: Path) -> float:
    before = _cpu_now()
    function(video_ref(path), settings=ExtractSettings(), limits=LimitSettings(), s3=S3Settings())
    # The child tidies up after it has answered.
    time.sleep(0.05)
    return _cpu_now() - before


def _cpu_now() -> float:
    children = [child.cpu_times() for child in psutil.Process().children()]
    return time.process_time() + sum(times.user + times.system for times in children)


if __name__ == "__main__":
    main()
