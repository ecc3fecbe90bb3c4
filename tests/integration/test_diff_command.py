"""`memleak diff`, the command: two builds of a C program, two versions of a Python script, two times of a running process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

MEMLEAK = [sys.executable, "-m", "memleak"]

# The second version has other lines, one more function, keeps more, and no longer fills its table.
FIRST = """
#include <stdlib.h>
void *kept[1000];
static inline __attribute__((always_inline)) void *session(size_t size) { return malloc(size); }
static void login(int n) { kept[n] = session(100); }
static void table(void) { for (int n = 0; n < 10; n++) kept[900 + n] = malloc(1000); }
int main(void) {
    table();
    for (int n = 0; n < 100; n++) login(n);
    return 0;
}
"""
SECOND = """
#include <stdlib.h>
// A line.
void *kept[1000];
void *cache[10];
static void cache_fill(void) { for (int n = 0; n < 10; n++) cache[n] = malloc(50); }

static inline __attribute__((always_inline)) void *session(size_t size)
{
    return malloc(size + 20);
}
static void login(int n)
{
    kept[n] = session(100);
}
int main(void) {
    cache_fill();
    for (int n = 0; n < 300; n++)
        login(n);
    return 0;
}
"""
SERVICE = """
#include <stdlib.h>
#include <time.h>
static void leak(void) { *(char *)malloc(500) = 1; }
static void start(void) { for (int n = 0; n < 1000; n++) *(char *)malloc(10000) = 1; }
int main(void) {
    struct timespec began, now;
    start();
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (long done = 0;;) {
        nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        double passed = now.tv_sec - began.tv_sec + (now.tv_nsec - began.tv_nsec) / 1e9;
        for (; done < 400 * passed; done++)
            leak();
    }
}
"""


def diff(*words: object) -> subprocess.CompletedProcess:
    """Run the verb."""
    return subprocess.run([*MEMLEAK, "diff", *map(str, words)], capture_output=True, text=True, timeout=120)


def told(*words: object) -> dict:
    """Return its answer in JSON."""
    done = diff(*words, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def recorded(path: Path, *command: object) -> Path:
    """Run a program in full mode and return its recording."""
    words = [*MEMLEAK, "run", "--quiet", "--mode", "full", "--python-min", "1", "--python-max", "1", "-o", path, *command]
    subprocess.run([str(word) for word in words], check=True, timeout=120)
    return path


def innermost(row: dict, n: int = 3) -> list[str]:
    return [frame["function"] for frame in row["frames"][:n]]


def test_two_builds_of_a_program(compiled, tmp_path, runtime_directory):
    flags = "-fno-builtin", "-fno-inline-small-functions", "-fno-inline-functions-called-once", "-fno-optimize-sibling-calls"
    older, newer = (
        recorded(tmp_path / f"{name}.mlrec", compiled(text, *flags, name=name))
        for name, text in (("first", FIRST), ("second", SECOND))
    )
    answer = told(older, newer, "--match", "name")
    found = {tuple(innermost(row)): row for row in answer["rows"] + answer["shrunk"]}
    grown = found["session", "login", "main"]
    assert grown["frames"][0]["inlined"] and "second.c:" in grown["native_trace"]
    assert (grown["older_est_bytes"], grown["est_bytes"], grown["status"]) == (100 * 100, 300 * 120, None)
    assert (grown["diff_est_bytes"], grown["diff_est_count"], grown["exact"]) == (26_000, 200, True)
    assert grown["diff_bytes_per_s"] is None and answer["seconds"] is None
    assert (found["cache_fill", "main", "__libc_start_call_main"]["status"], answer["stacks"]["new"]) == ("new", 1)
    assert (found["table", "main", "__libc_start_call_main"]["status"], answer["stacks"]["gone"]) == ("gone", 1)
    assert answer["total"]["value"] == 26_000 + 500 - 10_000

    words = diff(older, newer, "--match", "name").stdout
    assert "matched by name: 1 stack in both, 1 new, 1 gone\nall together: +16.1 KiB (exact)\n" in words
    assert words.index("session at ") < words.index("cache_fill") < words.index("what shrank:") < words.index("table at ")
    by_place = told(older, newer)["stacks"]
    assert (by_place["both"], by_place["new"], by_place["gone"]) == (0, 2, 2)
    refused = diff(older, newer, "--match", "name", "--no-symbols")
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)


def test_two_versions_of_a_python_script(tmp_path, runtime_directory):
    paths = []
    for version, (comment, size) in (("1.0", ("", 1000)), ("1.1", ("# A line.\n" * 3, 5000))):
        script = tmp_path / version / "app.py"
        script.parent.mkdir()
        script.write_text(
            f"{comment}class Store:\n    def add(self, n):\n        self.held = [bytearray({size}) for _ in range(n)]\n"
            f"{comment}store = Store()\nstore.add(40)\n"
            "import os\nos._exit(0)\n"
        )
        paths.append(recorded(tmp_path / f"{version}.mlrec", sys.executable, script))
    answer = told(*paths, "--match", "name", "-n", "1000")
    (row,) = (
        row for row in answer["rows"] if "Store.add" in (row["python_trace"] or "") and row["diff_est_bytes"] >= 40 * 4000
    )
    assert row["status"] is None and row["older_est_bytes"] >= 40 * 1000
    assert 40 * 4000 <= row["diff_est_bytes"] < 40 * 4100 and "/1.1/app.py:6" in row["python_trace"]
    # What the interpreter itself holds is the same in both.
    assert answer["stacks"]["both"] > 20 * (answer["stacks"]["new"] + answer["stacks"]["gone"])


@pytest.mark.parametrize("mode", ["full", "normal"])
def test_two_times_of_a_process(compiled, core_path, runtime_directory, tmp_path, mode):
    binary = compiled(SERVICE, "-fno-builtin", "-fno-inline", name=f"service_{mode}")
    own = {"MEMLEAK_MODE": mode, "MEMLEAK": "1", "LD_PRELOAD": core_path, "MEMLEAK_BUDGET": "0", "MEMLEAK_SAMPLE_BYTES": "64K"}
    service = subprocess.Popen([binary], env={**os.environ, **own})
    try:
        deadline = time.monotonic() + 60
        while diff(service.pid, service.pid, "--no-symbols").returncode:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        older = tmp_path / "older.mlrec"
        subprocess.run([*MEMLEAK, "save", str(service.pid), "-o", str(older)], check=True, stdout=subprocess.DEVNULL)
        time.sleep(4)
        answer = told(older, service.pid)
        assert "one process, " in diff(older, service.pid).stdout
    finally:
        service.kill()
        service.wait()
    assert 3 < answer["seconds"] < 30
    (grown,) = answer["rows"]
    assert innermost(grown, 2) == ["leak", "main"] and answer["shrunk"] == []
    rate, truth = grown["diff_bytes_per_s"], 400 * 500
    if mode == "full":
        assert rate == pytest.approx(truth, rel=0.1) and answer["total"]["value"] == grown["diff_est_bytes"]
        return
    # Ten megabytes of start(), which are in both, do not count into the error.
    assert 0 < grown["diff_est_bytes_se"] < 0.6 * truth * answer["seconds"]
    assert answer["total"]["se"] == grown["diff_est_bytes_se"]
    assert abs(rate - truth) < 5 * grown["diff_est_bytes_se"] / answer["seconds"]
