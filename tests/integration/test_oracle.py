"""Full mode against a program's own ledger: every block, every site, exactly."""

from __future__ import annotations

import re

import pytest
from tracing import LONG, Functions, Sum, ledger

THREADS = 4
OPERATIONS = 200_000
ALWAYS_BYTES = 16 << 20


def sites(output: str, word: str) -> dict[str, Sum]:
    """Return a ledger by the names of the functions."""
    return {f"site_{name}": found for name, found in ledger(output, word).items()}


def assert_large_blocks(output: str, operations: int, seed: int) -> None:
    """There were blocks of 128 KiB to 20 MiB, and with an odd seed nearly all of them were malloc's own mappings."""
    large, mapped = map(int, re.findall(r"^large (\d+) (\d+)$", output, flags=re.MULTILINE)[0])
    assert large > THREADS * operations / 4000
    assert mapped > (0.9 * large if seed % 2 else 0)


def assert_equal_to_ledger(tracer, binary: str, operations: int, seed: int, **environment: str) -> None:
    """Run once; compare all twelve sites."""
    done = tracer.run(binary, THREADS, operations, seed, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert_large_blocks(done.stdout, operations, seed)
    expected = sites(done.stdout, "site")
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
@pytest.mark.parametrize("seed", [7, 8])
def test_ten_million_operations_equal_the_ledger(tracer, oracle, seed):
    """The acceptance figure."""
    assert_equal_to_ledger(tracer, oracle, 2_500_000, seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_sizes_always_sampled_equal_the_ledger_in_normal_mode(tracer, oracle, seed):
    """Of 16 MiB and more every block is there, and counts once."""
    done = tracer.run(oracle, THREADS, OPERATIONS, seed, mode="normal")
    assert (done.returncode, done.stderr) == (0, "")
    assert_large_blocks(done.stdout, OPERATIONS, seed)
    found = tracer.only(oracle)
    functions, sums = Functions(oracle), {}
    for sample in found.live:
        if sample[1] >= ALWAYS_BYTES:
            assert sample[2] == 1024
            (site,) = [name for name in functions.stack(found, found.row_of(sample))[:2] if name.startswith("site_")]
            before = sums.get(site, Sum(0, 0))
            sums[site] = Sum(before.count + 1, before.bytes + sample[1])
    assert sums == sites(done.stdout, "always")
    assert len(found.live) < sum(entry.count for entry in sites(done.stdout, "site").values()) / 10


def test_rows_total_what_their_counters_say(tracer, oracle):
    """Allocated minus freed, kept by each row, is what the live set holds."""
    tracer.run(oracle, THREADS, 50_000, 11)
    for row in tracer.only(oracle).rows:
        kept = Sum(row.alloc_samples - row.freed_samples, row.alloc_bytes - row.freed_bytes)
        assert kept == Sum(row.live.samples, row.live.bytes)
        assert row.lost_samples == 0
