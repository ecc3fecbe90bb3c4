"""`memleak run`: the program behaves as without it, and its recording is summarised."""

from __future__ import annotations

import functools
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from memleak import locate, recording

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "examples"
RUN = [sys.executable, "-m", "memleak", "run"]


def run(*words: str, **options) -> subprocess.CompletedProcess:
    """Run `memleak run WORDS…` to its end."""
    return subprocess.run([*RUN, *words], capture_output=True, text=True, timeout=60, **options)


pytestmark = pytest.mark.usefixtures("runtime_directory")


# ---- status, output, surroundings --------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 2, 77, 255])
def test_returns_the_programs_status(status):
    """Whatever it is, 2 included."""
    assert run("--quiet", "sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGABRT])
def test_returns_128_and_the_signal(number):
    """As a shell does."""
    assert run("--quiet", "sh", "-c", f"kill -{int(number)} $$").returncode == 128 + number


def test_program_that_ends_before_the_launcher_waits():
    """Setting the action of SIGCHLD throws a pending one away: the launcher must not wait for it."""
    slow = (
        "import signal, sys, time; from memleak.cli import launch, main; before = signal.signal\n"
        "def late(*words):\n    time.sleep(0.5)\n    return before(*words)\n"
        "signal.signal = late; sys.exit(main(['run', '--quiet', 'sh', '-c', 'exit 7']))"
    )
    assert subprocess.run([sys.executable, "-c", slow], timeout=30).returncode == 7


def test_not_found_and_not_executable(tmp_path):
    """127 and 126, one line each."""
    plain = tmp_path / "plain"
    plain.write_text("")
    for word, status in (
        ("no-such-program", 127),
        (str(tmp_path / "none"), 127),
        (str(plain), 126),
        (str(tmp_path), 126),
    ):
        done = run(word)
        assert (done.returncode, done.stderr.count("\n")) == (status, 1), done.stderr


def test_quiet_adds_nothing_to_the_programs_output():
    """Byte for byte what the program wrote."""
    done = run("--quiet", "sh", "-c", "echo out; echo err >&2")
    assert (done.stdout, done.stderr) == ("out\n", "err\n")


def test_standard_input_directory_and_arguments_are_passed_on(tmp_path):
    """Odd bytes in arguments included."""
    done = run(
        "--quiet", "sh", "-c", 'cat; pwd; printf "<%s>" "$@"', "sh", "", "a b", "é\n", input="typed\n", cwd=tmp_path
    )
    assert done.stdout == f"typed\n{tmp_path}\n<><a b><é\n>"


PROBE = r"""
import os, signal
print(sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")))
status = open("/proc/self/status").read()
print([line for line in status.splitlines() if line.startswith(("SigBlk", "SigCgt"))])
print(os.getpgid(0) == os.getpgid(os.getppid()), os.getsid(0) == os.getsid(os.getppid()))
print({k: v for k, v in os.environ.items() if not k.startswith(("MEMLEAK", "LD_PRELOAD"))} == EXPECTED)
"""


def test_program_finds_the_same_surroundings(tmp_path):
    """Descriptors, signal mask, process group, environment: as when started directly."""
    variables = {"PATH": os.environ["PATH"], "MEMLEAK_DIR": os.environ["MEMLEAK_DIR"], "LC_ALL": "C"}
    script = tmp_path / "probe.py"
    script.write_text(PROBE.replace("EXPECTED", repr({"PATH": variables["PATH"], "LC_ALL": "C"})))
    direct = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=variables)
    traced = run("--quiet", str(script), env=variables)
    assert (traced.stdout, traced.stderr) == (direct.stdout, direct.stderr)


def test_locale_that_python_coerces_is_not_passed_on():
    """Python sets LC_CTYPE in the C locale; the program must not see that."""
    done = run("--quiet", "sh", "-c", "echo ${LC_CTYPE-unset}", env={"PATH": os.environ["PATH"]})
    assert done.stdout == "unset\n"


def test_broken_pipe_kills_the_program_as_without_us():
    """Python ignores SIGPIPE; the program must not inherit that."""
    script = f"{' '.join(RUN)} --quiet sh -c 'while echo y; do :; done; exit 9' | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == f"y\n{128 + signal.SIGPIPE}\n"


def test_script_without_a_first_line_runs_as_in_a_shell(tmp_path):
    """The kernel refuses it; shells run it themselves."""
    script = tmp_path / "plain"
    script.write_text("echo $1\n")
    script.chmod(0o755)
    assert run("--quiet", str(script), "word").stdout == "word\n"


