"""What a run would do, and why: catalog rows against what the store says was done.

The plan is an anti-join. A video is done when the ledger has a row with its content and the present fingerprint;
its features are when the claims have one for the same attempt; a training when a finished run carries its
fingerprint. `dfpipe plan` prints these objects and `dfpipe run` executes the same ones, so they cannot disagree.

A catalog may have a million rows and a ledger many times that. DuckDB joins them on disk where they do not fit into
`MEMORY`, the ledger goes in by the file, and what comes out are Arrow tables, cut into shards when they are asked for.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dfpipe.catalog import VideoRef, find_videos, parts
from dfpipe.errors import CatalogError, StoreError, VideoFault
from dfpipe.fingerprint import fingerprint
from dfpipe.settings import FeatureSettings, Selection, Settings, TrainSettings
from dfpipe.shards import Tables, VideoKey
from dfpipe.stages import StageRecord, faces_stage, features_stage, first_reason, read_stage

__all__ = [
    "EVERYTHING",
    "SETTLED",
    "CatalogPlan",
    "FacesPlan",
    "FeatureShard",
    "FeaturesPlan",
    "Figures",
    "Shard",
    "feature_fingerprint",
    "plan_catalog",
    "plan_faces",
    "plan_features",
    "training_fingerprint",
    "training_settings_hash",
    "usable_videos",
]

MEMORY = "512MB"
"""What DuckDB may hold; beyond it goes to a temporary folder."""

THREADS = 2
"""More are not faster where the files come in one after the other, and each takes memory of its own."""

ROWS_INSERTED_AT_ONCE = 2**17
"""Ledger rows handed over together; a small run's file has a handful."""

GUESSED_BYTES_A_VIDEO = 1_600_000
"""Until the ledger knows better: 7 frames with their crops, of 720p. In 20 clips of 640 x 480 pixels a frame and its
crop took 0.12 MB; a frame of 720p has three times the pixels, its crop as many."""

OF_LIMITS: tuple[VideoFault, ...] = ("timeout", "too_large", "too_long")
"""States in which a video ends for the limits' sake, so that other limits are worth another try."""

EVERYTHING = Selection()
"""Leaves no video out and wants nothing again."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

OTHER_LIMITS = "failed before under other limits"
ASKED_FOR = "asked for again"
SETTLED = "done but for the commit, which the next run makes"
LEFT_OUT = "left out by the selection"

TODO = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("size_bytes", pa.int64(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("lender", pa.string()),
    ]
)
FEATURES_TODO = pa.schema(
    [
        pa.field("video_id", pa.string(), nullable=False),
        pa.field("content_id", pa.string(), nullable=False),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("shard", pa.string(), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class CatalogPlan:
    """What reading the source again would change in the catalog."""

    reasons: Mapping[str, int]
    """Why: number of videos by reason, the most frequent first."""
    kept: int
    """Videos of which nothing changed that work depends on; their time of change may have."""
    gone: int
    """Videos that are no longer in the source."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A batch of videos that is extracted together and committed together."""

    name: str
    """Hash of the stage and of the videos' contents and attempts: the same work always has the same name."""
    videos: tuple[VideoRef, ...]
    """The batch, sorted by video_id."""
    lenders: tuple[str | None, ...]
    """For each video the earlier faces fingerprint whose detections of this content can be used again; None where
    there is none."""

    @property
    def title(self) -> str:
        """What it holds, for people: how many videos of which data sets and methods, and the start of its name.

        Examples
        --------
        >>> videos = [VideoRef(f"ffpp/{name}/c23/000", "", 1, "") for name in ("Deepfakes", "original")]
        >>> Shard("1f2e3d4c5b6a", tuple(videos), (None, None)).title
        '2 videos of ffpp/Deepfakes/c23 and ffpp/original/c23 (1f2e3d4c)'
        """
        groups = sorted({video.video_id.rpartition("/")[0] or "no data set" for video in self.videos})
        told = [*groups[:2], f"{len(groups) - 2} more"] if len(groups) > 2 else groups
        number = len(self.videos)
        return f"{number} {'video' if number == 1 else 'videos'} of {' and '.join(told)} ({self.name[:8]})"


