"""Full mode against a program's own ledger: every block, every site, exactly."""

from __future__ import annotations

import pytest
from tracing import LONG, Functions, Sum, ledger

THREADS = 4
OPERATIONS = 200_000


def assert_equal_to_ledger(tracer, binary: str, operations: int, seed: int, **environment: str) -> None:
    """Run once; compare all twelve sites."""
    done = tracer.run(binary, THREADS, operations, seed, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    expected = {f"site_{name}": found for name, found in ledger(done.stdout).items()}
    found = tracer.only(binary)
    assert found.samples_lost == {}
    assert (found.torn, found.incomplete) == (0, ())
    # Two frames: where the compiler does not inline it, posix_memalign is called through a helper.
    assert Functions(binary).sums(found, "site_", depth=2) == expected
    assert sum(entry.count for entry in expected.values()) > 1000
    assert found.header.counters["samples"] - found.header.counters["forgotten"] == len(found.live)
    tracer.forget()


@pytest.fixture
def oracle(program) -> str:
    """The program with the ledger."""
    return program("oracle.c", "-Wno-alloc-size-larger-than")


@pytest.mark.parametrize("seed", [1, 2] if not LONG else range(1, 6))
def test_live_blocks_equal_the_ledger(tracer, oracle, seed):
    """malloc, calloc, realloc, reallocarray and the aligned ones, on four threads that free for each other."""
    assert_equal_to_ledger(tracer, oracle, OPERATIONS, seed)


def test_live_blocks_equal_the_ledger_with_our_own_module_snapshot(tracer, oracle):
    """The same where _dl_find_object is not used."""
    assert_equal_to_ledger(tracer, oracle, OPERATIONS // 4, 3, MEMLEAK_MODULE_SNAPSHOT="1")


@pytest.mark.skipif(not LONG, reason="long form: set MEMLEAK_TEST_LONG=1")
def test_ten_million_operations_equal_the_ledger(tracer, oracle):
    """The acceptance figure."""
    assert_equal_to_ledger(tracer, oracle, 2_500_000, 7)


def test_rows_total_what_their_counters_say(tracer, oracle):
    """Allocated minus freed, kept by each row, is what the live set holds."""
    tracer.run(oracle, THREADS, 50_000, 11)
    for row in tracer.only(oracle).rows:
        kept = Sum(row.alloc_samples - row.freed_samples, row.alloc_bytes - row.freed_bytes)
        assert kept == Sum(row.live.samples, row.live.bytes)
        assert row.lost_samples == 0
