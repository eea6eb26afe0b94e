"""All settings of a run."""

from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from dfpipe.settings.extract import ExtractSettings, LimitSettings
from dfpipe.settings.gate import GateSettings
from dfpipe.settings.log import LogSettings
from dfpipe.settings.report import LossSettings, ReportSettings
from dfpipe.settings.section import Section, masked_keys
from dfpipe.settings.services import DaskSettings, MlflowSettings, PrefectSettings, S3Settings
from dfpipe.settings.telemetry import TelemetrySettings
from dfpipe.settings.train import TrainSettings

__all__ = ["STAGES", "Settings", "Stage"]

Stage = Literal["catalog", "faces", "features", "train"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class Settings(Section):
    """All settings of a run."""

    source: str | None = None
    """Where the videos lie: a folder or an s3:// URL."""
    store: str = ".dfpipe/store"
    """Where tables and model artifacts go: a folder or an s3:// URL."""
    state: Path = Path(".dfpipe")
    """Local folder for servers' databases, logs and pid files, and for what waits until MLflow has it."""
    layout: Literal["auto", "ffpp", "celebdf", "dfdc", "csv"] = "auto"
    """Layout of the source; auto finds it out."""
    official_lists: str | None = None
    """Folder or s3:// URL of the data set's official lists (train.json, val.json and test.json, or
    List_of_testing_videos.txt); null: they are looked for beside the videos, in the source."""
    shard_bytes: int = Field(128 * 2**20, ge=1)
    """Bytes of pictures that one shard should hold, by what the ledger says a video takes."""
    videos_per_shard: int = Field(256, ge=1)
    """Most videos in one shard, however little they take."""
    extract: ExtractSettings = ExtractSettings()
    """Frames and faces."""
    limits: LimitSettings = LimitSettings()
    """Bounds on a single video."""
    losses: LossSettings = LossSettings()
    """What a run may lose before it fails."""
    train: TrainSettings = TrainSettings()
    """Features, split and models."""
    gate: GateSettings = GateSettings()
    """What a model has to show before it becomes the champion."""
    report: ReportSettings = ReportSettings()
    """What a run's report needs to know."""
    mlflow: MlflowSettings = MlflowSettings()
    """Runs and models."""
    prefect: PrefectSettings = PrefectSettings()
    """Flow runs."""
    dask: DaskSettings = DaskSettings()
    """Workers."""
    log: LogSettings = LogSettings()
    """What a run writes to stderr."""
    telemetry: TelemetrySettings = TelemetrySettings()
    """Metrics of runs."""
    s3: S3Settings = S3Settings()
    """Access to s3:// URLs."""

    @model_validator(mode="after")
    def _has_landmarks(self) -> Self:
        needing = next((feature.name for feature in self.train.features if feature.needs_landmarks), None)
        if needing is not None and not self.extract.detector.gives_landmarks:
            raise ValueError(
                f"train.features has {needing}, which needs landmarks, and detector {self.extract.detector.name} gives"
                " none; choose another extract.detector.name, or take the feature set out"
            )
        return self

    @model_validator(mode="after")
    def _secrets_are_told(self) -> Self:
        masked = next(masked_keys(self), None)
        if masked is not None:
            raise ValueError(
                f"{masked} has stars in place of a secret, as `dfpipe config` prints it; give the secret itself, best "
                f"as the variable DFPIPE_{masked.upper().replace('.', '__')}, or take the key out"
            )
        return self