@dataclass(frozen=True, slots=True)
class Figures:
    """What a video that ended well took, by the ledger."""

    cpu_seconds: float
    """Mean processor time."""
    stored_bytes: float
    """Mean size of its pictures and clips."""


@dataclass(frozen=True, slots=True, eq=False)
class FacesPlan:
    """What the faces stage would do."""

    stage: StageRecord
    """What the fingerprint stands for; to be stored before the first shard."""
    todo: pa.Table
    """Videos to be extracted, sorted by video_id: ``video_id``, ``url``, ``size_bytes``, ``content_id``, ``attempt``
    (int32), ``reason``, and ``lender`` (see `Shard.lenders`)."""
    videos_per_shard: int
    """Videos in each shard but the last."""
    reasons: Mapping[str, int]
    """Why: number of videos by reason, the most frequent first."""
    kept: Mapping[str, int]
    """Videos of the catalog that stay as they are: ``done``, the state in which they failed, or left out by the
    selection."""
    gone: int
    """Videos of the ledger that are no longer in the catalog; nothing of them is deleted."""
    figures: Figures | None
    """What videos took under this fingerprint, else under the latest; None before the first run."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the stage."""
        return self.stage.fingerprint

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return len(range(0, self.todo.num_rows, self.videos_per_shard))

    def shards(self, *, first: int = 0) -> Iterator[Shard]:
        """Cut the work into shards, one at a time, in the order of video_id; those before the first come last."""
        spans = list(_cut(0, self.todo.num_rows, self.videos_per_shard))
        for start, stop in spans[first:] + spans[:first]:
            yield _shard(self.todo.slice(start, stop - start), self.fingerprint)


@dataclass(frozen=True, slots=True)
class FeatureShard:
    """A batch of videos whose features are computed together and committed together."""

    name: str
    """Hash of the stage and of the videos' contents and attempts."""
    videos: tuple[VideoKey, ...]
    """Which."""


@dataclass(frozen=True, slots=True, eq=False)
class FeaturesPlan:
    """What the features stage would do for one feature set."""

    settings: FeatureSettings
    """The feature set."""
    stage: StageRecord
    """What the fingerprint stands for; to be stored before the first shard."""
    todo: pa.Table
    """Videos to be computed: ``video_id``, ``content_id``, ``attempt`` (int32) and ``shard``, the face shard they
    went by; those of one face shard stand together."""
    videos_per_shard: int
    """Most videos in one shard: smaller face shards are joined, larger ones are cut."""
    kept: int
    """Videos whose features stand."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of its rows."""
        return self.stage.fingerprint

    @property
    def faces_fingerprint(self) -> str:
        """Fingerprint of the crops they are computed from."""
        assert self.stage.faces_fingerprint is not None  # noqa: S101 - a features stage has one
        return self.stage.faces_fingerprint

    @property
    def num_shards(self) -> int:
        """How many shards there are."""
        return sum(1 for _ in self._spans())

    def works(self) -> Iterator[FeatureShard]:
        """Cut the work into shards, one at a time; the videos of one lie together in the store."""
        for start, stop in self._spans():
            rows = self.todo.slice(start, stop - start)
            keys = [(row["video_id"], row["content_id"], row["attempt"]) for row in rows.to_pylist()]
            yield FeatureShard(fingerprint("shard", self.fingerprint, keys), tuple(keys))

    def _spans(self) -> Iterator[tuple[int, int]]:
        start = stop = 0
        for videos in _run_lengths(self.todo["shard"]):
            if stop + videos - start > self.videos_per_shard:
                yield from _cut(start, stop, self.videos_per_shard)
                start = stop
            stop += videos
        yield from _cut(start, stop, self.videos_per_shard)


