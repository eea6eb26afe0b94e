"""What catalog, status and report take where there are a million videos: time, and the most memory at once.

usage: python benchmarks/large_catalog.py [--videos N ...] [--forms FORM ...] [--files N] [--rounds N] [--markdown]

The stores are made by `_large_store`: catalog and ledger rows without a video behind them, in a temporary folder. Every
figure is that of a process of its own, its imports included in the memory and left out of the times. The folder that is
listed holds empty files; what a listing takes grows with their number, and hashing files that hold something takes as
long as reading them. Making a fresh store of a million videos puts 31,000 files, each synced to the disk: a folder in
memory (TMPDIR=/dev/shm) spares most of the wait.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from _large_store import METHODS, Form, make_store
from _table import add_options, machine, show

from dfpipe.extract import extract_fingerprint
from dfpipe.plan import training_fingerprint, usable_videos
from dfpipe.report import make_report
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.status import read_status
from dfpipe.steps import list_source, load_catalog

FORMS: tuple[Form, ...] = ("compacted", "fresh")


@dataclass(frozen=True, slots=True)
class Taken:
    """What one action took."""

    seconds: float
    """Time on the clock."""
    cpu_seconds: float
    """Processor time."""
    rss_bytes: int
    """Most memory that the process had at once."""


def _list_again(settings: Settings) -> Callable[[], object]:
    known = list_source(settings, None)
    return lambda: list_source(settings, known)


def _fingerprint(settings: Settings) -> Callable[[], object]:
    faces = extract_fingerprint(settings.extract)

    def action() -> str:
        tables = _tables(settings)
        usable = usable_videos(load_catalog(tables), tables, faces_fingerprint=faces)
        return training_fingerprint(usable, settings.train, faces_fingerprint=faces)

    return action


def _tables(settings: Settings) -> Tables:
    return Tables(settings.store, settings.s3)


# Each prepares what is not measured and returns what is.
LISTING: dict[str, Callable[[Settings], Callable[[], object]]] = {
    "list a folder, every file new": lambda settings: lambda: list_source(settings, None),
    "list it again": _list_again,
}
READING: dict[str, Callable[[Settings], Callable[[], object]]] = {
    "load catalog": lambda settings: lambda: load_catalog(_tables(settings)),
    "status": lambda settings: lambda: read_status(settings),
    "report": lambda settings: lambda: make_report(settings),
    "usable videos, training's fingerprint": _fingerprint,
}


def main() -> None:
    options = read_options()
    if options.action:
        print(json.dumps(asdict(measure(options.action, Settings(source=str(options.source), store=options.store)))))
        return
    with tempfile.TemporaryDirectory(prefix="dfpipe-large-") as temporary:
        folder = Path(temporary)
        make_tree(folder / "videos", files=options.files)
        rows = [row(name, folder, rounds=options.rounds) for name in LISTING]
        tell(f"A folder of {options.files:,} files", rows, markdown=options.markdown)
        for videos in options.videos:
            for form in options.forms:
                store = folder / f"{form}-{videos}"
                make_store(store, videos=videos, form=form)
                rows = [row(name, folder, rounds=options.rounds, store=store) for name in READING]
                tell(f"{videos:,} videos, {form} ledger", rows, markdown=options.markdown)
                shutil.rmtree(store)


def tell(title: str, rows: Sequence[tuple[str, ...]], *, markdown: bool) -> None:
    columns = ("action", "seconds", "CPU seconds", "most memory, MB")
    show(title, columns, rows, note=machine(), markdown=markdown)


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_options(parser, rounds=3)
    parser.add_argument("--videos", type=int, nargs="+", default=[100_000, 1_000_000], help="rows (%(default)s)")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=FORMS, help="of the ledger (both)")
    parser.add_argument("--files", type=int, default=100_000, help="files in the folder that is listed (%(default)s)")
    parser.add_argument("--action", help=argparse.SUPPRESS)
    parser.add_argument("--source", help=argparse.SUPPRESS)
    parser.add_argument("--store", help=argparse.SUPPRESS)
    return parser.parse_args()


def make_tree(folder: Path, *, files: int) -> None:
    """Make empty files that lie like FaceForensics++."""
    folders = [folder / "manipulated_sequences" / method / "c23" / "videos" for method in METHODS[:-1]]
    for one in folders:
        one.mkdir(parents=True)
    for number in range(files):
        (folders[number % len(folders)] / f"{number:07}_{number + 1:07}.mp4").touch()


def row(name: str, folder: Path, *, rounds: int, store: Path | None = None) -> tuple[str, ...]:
    taken = [in_a_process(name, folder / "videos", store or folder / "none") for _ in range(max(1, rounds))]
    return (
        name,
        f"{statistics.median(one.seconds for one in taken):.1f}",
        f"{statistics.median(one.cpu_seconds for one in taken):.1f}",
        f"{max(one.rss_bytes for one in taken) / 1e6:,.0f}",
    )


def in_a_process(name: str, source: Path, store: Path) -> Taken:
    command = [sys.executable, __file__, "--action", name, "--source", str(source), "--store", str(store)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return Taken(**json.loads(done.stdout))


def measure(name: str, settings: Settings) -> Taken:
    action = (LISTING | READING)[name](settings)
    started, cpu_started = time.perf_counter(), time.process_time()
    action()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    # Not getrusage, whose most is at least what the parent had when it started this process.
    (peak,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return Taken(seconds, cpu_seconds, int(peak.split()[1]) * 1024)


if __name__ == "__main__":
    main()
