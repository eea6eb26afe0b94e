"""What merging small files costs and what readers gain: memory, speed, a scan and single videos, before and after.

usage: python benchmarks/compaction.py [--files N] [--file-bytes N] [--target-bytes N] [--s3] [--rounds N]

A store of many small shards of faces is made, as runs of few videos leave it; each holds videos from all over the
alphabet, so that every merge has to sort. One side reads it as it is, the other after `compact`; both read the same
rows in the same process. The merge runs in a process of its own, so that its memory is its own: the peak above what the
process had before, as a multiple of the target. With --s3 the same on a local S3 server (Ceph's gateway), started and
stopped here.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _table import add_options, machine, show

from dfpipe.services import down, s3_access, up
from dfpipe.settings import S3Settings
from dfpipe.shards import SCHEMAS, Tables, open_tables
from dfpipe.shards.upkeep import compact, describe_tables
from dfpipe.storage import open_location
from dfpipe.testing import BY, free_port, make_row

FACES_PER_VIDEO = 7
SINGLE_VIDEOS = 20


def fill(tables: Tables, *, files: int, file_bytes: int) -> list[str]:
    """Commit so many small shards of one video each, in one commit per hundred; return the videos."""
    random = np.random.default_rng(0)
    names = [f"v{number:06}" for number in random.permutation(files)]
    row = {name: [value] * FACES_PER_VIDEO for name, value in make_row("faces").items()}
    schema = SCHEMAS["faces"].remove(SCHEMAS["faces"].get_field_index("fingerprint"))
    works = []
    for video in names:
        # Noise, since a PNG does not shrink either.
        crops = [random.bytes(file_bytes // FACES_PER_VIDEO) for _ in range(FACES_PER_VIDEO)]
        faces = pa.table(
            row
            | {"video_id": [video] * FACES_PER_VIDEO, "frame_index": list(range(FACES_PER_VIDEO)), "crop_png": crops},
            schema=schema,
        )
        ledger = [make_row("videos", video_id=video, content_id="", attempt=1)]
        works += tables.settle(
            {"faces": faces, "videos": ledger}, [(video, "", 1)], fingerprint="fp", shard=video, by=BY
        )
        if len(works) == 100 or video == names[-1]:
            tables.commit(works, by=BY)
            works = []
    return names


def status_bytes(name: str) -> int:
    """Return a memory figure of this process, such as VmHWM, its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def merge(
    url: str, s3: S3Settings, target_bytes: int, answers: "multiprocessing.Queue[tuple[float, float, int]]"
) -> None:
    """Compact a store; tell seconds on the clock and of the processor, and the memory above that at the start."""
    tables = open_tables(url, s3)
    describe_tables(tables, target_bytes=target_bytes)
    Path("/proc/self/clear_refs").write_text("5")
    before = status_bytes("VmRSS")
    clock, processor = time.perf_counter(), time.process_time()
    compact(tables, target_bytes=target_bytes, by=BY)
    answers.put((time.perf_counter() - clock, time.process_time() - processor, status_bytes("VmHWM") - before))


def timed(read: Callable[[], int], rounds: int) -> tuple[float, float, int]:
    """Return the median seconds on the clock and of the processor, and what was read."""
    clocks, processors, result = [], [], 0
    for _ in range(rounds):
        clock, processor = time.perf_counter(), time.process_time()
        result = read()
        clocks.append(time.perf_counter() - clock)
        processors.append(time.process_time() - processor)
    return statistics.median(clocks), statistics.median(processors), result


@contextmanager
def store(s3: bool) -> Iterator[tuple[str, S3Settings]]:
    """Yield an empty store, in a folder or on a server that lives as long as the block."""
    with tempfile.TemporaryDirectory() as folder:
        if not s3:
            yield f"{folder}/store", S3Settings()
            return
        state = Path(folder)
        try:
            up(state, ["s3"], mlflow_backend="", artifact_root="", ports={"s3": free_port()}, s3_buckets=["bench"])
            yield "s3://bench/store", s3_access(state).settings
        finally:
            down(state)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, rounds=3)
    parser.add_argument("--files", type=int, default=2000, help="small files (%(default)s)")
    parser.add_argument("--file-bytes", type=int, default=2**18, help="bytes of crops in each (%(default)s)")
    parser.add_argument("--target-bytes", type=int, default=2**27, help="size of a good file (%(default)s)")
    parser.add_argument("--s3", action="store_true", help="on an S3 server instead of a folder")
    options = parser.parse_args()
    with store(options.s3) as (url, s3):
        tables = open_tables(url, s3)
        names = fill(tables, files=options.files, file_bytes=options.file_bytes)
        some = names[:: max(1, len(names) // SINGLE_VIDEOS)][:SINGLE_VIDEOS]

        def scan() -> int:
            return sum(batch.num_rows for batch in tables.read_batches("faces", fingerprint="fp"))

        def single() -> int:
            return sum(tables.read("faces", fingerprint="fp", videos={video}).num_rows for video in some)

        questions = {"whole table": scan, f"{len(some)} videos, one by one": single}
        before = {name: timed(read, options.rounds) for name, read in questions.items()}
        answers: multiprocessing.Queue[tuple[float, float, int]] = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("spawn").Process(
            target=merge, args=(url, s3, options.target_bytes, answers)
        )
        process.start()
        seconds, processor_seconds, peak_bytes = answers.get()
        process.join()
        after = {name: timed(read, options.rounds) for name, read in questions.items()}
        (faces,) = (one for one in describe_tables(tables, target_bytes=options.target_bytes) if one.table == "faces")
        (part,) = faces.partitions
        row_group = largest_row_group(tables)
    assert {name: one[2] for name, one in before.items()} == {name: one[2] for name, one in after.items()}
    where = "S3 server" if options.s3 else "folder"
    megabytes = part.size_bytes / 1e6
    show(
        f"Merging {options.files} files of faces of {options.file_bytes / 1e6:.2f} MB ({where})",
        ("", "figure"),
        [
            ("files after", str(part.files)),
            ("MB merged", f"{megabytes:.0f}"),
            ("MB/s", f"{megabytes / seconds:.0f}"),
            ("CPU seconds per GB", f"{1000 * processor_seconds / megabytes:.1f}"),
            ("peak memory above the start, MB", f"{peak_bytes / 1e6:.0f}"),
            ("the same in targets", f"{peak_bytes / options.target_bytes:.1f}"),
            ("largest row group after, MB", f"{row_group / 1e6:.1f}"),
        ],
        note=machine(),
        markdown=options.markdown,
    )
    show(
        f"Reading, medians of {options.rounds} ({where})",
        ("read", "rows", "before, s", "after, s", "ratio", "CPU before, s", "CPU after, s"),
        [
            (
                name,
                str(before[name][2]),
                f"{before[name][0]:.2f}",
                f"{after[name][0]:.2f}",
                f"{before[name][0] / after[name][0]:.1f}",
                f"{before[name][1]:.2f}",
                f"{after[name][1]:.2f}",
            )
            for name in questions
        ],
        markdown=options.markdown,
    )


def largest_row_group(tables: Tables) -> int:
    """Return the uncompressed bytes of the largest row group of faces."""
    largest = 0
    for file in tables.log("faces").files(tables.log("faces").open()):
        location = tables.location("faces").child(file.path)
        with open_location(tables.url, tables.s3).fs.open(location.path, "rb") as opened:
            metadata = pq.read_metadata(opened)
        groups = (metadata.row_group(number).total_byte_size for number in range(metadata.num_row_groups))
        largest = max(largest, *groups)
    return largest


if __name__ == "__main__":
    main()