def test_python_scripts_and_modules(tmp_path):
    """SCRIPT.py and -m MOD run under this Python."""
    script = tmp_path / "a.py"
    script.write_text("import sys; print(sys.argv[1:])\n")
    assert run("--quiet", str(script), "-n", "3").stdout == "['-n', '3']\n"
    assert run("--quiet", "-m", "a", "x", cwd=tmp_path).stdout == "['x']\n"


# ---- signals -------------------------------------------------------------------------------------------


TRAPS = (
    'for s in HUP INT QUIT USR1 USR2 TERM WINCH; do trap "echo $s" $s; done; echo ready; while :; do sleep 0.02; done'
)


UNIGNORED = """
import os, signal, sys
signal.signal(getattr(signal, "SIG" + sys.argv[1]), signal.SIG_DFL)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "WINCH"])
def test_signals_to_the_launcher_reach_the_program(name):
    """Each arrives, once, and does not end the launcher."""
    # One that whoever started this run ignores, as nohup does with HUP, no shell can trap.
    command = [sys.executable, "-c", UNIGNORED, name, *RUN, "--quiet", "bash", "-c", TRAPS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "ready\n"
        launcher.send_signal(getattr(signal, f"SIG{name}"))
        assert launcher.stdout.readline() == f"{name}\n"
        time.sleep(0.1)
        (child,) = children(launcher.pid)
        os.kill(child, signal.SIGKILL)
        assert launcher.stdout.read() == ""
        assert launcher.wait() == 128 + signal.SIGKILL


def test_program_that_signals_its_group_is_not_signalled_back():
    """kill 0 reaches it once, as without a launcher."""
    script = "trap 'n=$((n+1))' USR1; kill -USR1 0; sleep 0.3; echo $n"
    done = run("--quiet", "bash", "-c", script, start_new_session=True)
    assert done.stdout == "1\n"


def test_launcher_stops_and_continues_with_its_program():
    """A shell's job control sees one job."""
    script = "echo ready; kill -STOP $$; echo again"
    with subprocess.Popen([*RUN, "--quiet", "bash", "-c", script], stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "ready\n"
        _, status = os.waitpid(launcher.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        launcher.send_signal(signal.SIGCONT)
        assert launcher.stdout.read() == "again\n"
        assert launcher.wait() == 0


def test_a_terminals_stop_and_interrupt_reach_the_program_once():
    """In an interactive shell: Ctrl-Z stops the job, fg continues it, Ctrl-C arrives once."""
    import pty

    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("bash", ["bash", "--norc", "--noprofile", "-i"])
    try:
        program = "bash -c \"trap 'n=\\$((n+1))' INT; echo rea''dy; "
        program += "while :; do sleep 0.02; test \\$n && sleep 0.3 && break; done"
        program += "; echo interrupts: \\$n; exit 6\""
        type_and_expect(terminal, f"{' '.join(RUN)} --quiet {program}\n", "ready")
        type_and_expect(terminal, "\x1a", "Stopped")
        type_and_expect(terminal, "fg\n", "memleak run")
        time.sleep(0.2)
        type_and_expect(terminal, "\x03", "interrupts: 1")
        type_and_expect(terminal, "echo status=$?\n", "status=6")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(pid, 0)


def type_and_expect(terminal: int, text: str, expected: str) -> None:
    """Type into a pseudo terminal and read until *expected* appears."""
    os.write(terminal, text.encode())
    seen, deadline = "", time.monotonic() + 15
    while expected not in seen:
        ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"{expected!r} did not appear: {seen!r}"
        seen += os.read(terminal, 65536).decode(errors="replace")


def children(pid: int) -> list[int]:
    """Return the pids of a process's children."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


# ---- recordings and the summary ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def leaky(compiled):
    """The example service in C."""
    return compiled(EXAMPLES / "leaky_service.c")


def test_summary_puts_the_leaking_function_on_top(leaky):
    """Once, on standard error, with every part of the footer."""
    done = run(leaky, "50000")
    assert done.returncode == 0
    assert done.stdout.startswith("served 50000 requests")
    lines = done.stderr.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("#1"))
    assert lines[first + 1].split()[0] == "session_create"
    for word in (
        "sampling: normal, every 16…256 allocations",
        "samples: ",
        "dropped: nothing",
        "coverage: ",
        "own cost: ",
    ):
        assert done.stderr.count(word) == 1


def test_python_example_shows_the_leak_in_native_code():
    """The example service in Python: libz's function stands on top."""
    done = run(str(EXAMPLES / "leaky_service.py"))
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("#1"))
    assert lines[first + 1].split()[0] == "deflateInit2_"


def test_full_mode_is_exact(leaky):
    """20000 sessions of 72 bytes, all but the 256 in the table leaked, none freed."""
    done = run("--mode", "full", "-n", "1", leaky, "20000")
    assert "#1  1.4 MiB in 20,000 blocks  (exact; 20,000 samples; glibc_malloc)" in done.stderr


def test_mode_off_takes_no_samples(leaky, runtime_directory):
    """Zero, and the summary says so."""
    done = run("--mode", "off", leaky, "20000")
    assert "sampling: off\n" in done.stderr
    assert "samples: 0 taken" in done.stderr


def test_output_file_is_a_copy_of_the_roots_recording(leaky, tmp_path):
    """It is read like the original; a file that was there is replaced."""
    target = tmp_path / "out.mlrec"
    target.write_text("old")
    done = run("-o", str(target), leaky, "20000")
    assert done.returncode == 0
    found = locate.list_recordings([tmp_path])
    assert [one.header.command for one in found] == ["leaky_service"]
    assert (target.stat().st_mode & 0o777) == 0o600


def test_descendants_are_recorded_unless_told_otherwise(leaky, tmp_path, runtime_directory):
    """-o FILE names them FILE.PID-START; --no-follow leaves them out."""
    script = f"{leaky} 20000; {leaky} 30000"
    done = run("-o", str(tmp_path / "out"), "sh", "-c", script)
    assert "more recording" in done.stderr
    names = sorted(path.name.split(".")[1] if "." in path.name else "" for path in tmp_path.iterdir())
    assert len(names) == 3
    assert names[0] == ""
    assert all(part.replace("-", "").isdigit() for part in names[1:])
    for path in runtime_directory.iterdir():
        path.unlink()
    run("--no-follow", "sh", "-c", script)
    assert [one.header.command for one in locate.list_recordings([runtime_directory])] == ["sh"]


def test_output_directory_takes_each_recording(leaky, tmp_path):
    """Made when missing."""
    target = tmp_path / "new" / "dir"
    run("--quiet", "-o", f"{target}/", "sh", "-c", f"{leaky} 20000; true")
    assert len(locate.list_recordings([target])) == 2


def test_the_last_program_a_wrapper_executes_is_the_root(leaky):
    """exec keeps the pid: the summary is about what it became."""
    done = run("sh", "-c", f"exec {leaky} 20000")
    assert "leaky_service (pid" in done.stderr
    assert "session_create" in done.stderr


# ---- what cannot be traced --------------------------------------------------------------------------------


def test_static_program_runs_untraced_with_one_line(compiled):
    """Its output and status are its own."""
    static = compiled(
        '#include <stdio.h>\nint main(void) { puts("out"); return 3; }\n', "-static", name="static_program"
    )
    done = run(static)
    assert (done.returncode, done.stdout) == (3, "out\n")
    assert done.stderr.count("\n") == 1
    assert "statically linked" in done.stderr


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a program of another user")
def test_set_user_id_program_runs_untraced_with_one_line(compiled):
    """The loader would ignore the preload."""
    binary = compiled('#include <stdio.h>\nint main(void) { puts("out"); return 4; }\n', name="setuid_program")
    os.chown(binary, 65534, 65534)
    os.chmod(binary, 0o4755)
    done = run(binary)
    assert (done.returncode, done.stdout) == (4, "out\n")
    assert done.stderr.count("\n") == 1
    assert "set-user-id" in done.stderr


@pytest.mark.parametrize(
    ("name", "mib"), [("RLIMIT_DATA", 17), ("RLIMIT_DATA", 20), ("RLIMIT_DATA", 48), ("RLIMIT_AS", 48)]
)
def test_little_address_space_runs_untraced_with_one_line(name, mib):
    """With the core preloaded the loader would have no room left for the program's own libraries."""
    number = getattr(resource, name)

    def restrict() -> None:
        resource.setrlimit(number, (mib << 20, resource.getrlimit(number)[1]))

    words = ("sh", "-c", "echo hi; exit 3")
    done = run("--quiet", *words, preexec_fn=restrict)
    assert (done.returncode, done.stdout) == (3, "hi\n")
    assert done.stderr.count("\n") == 1
    assert f"{mib} MiB" in done.stderr and "ulimit" in done.stderr and "without tracing" in done.stderr


def test_enough_address_space_is_no_obstacle(leaky):
    """A limit by itself does not stop tracing."""
    restrict = functools.partial(resource.setrlimit, resource.RLIMIT_DATA, (64 << 20, resource.RLIM_INFINITY))
    assert "\n#1 " in run(leaky, "5000", preexec_fn=restrict).stderr


def test_disabled_by_the_environment(leaky, runtime_directory):
    """MEMLEAK_DISABLE=1 wins over everything."""
    done = run(leaky, "1000", env={**os.environ, "MEMLEAK_DISABLE": "1"})
    assert (done.returncode, done.stderr) == (0, "")
    assert locate.list_recordings([runtime_directory]) == []


def test_package_in_a_directory_with_a_blank_and_a_colon(tmp_path, leaky, core_path):
    """LD_PRELOAD cannot carry such a path: a link in the runtime directory does."""
    odd = tmp_path / "a b:c"
    odd.mkdir()
    package = Path(core_path).parent
    os.symlink(package, odd / "memleak")
    code = f"import sys; sys.path.insert(0, {str(odd)!r}); from memleak.cli import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", code, "run", leaky, "20000"], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0
    assert "session_create" in done.stderr


