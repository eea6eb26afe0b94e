"""The settings: one YAML file, any key overridden by ``DFPIPE_…`` variables and by ``--set key=value``.

Later sources win: defaults, the file, the environment, ``--set``.
A nested key is ``extract.crop.size_px`` in ``--set`` and ``DFPIPE_EXTRACT__CROP__SIZE_PX`` in the environment.
Values are read as YAML, secrets letter by letter; nothing and ``null`` are none.
Library functions never receive the whole of this: each takes the one section that concerns it.
"""

from dfpipe.settings.evaluation import (
    BalancedThreshold,
    BootstrapSettings,
    ByColumn,
    EvaluationSettings,
    FalseAlarmThreshold,
    FixedThreshold,
    SheetSettings,
    ThresholdSettings,
)
from dfpipe.settings.extract import (
    CascadeSettings,
    CropSettings,
    DetectorSettings,
    DlibSettings,
    EverySampling,
    ExtractSettings,
    FaceVideoSettings,
    FilterSettings,
    FpsSampling,
    FrameSettings,
    IndexSampling,
    KeyframeSampling,
    LimitSettings,
    MtcnnSettings,
    PersonSettings,
    QualitySettings,
    RetinafaceR50Settings,
    RetinafaceSettings,
    SamplingSettings,
    UniformSampling,
    WindowSampling,
)
from dfpipe.settings.features import (
    ColourSettings,
    CooccurrenceSettings,
    DctSettings,
    FaceFeatureSettings,
    FeatureSettings,
    LandmarksSettings,
    LbpSettings,
    PixelsSettings,
    ResidualMapSettings,
    ResidualSettings,
    SharpnessSettings,
    SpectrumSettings,
    TemporalSettings,
)
from dfpipe.settings.gate import GateSettings
from dfpipe.settings.loading import load_settings
from dfpipe.settings.log import LogSettings
from dfpipe.settings.models import (
    Balance,
    ExtraTreesSettings,
    ForestSettings,
    LightgbmSettings,
    LinearSvmSettings,
    LogisticSettings,
    RbfSvmSettings,
    XgboostSettings,
)
from dfpipe.settings.report import LossSettings, ReportSettings
from dfpipe.settings.root import STAGES, Settings, Stage
from dfpipe.settings.search import SearchSettings
from dfpipe.settings.section import without_password
from dfpipe.settings.selection import Selection
from dfpipe.settings.services import (
    ClusterOptions,
    ClusterSettings,
    DaskSettings,
    MlflowSettings,
    PrefectSettings,
    S3Settings,
    TlsSettings,
)
from dfpipe.settings.split import FaceDuplicateSettings, SplitProtocol, SplitSettings
from dfpipe.settings.telemetry import TelemetrySettings
from dfpipe.settings.train import THUMBNAILS, TrainSettings

__all__ = [
    "STAGES",
    "THUMBNAILS",
    "Balance",
    "BalancedThreshold",
    "BootstrapSettings",
    "ByColumn",
    "CascadeSettings",
    "ClusterOptions",
    "ClusterSettings",
    "ColourSettings",
    "CooccurrenceSettings",
    "CropSettings",
    "DaskSettings",
    "DctSettings",
    "DetectorSettings",
    "DlibSettings",
    "EvaluationSettings",
    "EverySampling",
    "ExtraTreesSettings",
    "ExtractSettings",
    "FaceDuplicateSettings",
    "FaceFeatureSettings",
    "FaceVideoSettings",
    "FalseAlarmThreshold",
    "FeatureSettings",
    "FilterSettings",
    "FixedThreshold",
    "ForestSettings",
    "FpsSampling",
    "FrameSettings",
    "GateSettings",
    "IndexSampling",
    "KeyframeSampling",
    "LandmarksSettings",
    "LbpSettings",
    "LightgbmSettings",
    "LimitSettings",
    "LinearSvmSettings",
    "LogSettings",
    "LogisticSettings",
    "LossSettings",
    "MlflowSettings",
    "MtcnnSettings",
    "PersonSettings",
    "PixelsSettings",
    "PrefectSettings",
    "QualitySettings",
    "RbfSvmSettings",
    "ReportSettings",
    "ResidualMapSettings",
    "ResidualSettings",
    "RetinafaceR50Settings",
    "RetinafaceSettings",
    "S3Settings",
    "SamplingSettings",
    "SearchSettings",
    "Selection",
    "Settings",
    "SharpnessSettings",
    "SheetSettings",
    "SpectrumSettings",
    "SplitProtocol",
    "SplitSettings",
    "Stage",
    "TelemetrySettings",
    "TemporalSettings",
    "ThresholdSettings",
    "TlsSettings",
    "TrainSettings",
    "UniformSampling",
    "WindowSampling",
    "XgboostSettings",
    "load_settings",
    "without_password",
]
