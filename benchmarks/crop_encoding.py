"""What storing a crop costs: PNG at zlib levels 1, 3 and 6, side by side on the crops of a store.

usage: python benchmarks/crop_encoding.py STORE [--rounds N] [--markdown]
"""

import argparse
import statistics
import time

import cv2
from _table import add_options, machine, show

from dfpipe.extract import decode_crop
from dfpipe.settings import S3Settings
from dfpipe.shards import Tables

LEVELS = (1, 3, 6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="folder or URL of a store with faces in it")
    add_options(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    crops = [decode_crop(png.as_py()) for png in Tables(options.store, S3Settings()).read("faces")["crop_png"]][:200]
    if not crops:
        parser.error(f"{options.store} holds no faces; make demo writes some to .dfpipe/demo/store")
    seconds: dict[int, list[float]] = {level: [] for level in LEVELS}
    size: dict[int, int] = {}
    for _ in range(options.rounds):
        for level in LEVELS:
            started = time.process_time()
            encoded = [cv2.imencode(".png", crop, [cv2.IMWRITE_PNG_COMPRESSION, level])[1] for crop in crops]
            seconds[level].append(time.process_time() - started)
            size[level] = sum(len(data) for data in encoded)
    first = statistics.median(seconds[LEVELS[0]])
    rows = []
    for level in LEVELS:
        median = statistics.median(seconds[level])
        rows.append(
            [
                str(level),
                f"{1000 * median / len(crops):.2f}",
                f"{median / first:.2f}",
                f"{size[level] / len(crops) / 1000:.1f}",
                f"{size[level] / size[LEVELS[0]]:.2f}",
            ]
        )
    title = f"{len(crops)} crops of {crops[0].shape[0]} px, {options.rounds} rounds, CPU time of one thread"
    columns = ["PNG level", "CPU ms a crop", "against level 1", "kB a crop", "bytes against level 1"]
    show(title, columns, rows, note=machine(), markdown=options.markdown)


if __name__ == "__main__":
    main()