def plan_catalog(before: pa.Table, now: pa.Table) -> CatalogPlan:
    """Compare the catalog as it is stored with the source as it is now.

    Parameters
    ----------
    before, now
        Both with the columns of the catalog.
    """
    with _database() as database:
        database.register("before", before)
        database.register("now", now)
        reasons = dict(database.execute(CATALOG_CHANGES).fetchall())
        ((gone,),) = database.execute("SELECT count(*) FROM before ANTI JOIN now USING (video_id)").fetchall()
    kept = reasons.pop("", 0)
    return CatalogPlan(reasons, kept, gone)


def plan_faces(
    catalog: pa.Table, tables: Tables, settings: Settings, *, selection: Selection = EVERYTHING
) -> FacesPlan:
    """Compare the catalog with the ledger.

    Parameters
    ----------
    catalog
        Every video of the source, with the columns of the catalog.
    tables
        The store.
    settings
        What the faces stage depends on, the limits, and how large shards are.
    selection
        Which videos the run is about, and what is wanted again.

    Raises
    ------
    CatalogError
        A pattern or data set of the selection of which the catalog has no video.
    StoreError
        The store cannot be read, or there is no room to join it with the catalog.
    """
    stage = faces_stage(settings.extract)
    with _database() as database:
        database.register("catalog", catalog)
        _load_ledger(database, tables)
        _select(database, selection)
        _load_settled(database, tables, stage.fingerprint)
        _judge(database, stage.fingerprint, retry=selection.retry, limits=fingerprint(settings.limits))
        todo = _explain(database, tables, stage)
        kept = dict(database.execute(KEPT).fetchall())
        figures = _figures(database, stage.fingerprint)
        ((left_out, gone),) = database.execute(LEFT_OUT_AND_GONE).fetchall()
    stored_bytes = GUESSED_BYTES_A_VIDEO if figures is None else figures.stored_bytes
    fitting = int(settings.shard_bytes / max(1.0, stored_bytes))
    return FacesPlan(
        stage=stage,
        todo=todo,
        videos_per_shard=max(1, min(settings.videos_per_shard, fitting)),
        reasons=_counts(todo["reason"]),
        kept=kept | ({LEFT_OUT: left_out} if left_out else {}),
        gone=gone,
        figures=figures,
    )


def plan_features(
    tables: Tables, settings: Iterable[FeatureSettings], *, faces_fingerprint: str, videos_per_shard: int
) -> tuple[FeaturesPlan, ...]:
    """Compare the videos that have faces with those that have features, for each feature set.

    A selection does not narrow this: training learns from all faces there are, and each of them needs its features.

    Parameters
    ----------
    tables
        The store.
    settings
        The feature sets.
    faces_fingerprint
        Crops that they are computed from.
    videos_per_shard
        Most videos in one shard: smaller face shards are joined, larger ones are cut.

    Raises
    ------
    StoreError
        The store cannot be read, or there is no room to join its tables.
    """
    plans = []
    with _database() as database:
        _load_ledger(database, tables, faces_fingerprint)
        database.execute(FACES)
        ((usable,),) = database.execute("SELECT count(*) FROM faces").fetchall()
        for feature in settings:
            stage = features_stage(feature, faces_fingerprint)
            claims = tables.read_batches("claims", fingerprint=stage.fingerprint, columns=KEYS)
            database.execute("CREATE OR REPLACE TABLE claimed (video_id VARCHAR, content_id VARCHAR, attempt INTEGER)")
            _insert(database, "claimed", ", ".join(KEYS), claims)
            todo = database.sql(FEATURES_TODO_ROWS).to_arrow_table().cast(FEATURES_TODO).combine_chunks()
            plans.append(FeaturesPlan(feature, stage, todo, videos_per_shard, usable - todo.num_rows))
    return tuple(plans)


