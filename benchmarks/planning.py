"""Planning a million videos of which a thousand are new: seconds and memory, each time in a fresh process.

usage: python benchmarks/planning.py [--videos N] [--folder FOLDER] [--rounds N] [--markdown]

The store is made first (minutes, and about 2 GB of disk); a folder that is named is kept and used again. The ledger is
measured as a first run leaves it, a file for every 64 videos, and compacted. Processor time is that of the process with
all its threads; the clock also shows what else the machine does.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

from _large_store import Form, add_feature_claims, make_store
from _table import add_options, machine, show

from dfpipe.plan import plan_faces, plan_features
from dfpipe.settings import Settings
from dfpipe.shards import Tables
from dfpipe.steps import load_catalog

STEPS = ("imports", "catalog", "faces", "features")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--videos", type=int, default=1_000_000, help="rows of the catalog (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the stores are, or are made; default: a temporary folder")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    add_options(parser, rounds=3)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure)))
        return
    with tempfile.TemporaryDirectory(prefix="dfpipe-planning-") as temporary:
        rows = []
        for form in get_args(Form):
            folder = (options.folder or Path(temporary)) / f"{form}-{options.videos}"
            if not folder.exists():
                add_feature_claims(make_store(folder, videos=options.videos, form=form), form=form)
            rounds = [in_a_fresh_process(folder) for _ in range(options.rounds)]
            rows.append(row(form, rounds))
    show(
        f"planning {options.videos:,} videos, medians of {options.rounds}",
        ("ledger", "new", "CPU s", *(f"{step}, CPU s" for step in STEPS), "clock s", "peak MB"),
        rows,
        note=machine(),
        markdown=options.markdown,
    )


def row(form: str, rounds: list[dict[str, Any]]) -> tuple[str, ...]:
    def median(name: str) -> float:
        return statistics.median(one[name] for one in rounds)

    steps = [f"{median(step):.1f}" for step in STEPS]
    new, peak = f"{median('todo'):.0f}", f"{median('peak_bytes') / 1e6:.0f}"
    return (form, new, f"{median('cpu_seconds'):.1f}", *steps, f"{median('clock_seconds'):.1f}", peak)


def in_a_fresh_process(folder: Path) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", str(folder)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer


def measure(folder: Path) -> dict[str, Any]:
    """Plan as `dfpipe run` does when the source is listed, and cut the shards."""
    started, seconds = time.perf_counter(), [time.process_time()]
    settings = Settings(store=str(folder))
    tables = Tables(settings.store, settings.s3)
    catalog = load_catalog(tables)
    seconds.append(time.process_time())
    faces = plan_faces(catalog, tables, settings)
    todo = sum(len(shard.videos) for shard in faces.shards())
    seconds.append(time.process_time())
    features = plan_features(
        tables,
        settings.train.features,
        faces_fingerprint=faces.fingerprint,
        videos_per_shard=settings.videos_per_shard,
    )
    if any(one.todo.num_rows for one in features):
        raise SystemExit("features are to be computed, and none were expected")
    seconds.append(time.process_time())
    steps = [seconds[0], *(after - before for before, after in pairwise(seconds))]
    return dict(zip(STEPS, steps, strict=True)) | {
        "todo": todo,
        "cpu_seconds": seconds[-1],
        "clock_seconds": time.perf_counter() - started,
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """Return the most memory that this process ever held."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


if __name__ == "__main__":
    main()
