"""The seed study's extraction, written from its report: the side that dfpipe is measured against.

OpenCV reads every frame of the video to its end; one in 30, at most 7, is written as JPEG. Each JPEG is read again and
given to the mtcnn package on TensorFlow as it comes; faces above 0.9 count; the most confident box is cut out, resized
to 320 x 320 and saved. One thread throughout.

Runs in an environment of its own (requirements.txt beside this file). Each line of stdin asks for one video:
{"video": path, "out": folder for frames and crops, "smallest_face_px": 20}; each is answered with one line of JSON: CPU
seconds of the process by stage, and counts. Imports and model loading are not in the figures. Faces from 20 px on are
what the package looks for by itself; more shrinks the picture first, which is no longer the study's way.
"""

import json
import os
import sys
import time
from pathlib import Path

# Read by the libraries when they are imported.
for variable in ("OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ[variable] = "1"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import cv2  # noqa: E402
import tensorflow as tf  # noqa: E402
from mtcnn import MTCNN  # noqa: E402

EVERY_FRAMES = 30
MAX_FRAMES = 7
MIN_CONFIDENCE = 0.9
CROP_SIZE_PX = 320
PACKAGE_SMALLEST_FACE_PX = 20


def sample_frames(video: Path, out: Path) -> list[Path]:
    capture = cv2.VideoCapture(str(video), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        sys.exit(f"OpenCV cannot open {video}")
    written: list[Path] = []
    index = 0
    while True:
        there, frame = capture.read()
        if not there:
            break
        if index % EVERY_FRAMES == 0 and len(written) < MAX_FRAMES:
            written.append(out / f"{video.stem}_{index:05d}.jpg")
            cv2.imwrite(str(written[-1]), frame)
        index += 1
    capture.release()
    return written


def find_faces(detector: MTCNN, picture: Path, smallest_face_px: int) -> list[dict]:
    image = cv2.cvtColor(cv2.imread(str(picture)), cv2.COLOR_BGR2RGB)
    # The package's option min_face_size makes it find nothing at all above its default of 20, since its pyramid then
    # ends below the network's input. A smaller picture does what the option is for.
    scale = PACKAGE_SMALLEST_FACE_PX / smallest_face_px
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    faces = detector.detect_faces(image)
    return [
        face | {"box": [round(edge / scale) for edge in face["box"]]}
        for face in faces
        if face["confidence"] > MIN_CONFIDENCE
    ]


def save_crop(picture: Path, faces: list[dict], out: Path) -> None:
    x, y, width, height = max(faces, key=lambda face: face["confidence"])["box"]
    image = cv2.imread(str(picture))
    crop = cv2.resize(image[y : y + height, x : x + width], (CROP_SIZE_PX, CROP_SIZE_PX))
    cv2.imwrite(str(out / f"{picture.stem}_face.jpg"), crop)


def extract(video: Path, out: Path, detector: MTCNN, smallest_face_px: int) -> dict[str, float]:
    started = time.process_time()
    pictures = sample_frames(video, out)
    sampled = time.process_time()
    found = [find_faces(detector, picture, smallest_face_px) for picture in pictures]
    detected = time.process_time()
    for picture, faces in zip(pictures, found, strict=True):
        if faces:
            save_crop(picture, faces, out)
    ended = time.process_time()
    return {
        "cpu_seconds": ended - started,
        "decode_seconds": sampled - started,
        "detect_seconds": detected - sampled,
        "encode_seconds": ended - detected,
        "frames": len(pictures),
        "crops": sum(bool(faces) for faces in found),
    }


def main() -> None:
    cv2.setNumThreads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    detector = MTCNN()
    for line in sys.stdin:
        asked = json.loads(line)
        answer = extract(Path(asked["video"]), Path(asked["out"]), detector, asked["smallest_face_px"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
