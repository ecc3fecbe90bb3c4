"""The hot path's length in instructions: exact, so it can be a test where a time could not."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "hook_fastpath.py"


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")
def test_a_pair_costs_at_most_18_instructions_over_stock(core_path, runtime_directory, tmp_path):
    """malloc + free through both hooks, looks at the knobs included, nothing sampled: off mode and not started."""
    spec = importlib.util.spec_from_file_location("hook_fastpath", BENCHMARK)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    program = benchmark.compile_program(tmp_path)
    stock = benchmark.instructions_per_pair(program, benchmark.environment(None, "", runtime_directory))
    for mode in ("not started", "off"):
        env = benchmark.environment(Path(core_path), mode, runtime_directory)
        over = benchmark.instructions_per_pair(program, env) - stock
        assert over <= 18.0, f"{mode}: {over:.2f} instructions over stock"
