"""memleak.pth: with MEMLEAK=1 every Python of an environment traces itself, without it nothing happens."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipapp
from importlib import metadata
from pathlib import Path

import pytest

import memleak
from memleak import recording

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/memleak.pth"
INSTALLED = Path(sysconfig.get_path("platlib")) / "memleak.pth"
STATE = "import sys; print('memleak' in sys.modules and sys.modules['memleak'].is_running())"


@pytest.fixture(autouse=True)
def place(runtime_directory) -> Path:
    """Recordings of these tests stand apart."""
    return runtime_directory


def run(*command: object, **variables: str | None) -> subprocess.CompletedProcess:
    """Run a command to its end with some variables changed; None removes one."""
    environ = {**os.environ, **variables}
    environ = {name: value for name, value in environ.items() if value is not None}
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, env=environ)


def outcome(done: subprocess.CompletedProcess) -> tuple[int, str, str]:
    """Return what a program's run shows."""
    return done.returncode, done.stdout, done.stderr


def environment(directory: Path, *, package: Path | None) -> Path:
    """Make a virtual environment with memleak.pth and a path to *package*; return its Python."""
    venv.EnvBuilder(symlinks=True).create(directory)
    (site_packages,) = directory.glob("lib/python*/site-packages")
    shutil.copy(INSTALLED, site_packages)
    if package is not None:
        (site_packages / "a.pth").write_text(f"{package}\n{sysconfig.get_path('platlib')}\n")
    return directory / "bin/python"


# ---- installed ---------------------------------------------------------------------------------------------


def test_installed_at_the_top_and_known_to_pip():
    """Where Python looks for it, as one line; pip removes what the record names."""
    assert INSTALLED.read_text() == SOURCE.read_text()
    assert SOURCE.read_text().count("\n") == 1 and SOURCE.read_text().startswith("import ")
    assert [str(path) for path in metadata.files("memleak") if path.suffix == ".pth"] == ["memleak.pth"]


# ---- not asked for -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, "0", "", "10", "yes"])
def test_without_the_variable_nothing_is_loaded(value, place):
    """No module of ours, and nothing is said."""
    code = "import sys; print(*sorted(sys.modules))"
    done = run(sys.executable, "-c", code, MEMLEAK=value)
    assert not [name for name in done.stdout.split() if name.startswith("memleak")]
    assert (done.returncode, done.stderr) == (0, "")
    assert list(place.iterdir()) == []


def test_without_the_variable_it_loads_what_site_loads_anyway(tmp_path, place):
    """An environment with nothing but the .pth has the modules of one without it."""
    python = environment(tmp_path / "venv", package=None)
    code = "import sys; print(*sorted(sys.modules))"
    (pth,) = tmp_path.glob("venv/lib/python*/site-packages/memleak.pth")
    with_us = run(python, "-c", code).stdout
    pth.unlink()
    assert with_us == run(python, "-c", code).stdout != ""


@pytest.mark.parametrize("disabled", ["1", "yes"])
def test_disable_wins(disabled, place):
    """MEMLEAK_DISABLE, silently, and nothing of ours is imported."""
    code = "import sys; print([name for name in sys.modules if 'memleak' in name or 'cffi' in name])"
    done = run(sys.executable, "-c", code, MEMLEAK="1", MEMLEAK_DISABLE=disabled)
    assert outcome(done) == (0, "[]\n", "")
    assert list(place.iterdir()) == []


@pytest.mark.parametrize("enabled", ["", "0"])
def test_disable_that_says_no(enabled):
    """Empty or 0 forbids nothing, here as elsewhere."""
    assert outcome(run(sys.executable, "-c", STATE, MEMLEAK="1", MEMLEAK_DISABLE=enabled)) == (0, "True\n", "")


# ---- asked for ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", ["", "-I", "-E", "-s", "-W error", "-X dev", "-X dev -W error", "-O", "-bb", "-u"]
)
def test_traces_under_every_option(options, place):
    """-I and -E are about Python's own variables; warnings as errors are no reason to fail, nor to be seen."""
    done = run(sys.executable, *options.split(), "-c", STATE, MEMLEAK="1", MEMLEAK_MODE="full")
    assert outcome(done) == (0, "True\n", "")
    (path,) = place.glob("*.mlrec")
    header = recording.load_header(path)
    assert (header.door_name, header.initial[:2]) == ("import", (1, 1))


