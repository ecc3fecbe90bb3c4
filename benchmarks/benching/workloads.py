"""The programs that are measured, with how much of it they do: about a second of the least traced."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import NamedTuple

from . import measuring, peers, redis
from .building import compiled
from .candidates import NATIVE, PYTHON, Way
from .places import PROGRAMS, Places

LIMIT_S = 180.0
QUICK = 10  # --quick does so much less


class Workload(NamedTuple):
    """One program."""

    name: str
    what: str
    kind: str
    amount: int
    run: Callable[[Places, Way, int], measuring.Sample]  # amount as given; raises NotAvailable
    times: int = 1  # as many rounds as asked for, or more where a promise is a matter of one in a hundred


def allocations(pattern: str) -> Callable[[Places, Way, int], measuring.Sample]:
    """Return what runs one pattern of allocations.c."""

    def run(places: Places, way: Way, amount: int) -> measuring.Sample:
        return process(places, way, NATIVE, [str(compiled("allocations.c")), pattern, str(amount)])

    return run


def python(name: str) -> Callable[[Places, Way, int], measuring.Sample]:
    """Return what runs one of our scripts."""
    return lambda places, way, amount: process(places, way, PYTHON, [str(PROGRAMS / name), str(amount)])


def pyperformance(name: str) -> Callable[[Places, Way, int], measuring.Sample]:
    """Return what runs a benchmark of pyperformance in one process; what it prints is a time, and so not compared."""

    def run(places: Places, way: Way, amount: int) -> measuring.Sample:
        home = peers.pyperformance()
        script = home / f"pyperformance/data-files/benchmarks/bm_{name}/run_benchmark.py"
        if not script.exists():
            raise peers.NotAvailable(f"pyperformance has no bm_{name}")
        words = [str(script), "--worker", "-l", str(amount), "-n", "1", "-w", "0"]
        return process(places, way, PYTHON, words, PYTHONPATH=str(home))._replace(output="")

    return run


def served(places: Places, way: Way, amount: int) -> measuring.Sample:
    """Run redis."""
    for package in ("redis-server", "redis-tools"):
        peers.file_of(package)
    directory = places.fresh()
    try:
        return redis.serve(way.environment(directory), amount, LIMIT_S, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def process(places: Places, way: Way, kind: str, words: list[str], **more: str) -> measuring.Sample:
    """Run one process in a directory of its own, where tools may leave files."""
    directory = places.fresh()
    try:
        command = way.command(words, kind, directory, places.python)
        return measuring.run_process(command, way.environment(directory, **more), LIMIT_S, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


ALL = (
    Workload("malloc_pair", "malloc and free of 64 bytes", NATIVE, 20_000_000, allocations("pair")),
    Workload("malloc_threads", "the same in two threads", NATIVE, 10_000_000, allocations("threads")),
    Workload("malloc_deep", "the same, 30 frames down", NATIVE, 20_000_000, allocations("deep")),
    Workload("malloc_wide", "65,536 blocks of 16 to 1,039 bytes, random ones exchanged", NATIVE, 5_000_000, allocations("wide")),
    Workload("malloc_live", "10,000,000 blocks that stay, then are freed", NATIVE, 10_000_000, allocations("live")),
    Workload("python_churn", "pure Python that makes and drops small objects", PYTHON, 700, python("churn.py")),
    Workload("python_mix", "numpy, sqlite and json in turns", PYTHON, 80, python("mix.py")),
    Workload("flask", "a Flask service under load, in process", PYTHON, 3000, python("service.py"), 3),
    Workload("redis", "redis-server under redis-benchmark, ten commands", NATIVE, 20_000, served, 2),
    Workload("pyperf_deltablue", "pyperformance: deltablue", PYTHON, 200, pyperformance("deltablue")),
    Workload("pyperf_json_loads", "pyperformance: json_loads", PYTHON, 1500, pyperformance("json_loads")),
    Workload("pyperf_go", "pyperformance: go", PYTHON, 5, pyperformance("go")),
)  # fmt: skip
WORKLOADS = {workload.name: workload for workload in ALL}
