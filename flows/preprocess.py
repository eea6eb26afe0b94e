"""Videos to faces and features."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
from prefect import flow, get_run_logger
from prefect.artifacts import create_link_artifact, create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.utilities.annotations import quote

from dfpipe import progress, telemetry
from dfpipe.engine import MOST_SHARDS_AT_ONCE, open_engine
from dfpipe.fingerprint import fingerprint
from dfpipe.plan import EVERYTHING, FacesPlan, FeaturesPlan, feature_fingerprint, plan_faces, plan_features
from dfpipe.provenance import Provenance, make_provenance
from dfpipe.report import Losses, Report, check_losses, escape_markdown, printable, report_folder, to_markdown
from dfpipe.settings import Selection, Settings, Stage
from dfpipe.shards import Tables, open_tables
from dfpipe.stages import write_stage
from flows._moving import moving_progress
from flows._observed import logged, measured
from flows._window import Ends, submit_within
from tasks.preprocess import compute_features, extract_faces, finish_commits, merge_records, read_catalog, write_report

__all__ = ["Preprocessed", "preprocess"]


@dataclass
class Preprocessed:
    """What a preprocessing run found and did."""

    videos: int = 0
    """Videos in the catalog."""
    extracted: int = 0
    """Videos extracted by this run."""
    kept: int = 0
    """Videos whose work stood."""
    statuses: Counter[str] = field(default_factory=Counter)
    """Videos extracted by this run, by status."""
    faces: int = 0
    """Face crops written by this run."""
    report: Report | None = None
    """What the store holds since, and what of it this run wrote; None where the run stopped before."""
    dashboard_url: str | None = None
    """Pages of the workers that did it; None where none were needed."""
    feature_rows: int = 0
    """Feature rows written by this run."""

    @property
    def losses(self) -> Losses | None:
        """What was lost over the whole catalog."""
        return self.report.losses if self.report is not None else None


RUNNER: TaskRunner[Any] = ThreadPoolTaskRunner(max_workers=MOST_SHARDS_AT_ONCE)


@flow(name="preprocess", flow_run_name="preprocess {settings.source}", task_runner=RUNNER, persist_result=False)
@logged
@measured("preprocess")
def preprocess(settings: Settings, until: Stage = "features", selection: Selection = EVERYTHING) -> Preprocessed:
    """When it ends, every video of the source has one ledger row, and its faces and features are committed.

    A run that lost more than the user allows ends with its report, before the features.

    Args:
        settings: All settings of the run; `dfpipe config` prints them with their defaults.
        until: Last stage.
        selection: Narrows the run to some of the videos, or does some of them again.
    """
    by = make_provenance(settings, run_id=str(flow_run.id))
    tables = open_tables(settings.store, settings.s3)
    catalog: pa.Table = read_catalog(settings, tables, by)
    done = Preprocessed(videos=len(catalog))
    if until == "catalog":
        return done

    plan = plan_faces(catalog, tables, settings, selection=selection)
    stages = [plan.fingerprint, *(feature_fingerprint(one, plan.fingerprint) for one in settings.train.needed_features)]
    # What the plan calls settled stays so, however it ended: a run does what `dfpipe plan` says.
    finish_commits(tables, stages, by)
    done.extracted = plan.todo.num_rows
    done.kept = len(catalog) - done.extracted
    say = get_run_logger().info
    say("%d videos: %d kept, to extract %s", len(catalog), done.kept, dict(plan.reasons) or "none")

    if not plan.num_shards and not features_to_do(settings, tables, plan, until):
        merge_records(settings, tables, by)
        done.report = account_for_losses(settings, tables, by)
        return done

    with open_engine(settings.dask) as engine, moving_progress():
        done.dashboard_url = engine.dashboard_url
        if engine.dashboard_url is not None:
            create_link_artifact(engine.dashboard_url, "Dask dashboard", key="dask-dashboard")
        say("%d workers; Dask dashboard at %s", engine.workers, engine.dashboard_url)
        write_stage(tables, plan.stage)
        progress.expect("faces", done.extracted)
        # Two runs that start at the same time begin at different places, and meet work that is done.
        shards = plan.shards(first=int(fingerprint(by.run_id), 16) % max(1, plan.num_shards))
        # Prefect would look into every video for a future.
        calls = ((engine, tables, quote(shard), plan.fingerprint, settings, by) for shard in shards)
        extracted, window = Ends(), engine.shards_at_once(plan.videos_per_shard)
        for result in extracted.of(submit_within(extract_faces, calls, window=window)):
            done.statuses.update(result.statuses)
            done.faces += result.faces
            for status, number in result.statuses.items():
                telemetry.add("dfpipe.run.videos", number, status=status)
            telemetry.add("dfpipe.run.faces", result.faces)
            telemetry.add("dfpipe.run.written", result.stored_bytes)
        if extracted.gave_up:
            extracted.check(of=plan.num_shards, what="shards of videos")
        merge_records(settings, tables, by)
        done.report = account_for_losses(settings, tables, by)

        features = features_to_do(settings, tables, plan, until)
        progress.expect("features", sum(feature.num_shards for feature in features))
        for feature in features:
            write_stage(tables, feature.stage)
        computed, sets = Ends(), ((engine, tables, quote(feature), by) for feature in features)
        done.feature_rows = sum(computed.of(submit_within(compute_features, sets, window=max(1, len(features)))))
    extracted.check(of=plan.num_shards, what="shards of videos")
    computed.check(of=len(features), what="feature sets")
    return done


def features_to_do(settings: Settings, tables: Tables, faces: FacesPlan, until: Stage) -> list[FeaturesPlan]:
    """Return the plans of the feature sets that lack something."""
    plans = plan_features(
        tables,
        settings.train.needed_features if until != "faces" else [],
        faces_fingerprint=faces.fingerprint,
        videos_per_shard=settings.videos_per_shard,
    )
    return [plan for plan in plans if plan.num_shards]


def account_for_losses(settings: Settings, tables: Tables, by: Provenance) -> Report:
    """Leave the report in the store and in the run's page, then fail if more was lost than the user allows."""
    report = write_report(settings, tables, by.run_id)
    folder = report_folder(tables, by.run_id).url
    show(report, folder)
    check_losses(report.losses, settings.losses, where=f"{folder}/report.md")
    return report


def show(report: Report, folder: str) -> None:
    """Put the report and the failures into the run's page; the same keys line the runs up in Prefect."""
    create_markdown_artifact(
        f"{to_markdown(report)}\nWith a picture of the distributions: {escape_markdown(folder)}\n",
        key="preprocess-report",
        description="Videos, frames and faces accounted for; losses, distributions, throughput and cost",
    )
    rest = report.num_failures - len(report.failures)
    rows = [{name: printable(text) for name, text in asdict(failure).items()} for failure in report.failures]
    create_table_artifact(
        rows,
        key="preprocess-failures",
        description=f"Videos that ended without a face: {report.num_failures}"
        + (f"; {rest} are left out here, `dfpipe status --failures` lists all" if rest else ""),
    )
