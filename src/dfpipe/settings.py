"""The settings: one YAML file, any key overridden by ``DFPIPE_…`` variables and by ``--set key=value``.

Later sources win: defaults, the file, the environment, ``--set``.
A nested key is ``extract.crop.size_px`` in ``--set`` and ``DFPIPE_EXTRACT__CROP__SIZE_PX`` in the environment.
Values are read as YAML.
Library functions never receive the whole of this: each takes the one section that concerns it.
"""

import difflib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr, ValidationError, model_validator

from dfpipe.errors import SettingsError

__all__ = [
    "STAGES",
    "CropSettings",
    "DaskSettings",
    "DetectorSettings",
    "ExtractSettings",
    "FeatureSettings",
    "ForestSettings",
    "FrameSettings",
    "LimitSettings",
    "MlflowSettings",
    "PixelsSettings",
    "PrefectSettings",
    "ResidualSettings",
    "S3Settings",
    "SamplingSettings",
    "Settings",
    "SplitSettings",
    "Stage",
    "TrainSettings",
    "XgboostSettings",
    "load_settings",
    "without_password",
]

ENV_PREFIX = "DFPIPE_"
# Read by other parts of the project, not settings of a run.
ENV_NOT_SETTINGS = frozenset({"DFPIPE_CONFIG", "DFPIPE_SHARED_DATA", "DFPIPE_REQUIRE_SERVICES"})

Stage = Literal["catalog", "faces", "features", "train"]
STAGES: tuple[Stage, ...] = get_args(Stage)


class Section(BaseModel):
    """A group of settings: frozen, and an unknown key is an error."""

    # Without the input, a traceback tells no secrets either.
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,
        use_attribute_docstrings=True,
        hide_input_in_errors=True,
    )


PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@:]*):[^/]*@")


def without_password(url: str) -> str:
    """Return an address with stars in place of its password."""
    return PASSWORD_IN_URL.sub(r"\1:**********@", url)


Address = Annotated[str | None, PlainSerializer(lambda url: url and without_password(url))]
"""A URL that shows its password to nobody: not in Prefect's parameters, not in `dfpipe config`."""


class SamplingSettings(Section):
    """Which frames of a video are looked at. The defaults are the seed study's protocol."""

    every_frames: int = Field(30, ge=1)
    """Take one frame in this many, starting with the first."""
    max_frames: int = Field(7, ge=1)
    """Take at most this many frames a video."""


class DetectorSettings(Section):
    """How faces are found."""

    name: Literal["mtcnn"] = "mtcnn"
    """Detector; mtcnn runs on ONNX Runtime with the weights of the mtcnn package."""
    min_score: float = Field(0.9, ge=0, le=1)
    """A face counts when the detector's score is above this."""
    min_face_fraction: float = Field(1 / 15, gt=0, le=1)
    """Side of the smallest face looked for, as a share of the picture's shorter side."""


class CropSettings(Section):
    """How a face is cut out."""

    size_px: int = Field(320, ge=16, le=2048)
    """Width and height of a stored crop in pixels."""
    margin_fraction: float = Field(0.0, ge=0, le=2)
    """Added on each side of the box, as a share of the box's width and height."""


class FrameSettings(Section):
    """Whether whole frames are stored beside the faces."""

    keep: bool = True
    """Store every sampled frame as JPEG."""
    jpeg_quality: int = Field(95, ge=1, le=100)
    """JPEG quality of stored frames."""


class LimitSettings(Section):
    """Bounds checked before and while a video is decoded; what passes them is a ledger row, not an error."""

    max_bytes: int = Field(8 * 2**30, ge=1)
    """Largest file in bytes."""
    max_pixels: int = Field(4096 * 4096, ge=1)
    """Most pixels in one frame."""
    max_duration_seconds: float = Field(4 * 3600, gt=0)
    """Longest video in seconds."""
    timeout_seconds: float = Field(300, gt=0)
    """Longest time that reading and decoding one video may take."""


class ExtractSettings(Section):
    """Everything that decides what the faces stage writes; its hash is part of the stage fingerprint."""

    sampling: SamplingSettings = SamplingSettings()
    """Which frames."""
    detector: DetectorSettings = DetectorSettings()
    """How faces are found."""
    crop: CropSettings = CropSettings()
    """How they are cut out."""
    frames: FrameSettings = FrameSettings()
    """Whether whole frames are kept."""


class PixelsSettings(Section):
    """The seed's feature: the crop's pixels, flattened."""

    name: Literal["pixels"] = "pixels"
    """Feature set."""
    size_px: int = Field(64, ge=4, le=2048)
    """Side to which the crop is resized (area averaging) before flattening; gives size x size x 3 uint8 columns."""


class ResidualSettings(Section):
    """Noise residual: the crop minus its Gaussian blur, as per-block statistics."""

    name: Literal["residual"] = "residual"
    """Feature set."""
    sigma_px: float = Field(1.0, gt=0)
    """Standard deviation of the Gaussian in crop pixels."""
    grid: int = Field(12, ge=1, le=64)
    """The crop is cut into grid x grid blocks, each described on its own."""


