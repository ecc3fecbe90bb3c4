"""How long reading takes: the first row, `top` and SQL over recordings of many stacks.

    python benchmarks/reading.py [--stacks N] [--rounds N] [--json FILE]

Run it with the Python of an environment that has the package, and gcc. Two recordings: "program" is what the core recorded
of benchmarks/programs/paths.py, in 20 modules with 400 Python functions and a library with 256 C ones: 27 native and 14 Python frames
a stack, a history, labels none. "written" is written by tests/builders: 8 to 30 native frames a stack of 6,000 places in 21
objects. Times are medians of CPU time, which another load of the machine changes least; a "command" is a whole process with the
interpreter's start, with its greatest memory in RAM.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
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

STATEMENTS = {
    "the page's": "SELECT * FROM __all_virtual_malloc_sample_info WHERE mod_name='glibc_malloc'"
    " ORDER BY alloc_bytes DESC LIMIT 10",
    "by mod_name": "SELECT mod_name, count(*), sum(est_bytes) FROM malloc_sample_info GROUP BY 1",
    "by back_trace": "SELECT back_trace, count(*), sum(est_bytes) FROM malloc_sample_info GROUP BY 1 ORDER BY 3 DESC LIMIT 10",
    "by stack_id": "SELECT stack_id, count(*), sum(est_bytes) FROM malloc_sample_info GROUP BY 1 ORDER BY 3 DESC LIMIT 10",
    "by python_trace": "SELECT python_trace, sum(est_bytes) FROM malloc_sample_info GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
    "history": "SELECT stack_id, max(est_bytes) - min(est_bytes) FROM history GROUP BY 1 ORDER BY 2 DESC LIMIT 10",
}
PROGRAMS = Path(__file__).resolve().parent / "programs"
ROWS_PER_PATH = 1.1  # of paths.py: what ctypes allocates is a stack, too


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


def recorded(stacks: int, directory: Path) -> Path:
    """Return the recording of a program with about so many stacks."""
    library, path = directory / "paths.so", directory / "program.mlrec"
    subprocess.run(["gcc", "-O2", "-g", "-shared", "-fPIC", "-fno-optimize-sibling-calls", PROGRAMS / "paths.c", "-o", library], check=True)
    knobs = ["--min", "1", "--max", "1", "--python-min", "10000", "--python-max", "10000"]
    program = [sys.executable, PROGRAMS / "paths.py", library, str(round(stacks / ROWS_PER_PATH)), "10"]
    subprocess.run([sys.executable, "-m", "memleak", "run", "--quiet", *knobs, "-o", path, *program], check=True)
    return path


def in_process(path: Path, rounds: int) -> dict[str, float]:
    """Return milliseconds of CPU by step, each after the ones before it."""
    steps: dict[str, Callable[[query.Snapshot], object]] = {
        "first row": lambda snapshot: next(iter(snapshot)),
        "top(10)": lambda snapshot: snapshot.top(10),
        "footer": lambda snapshot: snapshot.footer(),
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
    for name, statement in STATEMENTS.items():
        for _ in range(rounds):
            snapshot = query.open(path)
            began = time.process_time()
            snapshot.sql(statement)
            found.setdefault(f"SQL, {name}", []).append(time.process_time() - began)
            del snapshot
            gc.collect()
    times = {name: 1000 * statistics.median(values) for name, values in found.items()}
    return {"open to the first row": times["open"] + times["first row"], **times}


def command(*words: str, rounds: int) -> tuple[float, float]:
    """Return the milliseconds of CPU that a command takes, and its MiB of RAM."""
    times, most = [], 0
    for _ in range(rounds):
        child = subprocess.Popen([sys.executable, "-m", "memleak", *words], stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, list(words))
        times.append(used.ru_utime + used.ru_stime)
        most = max(most, used.ru_maxrss)
    return 1000 * statistics.median(times), most / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stacks", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    gc.disable()  # as the command does
    results: dict[str, object] = {"stacks": options.stacks, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as directory:
        written = Path(directory) / "written.mlrec"
        written.write_bytes(recording(options.stacks))
        for name, path in (("program", recorded(options.stacks, Path(directory))), ("written", written)):
            rows = len(query.open(path))
            print(f"{name}: {rows} stacks, CPU time:")
            found = in_process(path, options.rounds)
            commands = {"top": ["top", str(path), "--no-symbols"]}
            if name == "program":
                command("top", str(path), rounds=1)  # names are in the cache from now on
                commands["top, names from the cache"] = ["top", str(path)]
            commands.update({f"sql, {one}": ["sql", str(path), text, "--no-symbols"] for one, text in STATEMENTS.items()})
            memory = {}
            for words, arguments in commands.items():
                found[f"command: {words}"], memory[words] = command(*arguments, rounds=options.rounds)
            for step, value in found.items():
                print(f"  {step:<36}{value:7.0f} ms")
            print(f"  memory of a command, at most        {max(memory.values()):7.0f} MiB")
            results[name] = {"stacks": rows, "cpu_ms": found, "rss_mib": memory}
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
