"""Servers that a run talks to."""

from typing import Any

from pydantic import Field, Secret, SecretStr, model_validator

from dfpipe.settings.section import Address, Section

__all__ = ["ClusterOptions", "ClusterSettings", "DaskSettings", "MlflowSettings", "PrefectSettings", "S3Settings"]


class MlflowSettings(Section):
    """Where runs and models are recorded."""

    tracking_uri: Address = None
    """MLflow server or database; null is a sqlite file under the state folder."""
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


class PrefectSettings(Section):
    """Where flow runs are recorded."""

    api_url: Address = None
    """Prefect API; null starts a local server for the time of the run (or uses that of `dfpipe up`)."""


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


class DaskSettings(Section):
    """Where per-video work happens."""

    scheduler: str | None = None
    """Address of a running scheduler (tcp://…); null starts workers on this machine."""
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
