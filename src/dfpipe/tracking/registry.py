"""Models in MLflow's registry: written as anyone can load them, read back only as they were written.

The bytes of a model lie in the artifact store, their hash in MLflow's database. Whoever can change the one can not
thereby change the other, and nothing is built from bytes whose hash is not the recorded one.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from boto3.exceptions import Boto3Error

from dfpipe.errors import ModelNotFoundError, StoreError
from dfpipe.models.bundle import Bundle, Preprocessing, load_estimator
from dfpipe.models.calibration import VerdictRule
from dfpipe.models.data import FeatureMatrix
from dfpipe.models.evaluate import Evaluation
from dfpipe.models.kinds import KINDS
from dfpipe.storage import storage_errors
from dfpipe.tracking.connection import Tracking, importing_mlflow, tracking_errors

__all__ = ["alias_version", "find_version", "load_champion", "model_exists", "point_alias", "register_model", "run_of"]

PREPROCESSING_FILE, RULE_FILE = "preprocessing.json", "verdict_rule.json"
MODEL_TAG = "dfpipe.model"
MODEL_SHA256_TAG = "dfpipe.model_sha256"
PREPROCESSING_SHA256_TAG = "dfpipe.preprocessing_sha256"
RULE_SHA256_TAG = "dfpipe.verdict_rule_sha256"


def load_champion(tracking: Tracking, *, name: str, alias_or_version: str) -> Bundle:
    """Load a registered model with its preprocessing and verdict rule, after checking that all are as written.

    Parameters
    ----------
    tracking
        Open connection.
    name
        Registered model.
    alias_or_version
        ``champion`` or any other alias, or a version number.

    Raises
    ------
    ModelNotFoundError
        No such model, alias or version, or one that dfpipe did not register.
    StoreError
        Files that are missing, or that are not the ones that were recorded.
    ServiceError
        MLflow cannot be reached.
    """
    with tracking_errors("read a model from", tracking.uri):
        version = find_version(tracking, name, alias_or_version)
        if version is None:
            raise ModelNotFoundError(
                f"registered model {name!r} has no version or alias {alias_or_version!r} in {tracking.shown_uri}; "
                "train one with `dfpipe run`, see `dfpipe models history` for what the gate refused, or name another"
            )
        kind, model_sha256, preprocessing_sha256, rule_sha256 = (
            version.tags.get(tag) for tag in (MODEL_TAG, MODEL_SHA256_TAG, PREPROCESSING_SHA256_TAG, RULE_SHA256_TAG)
        )
        if kind not in KINDS or None in (model_sha256, preprocessing_sha256, rule_sha256):
            raise ModelNotFoundError(
                f"version {version.version} of {name!r} carries no hash of dfpipe's, so nothing says what its file "
                "should hold; name a version that `dfpipe run` registered"
            )
        what = f"version {version.version} of registered model {name!r}"
        preprocessing = _read_checked(
            tracking, version.source, f"extra_files/{PREPROCESSING_FILE}", preprocessing_sha256, what
        )
        rule = _read_checked(tracking, version.source, f"extra_files/{RULE_FILE}", rule_sha256, what)
        model = _read_checked(tracking, version.source, KINDS[kind].file, model_sha256, what)
    return Bundle(
        model=kind,
        estimator=load_estimator(kind, model),
        preprocessing=Preprocessing.from_json(preprocessing),
        name=name,
        version=str(version.version),
        rule=VerdictRule.from_json(rule),
    )


def model_exists(tracking: Tracking, name: str, version: str) -> bool:
    """Whether a version of a registered model is still there."""
    return find_version(tracking, name, version) is not None


def register_model(
    tracking: Tracking,
    *,
    run_id: str,
    evaluation: Evaluation,
    X: FeatureMatrix,
    preprocessing: Preprocessing,
    fingerprint: str,
    metrics: Mapping[str, float],
    scratch: Path,
) -> Any:
    """Store a fitted model as an MLflow model of its own flavour, and register it; no alias is moved.

    Parameters
    ----------
    tracking
        Open connection.
    run_id
        Run that the model comes from; the figures are recorded for both.
    evaluation
        The fitted model.
    X
        A row as an example of the input, shape (1, columns).
    preprocessing
        Stored with the model.
    fingerprint
        Of the training.
    metrics
        Figures of the model.
    scratch
        Folder that does not exist yet, for the files before they are uploaded.

    Returns
    -------
    mlflow.entities.model_registry.ModelVersion
        The new version.
    """
    from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, RunTag  # noqa: PLC0415 - slow to import

    client, settings = tracking.client, tracking.settings
    candidate = evaluation.candidate
    logged = client.create_logged_model(
        tracking.experiment_id,
        name=candidate.model,
        source_run_id=run_id,
        params={name: str(value) for name, value in candidate.params},
    )
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, step=0)])
    now = int(time.time() * 1000)
    tags = {MODEL_TAG: candidate.model, **_save(scratch, evaluation, X, preprocessing, logged=logged, run_id=run_id)}
    client.log_batch(
        run_id,
        metrics=[Metric(name, value, now, 0, model_id=logged.model_id) for name, value in metrics.items()],
        tags=[RunTag(name, value) for name, value in tags.items()],
    )
    with artifact_errors("write", f"model {logged.artifact_location}"):
        client.log_model_artifacts(logged.model_id, str(scratch))
    client.finalize_logged_model(logged.model_id, LoggedModelStatus.READY)
    _create_registered_model(tracking)
    # By location: a models:/ source would be looked up through MLflow's global address.
    version = client.create_model_version(
        settings.registered_model,
        source=logged.artifact_location,
        run_id=run_id,
        model_id=logged.model_id,
        tags={**tags, "dfpipe.fingerprint": fingerprint},
        await_creation_for=None,
    )
    link = [{"name": version.name, "version": str(version.version)}]
    client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": json.dumps(link)})
    return version


def alias_version(tracking: Tracking, alias: str) -> str | None:
    """Return the version of the registered model that an alias means; None where it means none.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    with tracking_errors("read the alias from", tracking.uri):
        version = find_version(tracking, tracking.settings.registered_model, alias)
    return None if version is None else str(version.version)


