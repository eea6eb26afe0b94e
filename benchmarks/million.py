"""What a million videos take, on paper: tasks, objects, requests, hours and money, from measured figures.

usage: python benchmarks/million.py [--videos N] [--video-mb F] [--cores N ...] [--markdown]

Nothing is run. What a video, a shard and a commit take stands below as constants, each with where it was measured;
prices are arguments, by default the list prices of a large cloud in one region (objects, requests) and those of a
spot core. Every figure in docs/million.md is printed here.
"""

import argparse
import math

from _table import show

CPU_SECONDS_A_VIDEO = 0.93
"""1080p, ten seconds, mtcnn: docs/performance.md, Workers."""
STORED_MB_A_VIDEO = 1.9
"""Frames as JPEG and crops as PNG of 7 frames of 1080p, of which SHARE are frames: measured on three such clips."""
GETS_A_VIDEO = 10
"""Up to 8 MB it is one; of a larger mp4 the index and the wanted parts, a MiB each (a bound, not a measurement)."""
FEATURE_KB_A_VIDEO = 100
"""7 rows of 64 x 64 x 3 bytes of pixels, zstd, and of residuals (a guess by size, not measured)."""
LEDGER_BYTES_A_VIDEO = 72 + 40
"""A row of ledger and one of claims in a compacted file: benchmarks/_large_store.py."""
REQUESTS_A_SHARD = {"get": 159, "put": 9}
"""A settling and its commits to claims, detections, faces and videos, checkpoints every ten: counted in the log of a
real server over 40 shards. With frames a quarter more, which is added."""
COMMIT_SECONDS = 0.1
"""Of one table on S3: reading the log's end and putting one entry; between commits to the same table nobody comes."""
SCHEDULER_MS_A_VIDEO = 1.9
"""Processor time of the process that holds Dask's scheduler and client: benchmarks/orchestration.py."""
PREFECT_MS_A_SHARD = 37
"""Processor time of one task run in the flow's process: benchmarks/orchestration.py."""
SHARD_MB = 134.2
FEATURE_VIDEOS_A_SHARD = 256
FEATURE_SETS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--videos", type=int, default=1_000_000)
    parser.add_argument("--video-mb", type=float, default=10.0, help="size of a video in MB (%(default)s)")
    parser.add_argument("--cores", type=int, nargs="+", default=[16, 100, 500])
    parser.add_argument("--core-hour", type=float, default=0.04, help="USD (%(default)s)")
    parser.add_argument("--put", type=float, default=0.005, help="USD for 1,000 put or list requests (%(default)s)")
    parser.add_argument("--get", type=float, default=0.0004, help="USD for 1,000 get requests (%(default)s)")
    parser.add_argument("--gb-month", type=float, default=0.023, help="USD for a GB stored a month (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print what docs/million.md holds")
    options = parser.parse_args()
    totals(options)
    limits(options)


def totals(options: argparse.Namespace) -> None:
    videos = options.videos
    shards = math.ceil(videos * STORED_MB_A_VIDEO / SHARD_MB)
    feature_shards = FEATURE_SETS * math.ceil(videos / FEATURE_VIDEOS_A_SHARD)
    commits = 5 * shards + 2 * feature_shards
    objects = commits * 2 + commits // 10
    gets = videos * GETS_A_VIDEO + round(shards * REQUESTS_A_SHARD["get"] * 1.25) + feature_shards * 80
    puts = round(shards * REQUESTS_A_SHARD["put"] * 1.25) + feature_shards * 5
    lists = math.ceil(videos / 1000) + commits * 3
    stored_gb = videos * (STORED_MB_A_VIDEO + FEATURE_KB_A_VIDEO / 1e3 + LEDGER_BYTES_A_VIDEO / 1e6) / 1e3
    core_hours = videos * CPU_SECONDS_A_VIDEO / 3600
    request_usd = gets / 1e3 * options.get + (puts + lists) / 1e3 * options.put
    rows = [
        ["read from the source, at most", f"{videos * options.video_mb / 1e6:,.1f} TB", ""],
        ["left in the store", f"{stored_gb / 1e3:,.2f} TB", f"{stored_gb * options.gb_month:,.0f} a month"],
        ["shards of faces, each a task of Prefect", f"{shards:,}", ""],
        ["shards of features", f"{feature_shards:,}", ""],
        ["tasks of Dask", f"{videos + shards + feature_shards:,}", ""],
        ["commits to all tables", f"{commits:,}", ""],
        ["objects, logs and checkpoints included, before a merge", f"{objects:,}", ""],
        ["get requests", f"{gets:,}", f"{gets / 1e3 * options.get:,.2f}"],
        ["put requests", f"{puts:,}", f"{puts / 1e3 * options.put:,.2f}"],
        ["list requests", f"{lists:,}", f"{lists / 1e3 * options.put:,.2f}"],
        ["core hours", f"{core_hours:,.0f}", f"{core_hours * options.core_hour:,.2f}"],
        ["all but what is stored", "", f"{core_hours * options.core_hour + request_usd:,.2f}"],
    ]
    show(
        f"{videos:,} videos of {options.video_mb:g} MB",
        ["", "how much", "USD"],
        rows,
        markdown=options.markdown,
        note="",
    )


def limits(options: argparse.Namespace) -> None:
    videos_a_shard = SHARD_MB / STORED_MB_A_VIDEO
    rows = []
    for cores in options.cores:
        videos_a_second = cores / CPU_SECONDS_A_VIDEO
        shards_a_second = videos_a_second / videos_a_shard
        rows.append(
            [
                f"{cores}",
                f"{options.videos / videos_a_second / 3600:.1f}",
                f"{videos_a_second * options.video_mb * 8 / 1e3:.1f}",
                f"{videos_a_second * SCHEDULER_MS_A_VIDEO / 1e3:.0%}",
                f"{shards_a_second * PREFECT_MS_A_SHARD / 1e3:.0%}",
                f"{shards_a_second * COMMIT_SECONDS:.0%}",
            ]
        )
    columns = [
        "cores",
        "hours",
        "Gbit/s from the source, at most",
        "of a core: scheduler and client",
        "of a core: Prefect in the flow",
        "of the time: commits to one table",
    ]
    show("What grows with the cores", columns, rows, markdown=options.markdown, note="")


if __name__ == "__main__":
    main()
