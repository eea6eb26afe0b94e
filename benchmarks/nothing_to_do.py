"""What a run costs that has nothing to do: the real flow over a folder of so many videos that are all done.

usage: python benchmarks/nothing_to_do.py [--videos N] [--rounds N] [--markdown]

The folder holds as many files (small ones: nobody is to open them), the store a catalog, a ledger and claims that say
of each that it is done, faces and features alike, in the small files that runs of many shards leave. The first run
after that merges the files of ledger and claims, as every run does once they are many; the runs that are timed come
after it. Beside it stands a flow of the same shape that does nothing, and against both the same local Prefect server.
The kernel (inotify) counts how many of the files were opened meanwhile.
"""

# Prefect reads its settings when it is imported.
# ruff: noqa: PLC0415

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from _large_store import BY, _write, make_ledger
from _table import add_options, machine, show

from dfpipe.plan import feature_fingerprint
from dfpipe.services import down, up
from dfpipe.settings import Settings
from dfpipe.shards import open_tables
from dfpipe.shards.files import without_fingerprint
from dfpipe.stages import faces_stage, write_stage
from dfpipe.steps import refresh_catalog
from dfpipe.testing import Opened, free_port

FILES_A_FOLDER = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, rounds=3)
    parser.add_argument("--videos", type=int, default=100_000)
    options = parser.parse_args()
    where = machine()
    with tempfile.TemporaryDirectory(prefix="dfpipe-nothing-") as folder:
        settings = make_done(Path(folder), options.videos)
        state = Path(folder, "services")
        [server] = up(state, ["prefect"], mlflow_backend="", artifact_root="", ports={"prefect": free_port()})
        try:
            os.environ |= {
                "PREFECT_API_URL": f"{server.url}/api",
                "PREFECT_HOME": str(state),
                "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
            }
            rows = measure(settings, options)
        finally:
            down(state)
    note = f"{options.videos} videos, medians of {options.rounds}. {where}"
    show(
        "A run with nothing to do",
        ("", "seconds", "CPU seconds", "files opened"),
        rows,
        note=note,
        markdown=options.markdown,
    )


def make_done(folder: Path, videos: int) -> Settings:
    """Make files, and a store in which all of them are done."""
    source = folder / "videos"
    lines = ["video,label,identity"]
    for number in range(videos):
        path = source / f"{number // FILES_A_FOLDER:04}" / f"{number:07}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"%d" % number)
        lines.append(f"{path.relative_to(source)},{'fake' if number % 2 else 'real'},{number // 4}")
    (source / "metadata.csv").write_text("\n".join(lines), encoding="ascii")
    settings = Settings(source=str(source), store=str(folder / "store"), state=folder / "state")
    tables = open_tables(settings.store, settings.s3)
    ledger = make_ledger(refresh_catalog(settings, tables, by=BY))
    stage = faces_stage(settings.extract)
    write_stage(tables, stage)
    claims = ledger.select(without_fingerprint("claims").names)
    _write(tables, "claims", claims, stage.fingerprint, "fresh")
    _write(tables, "videos", ledger, stage.fingerprint, "fresh")
    for feature in settings.train.features:
        fingerprint = feature_fingerprint(feature, stage.fingerprint)
        _write(tables, "claims", claims, fingerprint, "fresh")
        # Only the log's memory of the commits counts here; the rows themselves nobody reads.
        _write(tables, "features", _feature_rows(ledger), fingerprint, "fresh")
    return settings


def _feature_rows(ledger: pa.Table) -> pa.Table:
    columns = {
        "video_id": ledger["video_id"],
        "content_id": ledger["content_id"],
        "frame_index": pa.array([0] * ledger.num_rows, pa.int32()),
        "track": pa.array([0] * ledger.num_rows, pa.int32()),
        "feature": pa.array(["pixels"] * ledger.num_rows),
        "dtype": pa.array(["|u1"] * ledger.num_rows),
        "values": pa.array([b"0"] * ledger.num_rows, pa.large_binary()),
        "shard": ledger["shard"],
    }
    return pa.table(columns)


def measure(settings: Settings, options: argparse.Namespace) -> list[tuple[str, str, str, str]]:
    from prefect import flow

    from flows.pipeline import pipeline

    @flow(name="nothing", persist_result=False)
    def nothing(settings: Settings) -> None:
        """Do nothing."""

    def run() -> None:
        done = pipeline(settings, "features")
        assert done.did_nothing, done

    ways: dict[str, Callable[[], None]] = {"an empty flow": lambda: nothing(settings), "a run": run}
    # The first of each pays for imports, and the first run for the merging.
    for way in ways.values():
        way()
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    cpu_seconds: dict[str, list[float]] = {name: [] for name in ways}
    opened: dict[str, int] = dict.fromkeys(ways, 0)
    for _ in range(options.rounds):
        for name, way in ways.items():
            with Opened(Path(settings.source or "")) as files:
                began, cpu_began = time.perf_counter(), time.process_time()
                way()
                seconds[name].append(time.perf_counter() - began)
                cpu_seconds[name].append(time.process_time() - cpu_began)
                opened[name] += sum(number for file, number in files.counts().items() if file.endswith(".mp4"))
    return [
        (
            name,
            f"{statistics.median(seconds[name]):.1f}",
            f"{statistics.median(cpu_seconds[name]):.1f}",
            str(opened[name]),
        )
        for name in ways
    ]


if __name__ == "__main__":
    main()
