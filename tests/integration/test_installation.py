"""Installed by the commands of the documentation, from a copy of the tree, in an environment with nothing in it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP_S = 600
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


class Checkout:
    """A copy of the tree and a virtual environment, and the commands that somebody types there."""

    def __init__(self, directory: Path) -> None:
        """Copy what a checkout holds; build and cache directories are not part of it."""
        self.tree = directory / "memleak"
        shutil.copytree(ROOT, self.tree, ignore=shutil.ignore_patterns(".*", "__pycache__", "build"))
        venv.EnvBuilder(with_pip=True).create(directory / "venv")
        self.bin = directory / "venv/bin"

    def run(self, command: str, **environment: str) -> str:
        """Run a line of shell in the activated environment; return its output and errors."""
        mine = str(Path(sys.prefix) / "bin")  # its meson and ninja are not everybody's
        path = [place for place in os.environ["PATH"].split(os.pathsep) if place != mine]
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "LD_"))}
        kept.update(PATH=os.pathsep.join([str(self.bin), *path]), VIRTUAL_ENV=str(self.bin.parent), **environment)
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "timeout": STEP_S}
        done = subprocess.run(["bash", "-c", command], cwd=self.tree, env=kept, **options)
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout

    def answer(self, statement: str, **environment: str) -> str:
        """Return what the environment's Python prints."""
        return self.run(f"python -c '{statement}'", **environment).strip()


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> None:
    """Let pip fetch one small package; skip where it cannot."""
    probe = [sys.executable, "-m", "pip", "-q", "download", "--no-deps", "--no-cache-dir", "sortedcontainers>=2.4"]
    directory = str(tmp_path_factory.mktemp("index"))
    if subprocess.run([*probe, "-d", directory], capture_output=True, timeout=STEP_S).returncode != 0:
        pytest.skip("pip cannot reach an index")


@pytest.fixture
def checkout(tmp_path, index, runtime_directory) -> Checkout:
    """Return a copy of the tree, not yet installed."""
    return Checkout(tmp_path)


def documented(name: str, pattern: str) -> list[str]:
    """Return what the pattern finds on a page."""
    return re.findall(pattern, (ROOT / name).read_text(), flags=re.MULTILINE)


def assert_leak_on_top(checkout: Checkout) -> None:
    """Compile and trace the program of the README by its own two lines; the first stack is the leak."""
    compile_it, trace_it = documented("README.md", r"^\$ (.+)$")
    assert compile_it.startswith("gcc ") and trace_it.startswith("memleak run ")
    checkout.run(compile_it)
    lines = checkout.run(trace_it).splitlines()
    (first,) = (number for number, line in enumerate(lines) if line.startswith("#1 "))
    assert lines[first + 1].split()[0] == "session_create", "\n".join(lines)


def test_by_the_readme(checkout):
    """`pip install .` fetches what building needs, and the command `memleak` finds the leak of the example."""
    install, example = documented("README.md", r"^(pip install .*|memleak run \./your-program .*)$")
    assert (install, example.split()[:2]) == ("pip install .", ["memleak", "run"])
    checkout.run(install)
    shutil.rmtree(checkout.tree / "src")  # the installed package needs nothing of it
    assert Path(checkout.answer("import memleak; print(memleak.__file__)")).is_relative_to(checkout.bin.parent)
    assert_leak_on_top(checkout)


def test_editable_by_the_contributing_page(checkout):
    """It traces, an import has what was changed in Python and in C, and MEMLEAK=1 works once the file is there."""
    tools, install = documented("CONTRIBUTING.md", r"`(pip install [^`]+)`")
    assert install.endswith("-e .")
    checkout.run(tools)
    checkout.run(install)
    assert Path(checkout.answer("import memleak; print(memleak.__file__)")).is_relative_to(checkout.tree)
    assert_leak_on_top(checkout)
    include = documented("docs/reference/pools.md", r"cc (-I .*\)\")$")[0]
    checkout.run(f"gcc {include} -o buddy examples/buddy/buddy.c")
    assert "buddy" in checkout.run("memleak run --quiet -o buddy.mlrec ./buddy && memleak pools buddy.mlrec")

    with (checkout.tree / "src/memleak/errors.py").open("a") as module:
        module.write("\nEDITED = 12321\n")
    with (checkout.tree / "native/src/clock.c").open("a") as source:
        source.write("\nint edited_by_hand = 1;\n")
    assert checkout.answer("import memleak.errors; print(memleak.errors.EDITED)") == "12321"
    core = checkout.answer("from memleak import _native; print(_native.library_path())")
    assert "edited_by_hand" in checkout.run(f"nm {core}")
    assert_leak_on_top(checkout)

    running = "import memleak; print(memleak.is_running())"
    assert checkout.answer(running, MEMLEAK="1") == "False"
    (copy,) = documented("CONTRIBUTING.md", r"`(cp src/memleak.pth [^`]+)`")
    checkout.run(copy)
    assert checkout.answer(running, MEMLEAK="1") == "True"
    assert checkout.answer(running) == "False"