def test_summary_that_fails_keeps_the_status(leaky, runtime_directory, tmp_path):
    """One line instead of a summary."""
    script = f"{leaky} 1000; rm -f {runtime_directory}/*; exit 5"
    done = run("sh", "-c", script)
    assert done.returncode == 5
    assert "Traceback" not in done.stderr


# ---- Python ------------------------------------------------------------------------------------------

OBJECTS = "held = [object() for _ in range(5000)]"


@pytest.mark.parametrize(
    ("options", "variables", "intervals"),
    [
        ([], {}, (256, 4096)),
        (["--python-min", "8", "--python-max", "80"], {}, (8, 80)),
        (["--python-max", "300"], {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "16"}, (16, 300)),
        (["--min", "1", "--max", "1"], {}, (1, 1)),
        (["--mode", "off"], {"MEMLEAK_PYTHON_MIN_SAMPLE_INTERVAL": "16"}, (10_000, 10_000)),
        (["--mode", "full", "--python-max", "64"], {}, (1, 64)),
        (["--no-python"], {}, None),
        ([], {"MEMLEAK_PYTHON": "0"}, None),
    ],
)
def test_python_knobs_reach_the_program(runtime_directory, options, variables, intervals):
    """Those of the command line, of the environment, of the mode; or Python is not looked at."""
    done = run(*options, "--quiet", sys.executable, "-c", OBJECTS, env={**os.environ, "MEMLEAK_BUDGET": "0", **variables})
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = runtime_directory.glob("*.mlrec")
    found = recording.load(path)
    assert found.header.counts_python == (intervals is not None)
    if intervals is None:
        assert found.header.python.endswith("switched off")
    else:
        assert found.header.python_requested[:2] == found.header.python_effective[:2] == intervals
    assert found.header.counts_native
    taken = sum(row.alloc_samples for row in found.rows if row.mod_name == "pymalloc_obj")
    assert (taken > 0) == (intervals not in (None, (10_000, 10_000)))