def feature_fingerprint(settings: FeatureSettings, faces_fingerprint: str) -> str:
    """Return the fingerprint of one feature set over one set of crops."""
    return features_stage(settings, faces_fingerprint).fingerprint


def training_settings_hash(settings: TrainSettings, *, faces_fingerprint: str) -> str:
    """Return the hash of what a training depends on beside its rows: settings, code, and how rows are made."""
    features = [feature_fingerprint(feature, faces_fingerprint) for feature in settings.needed_features]
    return fingerprint("train settings", TRAIN_VERSION, settings.without_pictures(), features)


def usable_videos(catalog: pa.Table, tables: Tables, *, faces_fingerprint: str) -> pa.Table:
    """Return the rows of the catalog whose present content has faces in the store, in the catalog's order."""
    ledger = tables.read("videos", fingerprint=faces_fingerprint, columns=["video_id", "content_id", "status"])
    found = find_videos(catalog, ledger.filter(pc.equal(ledger["status"], "ok")))
    usable = np.zeros(catalog.num_rows, bool)
    usable[found[found >= 0]] = True
    return catalog.filter(pa.array(usable))


def training_fingerprint(videos: pa.Table, settings: TrainSettings, *, faces_fingerprint: str) -> str:
    """Return the fingerprint of a training: its settings, and every video with its content, label, people and parts.

    An official split depends on the lists too, which the catalog has read, and on DFDC's folders.

    Parameters
    ----------
    videos
        Rows of the catalog, sorted by video_id.
    settings
        What the training depends on.
    faces_fingerprint
        Which crops its features are computed from.

    Raises
    ------
    SettingsError
        Figures are wanted by an attribute that no video has, or that tells single videos apart.
    """
    columns = ["video_id", "content_id", "label", "target", "source"]
    if settings.split.protocol == "official":
        columns.append("split")
    learned_from = videos.select(columns)
    for name, values in parts(videos, settings.evaluation.by).items():
        if name not in columns:
            learned_from = learned_from.append_column(name, values)
    if settings.split.protocol == "official":
        folder = pc.replace_substring_regex(videos["url"], r"^(?:.*/)?([^/]*)/[^/]*$", r"\1")
        is_dfdc = pc.equal(videos["dataset"], "dfdc")
        learned_from = learned_from.append_column("folder", pc.if_else(is_dfdc, folder, ""))
    # In parts, as a million rows in one JSON text would take gigabytes.
    rows = [
        fingerprint(learned_from.slice(start, ROWS_AT_ONCE).to_pydict())
        for start in range(0, videos.num_rows, ROWS_AT_ONCE)
    ]
    features = [feature_fingerprint(feature, faces_fingerprint) for feature in settings.needed_features]
    return fingerprint("train", TRAIN_VERSION, settings.without_pictures(), features, rows)


ROWS_AT_ONCE = 16_384
"""Videos that are hashed together; another number makes other fingerprints."""


TRAIN_VERSION = 2
"""Raised when the code trains differently from the same settings and rows."""


KEYS = ("video_id", "content_id", "attempt")
LEDGER = (*KEYS, "fingerprint", "status", "limits", "shard", "finished_at", "cpu_seconds", "stored_bytes")

# A row of an earlier dfpipe has no attempt: it was the first.
LEDGER_VALUES = """
    video_id, content_id, coalesce(attempt, 1), fingerprint, status, limits, shard, epoch_us(finished_at), cpu_seconds,
    stored_bytes
"""
LEDGER_TABLE = """
    CREATE TABLE ledger (
        video_id VARCHAR, content_id VARCHAR, attempt INTEGER, fingerprint VARCHAR, status VARCHAR, limits VARCHAR,
        shard VARCHAR, finished_us BIGINT, cpu_seconds DOUBLE, stored_bytes BIGINT
    )
"""