def run_of(tracking: Tracking, name: str, version: str) -> str | None:
    """Return the run that made a version of a registered model; None where there is no such version or no run.

    Raises
    ------
    ServiceError
        MLflow cannot be reached.
    """
    with tracking_errors("read a model from", tracking.uri):
        found = find_version(tracking, name, version)
    return (found.run_id or None) if found is not None else None


def point_alias(tracking: Tracking, alias: str, version: str) -> None:
    """Let an alias mean this version of the registered model; a champion is no challenger any more.

    Raises
    ------
    ServiceError
        MLflow cannot be reached, or refuses.
    """
    settings = tracking.settings
    name = settings.registered_model
    is_risen = alias == settings.alias and alias_version(tracking, settings.challenger_alias) == version
    with tracking_errors("set the alias in", tracking.uri):
        tracking.client.set_registered_model_alias(name, alias, version)
        if is_risen:
            tracking.client.delete_registered_model_alias(name, settings.challenger_alias)


@contextmanager
def artifact_errors(verb: str, what: str) -> Iterator[None]:
    """Turn what the artifact store raises inside the block into one clear `StoreError`."""
    with storage_errors(verb, what):
        try:
            yield
        except Boto3Error as error:
            # boto3's own upload errors stand beside botocore's, not below them.
            raise OSError(str(error)) from error


