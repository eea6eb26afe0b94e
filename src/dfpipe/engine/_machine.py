"""What this process may really use of its machine."""

import re
from pathlib import Path

from dask.system import cpu_count

__all__ = ["usable_cores", "usable_memory_bytes"]


def usable_cores() -> int:
    """Return how many cores this process may use: those it is bound to, or fewer where its control group says so.

    A share of a core counts as a whole one.
    """
    return int(cpu_count())


def usable_memory_bytes(*, root: Path = Path("/")) -> int:
    """Return how much memory this process may use: the machine's, or less where its control group says so.

    Parameters
    ----------
    root
        Folder under which ``proc`` and ``sys`` lie.
    """
    # Not distributed.system.memory_limit: it looks at the outermost group only, which under a batch system such as
    # Slurm or a systemd slice is the whole machine's.
    found = re.search(r"^MemTotal:\s+(\d+) kB", (root / "proc/meminfo").read_text(encoding="ascii"), re.MULTILINE)
    limits = [int(found[1]) * 1024] if found else []
    for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        group = root / "sys/fs/cgroup"
        if controllers == "memory":
            group, file = group / "memory", "memory.limit_in_bytes"
        elif controllers == "":
            file = "memory.max"
        else:
            continue
        # Every group above limits it too; inside a container the innermost may not be visible at all.
        inner = group / path.lstrip("/")
        for folder in (inner, *inner.parents):
            if folder.is_relative_to(group) and (folder / file).is_file():
                text = (folder / file).read_text(encoding="ascii").strip()
                limits += [int(text)] if text.isdecimal() else []
    return min(limits)
