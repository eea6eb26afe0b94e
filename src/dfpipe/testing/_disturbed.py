"""Real runs of the command line that something happens to, watched from outside."""

import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import psutil
from deltalake import DeltaTable

from dfpipe.errors import ServiceError
from dfpipe.services import find, up
from dfpipe.services._manager import unused_port
from dfpipe.settings import S3Settings
from dfpipe.shards import EXTRACTED, Table, Tables
from dfpipe.shards.files import shard_name
from dfpipe.storage import delta_options, open_location
from dfpipe.synth import write_dataset
from dfpipe.testing._opened import Opened

__all__ = ["Corpus", "DaskCluster", "Disturbed", "Ended", "Kill", "Store", "disturb", "wait_for"]

Kill = Literal["flow", "worker", "scheduler", "server"]
"""What is killed: the process of the flow, one of Dask's workers, Dask's scheduler, or the S3 server's gateway."""

PATIENCE_SECONDS = 600.0
"""How long is waited for anything: other programs may keep the machine busy."""

SETTINGS = (
    "extract.sampling.every_frames=6",
    "train.features=[{name: pixels, size_px: 8}]",
    "videos_per_shard=2",
    "dask.workers=2",
)
"""Little work, in many shards."""

BY_CHANCE = frozenset(
    {"run_id", "finished_at", "cpu_seconds", "decode_seconds", "detect_seconds", "encode_seconds", "shard"}
)
"""Columns in which two runs differ although they found the same."""

USER_CAN_MEND = 2
"""Exit code of a run that says what is wrong."""

COMPARED: tuple[Table, ...] = (*EXTRACTED, "features")


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until something holds.

    Raises
    ------
    TimeoutError
        It never does.
    """
    give_up = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(f"waited {PATIENCE_SECONDS:.0f} s for {what}")
        time.sleep(0.05)


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that has ended."""

    code: int
    """Exit code; negative is the signal that killed it."""
    out: str
    """What it said on stdout."""
    err: str
    """What it said on stderr."""


@dataclass(frozen=True, slots=True)
class Store:
    """Where one history of runs keeps its tables."""

    tables: Tables
    """The tables, reached directly."""
    settings: tuple[str, ...]
    """What the command line is told of it."""
    environment: Mapping[str, str]
    """The same for what must not stand in a command line."""

    def objects(self) -> int:
        """Return the number of objects below the tables."""
        location = open_location(self.tables.url, self.tables.s3).child("tables")
        return len(location.fs.find(location.path)) if location.fs.exists(location.path) else 0

    def rows(self, table: Table) -> list[dict[str, Any]]:
        """Return the rows that any reader of Delta tables sees."""
        location = self.tables.location(table)
        if not location.fs.exists(f"{location.path}/_delta_log"):
            return []
        opened = DeltaTable(location.url, storage_options=delta_options(location.url, self.tables.s3))
        rows: list[dict[str, Any]] = opened.to_pyarrow_table().to_pylist()
        return rows

    def committed(self) -> set[str]:
        """Return the videos of which the ledger has a row."""
        return {row["video_id"] for row in self.rows("videos")}

    def contents(self) -> dict[Table, Counter[tuple[object, ...]]]:
        """Return all rows of the data tables and the ledger as multisets, without what differs by chance."""
        return {table: Counter(map(_plain, self.rows(table))) for table in COMPARED}

    def strays(self) -> list[str]:
        """Return what a reader sees although nobody has settled it: files by path, then rows by video."""
        visible = [
            (table, file.fingerprint, name)
            for table in COMPARED
            for file in self.tables.log(table).files(self.tables.log(table).open())
            if (name := shard_name(file.path)) is not None
        ]
        # After the files, as claims only ever become more.
        claimed = {(row["fingerprint"], row["shard"]) for row in self.rows("claims")}
        return [f"{table}/{name}" for table, fingerprint, name in visible if (fingerprint, name) not in claimed]

    def orphans(self) -> list[str]:
        """Return the rows, by table and video, of videos that the ledger does not know; none once a run has ended."""
        known = self.committed()
        return [
            f"{table} of {row['video_id']}"
            for table in COMPARED
            for row in self.rows(table)
            if row["video_id"] not in known
        ]


