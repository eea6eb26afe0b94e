"""A Dask scheduler and its workers: work for several runs without starting workers for each."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from dfpipe.services._daemon import Daemon, Record, halt, recall
from dfpipe.services._environment import inherited
from dfpipe.services._manager import HOST, Service, ask, expect_running, keep, unused_port
from dfpipe.settings import DaskSettings

__all__ = ["DASK", "begin_dask"]

WORKERS = "dask-workers"

DASK = Service(name="dask", port=8786, health="/health", daemons=("dask", WORKERS))


def begin_dask(state: Path, port: int, *, settings: DaskSettings) -> Iterator[None]:
    """Start the scheduler, then as many workers as a run would start for itself, and wait for all of them.

    Raises
    ------
    SettingsError
        A certificate, key or memory limit that cannot be used.
    """
    from dfpipe.engine import local_workers, program_environment  # noqa: PLC0415 - slow to import

    workers = local_workers(settings)
    environment = {**inherited(without="DASK_"), **program_environment(settings)}
    running = recall(state, DASK.name)
    if running is None:
        # Left behind by a scheduler that died, they would look for it at the old address for ever.
        halt(state, WORKERS)
    pages_port = running.pages_port if running else unused_port(avoid=(port,))
    url = f"{'tls' if settings.tls else 'tcp'}://{HOST}:{port}"
    home = state / "dask"
    scheduler = Daemon(
        name=DASK.name,
        argv=(
            *(sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", HOST, "--port", str(port)),
            *("--protocol", url.partition("://")[0], "--dashboard-address", f"{HOST}:{pages_port}"),
        ),
        environment=environment,
        folder=home,
        port=port,
        url=url,
        pages_port=pages_port,
    )
    yield from keep(state, scheduler, health=DASK.health)
    resources = " ".join(f"{name}={amount}" for name, amount in workers.resources.items())
    pool = Daemon(
        name=WORKERS,
        argv=(
            *(sys.executable, "-m", "distributed.cli.dask_worker", url, "--host", HOST),
            # Without an address, pages and figures of each worker would be open to the network.
            *("--dashboard-address", f"{HOST}:0", "--local-directory", "."),
            *("--nworkers", str(workers.processes), "--nthreads", str(workers.threads)),
            *("--memory-limit", str(workers.memory_bytes), "--resources", resources),
        ),
        environment=environment,
        folder=home,
        port=port,
        url=url,
    )
    # Those that run already are as many as their settings said.
    wanted = workers.processes if recall(state, WORKERS) is None else 1
    yield from keep(state, pool)
    while _registered(expect_running(state, DASK.name)) < wanted:
        expect_running(state, WORKERS)
        yield


def _registered(scheduler: Record) -> int:
    answer = ask(scheduler, "/json/counts.json")
    return int(json.loads(answer[1])["workers"]) if answer is not None and answer[0] == 200 else 0
