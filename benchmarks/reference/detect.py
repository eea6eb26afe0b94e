"""The mtcnn package on TensorFlow, as it comes, on pictures that were decoded elsewhere.

Runs in an environment of its own, which needs tensorflow-cpu and mtcnn==1.0.0; `benchmarks/recall.py` calls it.

usage: python detect.py FOLDER OUT.json

Every ``NAME.npy`` in the folder holds pictures of uint8, shape (n, height, width, 3), RGB. What is written holds, for
each NAME, a list of faces for each picture: x1, y1, x2, y2, score.
"""

import json
import os
import sys
from pathlib import Path

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from mtcnn import MTCNN


def main(folder: str, out: str) -> None:
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    detector = MTCNN()
    found = {}
    for path in sorted(Path(folder).glob("*.npy")):
        found[path.stem] = [faces_in(detector, picture) for picture in np.load(path)]
        print(path.stem, len(found[path.stem]), file=sys.stderr, flush=True)
    Path(out).write_text(json.dumps(found))


def faces_in(detector: MTCNN, picture: np.ndarray) -> list[list[float]]:
    # Where its first stage proposes nothing, the package raises instead of giving back an empty list.
    try:
        faces = detector.detect_faces(picture, box_format="xyxy")
    except ValueError:
        return []
    return [[*map(float, face["box"]), float(face["confidence"])] for face in faces]


if __name__ == "__main__":
    main(*sys.argv[1:])
