"""Simulated stacks whose truth is known: twelve ways to grow, or not to, as a recording would show them.

Events are sampled by the law of the default knobs, each with its weight; what a history can hold of the result is what the
core keeps: at each level the values at the ends of the last sixteen periods.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from memleak.verdict.series import Series

MEAN_INTERVAL, SAMPLE_BYTES = 136, 4 << 20
MB = 1e6
DAY = 86400.0
NEVER = np.inf


class Stack(NamedTuple):
    """Sampled allocations of one stack: when, weight, size, and when they are freed."""

    born: np.ndarray
    weight: np.ndarray
    size: np.ndarray
    freed: np.ndarray


class Shape(NamedTuple):
    """A way to grow; `make(random, end)` gives the stack, the rate of its leak in bytes per second or 0, its level or 0."""

    name: str
    leaks: bool
    make: Callable[[np.random.Generator, float], tuple[Stack, float, float]]


def sizes_of(random: np.random.Generator, n: int, kind: str) -> np.ndarray:
    """Return sizes of *n* blocks: all alike, of a few kinds, or over three decades."""
    if kind == "alike":
        return np.full(n, 1024)
    if kind == "mixed":
        return np.exp(random.uniform(np.log(64), np.log(8192), n)).astype(int)
    return random.choice([96, 512, 4096], n)


def sampled(random: np.random.Generator, born: np.ndarray, size: np.ndarray, freed: np.ndarray) -> Stack:
    """Return what sampling leaves of events."""
    chance = 1 - (1 - 1 / MEAN_INTERVAL) * np.exp(-size / SAMPLE_BYTES)
    taken = random.random(len(born)) < chance
    return Stack(born[taken], 1 / chance[taken], size[taken], freed[taken])


def arrivals(random: np.random.Generator, per_s: float, end: float, begin: float = 0.0) -> np.ndarray:
    """Return times of a steady stream."""
    return np.sort(random.uniform(begin, end, random.poisson(per_s * (end - begin))))


def joined(*stacks: Stack) -> Stack:
    """Return several kinds of events at one stack."""
    return Stack(*(np.concatenate(parts) for parts in zip(*stacks)))


def series_at(stack: Stack, now: float) -> Series:
    """Return what a recording shows of a stack at a moment."""
    seen = stack.born <= now
    born, weight, size, freed = (part[seen] for part in stack)
    order_in, order_out = np.argsort(born), np.argsort(freed)
    total_in = np.concatenate([[0.0], np.cumsum((weight * size)[order_in])])
    total_out = np.concatenate([[0.0], np.cumsum((weight * size)[order_out])])
    born_sorted, freed_sorted = born[order_in], freed[order_out]

    def held(at: np.ndarray) -> np.ndarray:
        return (
            total_in[np.searchsorted(born_sorted, at, "right")] - total_out[np.searchsorted(freed_sorted, at, "right")]
        )

    times = set()
    for level in range(6):
        period = 4.0 * 4**level
        last = int(now / period)
        times |= {period * n for n in range(max(1, last - 15), last + 1)}
    first = float(born.min()) if len(born) else now
    at = np.array(sorted(time for time in times if first < time <= now))
    points = list(zip(at.tolist(), held(at).tolist())) if len(at) else []
    changes = np.sort(np.concatenate([born, freed[freed <= now]]))
    values = held(changes) if len(changes) else np.array([0.0])
    top = int(np.argmax(values))
    peak = (float(changes[top]), float(values[top])) if len(changes) else None
    live = freed > now
    samples = list(zip(born[live].tolist(), weight[live].tolist(), size[live].tolist()))
    return Series(samples, points, first, now, peak)


# -- leaks -------------------------------------------------------------------------------------------


def kind_of(random: np.random.Generator) -> str:
    return str(random.choice(["alike", "mixed", "few"]))


def leaking(random, rate, end, begin=0.0):
    """Blocks worth *rate* bytes a second that are never freed."""
    kind = kind_of(random)
    mean = sizes_of(random, 4096, kind).mean()
    born = arrivals(random, rate / mean, end, begin)
    return sampled(random, born, sizes_of(random, len(born), kind), np.full(len(born), NEVER))


def churning(random, held, lifetime, end, per_s=lambda t: np.ones_like(t)):
    """Blocks that live for *lifetime* seconds on average, so that *held* bytes are live; thinned by `per_s` of their time."""
    kind = kind_of(random)
    mean = sizes_of(random, 4096, kind).mean()
    # Only what will be sampled is made: a million events a minute are nothing to a program.
    rate = held / mean / lifetime
    thinned = min(1.0, 2e5 / max(1.0, rate * end))
    born = arrivals(random, rate * thinned, end)
    born = born[random.random(len(born)) < per_s(born)]
    size = sizes_of(random, len(born), kind)
    stack = sampled_thin(random, born, size, born + random.exponential(lifetime, len(born)), thinned)
    return stack


def sampled_thin(random, born, size, freed, thinned):
    """As `sampled`, of events of which only a share was made: those are taken with more chance."""
    chance = 1 - (1 - 1 / MEAN_INTERVAL) * np.exp(-size / SAMPLE_BYTES)
    taken = random.random(len(born)) < np.minimum(1.0, chance / thinned)
    return Stack(born[taken], 1 / np.minimum(chance, thinned)[taken], size[taken], freed[taken])


def rate_of(random):
    return float(np.exp(random.uniform(np.log(1.0), np.log(40.0)))) * MB / 60  # 1 to 40 MB a minute


def linear(random, end):
    rate = rate_of(random)
    return leaking(random, rate, end), rate, 0.0


def one_percent(random, end):
    """A request in a hundred keeps what it allocated; the others free it in a second."""
    rate = rate_of(random)
    return joined(leaking(random, rate, end), churning(random, 99 * rate, 1.0, end)), rate, 0.0


def on_a_cache(random, end):
    """A leak at the very stack of a cache that turns over."""
    rate = rate_of(random)
    return (
        joined(leaking(random, rate, end), churning(random, 20 * rate * 60 * random.uniform(0.1, 0.5), 30.0, end)),
        rate,
        0.0,
    )


def by_threads(random, end):
    """Each of many short threads leaves its block behind: in bursts."""
    rate = rate_of(random)
    starts = arrivals(random, 1 / 5, end)
    per = rate * 5 / 2048
    born = np.repeat(starts, random.poisson(per, len(starts)))
    size = sizes_of(random, len(born), "mixed")
    return sampled(random, born, size, np.full(len(born), NEVER)), float(size.mean() * per / 5), 0.0


# -- what does not leak --------------------------------------------------------------------------------


def cache_full(random, end):
    """An LRU cache, full after minutes: random keys, so it fills ever more slowly, then each new block pushes one out."""
    return filling(random, end, float(np.exp(random.uniform(np.log(20), np.log(300)))))


def cache_filling(random, end):
    """A cache of keys asked for at random that fills for minutes to hours."""
    return filling(random, end, float(np.exp(random.uniform(np.log(300), np.log(900)))))


def filling(random, end, tau):
    level = float(np.exp(random.uniform(np.log(10), np.log(500)))) * MB
    kind = kind_of(random)
    mean = sizes_of(random, 4096, kind).mean()
    n = int(level / mean)
    born = random.exponential(tau, n)
    born = np.sort(born[born < end])
    size = sizes_of(random, len(born), kind)
    return sampled(random, born, size, np.full(len(born), NEVER)), 0.0, level


def ttl_cache(random, end):
    """Each block lives exactly as long as its time to live: minutes."""
    ttl = float(np.exp(random.uniform(np.log(30), np.log(400))))
    held = float(np.exp(random.uniform(np.log(5), np.log(300)))) * MB
    stack = churning(random, held, ttl, end)
    return stack._replace(freed=stack.born + ttl), 0.0, 0.0


def daily(random, end):
    """Sessions of some minutes; ten times as many by day as by night."""
    phase = random.uniform(0, DAY)
    held = float(np.exp(random.uniform(np.log(20), np.log(300)))) * MB
    lifetime = float(np.exp(random.uniform(np.log(60), np.log(900))))
    return (
        churning(random, held, lifetime, end, lambda t: 0.55 - 0.45 * np.cos(2 * np.pi * (t + phase) / DAY)),
        0.0,
        0.0,
    )


def sawtooth(random, end):
    """A batch is collected for minutes, then written and freed."""
    period = float(np.exp(random.uniform(np.log(20), np.log(500))))
    height = float(np.exp(random.uniform(np.log(5), np.log(200)))) * MB
    stack = churning(random, height, period, end)
    return stack._replace(freed=(np.floor(stack.born / period) + 1) * period), 0.0, 0.0


def by_collector(random, end):
    """Reference cycles, freed by the collector at intervals that vary; some of them live on for one more."""
    gaps = np.cumsum(random.gamma(4.0, float(random.uniform(5, 40)), int(end / 15) + 10))
    stack = churning(random, float(random.uniform(5, 100)) * MB, 60.0, end)
    at = np.searchsorted(gaps, stack.born) + (random.random(len(stack.born)) < 0.2)
    return stack._replace(freed=gaps[np.minimum(at, len(gaps) - 1)]), 0.0, 0.0


def start_up(random, end):
    """All at the start, kept."""
    n = random.poisson(float(random.uniform(2e4, 4e5)))
    born = np.sort(random.exponential(float(random.uniform(0.5, 20)), n))
    size = sizes_of(random, n, kind_of(random))
    return sampled(random, born, size, np.full(n, NEVER)), 0.0, 0.0


def logarithmic(random, end):
    """Grows as the logarithm of time: distinct words of a text, sites of a crawler."""
    scale = float(random.uniform(2, 20)) * MB / 1024
    lag = float(random.uniform(5, 60))
    n = random.poisson(scale * np.log1p(end / lag))
    born = np.sort(lag * np.expm1(random.random(n) * np.log1p(end / lag)))
    size = sizes_of(random, n, kind_of(random))
    return sampled(random, born, size, np.full(n, NEVER)), 0.0, 0.0


SHAPES = (
    Shape("linear leak", True, linear),
    Shape("leak of 1 % of requests", True, one_percent),
    Shape("leak at a cache's stack", True, on_a_cache),
    Shape("leak by threads", True, by_threads),
    Shape("LRU cache, full", False, cache_full),
    Shape("LRU cache, filling", False, cache_filling),
    Shape("TTL cache", False, ttl_cache),
    Shape("daily cycle", False, daily),
    Shape("sawtooth", False, sawtooth),
    Shape("cycles, collected late", False, by_collector),
    Shape("start-up", False, start_up),
    Shape("log growth", False, logarithmic),
)
