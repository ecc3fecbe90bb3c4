"""Lengths in instructions, of the hot path and of a backtrace: exact, so they can be a test where a time could not."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from tracing import run

pytestmark = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")


def benchmark_of(name: str) -> ModuleType:
    """Import one of benchmarks/."""
    path = Path(__file__).resolve().parents[2] / "benchmarks" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    return benchmark


def test_a_pair_costs_at_most_18_instructions_over_stock(core_path, runtime_directory, tmp_path):
    """malloc + free through both hooks, looks at the knobs included, nothing sampled: off mode and not started."""
    benchmark = benchmark_of("hook_fastpath")
    program = benchmark.compile_program(tmp_path)
    stock = benchmark.instructions_per_pair(program, benchmark.environment(None, "", runtime_directory))
    for mode in ("not started", "off"):
        env = benchmark.environment(Path(core_path), mode, runtime_directory)
        over = benchmark.instructions_per_pair(program, env) - stock
        assert over <= 18.0, f"{mode}: {over:.2f} instructions over stock"


def test_a_backtrace_of_16_frames_costs_at_most_1000_instructions(tmp_path):
    """With its rules known, hash and module ids included; backtrace(3) takes more than ten times as many."""
    benchmark = benchmark_of("unwind_cost")
    program = benchmark.compile_program(tmp_path)
    ours, libc = (benchmark.instructions_per_walk(program, unwinder, 2000) for unwinder in ("ours", "libc"))
    print(f"ours {ours:.1f}, backtrace(3) {libc:.1f}")
    assert 16 * 10 < ours <= 1000.0
    assert libc > 10 * ours


def test_the_rounds_of_the_unwinders_are_printed(tmp_path):
    """Every kind of stack has a time for each unwinder that can do it."""
    benchmark = benchmark_of("unwind_cost")
    times = benchmark.nanoseconds_per_walk(benchmark.compile_program(tmp_path))
    assert {kind: len(row) for kind, row in times.items()} == {"same stack": 2, "random stacks": 2, "no rule known": 1}
    assert all(0 < value < 1e6 for row in times.values() for value in row)


def test_an_outcome_costs_at_most_220_instructions_a_switch():
    """One end of a block under a label, over the same without `outcome=True`; making its scope anew took 315."""
    benchmark = benchmark_of("label_switch")
    plain, outcome = (benchmark.instructions(sys.executable, kind) for kind in ("plain", "outcome"))
    print(f"plain {plain:.0f}, with an outcome {outcome - plain:.0f} more")
    assert 50 <= outcome - plain <= 220


def test_a_symbol_costs_the_same_however_much_is_loaded(tracer, program, tmp_path):
    """dlsym() in a program without Python: it looks whether something came, not at everything that is there."""
    symbols = program("symbols.c", "-ldl")
    built = program("doors/holders.c", "-shared", "-fPIC", name="holders.so")
    many = [shutil.copy(built, tmp_path / f"holders{number}.so") for number in range(40)]
    stock = instructions_per_call({}, symbols)
    few, more = (instructions_per_call(tracer.environment("off"), symbols, *loaded) for loaded in ((), many))
    assert few - stock <= 600
    assert more - few <= 20


def test_a_pair_of_new_and_delete_costs_at_most_62_instructions_over_stock(tracer, program):
    """The pair of malloc and free in it included; 8 of them ask whether new has given out what a sample is said to be at."""
    pairs = program("new_pairs.cc", "-O2")
    off, stock = (instructions_per_call(env, pairs) for env in (tracer.environment("off"), {}))
    print(f"{off - stock:.1f} over stock")
    assert 30 <= off - stock <= 62


def test_a_pair_of_a_pool(tracer, program):
    """What a program pays for telling of a block twice: with the core, nothing sampled, and without it."""
    header = Path(__file__).resolve().parents[2] / "native/include"
    pairs = program("pool_pairs.c", f"-I{header}", "-O2")
    with_core, without = (instructions_per_call(env, pairs) for env in (tracer.environment("off"), {}))
    print(f"with the core {with_core:.1f}, without it {without:.1f}")
    assert with_core <= 50
    assert without <= 10


def instructions_per_call(env: dict[str, str], program: str, *words: str, calls: int = 2000) -> float:
    """Return what callgrind counts for one more call of a program's, which takes their number as its first argument."""
    counts = []
    for length in (1000, 1000 + calls):
        command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", program, length, *words]
        done = run(*command, env={**os.environ, **env})
        assert done.returncode == 0, done.stderr
        counts.append(int(re.search(r"Collected : (\d+)", done.stderr).group(1)))
    return (counts[1] - counts[0]) / calls
