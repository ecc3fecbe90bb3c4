"""Others who must see every allocation, lock all memory, filter system calls or trace every line, beside us."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from observing import clean_environment, see, without_our_line, without_us
from victims import HERE

import compatenv
from memleak import _native, locate

pytestmark = pytest.mark.timeout(300)
MODES = ("normal", "full")
ALL = os.environ.get("MEMLEAK_TORTURE") == "1"
HERE_VERSION = "{}.{}".format(*sys.version_info)
SANITIZERS = ("address", "thread", "leak", "undefined")
ALLOCATING = """
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void *work(void *unused)
{
	for (int i = 0; i < 5000; i++)
		free(realloc(malloc(i % 100 + 1), i % 200 + 1));
	return unused;
}
int main(void)
{
	pthread_t thread;
	int status;
	pthread_create(&thread, NULL, work, NULL);
	work(NULL);
	pthread_join(thread, NULL);
	pid_t child = fork();
	if (child == 0) { work(NULL); _exit(7); }
	waitpid(child, &status, 0);
	printf("child %d\\n", WEXITSTATUS(status));
	return 3;
}
"""


def preloaded(directory: Path, mode: str) -> dict[str, str]:
    """Return the environment of the preload door."""
    core = _native.library_path()
    return clean_environment(MEMLEAK="1", MEMLEAK_MODE=mode, MEMLEAK_DIR=str(directory), LD_PRELOAD=core)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """Compile a text, once: ``build(TEXT, COMPILER, *flags)``; None where the compiler cannot."""

    @cache
    def go(text: str, compiler: str = "gcc", *flags: str) -> str | None:
        directory = tmp_path_factory.mktemp("program")
        source, program = directory / "program.c", directory / "program"
        source.write_text(text)
        words = [compiler, "-D_GNU_SOURCE", "-w", "-O1", "-fno-builtin", "-pthread", "-o", program, source, *flags]
        done = shutil.which(compiler) and subprocess.run(words, capture_output=True)
        return str(program) if done and done.returncode == 0 else None

    return go


@pytest.mark.parametrize("door", ["run", "preload"])
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("sanitizer", SANITIZERS)
def test_sanitizers(build, runtime_directory, sanitizer, compiler, door):
    """A program of a sanitizer's runs as without us: untraced, with a line that says whose it is, or traced."""
    program = build(ALLOCATING, compiler, f"-fsanitize={sanitizer}")
    plain = without_us(program) if program else None
    if plain is None or plain.status != 3:
        pytest.skip(f"no {sanitizer} sanitizer of {compiler}'s here")
    if door == "preload" and "libasan.so" in subprocess.run(["ldd", program], capture_output=True, text=True).stdout:
        ended = see([program], preloaded(runtime_directory, "full"))
        assert ended.status == 1 and "does not come first" in ended.errors  # so `memleak run` does not preload
        return
    command, environment = [program], preloaded(runtime_directory, "full")
    if door == "run":
        command = [sys.executable, "-m", "memleak", "run", "--quiet", "--mode=full", program]
        environment = clean_environment(MEMLEAK_DIR=str(runtime_directory))
    traced = see(command, environment)
    assert (traced.status, traced.output) == (plain.status, plain.output)
    assert without_our_line(traced.errors) == plain.errors
    recorded = locate.list_recordings([runtime_directory])
    assert bool(recorded) == (sanitizer == "undefined")
    if not recorded and compiler == "gcc":
        assert "Sanitizer" in traced.errors