FeatureSettings = Annotated[PixelsSettings | ResidualSettings, Field(discriminator="name")]


class SplitSettings(Section):
    """How videos are divided; always along groups of people who appear together."""

    test_fraction: float = Field(0.25, gt=0, lt=1)
    """Share of the videos of each class held out for the final figures, in whole groups of people."""
    folds: int = Field(3, ge=2)
    """Grouped cross-validation folds inside the rest."""
    seed: int = 42
    """Seed of the division."""


class ForestSettings(Section):
    """Grid of scikit-learn's RandomForestClassifier; every combination is one candidate."""

    n_estimators: list[int] = Field([100, 300], min_length=1)
    """Trees."""
    max_depth: list[int | None] = Field([None], min_length=1)
    """Deepest level; null grows to purity."""
    max_features: list[str | float] = Field(["sqrt"], min_length=1)
    """Features tried at a node."""


class XgboostSettings(Section):
    """Grid of xgboost.XGBClassifier; every combination is one candidate."""

    n_estimators: list[int] = Field([200], min_length=1)
    """Boosting rounds."""
    max_depth: list[int] = Field([3, 6], min_length=1)
    """Deepest level of a tree."""
    learning_rate: list[float] = Field([0.1], min_length=1)
    """Shrinkage."""


class TrainSettings(Section):
    """Feature sets, split, and the candidates of the grid search."""

    features: list[FeatureSettings] = [PixelsSettings(), ResidualSettings()]
    """Feature sets joined side by side into the rows that models see."""
    split: SplitSettings = SplitSettings()
    """How videos are divided."""
    forest: ForestSettings | None = ForestSettings()
    """Random forest candidates; null leaves the forest out."""
    xgboost: XgboostSettings | None = XgboostSettings()
    """XGBoost candidates; null leaves XGBoost out."""
    seed: int = 42
    """Seed of every model."""

    @model_validator(mode="after")
    def _at_least_one(self) -> "TrainSettings":
        if not self.features:
            raise ValueError("train.features is empty; name at least one feature set")
        names = [feature.name for feature in self.features]
        if len(set(names)) < len(names):
            raise ValueError(f"train.features names {', '.join(names)}; expected each feature set once")
        if self.forest is None and self.xgboost is None:
            raise ValueError("train.forest and train.xgboost are both null; leave at least one model in")
        return self


class MlflowSettings(Section):
    """Where runs and models are recorded."""

    tracking_uri: Address = None
    """MLflow server or database; null is a sqlite file under the state folder."""
    experiment: str = "dfpipe"
    """Experiment that runs are written to."""
    registered_model: str = "dfpipe"
    """Name under which the best model is registered."""
    alias: str = "champion"
    """Alias that the newest best model gets."""


class PrefectSettings(Section):
    """Where flow runs are recorded."""

    api_url: Address = None
    """Prefect API; null starts a local server for the time of the run (or uses that of `dfpipe up`)."""


class DaskSettings(Section):
    """Where per-video work happens."""

    scheduler: str | None = None
    """Address of a running scheduler (tcp://…); null starts workers on this machine."""
    workers: int | None = Field(None, ge=1)
    """Local worker processes; null is one for each core this process may use."""
    memory_per_worker: str = "auto"
    """Memory limit of a local worker, such as 2GiB; auto divides what the machine has."""


class S3Settings(Section):
    """How s3:// URLs are reached. Empty keys fall back on the usual AWS variables and files."""

    endpoint_url: str | None = None
    """Endpoint of an S3-compatible server; null is AWS."""
    region: str = "us-east-1"
    """Region."""
    access_key_id: str | None = None
    """Access key."""
    secret_access_key: SecretStr | None = None
    """Secret key."""
    session_token: SecretStr | None = None
    """Token of temporary credentials."""
    anonymous: bool = False
    """Send unsigned requests (public buckets)."""

    @model_validator(mode="after")
    def _consistent(self) -> "S3Settings":
        if self.endpoint_url and not self.endpoint_url.startswith(("http://", "https://")):
            raise ValueError(f"s3.endpoint_url got {self.endpoint_url!r}, expected one such as http://127.0.0.1:9000")
        # Half a pair would be passed over without a word, in favour of whatever the AWS files say.
        if bool(self.access_key_id) != bool(self.secret_access_key):
            raise ValueError("s3.access_key_id and s3.secret_access_key go together; set both or neither")
        if self.session_token and not self.access_key_id:
            raise ValueError("s3.session_token belongs to a key; set s3.access_key_id and s3.secret_access_key too")
        return self


