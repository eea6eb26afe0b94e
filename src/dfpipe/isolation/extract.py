"""`extract_video` in a child process, and what is made of it when that does not come back."""

import dataclasses
import json
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dfpipe import errors
from dfpipe.catalog import VideoRef
from dfpipe.detections import KnownFaces
from dfpipe.errors import VideoFault
from dfpipe.extract import VideoRows, lost_video
from dfpipe.isolation.child import Child, ChildError, ChildLostError, ChildMemoryError, ChildTimeoutError
from dfpipe.isolation.wire import VERSION, decode_rows, tells_of_no_memory
from dfpipe.settings import ExtractSettings, LimitSettings, S3Settings

__all__ = ["extract_isolated"]

_log = logging.getLogger(__name__)

WORK = "dfpipe.extract:extract_video"
"""The function that the child calls."""

ATTEMPTS = 2
START_SECONDS = 120
GRACE_SECONDS = 5.0
"""The decoder looks at the clock between packets; this much later it is stopped from outside."""

VIDEOS_PER_CHILD = 500
"""A library that leaks a little does not grow for ever; a start costs a second or two."""

HEADER_BYTES = 2**20

FIELDS = [one.name for one in dataclasses.fields(VideoRows)]

LAST_WORDS = 200
"""Characters of what the child wrote to stderr that stand in a reason."""

USER_ERRORS = {
    name: error
    for name, error in vars(errors).items()
    if isinstance(error, type) and issubclass(error, errors.UserError)
}
"""What a child may say was raised in it, by name; nothing else is ever made of its words."""

_mine = threading.local()


def extract_isolated(
    video: VideoRef,
    *,
    settings: ExtractSettings,
    limits: LimitSettings,
    s3: S3Settings,
    known: KnownFaces | None = None,
) -> VideoRows:
    """Extract one video as `extract_video` does, in a process that may die, hang or run out of memory.

    The parameters are the same; known faces go to the process with the request.

    A video whose process dies twice ends as ``crashed``, one that takes longer than ``limits.timeout_seconds`` as
    ``timeout``, one that takes more memory than ``limits.max_memory_bytes`` as ``too_large``. The process is kept for
    the calling thread's next video, and ends with the thread.

    Raises
    ------
    UserError
        What `extract_video` raises.
    RuntimeError
        A defect in the program; its traceback is in the message.
    """
    request = pickle.dumps((WORK, video, {"settings": settings, "limits": limits, "s3": s3, "known": known}))
    losses: list[str] = []
    started = time.monotonic()

    def lost(fault: VideoFault, reason: str) -> VideoRows:
        return lost_video(video, fault=fault, reason=reason, seconds=time.monotonic() - started)

    while len(losses) < ATTEMPTS:
        try:
            with _own_child() as child:
                answer = _ask(child, request, video, limits)
        except ChildLostError as loss:
            losses.append(str(loss))
            _log.info("%s: its process %s", video.video_id, loss)
        except ChildTimeoutError:
            # A second try would take as long, and most likely end the same.
            reason = f"not done after limits.timeout_seconds = {limits.timeout_seconds:g}; its process was stopped"
            return lost("timeout", reason)
        except ChildMemoryError:
            reason = f"takes more memory than limits.max_memory_bytes = {limits.max_memory_bytes}"
            return lost("too_large", reason)
        else:
            if isinstance(answer, Exception):
                raise answer
            return answer
    first, second = losses
    how = f"{first} twice" if first == second else f"{first}; when tried again it {second}"
    return lost("crashed", f"its process {how}")


@contextmanager
def _own_child() -> Iterator[Child]:
    """Lend the calling thread its child, and take it back only if nothing is raised; else it is ended."""
    child: Child | None = _mine.__dict__.pop("child", None)
    if child is not None and (child.videos_done >= VIDEOS_PER_CHILD or not child.is_alive):
        child.close()
        child = None
    if child is None:
        child = _start()
    try:
        yield child
    except BaseException:
        child.close()
        raise
    child.videos_done += 1
    _mine.child = child


def _start() -> Child:
    child = Child()
    try:
        ready = json.loads(child.receive(deadline=time.monotonic() + START_SECONDS, max_bytes=HEADER_BYTES))
    except ChildError as error:
        child.close()
        raise RuntimeError(
            f"the process in which videos are extracted does not start: it {error}\n{child.last_words}"
        ) from error
    except BaseException:
        child.close()
        raise
    if ready["version"] != VERSION:
        child.close()
        raise RuntimeError("dfpipe was changed while it ran; start the run again")
    return child


def _ask(child: Child, request: bytes, video: VideoRef, limits: LimitSettings) -> VideoRows | Exception:
    """Return the rows, or what was raised in the child."""
    try:
        return _converse(child, request, video, limits)
    except ChildLostError as loss:
        if tells_of_no_memory(child.last_words):
            raise ChildMemoryError(str(loss)) from loss
        words = _printable(" ".join(child.last_words.split()))[-LAST_WORDS:]
        raise ChildLostError(f"{loss} ({words})" if words else str(loss)) from loss
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        # The answer was not made by our code, or not by our code alone.
        words = _printable(f"{type(error).__name__}: {error}")[:LAST_WORDS]
        raise ChildLostError(f"gave an answer that is none ({words})") from error


def _converse(child: Child, request: bytes, video: VideoRef, limits: LimitSettings) -> VideoRows | Exception:
    deadline = time.monotonic() + limits.timeout_seconds + GRACE_SECONDS
    child.send(request, deadline=deadline)
    header = json.loads(child.receive(deadline=deadline, max_bytes=HEADER_BYTES))
    match header["kind"]:
        case "rows":
            parts: list[bytes] = []
            for _ in FIELDS:
                room = limits.max_memory_bytes - sum(map(len, parts))
                parts.append(child.receive(deadline=deadline, max_bytes=room))
            try:
                return decode_rows(parts, video)
            except ValueError:
                raise
            except Exception as error:
                raise ValueError(f"{type(error).__name__}: {error}") from error
        case "error":
            return USER_ERRORS[header["name"]](_printable(header["message"]))
        case "defect":
            return RuntimeError(f"in the process that extracts videos:\n{_printable(header['traceback'])}")
        case "memory":
            raise ChildMemoryError("got no more memory")
        case other:
            raise ValueError(f"an answer of kind {other}")


def _printable(text: str) -> str:
    """Leave out what a terminal would obey."""
    return "".join(sign for sign in text if sign.isprintable() or sign == "\n")
