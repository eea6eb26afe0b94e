"""What both makers of data sets need: a folder that knows what it holds, and work spread over processes."""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import cv2

from dfpipe.errors import SettingsError, StoreError
from dfpipe.storage import storage_errors

__all__ = ["Progress", "Skipped", "SynthReport", "check_strength", "claim_folder", "run_all"]

Progress = Callable[[int, int], None]
"""Called with what is done and the total, after each piece of work."""

_STAMP = "synth.json"

Job = TypeVar("Job")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Skipped:
    """A video of which no fake could be made."""

    video: str
    """Its path below the folder given."""
    reason: str
    """Why, in one sentence."""


@dataclass(frozen=True, slots=True)
class SynthReport:
    """What was made."""

    root: Path
    """The data set's folder."""
    layout: str
    """Its layout."""
    num_real: int
    """Real videos in it."""
    num_fake: int
    """Fakes in it."""
    num_written: int
    """Videos written now; the rest were there from an earlier run."""
    skipped: tuple[Skipped, ...] = ()
    """Videos left out."""


def check_strength(strength: float) -> None:
    """Raise unless a strength lies within 0 and 1.

    Raises
    ------
    SettingsError
        It does not.
    """
    if not 0 <= strength <= 1:
        raise SettingsError(f"got strength {strength:g}, expected 0 (hardly a trace) to 1 (a coarse fake)")


def claim_folder(out: Path, plan: dict[str, object]) -> None:
    """Make a folder for one data set; the same plan may come back to finish its work.

    Raises
    ------
    StoreError
        The folder holds something else, or cannot be written.
    """
    stamp = out / _STAMP
    text = json.dumps(plan, indent=1, sort_keys=True) + "\n"
    with storage_errors("write", str(out)):
        out.mkdir(parents=True, exist_ok=True)
        if stamp.is_file():
            if stamp.read_text(encoding="utf-8") != text:
                raise StoreError(f"{out} holds a data set made with other options; choose another folder or remove it")
        elif any(out.iterdir()):
            raise StoreError(f"{out} is not empty, expected a new folder; choose another or empty it")
        else:
            stamp.write_text(text, encoding="utf-8")


def run_all(
    work: Callable[[Job], Result], todo: Sequence[Job], *, jobs: int, on_progress: Progress | None
) -> list[Result]:
    """Do each piece of work, in this process or in others; results keep the order of the work.

    Parameters
    ----------
    work
        A function of a module, so that another process finds it.
    todo
        The pieces, the longest first for an even load.
    jobs
        Processes; 1 stays in this one.
    on_progress
        Told after each piece.
    """
    if jobs < 1:
        raise SettingsError(f"got {jobs} jobs, expected 1 or more")
    report = on_progress or (lambda _done, _total: None)
    if jobs == 1 or len(todo) < 2:
        results = []
        for job in todo:
            results.append(work(job))
            report(len(results), len(todo))
        return results
    # Forked children of a process with threads can hang; fresh ones cannot.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(jobs, len(todo)), mp_context=context, initializer=cv2.setNumThreads, initargs=(1,)
    ) as pool:
        futures = [pool.submit(work, job) for job in todo]
        try:
            for done, future in enumerate(as_completed(futures), start=1):
                future.result()
                report(done, len(todo))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [future.result() for future in futures]