class Settings(Section):
    """All settings of a run."""

    source: str | None = None
    """Where the videos lie: a folder or an s3:// URL."""
    store: str = ".dfpipe/store"
    """Where tables and model artifacts go: a folder or an s3:// URL."""
    state: Path = Path(".dfpipe")
    """Local folder for servers' databases, logs and pid files."""
    layout: Literal["auto", "ffpp", "celebdf", "dfdc", "csv"] = "auto"
    """Layout of the source; auto finds it out."""
    videos_per_shard: int = Field(64, ge=1)
    """Videos handled by one Prefect task and written as one shard."""
    extract: ExtractSettings = ExtractSettings()
    """Frames and faces."""
    limits: LimitSettings = LimitSettings()
    """Bounds on a single video."""
    train: TrainSettings = TrainSettings()
    """Features, split and models."""
    mlflow: MlflowSettings = MlflowSettings()
    """Runs and models."""
    prefect: PrefectSettings = PrefectSettings()
    """Flow runs."""
    dask: DaskSettings = DaskSettings()
    """Workers."""
    s3: S3Settings = S3Settings()
    """Access to s3:// URLs."""


def load_settings(
    path: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    environ: Mapping[str, str] = os.environ,
) -> Settings:
    """Read the settings from a file, the environment and overrides, in rising order of weight.

    Parameters
    ----------
    path
        YAML file; None reads none.
    overrides
        ``key=value`` strings, nested keys joined by dots, values in YAML.
    environ
        Variables; those that start with ``DFPIPE_`` are settings.

    Raises
    ------
    SettingsError
        A file that cannot be read, a key that does not exist, or a value of the wrong kind.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read_file(Path(path))
    for name in sorted(environ):
        if name.startswith(ENV_PREFIX) and name not in ENV_NOT_SETTINGS:
            keys = name.removeprefix(ENV_PREFIX).lower().split("__")
            _place(values, keys, _parse(environ[name], name), name)
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise SettingsError(f"--set got {override!r}, expected key=value such as extract.crop.size_px=224")
        _place(values, key.strip().split("."), _parse(text, f"--set {key}"), f"--set {key}")
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from error


def _read_file(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"cannot read settings file {path}: {error.strerror}; give the path of a YAML file"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # The parser's own words quote the line, which may hold a secret.
        mark = getattr(error, "problem_mark", None)
        where = f" from line {mark.line + 1} on" if mark else ""
        raise SettingsError(
            f"{path} cannot be read as YAML{where}; check indentation, quotes and brackets, and save it as UTF-8"
        ) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(
            f"{path} holds a {type(values).__name__}, expected keys and values such as 'source: videos'"
        )
    return values


def _parse(text: str, name: str) -> Any:
    if _is_secret(name):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{name} got {text!r}, which is not a YAML value; quote it") from error


def _place(values: dict[str, Any], keys: Sequence[str], value: Any, name: str) -> None:
    for key in keys[:-1]:
        nested = values.setdefault(key, {})
        if nested is None:
            nested = values[key] = {}
        if not isinstance(nested, dict):
            raise SettingsError(f"{name} goes below {key!r}, which holds a {type(nested).__name__} and no further keys")
        values = nested
    values[keys[-1]] = value


def _is_secret(key: str) -> bool:
    return any(word in key.lower() for word in ("secret", "token"))


def _explain(error: ValidationError) -> str:
    first = error.errors()[0]
    # Which member of a union was tried stands in the location too; nobody wrote it there.
    written = [str(part) for part in first["loc"] if part not in {"pixels", "residual", "str", "float"}]
    key = ".".join(written)
    if first["type"] == "extra_forbidden":
        return f"unknown setting {key!r}{_hint(first['loc'])}"
    if first["type"] == "value_error":
        return str(first["ctx"]["error"])
    value = first["input"]
    if _is_secret(key) or key == "s3":
        got = "a hidden value"
    else:
        got = f"a {type(value).__name__}" if isinstance(value, (dict, list)) else repr(value)
    return f"setting {key!r} got {got}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _hint(location: Sequence[str | int]) -> str:
    known = list(_keys(Settings))
    *parents, name = ("*" if isinstance(part, int) else part for part in location)
    folder = "".join(f"{part}." for part in parents)
    # A key beside it; else any key of the tree that looks like it; else the same last word (crop.size_px for size_px).
    beside = [key.removeprefix(folder) for key in known if key.startswith(folder)]
    near = (
        [folder + match for match in difflib.get_close_matches(name, beside, n=1)]
        or difflib.get_close_matches(folder + name, known, n=1)
        or [key for key in known if key.rpartition(".")[2] == name]
    )
    if not near:
        return "; `dfpipe config` prints every key"
    # Inside a list there is no path to give.
    return f"; did you mean {near[0].rpartition('.')[2] if '*' in near[0] else near[0]!r}?"


def _keys(kind: Any, prefix: str = "") -> Iterator[str]:
    """Yield the path of every key; ``*`` stands for a place in a list, followed by the name of what stands there."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            yield prefix + name
            yield from _keys(field.annotation, f"{prefix}{name}.")
        return
    choices = get_args(kind)
    for choice in choices:
        step = ""
        if get_origin(kind) is list:
            step = "*."
        elif sum(isinstance(one, type) and issubclass(one, BaseModel) for one in choices) > 1:
            step = f"{choice.model_fields['name'].default}."
        yield from _keys(choice, prefix + step)
