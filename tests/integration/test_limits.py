"""The preload door under resource limits and with exceptions and jumps through traced frames."""

from __future__ import annotations

import os
import resource

import pytest
from tracing import outcome, run

LIMITS = [
    ("RLIMIT_AS", 24 << 20), ("RLIMIT_AS", 48 << 20), ("RLIMIT_AS", 100 << 20), ("RLIMIT_AS", 1 << 30),
    ("RLIMIT_FSIZE", 0), ("RLIMIT_FSIZE", 4096), ("RLIMIT_FSIZE", 1 << 20), ("RLIMIT_FSIZE", 10_000_000),
    ("RLIMIT_NOFILE", 3), ("RLIMIT_NOFILE", 4), ("RLIMIT_NOFILE", 6),
    ("RLIMIT_STACK", 64 << 10), ("RLIMIT_DATA", 32 << 20), ("RLIMIT_MEMLOCK", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", 1),
]  # fmt: skip


@pytest.mark.parametrize("mode", ["full", "normal"])
@pytest.mark.parametrize(("name", "limit"), LIMITS)
def test_limits_change_nothing(tracer, program, name, limit, mode):
    """Status and output as without us under the same limit; at most one line that says what is missing."""
    number = getattr(resource, name)
    binary = program("callers.c", "-fno-builtin", name="callers_limited")

    def restrict() -> None:
        resource.setrlimit(number, (limit, resource.getrlimit(number)[1]))

    plain = run(binary, preexec_fn=restrict, env=dict(os.environ))
    traced = tracer.run(binary, preexec_fn=restrict, mode=mode)
    if (name, limit) == ("RLIMIT_NOFILE", 3):
        # The loader itself cannot open a library: the program does not start, with or without us.
        assert traced.returncode == plain.returncode != 0
        return
    if plain.returncode == 0 and "cannot open shared object" in traced.stderr + traced.stdout:
        pytest.fail(traced.stderr)
    assert outcome(traced)[:2] == outcome(plain)[:2]
    lines = traced.stderr.splitlines()
    assert len(lines) <= 1
    assert all(line.startswith("memleak: ") for line in lines)
