"""Mappings from 64 KiB: pieces and bytes equal the program's own ledger of pages."""

from __future__ import annotations

import pytest
from tracing import LONG, Functions, ledger


@pytest.mark.parametrize("seed", range(20) if LONG else range(3))
def test_random_mappings_equal_the_ledger(tracer, program, seed):
    """Partial munmap, MAP_FIXED over others, mremap that moves, grows, shrinks and replaces."""
    binary = program("mappings.c")
    done = tracer.run(binary, 30_000 if LONG else 5_000, seed)
    assert (done.returncode, done.stderr) == (0, "")
    found = tracer.only(binary)
    assert found.samples_lost == {}
    assert Functions(binary).sums(found, "map_") == ledger(done.stdout)
    assert {row.mod_name for row in found.rows if row.stack and row.live.samples} <= {"mmap", "glibc_malloc"}


@pytest.mark.parametrize("mode", ["full", "normal"])
def test_cases_equal_the_ledger(tracer, program, mode):
    """Too small, reserved, files, pieces, failures; always sampled, so exact in normal mode too."""
    binary = program("mapping_cases.c")
    done = tracer.same(binary, mode=mode)
    found = tracer.only(binary)
    assert Functions(binary).sums(found, "map_", domain="mmap") == ledger(done.stdout)
    assert all(sample[2] == 1024 for sample in found.live if found.row_of(sample).mod_name == "mmap")


def test_off_mode_samples_no_mapping(tracer, program):
    """Zero is zero."""
    tracer.same(program("mapping_cases.c"), mode="off")
    assert tracer.only().header.counters["samples"] == 0