@pytest.mark.parametrize(("options", "variables"), [(["--no-native"], {}), ([], {"MEMLEAK_NATIVE": "0"})])
def test_python_alone(runtime_directory, options, variables):
    """Through a shell as well; the summary says that native allocations are not in it."""
    command = ["sh", "-c", f'exec {sys.executable} -c "{OBJECTS}; text = bytes(100_000)"']
    done = run("--min", "1", "--max", "1", *options, *command, env={**os.environ, **variables})
    assert done.returncode == 0
    assert "; native allocations not sampled: only what is asked for through Python's allocators is\n" in done.stderr
    found = [recording.load(path) for path in runtime_directory.glob("*.mlrec")]
    names = {row.mod_name for one in found for row in one.rows if row.alloc_samples}
    assert names == {"pymalloc_obj", "pymalloc_mem", "pymem_raw"}


@pytest.mark.parametrize(
    ("options", "variables"),
    [
        (["--no-native", "--no-python"], {}),
        (["--no-native"], {"MEMLEAK_PYTHON": "0"}),
        (["--no-python"], {"MEMLEAK_NATIVE": "0"}),
    ],
)
def test_nothing_to_record_is_a_usage_error(runtime_directory, options, variables):
    """Nothing is started."""
    done = run(*options, "sh", "-c", "echo started", env={**os.environ, **variables})
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing would be recorded" in done.stderr and done.stderr.count("\n") == 1
