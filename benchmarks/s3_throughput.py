"""What reaches a bucket and comes back: dfpipe beside the bare libraries, on a real S3 server on this machine.

    python benchmarks/s3_throughput.py                # starts a server of its own, and ends it
    python benchmarks/s3_throughput.py --shard-mib 64

Both sides of a comparison put and get the same bytes in the same run, turn by turn.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

# Or Arrow's client asks the server for checksums that it does not know.
os.environ["AWS_REQUEST_CHECKSUM_CALCULATION"] = "when_required"

import numpy as np
import pyarrow.parquet as pq
from _table import add_options, machine, show
from pyarrow.fs import S3FileSystem as ArrowS3
from s3fs import S3FileSystem

from dfpipe.services import down, s3_access, up
from dfpipe.settings import S3Settings
from dfpipe.shards import Tables
from dfpipe.storage import open_location
from dfpipe.testing import BY, free_port, make_row

MIB = 2**20
CROP_BYTES = 60_000
SHARDS = 4
TRAINING = ("video_id", "content_id", "frame_index", "track", "crop_png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shard-mib", type=int, default=128, help="size of a shard in MiB (%(default)s)")
    add_options(parser)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="s3-throughput-") as folder:
        state = Path(folder)
        try:
            up(state, ["s3"], mlflow_backend="", artifact_root="", ports={"s3": free_port()}, s3_buckets=["bench"])
            measure(s3_access(state).settings, options)
        finally:
            down(state)


def measure(s3: S3Settings, options: argparse.Namespace) -> None:
    shards = [faces(options.shard_mib * MIB, shard) for shard in range(SHARDS)]
    tables = Tables("s3://bench/store", s3)
    bare = S3FileSystem(**access(s3))
    arrow = ArrowS3(
        access_key=s3.access_key_id,
        secret_key=s3.secret_access_key.get_secret_value(),
        endpoint_override=s3.endpoint_url,
        region=s3.region,
    )

    works = []
    for number, rows in enumerate(shards):
        videos = sorted({(row["video_id"], row["content_id"], 1) for row in rows})
        ledger = [make_row("videos", video_id=video, content_id=content, attempt=1) for video, content, _ in videos]
        works += tables.settle({"faces": rows, "videos": ledger}, videos, fingerprint="f", shard=f"kept{number}", by=BY)
    tables.commit(works, by=BY)
    files = [file for work in works for file in work.files if file.table == "faces"]
    folder = tables.location("faces")
    keys = [f"{folder.path}/{file.path}" for file in files]
    content = folder.child(files[0].path).read_bytes()

    # Put: every turn under a new name, and away with it.
    turn = iter(range(10**6))

    def put_bare() -> None:
        bare.pipe_file(f"bench/put/bare{next(turn)}", content)

    def put_ours() -> None:
        assert open_location(f"s3://bench/put/ours{next(turn)}", s3).create_bytes(content)

    def shard_ours() -> None:
        tables.write_shard("faces", shards[0], fingerprint="f", name=f"again{next(turn)}")

    seconds = compare({"bare": put_bare, "create": put_ours, "shard": shard_ours}, options.rounds)
    labels = {
        "bare": "s3fs pipe_file",
        "create": "Location.create_bytes",
        "shard": "Tables.write_shard, with sorting and encoding",
    }
    rows = lines(labels, seconds, len(content))
    note = f"{len(content) / MIB:.0f} MiB of Parquet in one object, medians of {options.rounds}. {machine()}"
    show("Putting a shard", ("", "MB/s", "of the bare"), rows, note=note, markdown=options.markdown)

    def read_bare() -> None:
        assert pq.read_table(keys, filesystem=arrow, columns=[*TRAINING], partitioning=None).num_rows == total

    def read_ours() -> None:
        assert tables.read("faces", fingerprint="f", columns=TRAINING).num_rows == total

    total = sum(file.rows for file in files)
    size_bytes = sum(file.size_bytes for file in files)
    seconds = compare({"bare": read_bare, "read": read_ours}, options.rounds)
    rows = lines({"bare": "pyarrow.parquet.read_table", "read": "Tables.read"}, seconds, size_bytes)
    note = f"{SHARDS} shards, {size_bytes / MIB:.0f} MiB, medians of {options.rounds}. {machine()}"
    show("Reading faces for training", ("", "MB/s", "of the bare"), rows, note=note, markdown=options.markdown)


def faces(size_bytes: int, seed: int) -> list[Mapping[str, object]]:
    """Return rows with as many bytes of crops; noise, as PNG cannot be compressed any further."""
    random = np.random.default_rng(seed)
    return [
        make_row(
            "faces",
            video_id=f"d/real/c23/{seed}-{number // 7:04}",
            content_id="c",
            frame_index=number % 7,
            crop_size_px=224,
            crop_png=random.bytes(CROP_BYTES),
        )
        for number in range(size_bytes // CROP_BYTES)
    ]


def access(s3: S3Settings) -> dict[str, object]:
    """Return what s3fs must be told to reach this server, and nothing else."""
    return {
        "key": s3.access_key_id,
        "secret": s3.secret_access_key.get_secret_value(),
        "endpoint_url": s3.endpoint_url,
        "client_kwargs": {"region_name": s3.region},
        "config_kwargs": {"s3": {"addressing_style": "path"}, "request_checksum_calculation": "when_required"},
    }


def compare(sides: Mapping[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Return median seconds of each; the sides take turns, and the first round, which is not counted, warms them up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        names = list(sides) if number % 2 else list(reversed(sides))
        for name in names:
            began = time.perf_counter()
            sides[name]()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: median(took) for name, took in seconds.items()}


def lines(labels: Mapping[str, str], seconds: Mapping[str, float], size_bytes: int) -> list[tuple[str, str, str]]:
    return [
        (label, f"{size_bytes / seconds[name] / 1e6:.0f}", f"{seconds['bare'] / seconds[name]:.0%}")
        for name, label in labels.items()
    ]


if __name__ == "__main__":
    main()