def _save(
    folder: Path, evaluation: Evaluation, X: FeatureMatrix, preprocessing: Preprocessing, *, logged: Any, run_id: str
) -> dict[str, str]:
    """Write the model's folder and return the hashes of the files that verdicts rest on, as tags."""
    with importing_mlflow():
        import mlflow.lightgbm  # noqa: PLC0415 - slow to import
        import mlflow.pyfunc.model  # noqa: PLC0415 - slow to import, and otherwise done by save_model in the open
        import mlflow.sklearn  # noqa: PLC0415 - slow to import
        import mlflow.xgboost  # noqa: PLC0415 - slow to import
        from mlflow.models import Model, infer_signature  # noqa: PLC0415 - slow to import

    kind = KINDS[evaluation.candidate.model]
    # MLflow keeps LightGBM's classifier as a pickle or by skops, its booster as a text that LightGBM alone reads.
    estimator = evaluation.model.booster_ if kind.flavour == "lightgbm" else evaluation.model
    texts = {PREPROCESSING_FILE: preprocessing.to_json().encode(), RULE_FILE: evaluation.rule.to_json().encode()}
    with TemporaryDirectory(prefix="dfpipe-") as scratch:
        for name, text in texts.items():
            Path(scratch, name).write_bytes(text)
        common: dict[str, Any] = {
            "path": str(folder),
            "mlflow_model": Model(
                artifact_path=logged.artifact_location,
                run_id=run_id,
                model_uuid=logged.model_id,
                model_id=logged.model_id,
            ),
            "signature": infer_signature(X, estimator.predict(X)),
            "input_example": X,
            "extra_files": [str(Path(scratch, name)) for name in texts],
            # Requirements that are stated need not be found out by importing the model in another process.
            "pip_requirements": [f"{package}=={installed_version(package)}" for package in kind.packages],
        }
        if kind.flavour == "sklearn":
            mlflow.sklearn.save_model(
                estimator, serialization_format="skops", skops_trusted_types=list(kind.trusted), **common
            )
        elif kind.flavour == "xgboost":
            mlflow.xgboost.save_model(estimator, model_format="ubj", **common)
        else:
            mlflow.lightgbm.save_model(estimator, **common)
    return {
        MODEL_SHA256_TAG: _sha256((folder / kind.file).read_bytes()),
        PREPROCESSING_SHA256_TAG: _sha256(texts[PREPROCESSING_FILE]),
        RULE_SHA256_TAG: _sha256(texts[RULE_FILE]),
    }


def _create_registered_model(tracking: Tracking) -> None:
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    try:
        tracking.client.create_registered_model(
            tracking.settings.registered_model, description="Deepfake classifiers trained by dfpipe."
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def find_version(tracking: Tracking, name: str, alias_or_version: str) -> Any | None:
    """Return a version of a registered model by number or alias; None where there is none. Errors are MLflow's."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    try:
        if alias_or_version.isdecimal():
            return tracking.client.get_model_version(name, alias_or_version)
        return tracking.client.get_model_version_by_alias(name, alias_or_version)
    except MlflowException as error:
        # A missing alias is an invalid parameter to MLflow.
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _read_checked(tracking: Tracking, source: str, file: str, sha256: str, what: str) -> bytes:
    """Read a model's file once, so that the bytes that are checked are the bytes that are used."""
    from mlflow.artifacts import download_artifacts  # noqa: PLC0415 - slow to import
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - slow to import

    with TemporaryDirectory(prefix="dfpipe-") as scratch, artifact_errors("read", f"{source}/{file}"):
        try:
            path = download_artifacts(f"{source}/{file}", dst_path=scratch, tracking_uri=tracking.uri)
        except MlflowException as error:
            raise StoreError(
                f"cannot read {file} of {what} from {source}: {' '.join(str(error).split())[:200]}; "
                "restore it, or take another version"
            ) from error
        content = Path(path).read_bytes()
    if _sha256(content) != sha256:
        raise StoreError(
            f"{file} of {what} has SHA-256 {_sha256(content)[:12]}…, but {sha256[:12]}… was recorded when it was "
            "trained, so it was changed since; restore it, or take another version"
        )
    return content


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
