"""A leak that fills the room of its recording: what is held, how fast it grows and whose it is stay right."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from memleak import recording
from memleak.query import Snapshot
from memleak.symbolize import Symbolizer

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void *volatile kept;
__attribute__((noinline)) static void *leak(void) { return malloc(64); }
__attribute__((noinline)) static void *early(void) { return malloc(200); }
__attribute__((noinline)) static void churn(void)
{
	kept = malloc(300);
	free(kept);
}

int main(int argc, char **argv)
{
	long number = 0, per_s = atol(argv[1]);
	double seconds = atof(argv[2]);
	struct timespec began, now;
	for (int i = 0; i < 20000; i++)
		kept = early();
	clock_gettime(CLOCK_MONOTONIC, &began);
	for (double s = 0; s < seconds; clock_gettime(CLOCK_MONOTONIC, &now), s = (double)(now.tv_sec - began.tv_sec) + 1e-9 * (double)(now.tv_nsec - began.tv_nsec)) {
		for (; number < (long)(s * (double)per_s); number++) {
			kept = leak();
			churn();
		}
		usleep(2000);
	}
	printf("%ld\\n", number);
	fflush(stdout);
	_exit(0);
}
"""
PER_S, SECONDS = 20_000, 26


def test_a_leak_that_fills_the_room(tracer, compiled):
    """In full mode and a room of 1 MiB, so that half a million blocks meet some ten thousand places."""
    binary = compiled(PROGRAM, "-fno-optimize-sibling-calls")
    done = tracer.run(binary, str(PER_S), str(SECONDS), env={"MEMLEAK_ROOM": "1M"})
    assert (done.returncode, done.stderr) == (0, "")
    blocks = int(done.stdout)
    (path,) = tracer.directory.glob("*.mlrec")
    found = recording.load(path)
    counters = found.header.counters
    assert counters["thinned"] > 0.9 * blocks and not counters["live_full"] and not counters["live_race"]
    assert found.live_samples < blocks / 15
    snapshot = Snapshot(found)
    rows = rows_of(found)
    leak, early, churn = rows["leak"], rows["early"], rows["churn"]
    held = leak.est_bytes + early.est_bytes
    assert held == pytest.approx(64 * blocks + 200 * 20_000, rel=0.001)
    for row, true in ((leak, 64 * blocks), (early, 200 * 20_000)):
        assert row.est_bytes_low < true < row.est_bytes_high and not row.exact
        assert abs(row.est_bytes - true) < 4 * row.est_bytes_se
    assert (leak.total_count, early.total_count, churn.total_count) == (blocks, 20_000, blocks)
    assert churn.est_bytes < 10_000 and churn.total_bytes == 300 * blocks
    assert [reason for reason in snapshot.exact_reasons() if "thinned" in reason]
    verdict = {one.row.back_trace: one.verdict for one in snapshot.verdicts()}[leak.back_trace]
    assert verdict.verdict == "leak"
    assert verdict.rate.low < 64 * PER_S < verdict.rate.high


def rows_of(found) -> dict[str, object]:
    """Return the rows by the name of the function that allocated."""
    rows = Snapshot(found, symbolizer=Symbolizer()).rows()
    return {row.native_trace.split(" ")[0]: row for row in rows if row.mod_name == "glibc_malloc"}


def test_it_is_said(tracer, compiled):
    """In a line of its own: nothing was dropped."""
    done = tracer.run(compiled(PROGRAM), "400000", "0.5", env={"MEMLEAK_ROOM": "1M"})
    assert done.returncode == 0
    (path,) = tracer.directory.glob("*.mlrec")
    said = subprocess.run(
        [sys.executable, "-m", "memleak", "top", path], capture_output=True, text=True, check=True
    ).stdout
    assert "\ndropped: nothing\nroom: " in said and " samples merged into others, which stand for them: " in said
    status = subprocess.run(
        [sys.executable, "-m", "memleak", "top", path, "--json"], capture_output=True, text=True, check=True
    )
    footer = json.loads(status.stdout)["footer"]
    assert footer["dropped"] == {} and footer["counters"]["thinned"] > 10_000 and not footer["exact"]
