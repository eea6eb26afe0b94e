"""What is installed, reachable and writable on this machine, and what to do about the rest."""

import os
import platform
import re
import shutil
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from dfpipe.engine import find_cluster_class, usable_cores, usable_memory_bytes
from dfpipe.errors import DfpipeError
from dfpipe.services import find, missing_programs
from dfpipe.settings import Settings
from dfpipe.storage import open_location, storage_errors
from dfpipe.weights import FILES, WeightsFile, state_of

__all__ = ["Finding", "examine"]

GIB = 2**30
PATIENCE_SECONDS = 5
NAMED_PACKAGES = (
    "prefect",
    "dask",
    "pyarrow",
    "deltalake",
    "av",
    "onnxruntime",
    "scikit-learn",
    "xgboost",
    "lightgbm",
    "mlflow",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at."""

    name: str
    """What."""
    ok: bool | None
    """Whether it is as it must be; None where it may be missing."""
    detail: str
    """What was found, in one line."""
    advice: str = ""
    """What to do, empty where nothing is."""


def examine(settings: Settings) -> list[Finding]:
    """Look at everything that a run with these settings needs; nothing is changed and nothing is raised."""
    checks: dict[str, Callable[[], Finding]] = {
        "python": _python,
        "packages": _packages,
        "cores": _cores,
        "memory": _memory,
        "disk (state)": lambda: _disk("disk (state)", settings.state),
        "disk (store)": lambda: _store_disk(settings),
        "source": lambda: _source(settings),
        "store": lambda: _store(settings),
        "prefect": lambda: _prefect(settings),
        "mlflow": lambda: _mlflow(settings),
        "dask": lambda: _dask(settings),
        "mtcnn weights": _mtcnn,
        **{f"{name} weights": partial(_fetched, file) for name, file in FILES.items()},
        "s3 server": _s3_programs,
        "ffmpeg": lambda: _optional_program("ffmpeg"),
        "chromium": lambda: _optional_program("chromium"),
    }
    return [_carefully(name, check) for name, check in checks.items()]


def _carefully(name: str, check: Callable[[], Finding]) -> Finding:
    try:
        return check()
    except DfpipeError as error:
        return Finding(name, ok=False, detail=_line(error), advice="mend what the line says, then ask again")
    except Exception as error:  # noqa: BLE001  # whatever is broken here is what the doctor was called for
        return Finding(name, ok=False, detail=f"{type(error).__name__}: {_line(error)}", advice="see the line above")


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _python() -> Finding:
    asked = metadata.metadata("dfpipe")["Requires-Python"]
    bounds = {sign: (int(major), int(minor)) for sign, major, minor in re.findall(r"(>=|<)(\d+)\.(\d+)", asked)}
    ok = bounds[">="] <= sys.version_info[:2] < bounds["<"]
    detail = f"{platform.python_version()} at {sys.executable}"
    return Finding("python", ok, detail, "" if ok else f"install dfpipe with a Python that is {asked}")


def _packages() -> Finding:
    versions: dict[str, str | None] = {}
    for requirement in metadata.requires("dfpipe") or ():
        found = re.match(r"[\w.-]+", requirement)
        if found is None or "extra ==" in requirement:
            continue
        try:
            versions[found[0]] = metadata.version(found[0])
        except metadata.PackageNotFoundError:
            versions[found[0]] = None
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return Finding("packages", ok=False, detail=f"missing: {', '.join(missing)}", advice="install dfpipe again")
    named = ", ".join(f"{name} {versions[name]}" for name in NAMED_PACKAGES if name in versions)
    return Finding("packages", ok=True, detail=f"all {len(versions)} installed; {named}")


def _cores() -> Finding:
    cores = usable_cores()
    return Finding("cores", ok=True, detail=f"{cores} of {os.cpu_count()} may be used")


def _memory() -> Finding:
    memory = usable_memory_bytes() / GIB
    cores = usable_cores()
    ok = memory >= cores
    detail = f"{memory:.1f} GiB may be used, for {cores} cores"
    return Finding("memory", ok or None, detail, "" if ok else f"set dask.workers to {max(1, int(memory))} or fewer")


def _disk(name: str, folder: Path) -> Finding:
    folder = _standing(folder)
    free = shutil.disk_usage(folder).free / GIB
    ok = free >= 1
    return Finding(name, ok, f"{free:.1f} GiB free at {folder}", "" if ok else "free some, or choose another folder")


def _store_disk(settings: Settings) -> Finding:
    location = open_location(settings.store, settings.s3)
    if location.is_local:
        return _disk("disk (store)", Path(location.path))
    return Finding("disk (store)", ok=None, detail=f"{location.url} is no disk of this machine")


def _source(settings: Settings) -> Finding:
    if settings.source is None:
        return Finding("source", ok=None, detail="not set", advice="set source to a folder or an s3:// URL of videos")
    location = open_location(settings.source, settings.s3)
    with storage_errors("read", location.url):
        location.fs.info(location.path)
    return Finding("source", ok=True, detail=f"{location.url} can be reached")


def _store(settings: Settings) -> Finding:
    location = open_location(settings.store, settings.s3)
    # A store that is still to be made is not made by looking at it.
    place = open_location(_standing(Path(location.path)), settings.s3) if location.is_local else location
    place.check_writable()
    how = "can be written" if place.path == location.path else f"is still to be made; {place.url} can be written"
    return Finding("store", ok=True, detail=f"{location.url} {how}")


def _prefect(settings: Settings) -> Finding:
    url = settings.prefect.api_url or os.environ.get("PREFECT_API_URL")
    if url is None:
        running = find(settings.state, "prefect")
        if running is None:
            return Finding(
                "prefect",
                ok=None,
                detail="no server runs; a run starts one for itself",
                advice="`dfpipe up` keeps one running",
            )
        url = f"{running.url}/api"
    return _reach("prefect", url, "/health", "check prefect.api_url, or PREFECT_API_URL, and that the server is up")


def _mlflow(settings: Settings) -> Finding:
    uri = settings.mlflow.tracking_uri
    if uri is None or not uri.startswith(("http://", "https://")):
        running = find(settings.state, "mlflow")
        where = "a database" + ("" if uri else " under the state folder")
        if running is None:
            return Finding(
                "mlflow",
                ok=None,
                detail=f"no server runs; runs are written to {where}",
                advice="`dfpipe up` shows them in a browser",
            )
        uri = running.url
    return _reach("mlflow", uri, "/health", "check mlflow.tracking_uri and that the server is up")


def _dask(settings: Settings) -> Finding:
    address, cluster = settings.dask.scheduler, settings.dask.cluster
    if cluster is not None:
        find_cluster_class(cluster.class_path)
        return Finding("dask", ok=None, detail=f"a run makes a {cluster.class_path}; it is installed, not tried")
    if address is None:
        running = find(settings.state, "dask")
        if running is None:
            return Finding(
                "dask",
                ok=None,
                detail="no scheduler set; a run starts workers on this machine",
                advice="`dfpipe up --dask` keeps some running",
            )
        address = running.url
    parts = urlsplit(address if "://" in address else f"tcp://{address}")
    try:
        socket.create_connection((parts.hostname or "", parts.port or 8786), timeout=PATIENCE_SECONDS).close()
    except OSError as error:
        return Finding(
            "dask",
            ok=False,
            detail=f"nobody answers at {address}: {_line(error)}",
            advice="check dask.scheduler and that the scheduler is up",
        )
    return Finding("dask", ok=True, detail=f"{address} answers")


def _mtcnn() -> Finding:
    from dfpipe.faces.mtcnn_nets import load_nets  # noqa: PLC0415  # its libraries may be what is missing

    return Finding("mtcnn weights", ok=True, detail=f"found, sha256 {load_nets().weights_sha256[:12]}…")


def _fetched(file: WeightsFile) -> Finding:
    name = f"{file.name} weights"
    fetch = f"dfpipe models fetch {file.name}"
    terms = f"; {file.terms}" if file.terms else ""
    match state_of(file):
        case "ready":
            return Finding(name, ok=True, detail=f"found, sha256 {file.sha256[:12]}…{terms}")
        case "absent":
            return Finding(name, ok=None, detail=f"not fetched{terms}", advice=f"only for that detector; {fetch}")
        case "damaged":
            return Finding(name, ok=False, detail=f"{file.path} is not what was fetched", advice=fetch)


def _s3_programs() -> Finding:
    missing = missing_programs()
    if missing:
        return Finding(
            "s3 server",
            ok=None,
            detail=f"not installed: {', '.join(missing)}",
            advice="only for `dfpipe up --s3`; see infra/s3/README.md",
        )
    return Finding("s3 server", ok=True, detail="its programs are installed")


def _optional_program(name: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, ok=None, detail="not installed", advice="not needed; only some tests use it")
    return Finding(name, ok=True, detail=path)


def _reach(name: str, url: str, path: str, advice: str) -> Finding:
    shown = urlsplit(url)._replace(netloc=urlsplit(url).netloc.rpartition("@")[2]).geturl()
    if not url.startswith(("http://", "https://")):
        return Finding(name, ok=False, detail=f"got {shown!r}, expected an http:// or https:// URL", advice=advice)
    try:
        with urllib.request.urlopen(url.rstrip("/") + path, timeout=PATIENCE_SECONDS):  # noqa: S310  # checked above
            pass
    except urllib.error.HTTPError as error:
        # Whoever asks for a password is there.
        if error.code not in (401, 403):
            return Finding(name, ok=False, detail=f"{shown} answers {error.code} {error.reason}", advice=advice)
    except (OSError, ValueError) as error:
        return Finding(name, ok=False, detail=f"nobody answers at {shown}: {_line(error)}", advice=advice)
    return Finding(name, ok=True, detail=f"{shown} answers")


def _standing(folder: Path) -> Path:
    folder = folder.absolute()
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
