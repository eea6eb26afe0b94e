"""What storing a crop costs: PNG as dfpipe writes it and at zlib levels 1, 3 and 6, side by side on a store's crops.

usage: python benchmarks/crop_encoding.py STORE [--rounds N] [--markdown]
"""

import argparse
import statistics
import time

import cv2
from _table import add_options, machine, show

from dfpipe.extract import PNG_OPTIONS, decode_crop
from dfpipe.settings import S3Settings
from dfpipe.shards import Tables

WAYS = {"as stored": PNG_OPTIONS} | {f"level {level}": {cv2.IMWRITE_PNG_COMPRESSION: level} for level in (1, 3, 6)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="folder or URL of a store with faces in it")
    add_options(parser)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    crops = [decode_crop(png.as_py()) for png in Tables(options.store, S3Settings()).read("faces")["crop_png"]][:200]
    if not crops:
        parser.error(f"{options.store} holds no faces; make demo writes some to .dfpipe/demo/store")
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    size: dict[str, int] = {}
    for _ in range(options.rounds):
        for way, settings in WAYS.items():
            parameters = [number for setting in settings.items() for number in setting]
            started = time.process_time()
            encoded = [cv2.imencode(".png", crop, parameters)[1] for crop in crops]
            seconds[way].append(time.process_time() - started)
            size[way] = sum(len(data) for data in encoded)
    first = statistics.median(seconds["as stored"])
    rows = []
    for way in WAYS:
        median = statistics.median(seconds[way])
        rows.append(
            [
                way,
                f"{1000 * median / len(crops):.2f}",
                f"{median / first:.2f}",
                f"{size[way] / len(crops) / 1000:.1f}",
                f"{size[way] / size['as stored']:.2f}",
            ]
        )
    title = f"{len(crops)} crops of {crops[0].shape[0]} px, {options.rounds} rounds, CPU time of one thread"
    columns = ["PNG", "CPU ms a crop", "against as stored", "kB a crop", "bytes against as stored"]
    show(title, columns, rows, note=machine(), markdown=options.markdown)


if __name__ == "__main__":
    main()
