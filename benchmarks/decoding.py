"""What decoding the sampled frames costs: five ways of reading the same frames, side by side.

usage: python benchmarks/decoding.py FOLDER [--rounds N] [--markdown]

Every video below FOLDER, and clips of 1080p made by ffmpeg for the time of the run. Of each, one frame in 30 is taken,
at most 7, as RGB. CPU seconds of one thread; each way reads every video once a round, in turns, and of all rounds the
median counts. The bare loop is the least that a program can do that is to give the same pictures.
"""

import argparse
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from _clips import below
from _table import add_options, machine, show
from numpy.typing import NDArray

from dfpipe.settings import EverySampling, LimitSettings
from dfpipe.video import choose_frames, open_video

Frames = list[NDArray[np.uint8]]

EVERY, MOST = 30, 7
SAMPLING = EverySampling(every_frames=EVERY, max_frames=MOST)
LIMITS = LimitSettings()
MADE = {"made-1080p-long-groups.mp4": "250", "made-1080p-short-groups.mkv": "48"}


def opencv_everything(path: str) -> Frames:
    capture, taken = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), []
    index = 0
    while True:
        there, image = capture.read()
        if not there:
            return taken
        if index % EVERY == 0 and len(taken) < MOST:
            taken.append(cv2.cvtColor(image, cv2.COLOR_BGR2RGB))
        index += 1


def opencv_grab(path: str) -> Frames:
    capture, taken = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]), []
    index = 0
    while len(taken) < MOST and capture.grab():
        if index % EVERY == 0:
            taken.append(cv2.cvtColor(capture.retrieve()[1], cv2.COLOR_BGR2RGB))
        index += 1
    return taken


def _one_thread(stream: av.VideoStream) -> None:
    stream.codec_context.thread_count = 1
    stream.codec_context.thread_type = "NONE"


def pyav_sequential(path: str) -> Frames:
    taken = []
    with av.open(path) as container:
        _one_thread(container.streams.video[0])
        for index, frame in enumerate(container.decode(video=0)):
            if index % EVERY == 0:
                taken.append(frame.to_ndarray(format="rgb24"))
                if len(taken) == MOST:
                    break
    return taken


def bare_loop(path: str) -> Frames:
    taken = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        _one_thread(stream)
        context = stream.codec_context
        packets = [(packet.pts, packet.is_keyframe) for packet in container.demux(stream) if packet.size]
        place = {pts: position for position, (pts, _) in enumerate(packets)}
        wanted = sorted(place)[::EVERY][:MOST]
        can_skip = context.codec.canonical_name == "h264"
        fed = -1
        for target in wanted:
            key = max(pts for pts, is_key in packets[: place[target] + 1] if is_key and pts <= target)
            if fed < 0 or place[key] > fed:
                container.seek(key, stream=stream)
                source = container.demux(stream)
            while True:
                packet = next(source)
                context.skip_frame = "NONREF" if can_skip and packet.pts not in wanted else "DEFAULT"
                fed = place.get(packet.pts, fed)
                hit = [frame for frame in context.decode(packet) if frame.pts == target]
                if hit:
                    taken.append(hit[0].to_ndarray(format="rgb24"))
                    break
    return taken


def with_dfpipe(path: str) -> Frames:
    with open_video(path, limits=LIMITS) as video:
        sample = choose_frames(SAMPLING, pts_seconds=video.pts_seconds, keyframes=video.info.keyframes)
        return [frame.image for frame in video.frames(sample.indices)]


WAYS: dict[str, Callable[[str], Frames]] = {
    "OpenCV, every frame": opencv_everything,
    "OpenCV, grab": opencv_grab,
    "PyAV, one after the other": pyav_sequential,
    "PyAV, bare loop": bare_loop,
    "dfpipe": with_dfpipe,
}


def made_clips(folder: Path) -> Iterator[Path]:
    for name, key_every in MADE.items():
        source = ["-f", "lavfi", "-i", "testsrc2=size=1920x1080:rate=25", "-frames:v", "220"]
        codec = ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "3", "-g", key_every, "-pix_fmt", "yuv420p"]
        path = folder / name
        subprocess.run(["ffmpeg", "-v", "error", *source, *codec, "-threads", "1", str(path)], check=True)
        yield path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="folder of videos")
    add_options(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="dfpipe-decoding-") as made:
        videos = below(options.folder)
        groups = {f"{len(videos)} real videos": videos} | {path.name: [path] for path in made_clips(Path(made))}
        for title, paths in groups.items():
            compare(title, paths, rounds=options.rounds, markdown=options.markdown)


def compare(title: str, paths: list[Path], *, rounds: int, markdown: bool) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for path in paths:
        for ours, bare in zip(with_dfpipe(str(path)), bare_loop(str(path)), strict=True):
            assert np.array_equal(ours, bare), f"{path}: different pictures"
    for _ in range(rounds):
        spent = dict.fromkeys(WAYS, 0.0)
        for path in paths:
            for name, way in WAYS.items():
                started = time.process_time()
                way(str(path))
                spent[name] += time.process_time() - started
        for name in WAYS:
            seconds[name].append(spent[name] / len(paths))
    rows = []
    bare_seconds = statistics.median(seconds["PyAV, bare loop"])
    for name in WAYS:
        median = statistics.median(seconds[name])
        rows.append((name, f"{1000 * median:.1f}", f"{median / bare_seconds:.2f}"))
    columns = ("way", "CPU ms a video", "against the bare loop")
    show(f"{title}, {rounds} rounds", columns, rows, note=machine(), markdown=markdown)


if __name__ == "__main__":
    main()
