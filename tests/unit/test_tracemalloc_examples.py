"""The examples of tracemalloc's documentation with memleak.tracemalloc in place of tracemalloc, else unchanged.

https://docs.python.org/3/library/tracemalloc.html#examples, each in a process of its own.
"""

from __future__ import annotations

import re

import pytest
from ownprocess import said


@pytest.fixture(autouse=True)
def place(runtime_directory):
    """Recordings of these tests stand apart."""
    return runtime_directory


APPLICATION = """
import memleak.tracemalloc as tracemalloc

def run_application():
    global kept
    kept = [str(number) * 100 for number in range(1000, 11000)]  # 10,000 of 400 characters and a header
"""


def test_display_the_top_10():
    """The ten files allocating the most memory."""
    code = """
import memleak.tracemalloc as tracemalloc

tracemalloc.start()

import json, decimal, http.client  # ... run your application ...

snapshot = tracemalloc.take_snapshot()
top_stats = snapshot.statistics('lineno')

print("[ Top 10 ]")
for stat in top_stats[:10]:
    print(stat)
"""
    title, *lines = said(code).splitlines()
    assert title == "[ Top 10 ]" and len(lines) == 10
    pattern = r".+:\d+: size=[\d.]+ [KM]?i?B, count=\d+, average=[\d.]+ [KM]?i?B"
    assert all(re.fullmatch(pattern, line) for line in lines)
    assert "<frozen importlib._bootstrap_external>" in lines[0]  # it unmarshals the code of what is imported


def test_compute_differences():
    """Two snapshots and what came between them."""
    code = (
        APPLICATION
        + """
tracemalloc.start()
# ... start your application ...

snapshot1 = tracemalloc.take_snapshot()
run_application() # ... call the function leaking memory ...
snapshot2 = tracemalloc.take_snapshot()

top_stats = snapshot2.compare_to(snapshot1, 'lineno')

print("[ Top 10 differences ]")
for stat in top_stats[:10]:
    print(stat)
"""
    )
    title, first, *_ = said(code).splitlines()
    assert title == "[ Top 10 differences ]"
    # 400 characters and a header of 41 to 49 bytes each, and the list.
    assert re.search(r":\d+: size=4\d{3} KiB \(\+4\d{3} KiB\), count=100\d\d \(\+100\d\d\), average=4\d\d B$", first)


def test_get_the_traceback_of_a_memory_block():
    """The biggest block's."""
    code = (
        APPLICATION
        + """
# Store 25 frames
tracemalloc.start(25)

run_application() # ... run your application ...

snapshot = tracemalloc.take_snapshot()
top_stats = snapshot.statistics('traceback')

# pick the biggest memory block
stat = top_stats[0]
print("%s memory blocks: %.1f KiB" % (stat.count, stat.size / 1024))
for line in stat.traceback.format():
    print(line)
"""
    )
    first, *lines = said(code).splitlines()
    assert re.fullmatch(r"100\d\d memory blocks: 4\d{3}\.\d KiB", first)
    found = [line for line in lines if line.startswith('  File "<string>", line ')]
    assert len(found) in (2, 3)  # the oldest first: the module, the function, before 3.12 its comprehension
    assert len(set(found)) == len(found) - (len(found) == 3)


def test_pretty_top():
    """Lines of code with the most memory, importlib's frames filtered out."""
    code = (
        APPLICATION
        + """
import linecache
import os

def display_top(snapshot, key_type='lineno', limit=10):
    snapshot = snapshot.filter_traces((
        tracemalloc.Filter(False, "<frozen importlib._bootstrap>"),
        tracemalloc.Filter(False, "<unknown>"),
    ))
    top_stats = snapshot.statistics(key_type)

    print("Top %s lines" % limit)
    for index, stat in enumerate(top_stats[:limit], 1):
        frame = stat.traceback[0]
        print("#%s: %s:%s: %.1f KiB"
              % (index, frame.filename, frame.lineno, stat.size / 1024))
        line = linecache.getline(frame.filename, frame.lineno).strip()
        if line:
            print('    %s' % line)

    other = top_stats[limit:]
    if other:
        size = sum(stat.size for stat in other)
        print("%s other: %.1f KiB" % (len(other), size / 1024))
    total = sum(stat.size for stat in top_stats)
    print("Total allocated size: %.1f KiB" % (total / 1024))

tracemalloc.start()

import json, decimal
run_application() # ... run your application ...

snapshot = tracemalloc.take_snapshot()
display_top(snapshot, limit=3)
"""
    )
    lines = said(code).splitlines()
    assert lines[0] == "Top 3 lines"
    assert re.fullmatch(r"#1: <string>:\d+: 4\d{3}\.\d KiB", lines[1])
    assert re.fullmatch(r"\d+ other: \d+\.\d KiB", lines[-2])
    assert re.fullmatch(r"Total allocated size: [4-9]\d{3}\.\d KiB", lines[-1])


def test_record_the_current_and_peak_size():
    """Two sums, the first with a list between them, and the peak of each by itself."""
    code = """
import memleak.tracemalloc as tracemalloc

tracemalloc.start()

# Example code: compute a sum with a large temporary list
large_sum = sum(list(range(100000)))

first_size, first_peak = tracemalloc.get_traced_memory()

tracemalloc.reset_peak()

# Example code: compute a sum with a small temporary list
small_sum = sum(list(range(1000)))

second_size, second_peak = tracemalloc.get_traced_memory()

print(f"{first_size=}, {first_peak=}")
print(f"{second_size=}, {second_peak=}")
"""
    mine = [int(number) for number in re.findall(r"=(\d+)", said(code))]
    theirs = [int(number) for number in re.findall(r"=(\d+)", said(code.replace("memleak.tracemalloc", "tracemalloc")))]
    # In order: size, peak, size, peak. The documentation, of 64 bits: 664, 3592984, 804, 29704.
    assert theirs[1] > 3_500_000 and theirs[3] < 40_000
    assert all(abs(own - their) < 4096 for own, their in zip(mine, theirs)), (mine, theirs)
