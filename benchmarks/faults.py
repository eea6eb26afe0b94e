"""What is lost, doubled or done again when processes are killed at random moments: nothing should be.

usage: python benchmarks/faults.py [--kills N] [--seed N] [--kinds flow,worker,scheduler,server] [--markdown]

Runs of the real command line on tiny made videos; something is killed with SIGKILL, and the same command is run again
until it ends well. The flow is killed with the store on this machine's disk, every second time with workers of its own
and else with a Dask cluster that outlives it; the S3 server with the store in it. Moments are drawn by what has
happened so far (decodes begun, objects put), and how often each video is decoded is told by the kernel (inotify).
A Prefect server is started for it, unless DFPIPE_PREFECT__API_URL names one.
"""

import argparse
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import get_args

from _table import machine, show

from dfpipe.services import down, s3_access, up
from dfpipe.testing import Corpus, DaskCluster, Disturbed, Kill, disturb, free_port

BUCKET = "faults"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="how many, dealt out over the kinds (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the moments and the victims (%(default)s)")
    parser.add_argument("--kinds", default=",".join(get_args(Kill)), help="what to kill (%(default)s)")
    parser.add_argument("--in-a-row", type=int, default=4, help="most kills before a run may end (%(default)s)")
    parser.add_argument("--markdown", action="store_true", help="print the table as GitHub-flavoured Markdown")
    options = parser.parse_args()
    # What was found so far is reported, and servers are ended, whoever ends it and how.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    kinds: list[Kill] = [kind for kind in get_args(Kill) if kind in options.kinds.split(",")]
    found: dict[Kill, list[Disturbed]] = {kind: [] for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="dfpipe-faults-") as temporary, ExitStack() as stack:
        folder, state = Path(temporary), Path(temporary) / "servers"
        stack.callback(down, state)
        environment = {"PREFECT_HOME": str(folder / "prefect")}
        if "DFPIPE_PREFECT__API_URL" not in os.environ:
            [prefect] = up(state, ["prefect"], mlflow_backend="", artifact_root="", ports={"prefect": free_port()})
            environment["DFPIPE_PREFECT__API_URL"] = f"{prefect.url}/api"
        corpus = stack.enter_context(Corpus(folder, environment).ready())
        cluster = stack.enter_context(DaskCluster())
        if "server" in kinds:
            up(state, ["s3"], mlflow_backend="", artifact_root="", ports={"s3": free_port()}, s3_buckets=[BUCKET])
        chance = random.Random(options.seed)  # no secret
        try:
            for number, kind in enumerate(order(kinds, options.kills)):
                left = share(kinds, options.kills)[kind] - sum(one.kills for one in found[kind])
                if left > 0:
                    found[kind].append(case(corpus, kind, number, min(left, options.in_a_row), chance, cluster, state))
                    say(kind, found[kind][-1])
        finally:
            report(found, note=f"Seed {options.seed}; {machine()}", markdown=options.markdown)
    sys.exit(any(failed(one) for some in found.values() for one in some))


def share(kinds: Sequence[Kill], kills: int) -> Counter[Kill]:
    """Deal the kills out."""
    return Counter(kinds[number % len(kinds)] for number in range(kills))


def order(kinds: Sequence[Kill], kills: int) -> Sequence[Kill]:
    """Return which kind's turn it is; a store may see fewer kills than it was meant to, so there are turns to spare."""
    return list(kinds) * kills


def case(
    corpus: Corpus, kind: Kill, number: int, kills: int, chance: random.Random, cluster: DaskCluster, state: Path
) -> Disturbed:
    s3 = s3_access(state).settings if kind == "server" else None
    store = corpus.new_store(f"{number}-{kind}", s3=s3, bucket=f"s3://{BUCKET}")
    own_workers = kind == "flow" and chance.random() < 0.5
    return disturb(
        corpus,
        store,
        kind,
        # What outlives its worker is not the worker's next one to die: one at a time, or videos would end as crashed.
        kills=1 if kind == "worker" else kills,
        chance=chance,
        cluster=None if own_workers else cluster,
        s3_state=state,
    )


def failed(one: Disturbed) -> bool:
    return bool(
        one.again or one.strays or one.differs or any(times > one.kills + 1 for times in one.decodes) or one.defects
    )


def say(kind: Kill, one: Disturbed) -> None:
    print(time.strftime("%H:%M:%S"), kind, "FAILED" if failed(one) else "well", one, file=sys.stderr, flush=True)


def report(found: dict[Kill, list[Disturbed]], *, note: str, markdown: bool) -> None:
    rows = []
    for kind, some in [*found.items(), ("all", [one for each in found.values() for one in each])]:
        videos: Counter[str] = Counter()
        for one in some:
            for times, number in one.decodes.items():
                videos["all"] += number
                videos["twice"] += number * (times == 2)
                videos["more"] += number * (times > 2)
                videos["too often"] += number * (times > one.kills + 1)
        rows.append(
            [
                kind,
                f"{sum(one.kills for one in some)}",
                f"{len(some)}",
                f"{sum(len(one.codes) - 1 for one in some)}",
                f"{videos['all']}",
                f"{videos['twice']}",
                f"{videos['more']}",
                f"{videos['too often']}",
                f"{sum(len(one.again) for one in some)}",
                f"{sum(len(one.strays) for one in some)}",
                f"{sum(one.defects for one in some)}",
                f"{sum(not one.differs for one in some)} of {len(some)}",
            ]
        )
    columns = ["killed", "kills", "stores", "reruns", "videos", "decoded twice", "more often"]
    columns += ["more than once a kill", "after their commit", "seen unsettled", "defects", "rows equal"]
    show("Kills at random moments, then the same command again", columns, rows, note=note, markdown=markdown)


if __name__ == "__main__":
    main()
