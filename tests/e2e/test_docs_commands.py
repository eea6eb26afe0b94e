"""Every command in README.md and docs/tutorial.md does what it says, typed by somebody who has only the wheel.

The wheel is built and put alone into a new environment, from which the checkout cannot be imported; of the packages of
the lock it sees those that are installed. That pip can bring these is what `make install` shows. The commands run one
after another in one folder, which is empty at first: the tutorial's make the demo that the README's look at.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from dfpipe.testing import code_blocks, shell_commands

pytestmark = [pytest.mark.slow, pytest.mark.services]

ROOT = Path(__file__).parents[2]
CONFIG = ".dfpipe/demo/dfpipe.yaml"

RUN_BY_CI = {"make demo", "make test"}
"""Targets that `.ci/run` calls on a clean clone."""

NOT_RUN = {"dfpipe catalog s3://your-bucket/videos": "names a bucket of the reader's; test_s3.py reads a real one"}
"""Commands that are not run, with the reason."""

STAND_INS = {"ID": ["ffpp:000", "--yes"]}
"""What the reader puts in; the question of `dfpipe forget` is answered."""

NO_COMMANDS = ("catalog ->",)
"""How blocks begin that are pictures."""


def steps() -> list[tuple[str, str, list[str]]]:
    """The pages' code in order: page, kind (shell or python), words; what is neither nor known fails."""
    found = []
    for page in ("docs/tutorial.md", "README.md"):
        for language, block in code_blocks((ROOT / page).read_text(encoding="utf-8")):
            if language == "python" or block.startswith(("from ", "import ")):
                found.append((page, "python", [block]))
            elif language in ("", "sh", "bash") and not block.startswith(("$ ", *NO_COMMANDS)):
                # A settings file has a key and a colon where a command has a blank.
                if re.match(r"[\w.]+:( |$)", block):
                    continue
                found += [(page, "shell", words) for words in shell_commands(block)]
    return found


STEPS = steps()


def run(*words, cwd, env=None, code=0):
    done = subprocess.run(
        words, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=580, check=False
    )
    assert done.returncode == code, f"{' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder), cwd=ROOT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """The python of an environment that holds the wheel."""
    folder = tmp_path_factory.mktemp("environment") / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(folder), cwd=folder.parent)
    python = folder / "bin" / "python"
    install = ["install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check"]
    run(sys.executable, "-m", "pip", "--python", str(python), *install, str(wheel), cwd=folder.parent)
    # Only afterwards, or pip would take the checkout's own entry there for this one. A .pth file inside a folder that
    # a .pth file names is not read: what the checkout put there does not lead back to it.
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "lock.pth").write_text(f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n")
    return python


@pytest.fixture(scope="module")
def at_home(environment, prefect_url, tmp_path_factory):
    """Run words in the reader's folder, with the wheel's command on the path and the checkout nowhere."""
    folder = tmp_path_factory.mktemp("reader")
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    env |= {
        "PATH": f"{environment.parent}:{os.environ['PATH']}",
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect-home")),
        "DFPIPE_PREFECT__API_URL": prefect_url,
    }

    def at(*words, code=0):
        return run(shutil.which(words[0], path=env["PATH"]) or words[0], *words[1:], cwd=folder, env=env, code=code)

    at.folder = folder
    yield at
    if (folder / CONFIG).exists():
        at("dfpipe", "down", "-c", CONFIG)


def test_the_wheel_is_whole(at_home, environment):
    facts = """
import dfpipe, flows, tasks, importlib.metadata as metadata, pathlib
found = metadata.distribution("dfpipe")
print(pathlib.Path(dfpipe.__file__).parent, pathlib.Path(flows.__file__).parent, pathlib.Path(tasks.__file__).parent)
print(dfpipe.__version__ == found.version)
print(pathlib.Path(dfpipe.__file__).with_name("py.typed").exists())
print(sorted(f"{point.group}:{point.name}" for point in found.entry_points))
print(found.metadata["License-Expression"], any(str(one).endswith("licenses/LICENSE") for one in found.files))
"""
    where, same, typed, points, licence = at_home(str(environment), "-c", facts).splitlines()
    assert all(path.startswith(str(environment.parents[1])) for path in where.split())
    assert (same, typed) == ("True", "True")
    assert {"console_scripts:dfpipe", "dfpipe.flows:pipeline"} <= set(re.findall(r"'([^']+)'", points))
    assert licence == "Apache-2.0 True"


def test_what_is_not_run_here_stands_in_the_pages():
    shown = {" ".join(words) for _, kind, words in STEPS if kind == "shell"}
    assert {*NOT_RUN, *RUN_BY_CI} <= shown
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert all(target in ci for target in RUN_BY_CI)


@pytest.mark.parametrize(("page", "kind", "words"), STEPS, ids=[f"{page}: {' '.join(w)[:60]}" for page, _, w in STEPS])
def test_command(page, kind, words, at_home, environment):
    """In the order of the pages, as each leans on those before."""
    if kind == "python":
        at_home(str(environment), "-W", "ignore", "-c", words[0])
        return
    if " ".join(words) in RUN_BY_CI | NOT_RUN.keys():
        return
    assert words[0] == "dfpipe", f"{page} has a command that no test runs: {' '.join(words)}"
    if page == "README.md":
        # The reader has written settings and has a video to ask about: those of the demo.
        shutil.copy(at_home.folder / CONFIG, at_home.folder / "dfpipe.yaml")
        unseen = next((at_home.folder / ".dfpipe/demo/unseen/manipulated_sequences").rglob("*.mp4"))
        shutil.copy(unseen, at_home.folder / "suspicious.mp4")
    out = at_home(*(part for word in words for part in STAND_INS.get(word, [word])))
    if words[1] == "predict":
        assert "fake" in out
    if words[1] in ("demo", "plan", "status", "report"):
        assert "56" in out
