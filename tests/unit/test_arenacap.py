"""memleak.arenacap: what was in use at once, and what few arenas would have kept."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from memleak import arenacap, layout
from memleak.records import LiveSums

MIB = 1 << 20


def row(history=(), peak=0, peak_cs=0, *, mean=984, domain="glibc_malloc", live=0, variance=0.0, pool=""):
    """Return a row of blocks of *mean* bytes: of 984 glibc takes 1,000."""
    return SimpleNamespace(
        domain=layout.DOMAINS.index(domain), history=tuple(history), peak_bytes=peak, peak_cs=peak_cs, pool=pool,
        alloc_bytes=100 * mean, alloc_count=100.0, live=LiveSums(est_bytes=live, variance_bytes=variance),
    )  # fmt: skip


def at_once(*rows):
    return arenacap.in_use_at_once(SimpleNamespace(rows=rows)) * 984 / 1000


def test_peaks_at_different_times_do_not_add_up():
    """And those within a stretch in which nothing else is known do."""
    first = row([(400, 10), (800, 20), (1200, 30)], peak=1000, peak_cs=500, live=30)
    later = row([(400, 0), (800, 0), (1200, 50)], peak=2000, peak_cs=1000, live=50)
    same = row([(400, 0), (800, 0), (1200, 0)], peak=700, peak_cs=790)
    assert at_once(first, later) == pytest.approx(2030)
    assert at_once(first, same) == pytest.approx(1700)
    assert at_once(first, later, same) == pytest.approx(2030)


def test_what_is_unchanged_is_still_held():
    """A history has no word where nothing changed; before it began there was nothing, behind it is what is live."""
    steady = row([(400, 500)], peak=500, peak_cs=400, live=500)
    burst = row([(2000, 0), (2400, 0)], peak=900, peak_cs=2100)
    early = row([(100, 0)], peak=900, peak_cs=50)
    last = row([(100, 0)], peak=900, peak_cs=9000, live=900)
    assert at_once(steady, burst) == pytest.approx(1400)
    assert at_once(steady, early) == pytest.approx(900)
    assert at_once(steady, last) == pytest.approx(1400)
    assert at_once() == 0


def test_only_blocks_in_heaps_count():
    """Neither mappings, nor large blocks, nor what pools give out, nor small objects of Python's."""
    others = [
        row(peak=10**9, domain="mmap"), row(peak=10**9, mean=1 << 20), row(peak=10**9, pool="buddy"),
        row(peak=10**9, domain="pymalloc_obj", mean=100),
    ]  # fmt: skip
    assert at_once(row([(400, 7)], peak=7, peak_cs=400), *others) == pytest.approx(7)


def test_many_small_rows_count_with_their_peaks():
    few = row([(400, 0)], peak=100_000, peak_cs=100)
    many = [row([(400, 0)], peak=5, peak_cs=10_000) for _ in range(1000)]
    assert at_once(few, *many) == pytest.approx(105_000)


def test_a_highest_estimate_is_high_by_chance_too():
    """By one and a half standard errors of what was held then."""
    noisy = row([(400, 0)], peak=1_000_000, peak_cs=100, live=10_000, variance=10_000 * 10_000.0)
    assert at_once(noisy) == pytest.approx(1_000_000 - 1.5 * 100_000)


@pytest.mark.parametrize(
    ("busy", "expected"),
    [(0.5, 1.0), (1, 2.0), (2, 4.0), (4, 4 + 2 * 1.5 * 0.894), (16, 16.0)],
)
def test_what_two_arenas_need(busy, expected):
    """Each arena all that one thread needs, or its half and more by chance; all of it where every thread is busy."""
    recording = SimpleNamespace(rows=[row([(400, 0)], peak=round(busy * MIB * 0.984), peak_cs=100)])
    gain = arenacap.gain(recording, 16 * MIB, 16)
    assert gain.expected == pytest.approx((16 - expected) * MIB, rel=0.01, abs=100)
    assert (gain.least, gain.most) == (
        pytest.approx(max(0, 16 - 2 * busy) * MIB, abs=100),
        pytest.approx((16 - busy) * MIB, abs=100),
    )
