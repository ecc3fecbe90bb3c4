"""Programs people run: the same output, status and files as without us, and stacks that make sense."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tracing import PROGRAMS, assert_consistent, run, tree

import memleak
from memleak import recording

FIXED = {  # what would differ from run to run by itself
    "LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "0", "PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0", "SOURCE_DATE_EPOCH": "1",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_CONFIG_GLOBAL": "/dev/null",
}  # fmt: skip


def assert_sensible(found: recording.Recording) -> None:
    """Nearly every backtrace is complete, or as deep as it may be, and none is only unknown places."""
    assert_consistent(found)
    counters = found.header.counters
    stopped = sum(count for name, count in counters.items() if name.startswith("unwind_"))
    assert stopped <= 0.02 * counters["samples"], f"{found.header.command}: {counters}"
    if not stopped:  # then what was cut is too deep; frames of operator new are taken off later
        assert all(len(row.stack) >= found.header.max_frames - 2 for row in found.rows if row.truncated)
    for row in found.rows:
        if row.overflow or not row.alloc_samples:
            continue
        assert row.stack, f"{found.header.command}: a row without a backtrace"
        assert any(frame.module_id for frame in row.stack), f"{found.header.command}: a row of unknown places"
        assert all(found.module(frame.module_id).path for frame in row.stack if frame.module_id)


def assert_same_run(
    tracer, tmp_path: Path, command: list[str], mode: str, prepare=None, leave_out: str = "\0"
) -> list[recording.Recording]:
    """Run twice, each in a directory of its own; compare output, errors, status and files."""
    results = []
    for name in ("plain", "traced"):
        directory = tmp_path / name / "work"
        directory.mkdir(parents=True)
        if prepare:
            prepare(directory)
        if name == "plain":
            done = run(*command, cwd=directory, env={**os.environ, **FIXED, "HOME": str(directory)})
        else:
            done = tracer.run(*command, mode=mode, cwd=directory, env={**FIXED, "HOME": str(directory)})
        files = {path: digest for path, digest in tree(directory).items() if leave_out not in path}
        results.append((done.returncode, done.stdout.replace(str(tmp_path / name), ""), done.stderr, files))
    assert results[1] == results[0]
    assert results[0][0] == 0, results[0][2]
    found = tracer.recordings()
    for one in found:
        assert_sensible(one)
    return found


MODES = pytest.mark.parametrize("mode", ["full", "normal"])


def commands(found: list[recording.Recording]) -> set[str]:
    """Return the names of the programs recorded."""
    return {one.header.command for one in found}


# ---- programs that come and go ---------------------------------------------------------------------------


@MODES
def test_compiler(tracer, tmp_path, mode):
    """g++ and what it starts: the object file is the same, byte by byte, and cc1plus was recorded."""
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    source = str(PROGRAMS / "new.cc")
    command = ["g++", "-O1", "-c", source, "-o", "out.o"]
    found = assert_same_run(tracer, tmp_path, command, mode)
    assert {"cc1plus", "as"} <= commands(found)
    (compiler,) = [one for one in found if one.header.command == "cc1plus"]
    # The overflow row takes what finds no room; it is counted and says so.
    assert compiler.header.counters["samples"] > (100_000 if mode == "full" else 1_000)


@MODES
def test_git(tracer, tmp_path, mode):
    """A repository is made, filled, packed and read."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    script = """
    set -e
    git init -q -b main . && for i in $(seq 40); do echo "line $i" > file$i; done
    git add . && git commit -q -m one && echo more >> file3 && git commit -q -a -m two
    git -c gc.auto=0 gc -q && git log --stat && git fsck && git rev-parse HEAD && git diff HEAD~1
    """
    # The index holds times and inode numbers; packs depend on the number of processors in use.
    found = assert_same_run(tracer, tmp_path, ["bash", "-c", script], mode, leave_out=".git/")
    assert "git" in commands(found)


PERL = r"""
my %words; for my $i (1..20000) { push @{$words{"w" . $i % 997}}, $i; }
my $sum = 0; for my $w (sort keys %words) { $sum += scalar(@{$words{$w}}) * length($w); }
my $text = join(",", map { sprintf("%s=%d", $_, $#{$words{$_}}) } sort keys %words);
$text =~ s/(\w+)=(\d+)/$2:$1/g; print "$sum ", length($text), "\n"; exit 0;
"""


@MODES
def test_perl(tracer, tmp_path, mode):
    """Hashes, sorting, regular expressions."""
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    found = assert_same_run(tracer, tmp_path, ["perl", "-e", PERL], mode)
    assert commands(found) == {"perl"}


BASH = r"""
declare -A seen; for i in {1..2000}; do seen[$((i % 97))]+="$i,"; done
for key in $(printf '%s\n' "${!seen[@]}" | sort -n); do echo "$key ${#seen[$key]}"; done
f() { local n=$1; ((n > 0)) && f $((n - 1)); echo "$n"; }; f 50 | tail -1; cat <(echo one) <(echo two)
trap 'echo bye' EXIT; (exit 3) || echo "status $?"; coproc cat; echo there >&"${COPROC[1]}"; read -r x <&"${COPROC[0]}"; echo "$x"
"""


@MODES
def test_bash(tracer, tmp_path, mode):
    """Arrays, functions, pipes, process substitution, a coprocess, traps."""
    assert "bash" in commands(assert_same_run(tracer, tmp_path, ["bash", "-c", BASH], mode))


@MODES
def test_tar_and_gzip(tracer, tmp_path, mode):
    """A pipeline: the archive is the same, byte by byte, and unpacks."""

    def fill(directory: Path) -> None:
        for number in range(50):
            (directory / f"file{number}").write_text(f"line {number}\n" * number * 20)

    script = "tar --sort=name --mtime=@0 --owner=0 --group=0 -c file* | gzip -n9 > all.tgz && mkdir out && tar -xzf all.tgz -C out && ls out"
    # Short runs of gzip allocate next to nothing.
    assert "tar" in commands(assert_same_run(tracer, tmp_path, ["bash", "-c", script], mode, prepare=fill))


PYTHON = """
import json, sqlite3, threading, zlib, hashlib, collections, decimal, subprocess, sys
base = sqlite3.connect("data.db")
base.execute("create table t (a integer primary key, b text)")
base.executemany("insert into t (b) values (?)", [("x" * (i % 300),) for i in range(3000)])
base.commit()
print(base.execute("select count(*), sum(length(b)) from t where b like 'xx%'").fetchone())
data = json.loads(json.dumps({str(i): list(range(i % 50)) for i in range(2000)}))
print(hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest(), len(zlib.compress(json.dumps(data).encode())))
threads = [threading.Thread(target=lambda: [bytes(1000) for _ in range(2000)]) for _ in range(4)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(decimal.Decimal(i) / 7 for i in range(1000)))
print(subprocess.run([sys.executable, "-c", "print('child')"], capture_output=True, text=True).stdout)
"""
NUMPY = "import numpy; a = numpy.arange(1e6).reshape(1000, 1000); print(a.T.sum(), numpy.linalg.svd(a[:50, :50])[1][:3].round(3))"


@MODES
def test_python(tracer, tmp_path, mode):
    """sqlite3, json, threads, hashing, decimal, a child process; numpy where it is installed."""
    code = PYTHON + (NUMPY if importlib.util.find_spec("numpy") else "")
    found = assert_same_run(tracer, tmp_path, [sys.executable, "-c", code], mode)
    assert len(found) >= 2
    assert max(one.header.counters["samples"] for one in found) > (10_000 if mode == "full" else 50)


@MODES
def test_cpp_program(tracer, tmp_path, program, mode):
    """Containers, exceptions, futures, streams, regular expressions."""
    binary = program("service.cc", "-std=c++17")
    plain, done = run(binary), tracer.run(binary, mode=mode)
    assert (done.returncode, done.stdout, done.stderr) == (plain.returncode, plain.stdout, plain.stderr)
    found = tracer.only(binary)
    assert_sensible(found)
    assert {row.mod_name for row in found.rows} >= {"operator_new", "glibc_malloc"}
    if mode == "full":
        assert found.samples_lost == {}


# ---- a server -----------------------------------------------------------------------------------------------


def redis_session(start, directory: Path, look=None) -> tuple[int, str, str, str]:
    """Serve a benchmark with BGSAVE meanwhile, then shut down; return status, digest of the data, errors, and replies."""
    directory.mkdir()
    socket = directory / "socket"
    options = [
        "--port",
        "0",
        "--unixsocket",
        socket,
        "--dir",
        directory,
        "--save",
        "",
        "--enable-debug-command",
        "local",
        "--daemonize",
        "no",
    ]
    cli = ["redis-cli", "-s", socket]
    with open(directory / "errors", "w+") as errors:
        server = start("redis-server", *options, stdout=subprocess.DEVNULL, stderr=errors)
        try:
            deadline = time.monotonic() + 20
            while run(*cli, "ping").stdout != "PONG\n":
                assert server.poll() is None and time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.05)
            benchmark = ["redis-benchmark", "-s", socket, "-n", "4000", "-c", "20", "-q", "-d", "100"]
            with subprocess.Popen([*map(str, benchmark)], stdout=subprocess.DEVNULL) as running:
                replies = run(*cli, "bgsave").stdout
                if look:
                    look(server.pid)
                assert running.wait(timeout=100) == 0
            run(*cli, "flushall")
            run(*cli, "debug", "populate", "20000", "key", "100")
            replies += run(*cli, "save").stdout + run(*cli, "dbsize").stdout
            digest = run(*cli, "debug", "digest").stdout
            run(*cli, "shutdown", "nosave")
            return server.wait(timeout=30), digest, Path(directory / "errors").read_text(), replies
        finally:
            server.kill()


def test_redis_under_benchmark(tracer, tmp_path):
    """The same data and an orderly end; the recording is read meanwhile by pid."""
    if shutil.which("redis-server") is None or shutil.which("redis-benchmark") is None:
        pytest.skip("redis-server is not installed")

    def plain(*command, **options) -> subprocess.Popen:
        return subprocess.Popen([*map(str, command)], **options)

    def look(pid: int) -> None:
        snapshot = memleak.open(pid)
        assert snapshot.alive == (True,)
        rows = snapshot.top(5)
        assert len(rows) == 5
        assert all(row.est_bytes > 0 for row in rows)

    without = redis_session(plain, tmp_path / "plain")
    for mode in ("normal", "full"):
        tracer.forget()
        assert (
            redis_session(lambda *c, mode=mode, **o: tracer.start(*c, mode=mode, **o), tmp_path / mode, look) == without
        )
        server, *children = tracer.recordings()
        assert server.header.command == "redis-server"
        assert server.header.state_name == "exited"
        assert_sensible(server)
        for child in children:
            assert child.header.parent_recording_id == server.header.recording_id
            assert_sensible(child)
