"""Programs people run: the same output, status and files as without us, and stacks that make sense."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from tracing import PROGRAMS, assert_sensible, run, tree

from memleak import recording

FIXED = {  # what would differ from run to run by itself
    "LC_ALL": "C", "TZ": "UTC", "PYTHONHASHSEED": "0", "PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0", "SOURCE_DATE_EPOCH": "1",
    "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b", "GIT_COMMITTER_DATE": "1700000000 +0000", "GIT_CONFIG_GLOBAL": "/dev/null",
}  # fmt: skip


class Way(NamedTuple):
    """How a program is traced."""

    door: str  # LD_PRELOAD or memleak run
    mode: str


WAYS = pytest.mark.parametrize(
    "way", [Way(door, mode) for door in ("LD_PRELOAD", "memleak run") for mode in ("full", "normal")], ids=" ".join
)


def assert_same_run(
    tracer, tmp_path: Path, command: list[str], way: Way, prepare=None, leave_out: str = "\0", status: int = 0
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
            start = tracer.launch if way.door == "memleak run" else tracer.run
            done = start(*command, mode=way.mode, cwd=directory, env={**FIXED, "HOME": str(directory)})
        files = {path: digest for path, digest in tree(directory).items() if leave_out not in path}
        results.append((done.returncode, done.stdout.replace(str(tmp_path / name), ""), done.stderr, files))
    assert results[1] == results[0]
    assert results[0][0] == status, results[0][2]
    found = tracer.recordings()
    for one in found:
        assert_sensible(one)
    return found


def commands(found: list[recording.Recording]) -> set[str]:
    """Return the names of the programs recorded."""
    return {one.header.command for one in found}


# ---- programs that come and go ---------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    ("compiler", "source", "inner", "least"),
    [("gcc", "oracle.c", "cc1", 20_000), ("g++", "new.cc", "cc1plus", 100_000)],
    ids=["C", "C++"],
)
def test_compiler(tracer, tmp_path, way, compiler, source, inner, least):
    """gcc, g++ and what they start: the object file is the same, byte by byte, and the compiler proper was recorded."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    command = [compiler, "-D_GNU_SOURCE", "-O1", "-c", str(PROGRAMS / source), "-o", "out.o"]
    found = assert_same_run(tracer, tmp_path, command, way)
    assert {compiler, inner, "as"} <= commands(found)
    (proper,) = [one for one in found if one.header.command == inner]
    # The overflow row takes what finds no room; it is counted and says so.
    assert proper.header.counters["samples"] > (least if way.mode == "full" else least / 200)


@WAYS
def test_git(tracer, tmp_path, way):
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
    found = assert_same_run(tracer, tmp_path, ["bash", "-c", script], way, leave_out=".git/")
    assert "git" in commands(found)


PERL = r"""
my %words; for my $i (1..20000) { push @{$words{"w" . $i % 997}}, $i; }
my $sum = 0; for my $w (sort keys %words) { $sum += scalar(@{$words{$w}}) * length($w); }
my $text = join(",", map { sprintf("%s=%d", $_, $#{$words{$_}}) } sort keys %words);
$text =~ s/(\w+)=(\d+)/$2:$1/g; print "$sum ", length($text), "\n"; exit 0;
"""


@WAYS
def test_perl(tracer, tmp_path, way):
    """Hashes, sorting, regular expressions."""
    if shutil.which("perl") is None:
        pytest.skip("perl is not installed")
    found = assert_same_run(tracer, tmp_path, ["perl", "-e", PERL], way)
    assert commands(found) == {"perl"}


BASH = r"""
declare -A seen; for i in {1..2000}; do seen[$((i % 97))]+="$i,"; done
for key in $(printf '%s\n' "${!seen[@]}" | sort -n); do echo "$key ${#seen[$key]}"; done
f() { local n=$1; ((n > 0)) && f $((n - 1)); echo "$n"; }; f 50 | tail -1; cat <(echo one) <(echo two)
trap 'echo bye' EXIT; (exit 3) || echo "status $?"; coproc cat; echo there >&"${COPROC[1]}"; read -r x <&"${COPROC[0]}"; echo "$x"
"""


@WAYS
def test_bash(tracer, tmp_path, way):
    """Arrays, functions, pipes, process substitution, a coprocess, traps."""
    assert "bash" in commands(assert_same_run(tracer, tmp_path, ["bash", "-c", BASH], way))


@WAYS
def test_tar_and_gzip(tracer, tmp_path, way):
    """A pipeline: the archive is the same, byte by byte, and unpacks."""

    def fill(directory: Path) -> None:
        for number in range(50):
            (directory / f"file{number}").write_text(f"line {number}\n" * number * 20)

    script = "tar --sort=name --mtime=@0 --owner=0 --group=0 -c file* | gzip -n9 > all.tgz && mkdir out && tar -xzf all.tgz -C out && ls out"
    # Short runs of gzip allocate next to nothing.
    assert "tar" in commands(assert_same_run(tracer, tmp_path, ["bash", "-c", script], way, prepare=fill))


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


@WAYS
def test_python(tracer, tmp_path, way):
    """sqlite3, json, threads, hashing, decimal, a child process; numpy where it is installed."""
    code = PYTHON + (NUMPY if importlib.util.find_spec("numpy") else "")
    found = assert_same_run(tracer, tmp_path, [sys.executable, "-c", code], way)
    assert len(found) >= 2
    assert max(one.header.counters["samples"] for one in found) > (10_000 if way.mode == "full" else 50)


@WAYS
def test_cpp_program(tracer, tmp_path, program, way):
    """Containers, exceptions, futures, streams, regular expressions."""
    binary = program("service.cc", "-std=c++17")
    (found,) = assert_same_run(tracer, tmp_path, [binary], way, status=10)
    assert {row.mod_name for row in found.rows} >= {"operator_new", "glibc_malloc"}
    if way.mode == "full":
        assert found.samples_lost == {}
