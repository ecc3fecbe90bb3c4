"""Blocks that are freed another way than they were allocated are found at the probability of a sample, and nothing else is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from math import lgamma, log, exp
from pathlib import Path

import pytest
from tracing import LONG, run

from memleak.query import Snapshot
from memleak.symbolize import Symbolizer

HEADER = Path(__file__).resolve().parents[2] / "native/include"
ALLOCATORS = [
    Path(f"/usr/lib/x86_64-linux-gnu/{name}") for name in ("libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2")
]  # fmt: skip
KINDS = {
    "pool_freed_by_free", "pool_freed_to_other_pool", "malloc_freed_to_pool", "pool_wrong_size", "pool_freed_twice",
    "malloc_delete", "new_free", "delete_wrong_size",
}  # fmt: skip
PI = 2 / (16 + 256)
COUNT = 60000 if LONG else 20000
NORMAL = {"MEMLEAK_SAMPLE_BYTES": "0"}


def found_in(tracer, binary, **options) -> list:
    """Return the mismatches of the one recording of a program."""
    return Snapshot(tracer.only(binary), symbolizer=Symbolizer()).mismatches(**options)


def by_site(found) -> dict[tuple[str, int], int]:
    """Return how many sampled blocks were found, by kind and number of the site; both stacks must be of that site."""
    counts: dict[tuple[str, int], int] = {}
    for one in found:
        kind, number = re.match(r"void plant_(\w+)<(\d)>", one.freed_trace[0]).groups()
        assert kind == one.kind, one
        assert any(f"plant_{kind}<{number}>" in line for line in one.allocated.trace[:2]), one.allocated.trace
        counts[kind, int(number)] = counts.get((kind, int(number)), 0) + one.count
    return counts


def binomial_tail(seen: int, trials: int, p: float) -> float:
    """Return twice the smaller of P(X <= seen) and P(X >= seen)."""

    def mass(k: int) -> float:
        return exp(lgamma(trials + 1) - lgamma(k + 1) - lgamma(trials - k + 1) + k * log(p) + (trials - k) * log(1 - p))

    low = sum(mass(k) for k in range(seen + 1))
    return 2 * min(low, 1 - low + mass(seen))


@pytest.fixture
def planted(program) -> str:
    """The program with 24 sites."""
    return program("mismatches.cc", f"-I{HEADER}")


def test_24_planted_mismatches_are_found_at_the_probability_of_a_sample(tracer, planted):
    """Each of three sites of eight kinds: two-sided, above one in a million; the seed is fixed."""
    done = tracer.same(planted, "wrong", COUNT, mode="normal", env=NORMAL)
    assert done.stdout == "done\n"
    counts = by_site(found_in(tracer, planted))
    assert set(counts) == {(kind, site) for kind in KINDS for site in (1, 2, 3)}
    for (kind, site), seen in sorted(counts.items()):
        p = binomial_tail(seen, COUNT, PI)
        print(f"{kind} {site}: {seen} of {COUNT * PI:.0f} expected, p {p:.3g}")
        assert p > 1e-6, (kind, site, seen, COUNT * PI)


def test_every_mismatch_is_found_in_full_mode(tracer, planted):
    """What goes wrong a thousand times is told a thousand times, as 24 mismatches of one pair of stacks each."""
    tracer.same(planted, "wrong", 1000)
    found = found_in(tracer, planted)
    counts = by_site(found)
    # A block of malloc's that is sampled as such too is malloc's when it comes to free().
    assert {key: n for key, n in counts.items() if key[0] != "pool_freed_by_free"} == {
        (kind, site): 1000 for kind in KINDS - {"pool_freed_by_free"} for site in (1, 2, 3)
    }


def test_right_frees_are_not_reported(tracer, planted):
    """The same program with each block freed as it should be; nothing, also not undecided; in both modes."""
    for mode in ("normal", "full"):
        tracer.same(planted, "right", COUNT if mode == "normal" else 1000, mode=mode, env=NORMAL)
        found = tracer.only(planted)
        assert found.header.counters["samples"] > 1000
        assert found.mismatches == ()
        tracer.forget()
