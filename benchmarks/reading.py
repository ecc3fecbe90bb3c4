"""How long reading takes: `open`, `top` and SQL over a recording of many stacks.

    python benchmarks/reading.py [--stacks N] [--rounds N] [--json FILE]

Run it with the Python of an environment that has the package. The recording is written by tests/builders and has
8 to 30 frames a stack, of 6,000 places in 21 objects. Times are in one process, medians of CPU time, which another load
of the machine changes least; "command" is a whole `memleak top` or `memleak sql`, with the interpreter's start. Names
are not looked up.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/builders"))

from recordingwriter import RecordingWriter

from memleak import query

PAGE = "SELECT * FROM malloc_sample_info WHERE mod_name='glibc_malloc' ORDER BY alloc_bytes DESC LIMIT 10"
GROUPED = "SELECT back_trace, count(*), sum(est_bytes) FROM malloc_sample_info GROUP BY 1 ORDER BY 3 DESC LIMIT 10"


def recording(stacks: int) -> bytes:
    """Return a recording of so many stacks with one to three live samples each."""
    chance = random.Random(7)
    writer = RecordingWriter(live_capacity=1 << 17, index_capacity=1 << 16)
    objects = [writer.module("/opt/app", build_id=b"\x01" * 20, main=True)]
    objects += [writer.module(f"/usr/lib/lib{i}.so", build_id=bytes([i + 2]) * 20) for i in range(20)]
    places = [(chance.choice(objects), chance.randrange(0x1000, 0xFFFFF)) for _ in range(6000)]
    for _ in range(stacks):
        row = writer.row([chance.choice(places) for _ in range(chance.randint(8, 30))])
        for _ in range(chance.randint(1, 3)):
            writer.live(row, size=chance.randint(16, 100_000), weight=136, born_cs=chance.randint(0, 5000))
    return writer.bytes()


def in_process(path: Path, rounds: int) -> dict[str, float]:
    """Return milliseconds of CPU by step, each after the ones before it."""
    steps: dict[str, Callable[[query.Snapshot], object]] = {
        "top(10)": lambda snapshot: (snapshot.top(10), snapshot.footer()),
        "SQL, the page's": lambda snapshot: snapshot.sql(PAGE),
        "SQL, grouped by stack": lambda snapshot: snapshot.sql(GROUPED),
    }
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        began = time.process_time()
        snapshot = query.open(path)
        found.setdefault("open", []).append(time.process_time() - began)
        for name, step in steps.items():
            began = time.process_time()
            step(snapshot)
            found.setdefault(name, []).append(time.process_time() - began)
        del snapshot
        gc.collect()
    return {name: 1000 * statistics.median(values) for name, values in found.items()}


def command(*words: str, rounds: int) -> float:
    """Return the milliseconds of CPU that a command takes."""
    found = []
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "memleak", *words, "--no-symbols"], check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return 1000 * statistics.median(found)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "many.mlrec"
        path.write_bytes(recording(options.stacks))
        gc.disable()  # as the command does
        found = in_process(path, options.rounds)
        found["command: top"] = command("top", str(path), rounds=options.rounds)
        found["command: sql, the page's"] = command("sql", str(path), PAGE, rounds=options.rounds)
    print(f"{options.stacks} stacks, CPU time:")
    for name, value in found.items():
        print(f"  {name:<28}{value:7.0f} ms")
    if options.json is not None:
        options.json.write_text(json.dumps({"stacks": options.stacks, "cpu_ms": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
