"""A made corpus in which every ending occurs, through real workers: one ledger row a video, and all sums balance."""

import os
import shutil
import signal
import threading
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import get_args

import av
import numpy as np
import psutil
import pytest

from dfpipe.catalog import VideoRef
from dfpipe.engine import open_engine
from dfpipe.errors import VideoFault
from dfpipe.plan import Shard
from dfpipe.settings import DaskSettings, EverySampling, ExtractSettings, FilterSettings, LimitSettings, S3Settings
from dfpipe.shards import REJECTIONS, open_tables
from dfpipe.steps import extract_shard
from dfpipe.synth import write_dataset
from dfpipe.testing import BY

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


def write_long_clip(path, *, num_frames):
    """Write so many frames that looking at their packets takes a while."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=num_frames, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt, stream.time_base = 16, 16, "yuv420p", Fraction(1, num_frames)
        (packet,) = [*stream.encode(av.VideoFrame(16, 16, "yuv420p")), *stream.encode()]
        for number in range(num_frames):
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, num_frames), stream
            container.mux(packet)


def kill_whoever_reads(path: Path, times: int, stop: threading.Event) -> None:
    killed: set[int] = set()
    while len(killed) < times and not stop.is_set():
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error, OSError):
                if process.pid not in killed and any(one.path == str(path) for one in process.open_files()):
                    process.send_signal(signal.SIGSEGV)
                    killed.add(process.pid)


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
    write_long_clip(paths["crashed"], num_frames=300_000)
    stop = threading.Event()
    killer = threading.Thread(target=kill_whoever_reads, args=(paths["crashed"], 2, stop))
    killer.start()
    yield paths
    stop.set()
    killer.join()


def test_every_ending_is_written_down_once_and_the_sums_balance(corpus, tmp_path):
    refs = [VideoRef(f"d/{ending}", str(path), 1, f"c-{ending}") for ending, path in corpus.items()]
    shard = Shard("s", tuple(refs), lenders=(None,) * len(refs))
    tables = open_tables(str(tmp_path / "store"), S3Settings())
    with open_engine(DaskSettings(workers=2)) as engine:
        result = extract_shard(
            engine, tables, shard, fingerprint="f", settings=SETTINGS, limits=LIMITS, shard_bytes=2**20, by=BY
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
