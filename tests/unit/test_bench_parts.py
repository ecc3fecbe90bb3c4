"""What the parts of ./bench compute: errors by site, mappings of a process, the machine, candidates."""

from __future__ import annotations

from pathlib import Path

import pytest
from benching import candidates, errors, governor, hotspots, machine, room, workloads
from benching.candidates import CANDIDATES, COMPARED, Way

TRUTH = {"native_site_0": 100.0, "native_site_1": 200.0, "python_site_0": 1000.0}


def test_errors_are_of_the_sites_that_a_tool_sees():
    """The second native site is seen in one run of two: its error in the other is 1. Python's is never seen."""
    runs = [(TRUTH, {"native_site_0": 110.0}), (TRUTH, {"native_site_0": 100.0, "native_site_1": 200.0})]
    found = errors.summary(runs)
    native = found["groups"]["native"]
    assert (native["seen"], native["sites"]) == (2, 2)
    first = ((0.1**2 + 1) / 2) ** 0.5
    assert (native["rms"]["low"], native["rms"]["high"]) == pytest.approx((first / 4, first * 3 / 4))
    assert "Python" not in found["groups"]
    assert (found["groups"]["all"]["seen"], found["groups"]["all"]["sites"]) == (2, 3)
    assert found["estimate_over_truth"]["native_site_0"] == [1.1, 1.0]


SMAPS = """7f0000000000-7f0000010000 r-xp 00000000 08:01 11                         /lib/libmemleak.so
Size:                 64 kB
Rss:                  40 kB
Pss:                   9 kB
7f0000010000-7f0000020000 rw-p 00010000 08:01 11                         /lib/libmemleak.so
Rss:                   8 kB
7f0000020000-7f0001020000 rw-p 00000000 00:00 0
Rss:                 772 kB
7f0002000000-7f0002001000 rw-p 00000000 00:00 0
Rss:                   4 kB
7f0003000000-7f0003400000 rw-s 00000000 00:01 99                         /dev/shm/memleak-0/1-2-3.mlrec
Rss:                3072 kB
"""


def test_zero_pages_are_the_mapping_that_follows_the_library():
    found = room.resident(SMAPS)
    assert [(name, kib) for name, _, kib in found] == [
        ("/lib/libmemleak.so", 40), ("/lib/libmemleak.so", 8), ("/lib/libmemleak.so (bss)", 772), ("", 4),
        ("/dev/shm/memleak-0/1-2-3.mlrec", 3072),
    ]  # fmt: skip
    assert found[2][1] == 16 << 10
    assert room.bitmap(found) == 772


REPORT = """# To display the perf.data header info, please use --header/--header-only options.
# Overhead  Shared Object         Symbol
    15.30%  libmemleak.so         [.] unwind            -      -
     6.50%  libpython3.11.so.1.0  [.] unwind            -      -
     2.25%  libmemleak.so         [.] pyframes_walk     -      -
     0.50%  libmemleak.so         [.] pycode_ref
     0.30%  [kernel.kallsyms]     [k] exc_page_fault
     0.25%  libmemleak.so         [.] no_such_function
"""


def test_a_profile_is_added_up_by_what_the_code_is_for(core_path):
    """The functions' files are those of the core that is installed."""
    found = hotspots.by_purpose(REPORT, Path(core_path))
    assert found == {"native walk": 15.3, "Python walk": 2.75, "the rest": 0.25}


def test_every_file_that_a_purpose_names_is_there(core_path):
    files = set(hotspots.source_files(Path(core_path)).values())
    assert {file for names in hotspots.PURPOSES.values() for file in names} - files <= {"counter"}  # inlined


def test_memory_is_added_up_by_kind():
    assert dict(hotspots.by_kind(room.resident(SMAPS))) == {
        "the core itself": 48, "the core's data": 772, "heap, stacks, other memory": 4, "recording": 3072,
    }  # fmt: skip


def test_every_window_of_ten_seconds_has_its_share():
    """A second of nothing, then ten of 2 %, then one of nothing: the window that is all busy is the worst."""
    looks = [governor.Look(second, 0.02 * min(max(second - 1, 0), 10), 256) for second in range(13)]
    assert governor.shares(looks) == pytest.approx([0.018, 0.02, 0.018])
    assert governor.nearest(looks, 4.4) is looks[4]


def test_the_processor_is_read_from_cpuinfo():
    assert machine.cpu_model("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nmodel name\t: no\n") == "Some CPU @ 3 GHz"
    assert machine.cpu_model("") == "unknown"


def test_facts_name_the_machine():
    facts = machine.facts()
    assert facts["cores"] >= 1 and facts["memory_mib"] > 100 and len(facts["load_at_start"]) == 3
    assert facts["kernel"] and facts["python"].startswith("3.")


def test_a_way_is_put_around_a_command():
    way = Way({"OUTPUT": "DIRECTORY/raw"}, Path("/other/python"), ("-m", "tool", "-o", "DIRECTORY/out"))
    python = way.command(["script.py", "3"], candidates.PYTHON, Path("/run"), Path("/python"))
    assert python == ["/other/python", "-m", "tool", "-o", "/run/out", "script.py", "3"]
    assert way.command(["./program", "3"], candidates.NATIVE, Path("/run"), Path("/python")) == ["./program", "3"]
    assert Way({}).command(["a.py"], candidates.PYTHON, Path("/run"), Path("/python")) == ["/python", "a.py"]


def test_a_process_has_only_the_variables_of_its_way(monkeypatch):
    for name in ("MEMLEAK_MODE", "LD_PRELOAD", "DD_API_KEY", "MALLOC_CONF", "PYTHONPATH"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("KEPT", "y")
    found = Way({"MALLOC_CONF": "prof:true", "OUTPUT": "DIRECTORY/raw"}).environment(Path("/run"), MORE="z")
    assert found["MALLOC_CONF"] == "prof:true" and found["OUTPUT"] == "/run/raw" and found["MORE"] == "z"
    assert found["KEPT"] == "y" and not {"MEMLEAK_MODE", "LD_PRELOAD", "DD_API_KEY", "PYTHONPATH"} & set(found)


def test_every_candidate_is_compared_with_one_that_is_none():
    assert all(CANDIDATES[name].baseline not in COMPARED for name in COMPARED)
    assert all(set(CANDIDATES[CANDIDATES[name].baseline].kinds) >= set(CANDIDATES[name].kinds) for name in COMPARED)
    assert len(CANDIDATES) == len(COMPARED) + len(candidates.BASELINES)
    assert len(workloads.WORKLOADS) == len(workloads.ALL)
