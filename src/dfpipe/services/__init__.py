"""Servers on this machine, for people who have none elsewhere: Prefect, MLflow, Dask, S3.

Each is started once for a state folder, listens on 127.0.0.1 only, runs on when the program that started it ends,
and is ended by `down` with everything it started. Logs lie in ``logs``, what is known about the processes in ``run``.

>>> from pathlib import Path
>>> down(Path("no-such-folder"))
[]
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

from dfpipe.services._manager import Begin, OnWait, Service, ServiceStatus, bring_up, look_up, take_down
from dfpipe.services.ceph import S3, S3Access, begin_s3, missing_programs, s3_access
from dfpipe.services.dask import DASK, begin_dask
from dfpipe.services.mlflow import MLFLOW, begin_mlflow
from dfpipe.services.prefect import PREFECT, begin_prefect
from dfpipe.settings import DaskSettings, MlflowSettings, PrefectSettings

__all__ = ["OnWait", "S3Access", "ServiceName", "ServiceStatus", "down", "find", "missing_programs", "s3_access", "up"]

ServiceName = Literal["dask", "prefect", "mlflow", "s3"]

# In the order in which they are ended: what keeps its data in another goes first.
SERVICES: dict[ServiceName, Service] = {"dask": DASK, "prefect": PREFECT, "mlflow": MLFLOW, "s3": S3}


def up(
    state: Path,
    names: Sequence[ServiceName],
    *,
    mlflow_backend: str,
    artifact_root: str,
    mlflow_environment: Mapping[str, str] | None = None,
    mlflow: MlflowSettings | None = None,
    prefect: PrefectSettings | None = None,
    dask: DaskSettings | None = None,
    s3_buckets: Sequence[str] = (),
    ports: Mapping[ServiceName, int] | None = None,
    on_wait: OnWait | None = None,
) -> list[ServiceStatus]:
    """Have these servers running and answering; those that do already are left alone.

    Parameters
    ----------
    state
        State folder; one server of each kind belongs to it.
    names
        Which ones.
    mlflow_backend
        Database that MLflow shows, the one that training writes to: ``sqlite:////absolute/path/mlflow.db``
        or ``postgresql://…``.
    artifact_root
        Folder or ``s3://`` URL for the artifacts of experiments created through the MLflow server.
    mlflow_environment
        Variables for the MLflow server, such as those of `dfpipe.storage.boto_environment`.
    mlflow
        User and password that the MLflow server asks for; without them it asks nobody.
    prefect
        Database of the Prefect server, and user and password that it asks for.
    dask
        How many workers, of what size, and the certificates that they and their scheduler show.
    s3_buckets
        Buckets that the S3 server must have.
    ports
        Ports by name. One that is not given is the usual one (Prefect 4200, MLflow 5000, Dask 8786, S3 8333) if that is
        free, else any free one.
    on_wait
        Called several times a second with the names still awaited and the seconds since the start.

    Returns
    -------
    list of ServiceStatus
        In the order of ``names``.

    Raises
    ------
    ServiceError
        A port that is taken, a program that is not installed, a server that ended while starting or did not answer
        within three minutes. What this call had started is ended again.
    """
    begins: dict[ServiceName, Begin] = {
        "dask": partial(begin_dask, settings=dask or DaskSettings()),
        "prefect": partial(begin_prefect, settings=prefect or PrefectSettings()),
        "mlflow": partial(
            begin_mlflow,
            backend_uri=mlflow_backend,
            artifact_root=artifact_root,
            environment=mlflow_environment or {},
            login=mlflow or MlflowSettings(),
        ),
        "s3": partial(begin_s3, buckets=s3_buckets),
    }
    return bring_up(
        state,
        {SERVICES[name]: begins[name] for name in names},
        ports={str(name): port for name, port in (ports or {}).items()},
        on_wait=on_wait,
    )


def down(state: Path, names: Sequence[ServiceName] | None = None) -> list[str]:
    """End the servers of this state folder, and nothing else.

    Parameters
    ----------
    state
        State folder.
    names
        Which ones; None is all.

    Returns
    -------
    list of str
        Those that ran.
    """
    wanted = SERVICES.keys() if names is None else names
    return take_down(state, [service for name, service in SERVICES.items() if name in wanted])


def find(state: Path, name: ServiceName) -> ServiceStatus | None:
    """Return a server of this state folder that runs and answers, None where there is none."""
    return look_up(state, SERVICES[name])