@pytest.mark.parametrize("tool", ["memcheck", "massif", "none"])
@pytest.mark.parametrize("mode", MODES)
def test_valgrind(build, runtime_directory, mode, tool):
    """Under valgrind the program does the same, and memcheck finds nothing wrong with us."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    words = ["valgrind", "-q", f"--tool={tool}", *(["--error-exitcode=77"] if tool == "memcheck" else [])]
    words += ["--massif-out-file=/dev/null"] if tool == "massif" else []
    program = build(ALLOCATING)
    plain = without_us(*words, program)
    traced = see([*words, program], preloaded(runtime_directory, mode))
    assert (traced.status, traced.output, without_our_line(traced.errors)) == (plain.status, plain.output, plain.errors)
    assert plain.status == 3


LOCKING = ALLOCATING.replace("int main(void)\n{", """#include <sys/mman.h>
int main(void)
{
	if (mlockall(MCL_FUTURE | (getenv("ONLY_FUTURE") ? 0 : MCL_CURRENT)) != 0) { perror("mlockall"); return 4; }""")


@pytest.mark.parametrize("limit", [None, 64 << 20, 1 << 20])
@pytest.mark.parametrize("variables", [{}, {"ONLY_FUTURE": "1"}])
@pytest.mark.parametrize("mode", MODES)
def test_all_memory_locked(build, runtime_directory, mode, variables, limit):
    """A real-time program that locks its memory, as much as it may."""
    program = build(LOCKING)
    within = ["prlimit", f"--memlock={limit}"] if limit is not None else []
    if limit is not None and os.getuid() == 0:
        within = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock", *within]
        if shutil.which("setpriv") is None:
            pytest.skip("setpriv is not installed")
    plain = without_us(*within, program, **variables)
    us = clean_environment(MEMLEAK="1", MEMLEAK_MODE=mode, MEMLEAK_DIR=str(runtime_directory), **variables)
    traced = see([*within, "env", f"LD_PRELOAD={_native.library_path()}", program], us)
    assert (traced.status, traced.output, without_our_line(traced.errors)) == (plain.status, plain.output, plain.errors)


WATCHERS = {
    "settrace": (
        "import sys, threading\nsys.settrace(lambda *a: (lambda *b: None))\nthreading.settrace(lambda *a: None)\n"
    ),
    "setprofile": "import cProfile\nprofile = cProfile.Profile()\nprofile.enable()\n",
    "faulthandler": "import faulthandler\nfaulthandler.enable()\nfaulthandler.dump_traceback_later(60)\n",
    "tracemalloc": "import tracemalloc\ntracemalloc.start(25)\n",
    "gc": "import gc\ngc.set_threshold(1)\n",
    "debug": "import gc, sys\ngc.set_debug(0)\nsys.setswitchinterval(1e-5)\n",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """A directory for the programs, which have the same path each time."""
    return tmp_path_factory.mktemp("watched")


@pytest.mark.parametrize("door", ["preload", "import"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("watcher", WATCHERS)
def test_python_tools(runtime_directory, watched, watcher, mode, door):
    """A Python program that is watched by a tool of its own."""
    script = watched / f"watched_by_{watcher}.py"
    script.write_text(WATCHERS[watcher] + (HERE / "few_calls.py").read_text())
    environment = preloaded(runtime_directory, mode)
    if door == "import":
        del environment["LD_PRELOAD"]
    plain, traced = without_us(sys.executable, str(script)), see([sys.executable, script], environment)
    assert (traced.status, traced.output, without_our_line(traced.errors)) == (plain.status, plain.output, plain.errors)
    assert plain.status == 0 and list(runtime_directory.glob("*.mlrec"))


# Packages that take something of the interpreter's over: the tracing of lines, the switching of threads.
TAKING_OVER = {
    "coverage": ["-m", "coverage", "run", "--data-file=.coverage", str(HERE / "few_calls.py")],
    "coverage_python": ["-m", "coverage", "run", "--data-file=.coverage", "--timid", str(HERE / "few_calls.py")],
    "gevent": ["-m", "gevent.monkey", str(HERE / "few_calls.py")],
}


@pytest.mark.parametrize("door", ["preload", "import"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", TAKING_OVER)
@pytest.mark.parametrize("version", compatenv.VERSIONS if ALL else (HERE_VERSION,))
def test_packages(runtime_directory, version, name, mode, door):
    """A program whose lines are counted, and one whose threads and locks are gevent's: the same output and lines."""
    try:
        python = compatenv.python_with_package(version, "coverage", "gevent")
    except compatenv.PackageError:
        pytest.skip(f"{name.partition('_')[0]} is not installed")
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    report = "python -m coverage report -m --data-file=.coverage --include='*/few_calls.py'"
    counting = f" && {report.replace('python', python, 1)}; rm -f .coverage" if name.startswith("coverage") else ""
    # Warnings: 3.12 and later tell of a fork beside threads that are just ending, or do not.
    command = ["sh", "-c", shlex.join([python, "-W", "ignore", *TAKING_OVER[name]]) + counting]
    plain = without_us(*command)
    assert plain.status == 0 and "4.47" not in plain.output and "9\n" in plain.output
    environment = preloaded(runtime_directory, mode)
    if door == "import":
        del environment["LD_PRELOAD"]
    traced = see(command, environment)
    assert (traced.status, traced.output, without_our_line(traced.errors)) == (plain.status, plain.output, plain.errors)
    assert list(runtime_directory.glob("*.mlrec"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("words", [["-X", "dev"], ["-X", "importtime"], ["-I"], ["-O"], ["-W", "error"]])
def test_python_options(runtime_directory, words, mode):
    """An interpreter with options that change what it does with memory, warnings or its environment."""
    command = [sys.executable, *words, str(HERE / "few_calls.py")]
    if words == ["-W", "error"] and sys.version_info >= (3, 12):
        pytest.skip("the program itself forks beside threads")
    plain, traced = without_us(*command), see(command, preloaded(runtime_directory, mode))
    assert (traced.status, traced.output) == (plain.status, plain.output)
    if words != ["-X", "importtime"]:  # which prints times
        assert without_our_line(traced.errors) == plain.errors
