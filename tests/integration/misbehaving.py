"""What a library in the hands of a hostile video may do; each stands in for `extract_video` inside a real child."""

import ctypes
import json
import os
import pickle
import re
import stat
import struct
import sys
import time
from pathlib import Path

import cv2
import numpy as np

from dfpipe.catalog import VideoRef
from dfpipe.errors import StoreError
from dfpipe.extract import lost_video


def tell_pid(video, **options):
    return lost_video(video, fault="corrupt", reason=str(os.getpid()))


def segfault(video, **options):
    ctypes.string_at(0)


def segfault_once(video, **options):
    marker = Path(video.url)
    if not marker.exists():
        marker.touch()
        segfault(video)
    return tell_pid(video)


def abort_with_words(video, **options):
    os.write(2, b"so it ends\n\x1b[31m here")
    os.abort()


def abort_for_want_of_memory(video, **options):
    # What the C++ runtime writes.
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n")
    os.abort()


def leave(video, **options):
    os._exit(0)


def die_differently(video, **options):
    marker = Path(video.url)
    if marker.exists():
        os._exit(3)
    marker.touch()
    os.abort()


def sleep(video, **options):
    note_attempt(video)
    time.sleep(3600)


def spin(video, **options):
    note_attempt(video)
    # In C, without ever giving the interpreter back.
    re.match(r"(a+)+$", "a" * 99 + "b")


def allocate_in_python(video, **options):
    hoard = []
    while True:
        hoard.append(bytearray(2**24))


def allocate_in_opencv(video, **options):
    hoard = []
    while True:
        hoard.append(cv2.resize(np.zeros((8, 8), np.uint8), (2**13, 2**13)))


def address_much_use_little(video, **options):
    # Address space as allocators set it aside: private, but not to be written to.
    import mmap

    reserved = mmap.mmap(-1, 2**34, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0)
    rows = tell_pid(video)
    reserved.close()
    return rows


def close_stderr_and_sleep(video, **options):
    for fd in (1, 2):
        os.close(fd)
    sleep(video)


def print_much(video, **options):
    sys.stdout.write("x" * 2**20)
    sys.stdout.flush()
    os.write(1, b"y" * 2**20)
    sys.stderr.write("z" * 2**20)
    return tell_pid(video)


def answer_garbage(video, **options):
    os.write(answers_fd(), b"\0\0\0\0\0\0\0\4oops")
    time.sleep(3600)


def announce_much(video, **options):
    os.write(answers_fd(), struct.pack(">Q", 2**40))
    while True:
        os.write(answers_fd(), bytes(2**16))


def answer_with_a_pickle(video, **options):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (Path(video.url),))

    bomb = pickle.dumps(Bomb())
    rows = json.dumps({"kind": "rows"}).encode()
    for payload in (rows, *[bomb] * 9):
        os.write(answers_fd(), struct.pack(">Q", len(payload)) + payload)
    time.sleep(3600)


def speak_of_another(video, **options):
    return tell_pid(VideoRef("another", video.url, 1, "c"))


def forget_a_column(video, **options):
    rows = tell_pid(video)
    del rows.video["reason"]
    return rows


def raise_store_error(video, **options):
    raise StoreError("cannot read s3://bucket/key: access denied")


def raise_defect(video, **options):
    raise KeyError("a defect")


def note_attempt(video):
    with Path(video.url).open("a") as file:
        file.write("attempt\n")


def answers_fd():
    """The pipe to the parent: the only one that can be written to but the standard ones."""
    import fcntl

    for fd in range(3, 256):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode) and fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_WRONLY:
                return fd
        except OSError:
            continue
    raise AssertionError("no pipe")