CATALOG_CHANGES = """
    SELECT CASE WHEN before.video_id IS NULL THEN 'new'
                WHEN before.content_id <> now.content_id THEN 'content changed'
                WHEN (before.dataset, before.label, before.manipulation, before.compression) <>
                     (now.dataset, now.label, now.manipulation, now.compression)
                  OR (before.target, before.source, before.split) IS DISTINCT FROM (now.target, now.source, now.split)
                THEN 'label, people or split changed'
                WHEN before.attributes IS DISTINCT FROM now.attributes THEN 'attributes changed'
                ELSE '' END AS reason, count(*) AS videos
    FROM now LEFT JOIN before USING (video_id) GROUP BY reason ORDER BY videos DESC, reason
"""

MATCHES = "(video_id = pattern OR video_id GLOB pattern)"
MODIFIED_NS = "coalesce(try_cast(modified AS HUGEINT), epoch_ns(try_cast(modified AS TIMESTAMPTZ)))"
SELECTED = f"""
    CREATE TABLE selected AS
    SELECT video_id, content_id FROM catalog
    WHERE (len($videos) = 0 OR EXISTS (SELECT 1 FROM (SELECT unnest($videos) AS pattern) WHERE {MATCHES}))
    AND (len($datasets) = 0 OR dataset IN (SELECT unnest($datasets)))
    AND ($since_ns IS NULL OR $since_ns <= {MODIFIED_NS})
    AND ($before_ns IS NULL OR $before_ns > {MODIFIED_NS})
"""  # noqa: S608 - no text from outside
UNMATCHED = f"""
    SELECT pattern FROM (SELECT unnest($videos) AS pattern)
    WHERE NOT EXISTS (SELECT 1 FROM catalog WHERE {MATCHES})
    UNION ALL
    SELECT name FROM (SELECT unnest($datasets) AS name) WHERE name NOT IN (SELECT dataset FROM catalog)
"""  # noqa: S608 - no text from outside

# What the last attempt left of each selected video under the present fingerprint, and whether it is worth another one.
JUDGED = """
    CREATE TABLE judged AS
    WITH done AS (
        SELECT video_id, content_id, unnest(arg_max(struct_pack(attempt, status, limits), (attempt, finished_us)))
        FROM ledger WHERE fingerprint = $now GROUP BY video_id, content_id
    )
    SELECT video_id, content_id, attempt,
        CASE WHEN (video_id, content_id, coalesce(attempt, 0) + 1) IN (FROM settled) THEN $settled ELSE status END
            AS status,
        CASE WHEN (video_id, content_id, coalesce(attempt, 0) + 1) IN (FROM settled) THEN NULL
             WHEN status IN (SELECT unnest($of_limits)) AND limits <> $limits THEN $other_limits
             WHEN status IN (SELECT unnest($retry)) THEN $asked_for END AS again
    FROM selected LEFT JOIN done USING (video_id, content_id)
"""
TODO_KEYS = "CREATE TABLE todo AS FROM judged WHERE status IS NULL OR again IS NOT NULL"
KEPT = """
    SELECT CASE status WHEN 'ok' THEN 'done' ELSE status END AS state, count(*) AS videos FROM judged
    WHERE status IS NOT NULL AND again IS NULL GROUP BY state ORDER BY state <> 'done', videos DESC, state
"""
LEFT_OUT_AND_GONE = """
    SELECT (SELECT count(*) FROM catalog) - (SELECT count(*) FROM selected),
        (SELECT count(DISTINCT video_id) FROM ledger ANTI JOIN catalog USING (video_id))
"""

