"""A made corpus in which every ending occurs, through real workers: one ledger row a video, and all sums balance."""

import os
import shutil
import signal
import threading
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest

from dfpipe.catalog import VideoRef
from dfpipe.engine import open_engine
from dfpipe.errors import VideoFault
from dfpipe.plan import Shard
from dfpipe.settings import DaskSettings, EverySampling, ExtractSettings, FilterSettings, LimitSettings, S3Settings
from dfpipe.shards import REJECTIONS, open_tables
from dfpipe.steps import extract_shard
from dfpipe.synth import write_dataset

pytestmark = pytest.mark.slow

SETTINGS = ExtractSettings(
    sampling=EverySampling(every_frames=4, max_frames=3), filter=FilterSettings(max_frames=60), min_frames=2
)
LIMITS = LimitSettings(max_pixels=720 * 720, max_duration_seconds=20, timeout_seconds=8)


def write_clip(path, *, num_frames=24, rate=25, size=(96, 80), options=None):
    pictures = np.random.default_rng(0).integers(0, 256, (num_frames, size[1] // 8, size[0] // 8, 3), np.uint8)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=Fraction(rate), options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for picture in pictures:
            large = np.repeat(np.repeat(picture, 8, axis=0), 8, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(large, format="rgb24")))
        container.mux(stream.encode())
    return path


def kill_whoever_reads(fifo: Path, times: int) -> None:
    for _ in range(times):
        # Opening waits for a reader.
        with fifo.open("wb"):
            for link in Path("/proc").glob("[0-9]*/fd/*"):
                pid = int(link.parts[2])
                try:
                    is_reader = pid != os.getpid() and link.readlink() == fifo
                except OSError:
                    continue
                if is_reader:
                    os.kill(pid, signal.SIGSEGV)


@pytest.fixture
def corpus(tmp_path):
    """Paths by the ending they must come to."""
    write_dataset(tmp_path / "people", num_identities=1, num_frames=(12, 12), heights=(360,), jobs=1)
    good = next((tmp_path / "people").rglob("*.mp4"))
    folder = tmp_path / "corpus"
    folder.mkdir()
    paths = {ending: folder / f"{ending}.mp4" for ending in ("ok", "no_face", *get_args(VideoFault))}
    shutil.copy(good, paths["ok"])
    write_clip(paths["no_face"])
    write_clip(paths["few_frames"], num_frames=1)
    write_clip(paths["filtered"], num_frames=61)
    write_clip(paths["too_large"], size=(800, 720), num_frames=2)
    write_clip(paths["too_long"], num_frames=24, rate=1)
    whole = write_clip(folder / "whole.mp4", options={"movflags": "faststart"}).read_bytes()
    paths["truncated"].write_bytes(whole[: len(whole) * 3 // 4])
    paths["corrupt"].write_bytes(whole[:64])
    paths["empty"].touch()
    paths["unsupported"].write_bytes(b"#EXTM3U\n/etc/hostname\n")
    os.mkfifo(paths["timeout"])
    os.mkfifo(paths["crashed"])
    killer = threading.Thread(target=kill_whoever_reads, args=(paths["crashed"], 2), daemon=True)
    killer.start()
    yield paths
    killer.join(timeout=10)


def test_every_ending_is_written_down_once_and_the_sums_balance(corpus, tmp_path):
    refs = [VideoRef(f"d/{ending}", str(path), 1, f"c-{ending}") for ending, path in corpus.items()]
    tables = open_tables(str(tmp_path / "store"), S3Settings())
    with open_engine(DaskSettings(workers=2)) as engine:
        result = extract_shard(
            engine, tables, Shard("s", tuple(refs)), fingerprint="f", settings=SETTINGS, limits=LIMITS, run_id="r"
        )
    ledger = tables.read("videos").to_pylist()
    assert {row["video_id"]: row["status"] for row in ledger} == {f"d/{ending}": ending for ending in corpus}
    assert len(ledger) == len(corpus) == sum(result.statuses.values())
    assert [row["video_id"] for row in ledger if bool(row["reason"]) == (row["status"] == "ok")] == []
    for row in ledger:
        assert row["frames_wanted"] == row["frames_decoded"] + row["frames_missing"]
        assert row["frames_decoded"] == row["frames_with_face"] + row["frames_without_face"]
        rejected = sum(row[f"faces_rejected_{reason}"] for reason in REJECTIONS)
        assert row["faces_found"] == row["faces_kept"] + rejected
    assert tables.read("faces").num_rows == sum(row["faces_kept"] for row in ledger) == result.faces > 0
    assert tables.read("detections").num_rows == sum(row["faces_found"] for row in ledger)
    assert tables.read("frames").num_rows == sum(row["frames_decoded"] for row in ledger)