@pytest.mark.skipif(sys.version_info < (3, 10), reason="needs CPython 3.10 for -X warn_default_encoding")
def test_warns_of_no_encoding(place):
    """Nothing is opened as text."""
    done = run(sys.executable, "-X", "warn_default_encoding", "-W", "error", "-c", STATE, MEMLEAK="1")
    assert outcome(done) == (0, "True\n", "")


def test_without_site_there_is_nothing(place):
    """-S: no .pth is read."""
    assert outcome(run(sys.executable, "-S", "-c", STATE, MEMLEAK="1")) == (0, "False\n", "")


def test_scripts_modules_archives_and_pipes(place, tmp_path):
    """However the program is given."""
    script = tmp_path / "program.py"
    script.write_text(STATE)
    source = tmp_path / "source"
    source.mkdir()
    (source / "__main__.py").write_text(STATE)
    zipapp.create_archive(source, tmp_path / "app.pyz")
    for words in ([script], [tmp_path / "app.pyz"], [source], ["-I", script]):
        assert outcome(run(sys.executable, *words, MEMLEAK="1")) == (0, "True\n", ""), words
    done = run(sys.executable, "-m", "program", MEMLEAK="1", PYTHONPATH=str(tmp_path))
    assert outcome(done) == (0, "True\n", "")
    piped = subprocess.run(
        [sys.executable], input=STATE, capture_output=True, text=True, env={**os.environ, "MEMLEAK": "1"}
    )
    assert outcome(piped) == (0, "True\n", "")
    assert len(list(place.glob("*.mlrec"))) == 6


def test_in_a_virtual_environment(place, tmp_path):
    """There Python reads its .pth files twice; one recording is opened."""
    python = environment(tmp_path / "venv", package=Path(memleak.__file__).parent.parent)
    assert outcome(run(python, "-c", STATE, MEMLEAK="1")) == (0, "True\n", "")
    assert len(list(place.glob("*.mlrec"))) == 1


def test_children_started_anew_trace_themselves(place):
    """They inherit the variable; nothing else is passed on."""
    code = "import os, subprocess, sys; print(os.environ.get('LD_PRELOAD')); subprocess.run([sys.executable, '-cpass'])"
    assert outcome(run(sys.executable, "-c", code, MEMLEAK="1")) == (0, "None\n", "")
    assert len(list(place.glob("*.mlrec"))) == 2


def test_a_program_may_call_start_all_the_same(place):
    """Its knobs are adopted, its copy is written."""
    code = "import memleak; memleak.start(5, 50); print(tuple(memleak.status().requested)[:2])"
    assert outcome(run(sys.executable, "-c", code, MEMLEAK="1")) == (0, "(5, 50)\n", "")
    assert len(list(place.glob("*.mlrec"))) == 1


def test_a_preloaded_process_is_left_alone(core_path, place):
    """The preload decides, and nothing of ours is imported that the program does not import."""
    ours = ("memleak.session", "memleak._native", "memleak._memleak_ffi", "_cffi_backend")
    code = f"import sys; print([name for name in sys.modules if name in {ours!r}])"
    done = run(sys.executable, "-c", code, MEMLEAK="1", MEMLEAK_FOLLOW="1", LD_PRELOAD=core_path)
    assert outcome(done) == (0, "[]\n", "")
    assert len(list(place.glob("*.mlrec"))) == 1
    done = run(sys.executable, "-m", "memleak", "run", "--quiet", sys.executable, "-c", code)
    assert outcome(done) == (0, "[]\n", "")
    assert len(list(place.glob("*.mlrec"))) == 2


def test_our_own_command_is_not_traced(place):
    """A reader that recorded itself would push out recordings that are wanted."""
    commands = [[Path(sysconfig.get_path("scripts")) / "memleak"]]
    if sys.version_info >= (3, 10):
        commands.append([sys.executable, "-m", "memleak"])
    for command in commands:
        done = run(*command, "ps", "--json", MEMLEAK="1")
        assert (done.returncode, done.stderr) == (0, "")
        assert list(place.iterdir()) == []
    # A program's own arguments may look like it.
    done = run(sys.executable, "-c", STATE, "-m", "memleak", MEMLEAK="1")
    assert outcome(done) == (0, "True\n", "")