def _plain(row: Mapping[str, Any]) -> tuple[object, ...]:
    return tuple(
        tuple(value) if isinstance(value, list) else value
        for name, value in sorted(row.items())
        if name not in BY_CHANCE
    )


@dataclass(slots=True)
class Corpus:
    """Tiny videos, the catalog that lists them, and what one undisturbed run makes of them.

    Parameters
    ----------
    folder
        Empty folder for all of it.
    environment
        What the command line is to find beside this process's own variables: the Prefect API to use.
    people
        Half the number of videos.
    """

    folder: Path
    environment: Mapping[str, str]
    people: int = 8
    ids: dict[str, str] = field(init=False)
    """Each video's video_id, by its path below their folder."""
    opened: Opened = field(init=False)
    """Counts how often each video is opened."""
    opened_per_decode: int = field(init=False)
    """How often a video is opened when it is decoded once."""
    undisturbed: Store = field(init=False)
    """Store of a run to which nothing happened."""
    expected: dict[Table, Counter[tuple[object, ...]]] = field(init=False)
    """What the tables hold after an undisturbed run."""
    marks: int = field(init=False)
    """Decodes and objects of an undisturbed run: its length by what happens in it."""

    @contextmanager
    def ready(self) -> Iterator["Corpus"]:
        """Make the videos and run once; videos are watched until the block ends."""
        write_dataset(
            self.folder / "videos", num_identities=self.people, num_frames=(12, 16), heights=(144,), seed=5, jobs=1
        )
        # Listing reads every file that it has not seen; from here on, whoever opens a video decodes it.
        template = self.local("template")
        self.run(template, "--until=catalog")
        root = self.folder / "videos"
        self.ids = {str(Path(row["url"]).relative_to(root)): row["video_id"] for row in template.rows("catalog")}
        with Opened(self.folder / "videos") as self.opened:
            self.undisturbed = store = self.new_store("undisturbed")
            ended = self.run(store)
            if ended.code != 0:
                raise RuntimeError(f"the undisturbed run ended with {ended.code}: {ended.err}")
            counts = self.opened.counts()
            opened = {counts[path] for path in self.ids}
            if len(opened) != 1:
                raise RuntimeError(f"the undisturbed run opened some videos more often than others: {counts}")
            [self.opened_per_decode] = opened
            self.expected = store.contents()
            self.marks = 2 * self.people + store.objects()
            yield self

    def local(self, name: str, *, folder: Path | None = None) -> Store:
        """Return the store of a name on this machine's disk, which may not be there yet."""
        url = str((folder or self.folder / "stores") / name)
        return Store(Tables(url, S3Settings()), (f"store={url}",), {})

    def new_store(
        self,
        name: str,
        *,
        folder: Path | None = None,
        s3: S3Settings | None = None,
        bucket: str = "",
        through: str = "",
    ) -> Store:
        """Make a store that knows the videos and has nothing of them yet.

        Parameters
        ----------
        name
            Its name.
        folder
            Where it is to lie; beside the other stores otherwise.
        s3, bucket
            How to reach the bucket in which it is to lie; on this machine's disk otherwise.
        through
            Endpoint by which the runs, and nobody else, reach the bucket.
        """
        template = self.folder / "stores" / "template"
        if s3 is None:
            store = self.local(name, folder=folder)
            shutil.copytree(template, store.tables.url)
            return store
        url = f"{bucket}/{name}"
        location = open_location(url, s3)
        location.fs.put(f"{template}/", f"{location.path}/", recursive=True)
        secret = s3.secret_access_key.get_secret_value() if s3.secret_access_key else ""
        environment = {
            "DFPIPE_S3__ENDPOINT_URL": through or str(s3.endpoint_url),
            "DFPIPE_S3__ACCESS_KEY_ID": str(s3.access_key_id),
            "DFPIPE_S3__SECRET_ACCESS_KEY": secret,
        }
        return Store(Tables(url, s3), (f"store={url}",), environment)

    def start(self, store: Store, *arguments: str) -> subprocess.Popen[str]:
        """Start `dfpipe run` on a store."""
        settings = (f"source={self.folder / 'videos'}", f"state={self.folder / 'state'}", *SETTINGS, *store.settings)
        until = () if any(one.startswith("--until") for one in arguments) else ("--until=features",)
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dfpipe.cli",
                "run",
                "--json",
                *until,
                *(f"--set={one}" for one in settings),
                *arguments,
            ],
            cwd=self.folder,
            env={**os.environ, **self.environment, **store.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, run: subprocess.Popen[str]) -> Ended:
        """Wait for a run to end by itself."""
        try:
            out, err = run.communicate(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()
            raise
        return Ended(run.returncode, out, err)

    def run(self, store: Store, *arguments: str) -> Ended:
        """Run to the end."""
        return self.end(self.start(store, *arguments))

    def decodes(self) -> Counter[str]:
        """Return how often each video was decoded since the corpus is ready, by video_id."""
        counts = self.opened.counts()
        # A process that was killed between two openings has begun a decode.
        return Counter({self.ids[path]: -(-counts[path] // self.opened_per_decode) for path in self.ids})


class DaskCluster:
    """A scheduler and two workers of one's own, each a process as `dask scheduler` and `dask worker` start it."""

    def __init__(self) -> None:
        self.port = unused_port()

    @property
    def address(self) -> str:
        """Where the scheduler listens."""
        return f"tcp://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start both, at the same address each time."""
        environment = {
            **os.environ,
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",
            "DASK_DISTRIBUTED__DASHBOARD__LINK": "",
        }

        def launch(*argv: str) -> subprocess.Popen[bytes]:
            quiet = subprocess.DEVNULL
            return subprocess.Popen([sys.executable, "-m", *argv], env=environment, stdout=quiet, stderr=quiet)

        self.scheduler = launch(
            "distributed.cli.dask_scheduler", "--host=127.0.0.1", f"--port={self.port}", "--no-dashboard"
        )
        self.workers = launch(
            "distributed.cli.dask_worker", self.address, "--nworkers=2", "--nthreads=1", "--no-dashboard"
        )

    def stop(self) -> None:
        """End both and all that the workers started."""
        family = [*workers_of(self.workers.pid), *(psutil.Process(self.workers.pid).children(recursive=True))]
        for process in (self.workers, self.scheduler):
            process.kill()
            process.wait()
        for one in family:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        psutil.wait_procs(family)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def workers_of(pid: int) -> list[psutil.Process]:
    """Return the Dask workers that a process has started, the videos' own processes not among them."""
    try:
        return [one for one in psutil.Process(pid).children() if any("spawn_main" in word for word in one.cmdline())]
    except psutil.NoSuchProcess:
        return []


@dataclass(slots=True)
class Disturbed:
    """What came of one store whose runs were disturbed until one of them was not."""

    kills: int = 0
    """Times that something was killed."""
    codes: list[int] = field(default_factory=list)
    """How each run ended; the last is 0."""
    complaints: list[str] = field(default_factory=list)
    """What runs said that ended by themselves, but not well."""
    decodes: Counter[int] = field(default_factory=Counter)
    """Videos by how often they were decoded in all."""
    again: list[str] = field(default_factory=list)
    """Videos that were decoded after a kill before which they were committed."""
    strays: list[str] = field(default_factory=list)
    """What a reader could see at a kill or at the end although nobody had settled it."""
    differs: list[Table] = field(default_factory=list)
    """Tables whose rows are not those of an undisturbed run."""

    @property
    def defects(self) -> int:
        """Runs that ended by themselves, neither well nor with one line that says what to do."""
        return sum(code > 0 and code != USER_CAN_MEND for code in self.codes)


def disturb(
    corpus: Corpus,
    store: Store,
    kill: Kill,
    *,
    kills: int,
    chance: random.Random,
    cluster: DaskCluster | None = None,
    s3_state: Path | None = None,
) -> Disturbed:
    """Run on a new store, kill something at a random moment, and run again until a run ends well.

    Moments are drawn by what has happened so far, as decodes begun and objects put, not by the clock.

    Parameters
    ----------
    corpus, store
        What to run on.
    kill
        What to kill.
    kills
        How many times, in as many runs one after the other. There are fewer where a run is done before.
    chance
        Draws the moments and the workers.
    cluster
        Where the runs' work happens; None is on workers of their own. Needed to kill the scheduler.
    s3_state
        State folder of the S3 server. Needed to kill it.
    """
    found = Disturbed()
    arguments = [f"--set=dask.scheduler={cluster.address}"] if cluster else []
    before = corpus.decodes()
    settled: list[tuple[set[str], Counter[str]]] = []

    def marks() -> int:
        return (corpus.decodes() - before).total() + store.objects()

    def kill_something(run: subprocess.Popen[str], moment: int) -> None:
        wait_for(lambda: marks() >= moment or run.poll() is not None, f"the moment {moment} of {corpus.marks}")
        victim = _victim(kill, run, chance, cluster, s3_state)
        if victim is None or run.poll() is not None:
            return
        victim.kill()
        found.kills += 1
        if kill == "server" and s3_state is not None:
            port, state = int(urlsplit(str(store.tables.s3.endpoint_url)).port or 0), s3_state
            wait_for(lambda: _starts(state, port), f"port {port} to be free")
        if kill == "flow":
            run.wait()
        # First the ledger: what it has now is not decoded after this.
        settled.append((store.committed(), corpus.decodes()))
        found.strays.extend(store.strays())

    while True:
        now = marks()
        run = corpus.start(store, *arguments)
        if found.kills < kills and now + 1 < corpus.marks:
            kill_something(run, chance.randrange(now + 1, corpus.marks))
        ended = corpus.end(run)
        found.codes.append(ended.code)
        if ended.code > 0:
            found.complaints.append(ended.err.strip())
        if kill == "scheduler" and cluster is not None and cluster.scheduler.poll() is not None:
            cluster.stop()
            cluster.start()
        if ended.code == 0:
            break
        if len(found.codes) > kills + 3:
            raise RuntimeError(f"{len(found.codes)} runs, and none ends well: {found.codes} {found.complaints}")

    decodes = corpus.decodes()
    found.decodes = Counter((decodes - before).values())
    found.again = sorted({video for known, then in settled for video in known if decodes[video] > then[video]})
    found.strays += [*store.strays(), *store.orphans()]
    contents = store.contents()
    found.differs = [table for table, rows in contents.items() if rows != corpus.expected[table]]
    return found


def _starts(s3_state: Path, port: int) -> bool:
    """Start the S3 server on its port again; while nobody listens there, a client on its way may hold the port."""
    try:
        up(s3_state, ["s3"], mlflow_backend="", artifact_root="", ports={"s3": port})
    except ServiceError as error:
        if "is taken" not in str(error):
            raise
        return False
    return True


def _victim(
    kill: Kill,
    run: subprocess.Popen[str],
    chance: random.Random,
    cluster: DaskCluster | None,
    s3_state: Path | None,
) -> psutil.Process | None:
    if kill == "flow":
        return psutil.Process(run.pid)
    if kill == "worker":
        workers = workers_of(cluster.workers.pid if cluster else run.pid)
        return chance.choice(workers) if workers else None
    if kill == "scheduler" and cluster is not None:
        return psutil.Process(cluster.scheduler.pid)
    server = find(s3_state, "s3") if kill == "server" and s3_state is not None else None
    return psutil.Process(server.pid) if server else None