# Each video is compared with what was done last to it, whatever its content and settings were.
EXPLAINED = """
    WITH last AS (
        SELECT video_id,
            unnest(arg_max(struct_pack(content := content_id, stage := fingerprint), (finished_us, fingerprint)))
        FROM ledger SEMI JOIN todo USING (video_id) GROUP BY video_id
    ), lent AS (
        SELECT video_id, content_id, arg_max(fingerprint, (finished_us, fingerprint)) AS lender
        FROM ledger SEMI JOIN todo USING (video_id, content_id)
        WHERE status IN ('ok', 'no_face') AND fingerprint IN (SELECT unnest($lenders))
        GROUP BY video_id, content_id
    )
    SELECT video_id, url, size_bytes, todo.content_id, coalesce(attempt, 0) + 1 AS attempt,
        CASE WHEN again IS NOT NULL THEN again
             WHEN last.video_id IS NULL THEN 'new'
             WHEN content <> todo.content_id THEN 'content changed'
             ELSE stages.reason END AS reason,
        CASE WHEN again IS NULL THEN lender END AS lender
    FROM todo JOIN catalog USING (video_id)
    LEFT JOIN last USING (video_id)
    LEFT JOIN lent ON lent.video_id = todo.video_id AND lent.content_id = todo.content_id
    LEFT JOIN (SELECT unnest($stages) AS stage, unnest($reasons) AS reason) stages USING (stage)
    ORDER BY video_id
"""
FIGURES = """
    SELECT avg(cpu_seconds), avg(stored_bytes) FROM ledger WHERE status = 'ok'
    GROUP BY fingerprint ORDER BY fingerprint = $now DESC, max(finished_us) DESC LIMIT 1
"""

FACES = """
    CREATE TABLE faces AS
    WITH done AS (
        SELECT video_id, content_id, unnest(arg_max(struct_pack(attempt, status, shard), (attempt, finished_us)))
        FROM ledger GROUP BY video_id, content_id
    )
    FROM done WHERE status = 'ok'
"""
FEATURES_TODO_ROWS = """
    SELECT video_id, content_id, attempt, shard FROM faces ANTI JOIN claimed USING (video_id, content_id, attempt)
    ORDER BY min(video_id) OVER (PARTITION BY shard), shard, video_id
"""


@contextmanager
def _database() -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB of one's own that goes to a temporary folder with what does not fit into `MEMORY`."""
    with TemporaryDirectory(prefix="dfpipe-plan-", ignore_cleanup_errors=True) as folder:
        options: dict[str, str | bool | int | float | list[str]] = {
            "memory_limit": MEMORY,
            "threads": THREADS,
            "temp_directory": folder,
            "preserve_insertion_order": False,
        }
        try:
            with duckdb.connect(config=options) as database:
                database.execute("SET TimeZone = 'UTC'")
                yield database
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            raise StoreError(
                f"cannot compare catalog and store in {folder}: {str(error).splitlines()[0]}; make room there, or set "
                "TMPDIR to a folder that has some"
            ) from error


def _load_ledger(database: duckdb.DuckDBPyConnection, tables: Tables, stage: str | None = None) -> None:
    database.execute(LEDGER_TABLE)
    _insert(database, "ledger", LEDGER_VALUES, tables.read_batches("videos", fingerprint=stage, columns=LEDGER))


def _load_settled(database: duckdb.DuckDBPyConnection, tables: Tables, stage: str) -> None:
    """Take note of what runs have claimed and not committed: those that died, or are at it."""
    keys = tables.claimed_by(tables.unfinished(stage), fingerprint=stage)
    database.execute("CREATE TABLE settled (video_id VARCHAR, content_id VARCHAR, attempt INTEGER)")
    if keys:
        database.executemany("INSERT INTO settled VALUES (?, ?, ?)", keys)


def _insert(database: duckdb.DuckDBPyConnection, table: str, values: str, batches: Iterable[pa.RecordBatch]) -> None:
    """Copy rows into a table of the database.

    They are fetched here and not by DuckDB, so that what goes wrong in the store comes out as it is.
    """
    for rows in _in_bulk(batches):
        database.register("incoming", rows)
        database.execute(f"INSERT INTO {table} SELECT {values} FROM incoming")  # noqa: S608 - no text from outside
        database.unregister("incoming")