# ---- broken --------------------------------------------------------------------------------------------------


def broken(kind: str, tmp_path: Path) -> Path | None:
    """Return a directory with a package that cannot start; None for no package at all."""
    if kind == "gone":
        return None
    package = tmp_path / "packages/memleak"
    shutil.copytree(Path(memleak.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    for path in package.glob("_memleak_ffi*.so"):
        if kind == "no core":
            path.unlink()
        elif kind == "empty core":
            path.write_bytes(b"")
    if kind == "half removed":
        (package / "session.py").unlink()
    elif kind == "not ours":
        shutil.rmtree(package)
        package.mkdir()
        (package / "__init__.py").write_text("")
    elif kind == "does not compile":
        (package / "_autostart.py").write_text("def main(:\n")
    elif kind == "raises":
        (package / "_autostart.py").write_text("raise ValueError('two\\nlines')\n")
    return package.parent


KINDS = ["gone", "not ours", "half removed", "does not compile", "raises", "no core", "empty core"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_broken_package_stops_no_program(kind, tmp_path):
    """One line with MEMLEAK=1, also where .pth files are read twice; nothing without it."""
    directory = broken(kind, tmp_path)
    python = environment(tmp_path / "venv", package=None)
    (site_packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    if directory is not None:
        (site_packages / "a.pth").write_text(f"{directory}\n")
    program = ("-W", "error", "-c", "print('on')")
    assert outcome(run(python, *program)) == (0, "on\n", "")
    assert outcome(run(python, *program, MEMLEAK="1", MEMLEAK_DISABLE="1")) == (0, "on\n", "")
    done = run(python, *program, MEMLEAK="1")
    assert (done.returncode, done.stdout) == (0, "on\n")
    assert re.fullmatch(r"memleak: not tracing: .+\n", done.stderr)


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "1>&- 2>&-"])
@pytest.mark.parametrize("kind", ["gone", "no core"])
def test_a_broken_package_and_nowhere_to_say_so(kind, redirect, tmp_path):
    """Standard error closed or full: the program runs, and its output is its own."""
    python = environment(tmp_path / "venv", package=None)
    directory = broken(kind, tmp_path)
    if directory is not None:
        (site_packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
        (site_packages / "a.pth").write_text(f"{directory}\n")
    code = f"import os, sys; print('on') if sys.stdout else None; open({str(tmp_path / 'ran')!r}, 'w').close()"
    done = run("sh", "-c", f'exec "$0" -c "$1" {redirect}', python, code, MEMLEAK="1")
    assert done.stdout == ("" if "1>&-" in redirect else "on\n")
    assert (tmp_path / "ran").exists()


# ---- raised rights -----------------------------------------------------------------------------------------


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a program of another group")
def test_raised_rights_take_no_orders_from_the_environment(tmp_path, place):
    """A Python that gains rights when executed is not traced because its caller's environment says so, nor where.

    It may trace itself: the program then knows that it does.
    """
    environment(tmp_path / "e", package=None)
    python = tmp_path / "e/bin/python"
    real = os.path.realpath(python)
    python.unlink()
    shutil.copy(real, python)
    os.chown(python, 0, 65534)
    python.chmod(0o2755)
    (tmp_path / "e/lib").rename(tmp_path / "e/old")
    (tmp_path / "e/lib").symlink_to(Path(sys.prefix) / "lib")
    secure = "import os; from memleak import linkmaps; print(linkmaps.auxiliary_vector(os.getpid())[linkmaps.AT_SECURE])"
    if run(python, "-c", secure).stdout != "1\n":
        pytest.skip("needs root and a file system where programs may raise rights")
    orders = {"MEMLEAK": "1", "MEMLEAK_DIR": str(place), "XDG_RUNTIME_DIR": str(place)}
    assert outcome(run(python, "-c", STATE, **orders)) == (0, "False\n", "")
    code = "import memleak; memleak.start(); from memleak import _native; print(_native.recording_path())"
    done = run(python, "-c", code, **orders)
    path = Path(done.stdout.strip())
    try:
        assert done.returncode == 0 and path.suffix == ".mlrec" and path.exists(), done.stderr
        assert place not in path.parents and list(place.iterdir()) == []
    finally:
        path.unlink(missing_ok=True)
