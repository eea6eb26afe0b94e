"""Servers that a run talks to."""

from pathlib import Path
from typing import Any

from pydantic import Field, Secret, SecretStr, model_validator

from dfpipe.settings.section import Address, Section

__all__ = [
    "ClusterOptions",
    "ClusterSettings",
    "DaskSettings",
    "MlflowSettings",
    "PrefectSettings",
    "S3Settings",
    "TlsSettings",
]


DATABASES = ("postgresql://", "postgresql+asyncpg://")


class MlflowSettings(Section):
    """Where runs and models are recorded."""

    tracking_uri: Address = None
    """MLflow server (https://…) or database (postgresql://…); null is a sqlite file under the state folder."""
    username: str | None = None
    """User of an MLflow server that asks for one; with it, `dfpipe up` starts a server that does."""
    password: SecretStr | None = None
    """That user's password, 12 characters or more."""
    experiment: str = "dfpipe"
    """Experiment that runs are written to."""
    registered_model: str = "dfpipe"
    """Name under which the best model is registered."""
    alias: str = "champion"
    """Alias of the version that verdicts come from; the gate decides which that is."""
    challenger_alias: str = "challenger"
    """Alias of the version that the gate refused last."""

    @model_validator(mode="after")
    def _two_aliases(self) -> "MlflowSettings":
        if self.alias == self.challenger_alias:
            raise ValueError(
                f"mlflow.alias and mlflow.challenger_alias are both {self.alias!r}; give them different names"
            )
        return self

    @model_validator(mode="after")
    def _whole_login(self) -> "MlflowSettings":
        if bool(self.username) != bool(self.password):
            raise ValueError("mlflow.username and mlflow.password go together; set both or neither")
        return self


class PrefectSettings(Section):
    """Where flow runs are recorded."""

    api_url: Address = None
    """Prefect API; null starts a local server for the time of the run (or uses that of `dfpipe up`)."""
    auth: SecretStr | None = None
    """User and password (user:password) of an API that asks for them; with it, the local server asks for them."""
    database_url: SecretStr | None = None
    """Database of the local server (postgresql://…); null is a sqlite file under the state folder."""

    @model_validator(mode="after")
    def _usable(self) -> "PrefectSettings":
        # What was got is not repeated: all of it may be secret.
        if self.auth is not None and ":" not in self.auth.get_secret_value().strip(":"):
            raise ValueError("prefect.auth has no colon between two words, expected user:password")
        url = self.database_url
        if url is not None and not url.get_secret_value().startswith(DATABASES):
            raise ValueError(f"prefect.database_url is of another kind, expected one that starts with {DATABASES[0]}")
        return self


class ClusterOptions(Secret[dict[str, Any]]):
    """Keyword arguments of which any may hold a password, at any depth: only their names are shown."""

    def _display(self) -> str:
        return ", ".join(f"{name}: **********" for name in self.get_secret_value())


class ClusterSettings(Section):
    """A cluster that a run makes for itself, on Kubernetes, by SSH or in a cloud."""

    class_path: str
    """Class of the cluster, such as dask_kubernetes.operator.KubeCluster or distributed.SSHCluster."""
    options: ClusterOptions = ClusterOptions({})
    """Keyword arguments of the class; their values are never shown, as any may hold a secret."""


class TlsSettings(Section):
    """Certificates (PEM files): whoever has none of this authority's is not let in."""

    ca_file: Path
    """Certificate of the authority that the others' must be signed by."""
    cert: Path
    """Certificate of this side."""
    key: Path
    """Its private key, without a passphrase."""


class DaskSettings(Section):
    """Where per-video work happens."""

    scheduler: str | None = None
    """Address of a running scheduler (tcp://… or tls://…); null uses that of `dfpipe up --dask` or, where none runs,
    starts workers on this machine for the length of the run."""
    tls: TlsSettings | None = None
    """Certificates for a tls:// scheduler, and for workers on this machine; null leaves it to Dask's own settings."""
    cluster: ClusterSettings | None = None
    """Cluster to make for the length of the run; null makes none. Not together with a scheduler."""
    patience_seconds: float = Field(300, gt=0)
    """How long to wait while no worker is there: for the first of a scheduler or cluster, and when all have gone."""
    workers: int | None = Field(None, ge=1)
    """Local worker processes; null is one for as many cores as a worker has threads."""
    threads: int = Field(1, ge=1)
    """Threads of a local worker. Several share its memory, and the blame when it dies."""
    memory_per_worker: str = "auto"
    """Memory limit of a local worker, such as 2GiB; auto divides what this process may use."""

    @model_validator(mode="after")
    def _one_place(self) -> "DaskSettings":
        if self.scheduler is not None and self.cluster is not None:
            raise ValueError("dask.scheduler and dask.cluster are both set; set the one that is not meant to null")
        return self

    @model_validator(mode="after")
    def _one_cipher(self) -> "DaskSettings":
        if self.tls is not None and self.scheduler is not None and not self.scheduler.startswith("tls://"):
            raise ValueError(f"dask.tls is set and dask.scheduler is {self.scheduler!r}, expected one with tls://")
        if self.tls is not None and self.cluster is not None:
            raise ValueError(
                "dask.tls is for dask.scheduler and for workers on this machine; a cluster takes its own among "
                "dask.cluster.options"
            )
        return self


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
    """Token of temporary credentials. These three end with the run that outlives them: see profile."""
    profile: str | None = None
    """Profile of the AWS files whose keys are renewed when they expire (role, SSO, credential_process)."""
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
        if self.profile and self.access_key_id:
            raise ValueError(
                "got both s3.profile and s3.access_key_id, expected one of them; "
                "set the profile if its keys are temporary, the key otherwise"
            )
        if self.anonymous and self.profile:
            raise ValueError("got s3.profile and s3.anonymous, expected one of them; anonymous requests have no key")
        return self