def _in_bulk(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """Put small batches together."""
    held: list[pa.RecordBatch] = []
    num_rows = 0
    for batch in batches:
        held.append(batch)
        num_rows += batch.num_rows
        if num_rows >= ROWS_INSERTED_AT_ONCE:
            yield pa.Table.from_batches(held)
            held, num_rows = [], 0
    if num_rows:
        yield pa.Table.from_batches(held)


def _select(database: duckdb.DuckDBPyConnection, selection: Selection) -> None:
    names = {"videos": selection.videos, "datasets": selection.datasets}
    unmatched = sorted(name for (name,) in database.execute(UNMATCHED, names).fetchall())
    if unmatched:
        ((known,),) = database.execute(
            "SELECT string_agg(DISTINCT dataset, ', ' ORDER BY dataset) FROM catalog"
        ).fetchall()
        raise CatalogError(
            f"no video of the catalog matches {', '.join(unmatched)}; `dfpipe catalog --json` lists ids, and the data "
            f"sets are {known or 'none'}"
        )
    times = {"since_ns": selection.since_utc, "before_ns": selection.before_utc}
    since_epoch = {
        name: None if time is None else (time - EPOCH) // timedelta(microseconds=1) * 1000
        for name, time in times.items()
    }
    database.execute(SELECTED, names | since_epoch)


def _judge(database: duckdb.DuckDBPyConnection, now: str, *, retry: Sequence[str], limits: str) -> None:
    words = {"other_limits": OTHER_LIMITS, "asked_for": ASKED_FOR, "of_limits": OF_LIMITS, "settled": SETTLED}
    database.execute(JUDGED, words | {"now": now, "retry": retry, "limits": limits})
    database.execute(TODO_KEYS)


def _explain(database: duckdb.DuckDBPyConnection, tables: Tables, now: StageRecord) -> pa.Table:
    earlier = [name for (name,) in database.execute("SELECT DISTINCT fingerprint FROM ledger").fetchall()]
    records = {name: read_stage(tables, name) for name in sorted(earlier) if name != now.fingerprint}
    given = {
        "stages": list(records),
        "reasons": [first_reason(record, now) for record in records.values()],
        "lenders": [
            name
            for name, record in records.items()
            if record is not None and record.detection_fingerprint == now.detection_fingerprint
        ],
    }
    return database.sql(EXPLAINED, params=given).to_arrow_table().cast(TODO).combine_chunks()


def _figures(database: duckdb.DuckDBPyConnection, now: str) -> Figures | None:
    for cpu_seconds, stored_bytes in database.execute(FIGURES, {"now": now}).fetchall():
        return Figures(cpu_seconds, GUESSED_BYTES_A_VIDEO if stored_bytes is None else stored_bytes)
    return None


def _counts(values: pa.ChunkedArray) -> dict[str, int]:
    counted = [(one["values"], one["counts"]) for one in pc.value_counts(values).to_pylist()]
    return dict(sorted(counted, key=lambda one: (-one[1], one[0])))


def _cut(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + size, stop)) for first in range(start, stop, size))


def _run_lengths(values: pa.ChunkedArray) -> list[int]:
    """Return how often each value is repeated before another comes."""
    ends = [np.asarray(pc.run_end_encode(chunk).run_ends) for chunk in values.chunks if len(chunk)]
    return [int(length) for chunk in ends for length in np.diff(chunk, prepend=0)]


def _shard(rows: pa.Table, stage: str) -> Shard:
    columns = {name: rows[name].to_pylist() for name in rows.column_names}
    keys = ("video_id", "url", "size_bytes", "content_id", "attempt")
    videos = tuple(VideoRef(*values) for values in zip(*(columns[key] for key in keys), strict=True))
    name = fingerprint("shard", stage, [video.key for video in videos])
    return Shard(name, videos, tuple(columns["lender"]))
