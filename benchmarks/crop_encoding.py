"""What storing a crop costs: PNG at zlib levels 1, 3 and 6, side by side on the crops of a store.

usage: python benchmarks/crop_encoding.py STORE [ROUNDS]
"""

import statistics
import sys
import time

import cv2
from rich.console import Console
from rich.table import Table

from dfpipe.extract import decode_crop
from dfpipe.settings import S3Settings
from dfpipe.shards import Tables

LEVELS = (1, 3, 6)


def main(store: str, rounds: str = "5") -> None:
    cv2.setNumThreads(1)
    crops = [decode_crop(png.as_py()) for png in Tables(store, S3Settings()).read("faces")["crop_png"]][:200]
    seconds: dict[int, list[float]] = {level: [] for level in LEVELS}
    size: dict[int, int] = {}
    for _ in range(int(rounds)):
        for level in LEVELS:
            started = time.process_time()
            encoded = [cv2.imencode(".png", crop, [cv2.IMWRITE_PNG_COMPRESSION, level])[1] for crop in crops]
            seconds[level].append(time.process_time() - started)
            size[level] = sum(len(data) for data in encoded)
    table = Table("PNG level", "ms a crop (median)", "against level 1", "kB a crop", "against level 1")
    first = statistics.median(seconds[1])
    for level in LEVELS:
        median = statistics.median(seconds[level])
        table.add_row(
            str(level),
            f"{1000 * median / len(crops):.2f}",
            f"{median / first:.2f}",
            f"{size[level] / len(crops) / 1000:.1f}",
            f"{size[level] / size[1]:.2f}",
        )
    Console().print(f"{len(crops)} crops of {crops[0].shape[0]} px, {rounds} rounds, CPU time of one thread")
    Console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
