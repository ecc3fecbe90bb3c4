"""Allocators of the program's own: their blocks, regions and totals, through every door and without any."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tracing import Functions, Sum, ledger, run

import memleak
from memleak.query import Snapshot
from memleak.symbolize import Symbolizer

ROOT = Path(__file__).resolve().parents[2]
HEADER = ROOT / "native/include"


@pytest.fixture
def pools(program) -> str:
    """The program that tells of pools."""
    return program("pools.c", f"-I{HEADER}")


def of_pool(found, binary: str, name: str = "things") -> dict[str, Sum]:
    """Return what is live of a pool, by the function that gave it out."""
    functions = Functions(binary)
    sums: dict[str, Sum] = {}
    for row in found.rows:
        if row.mod_name == name and row.live.samples:
            innermost = functions.stack(found, row)[0]
            before = sums.get(innermost, Sum(0, 0))
            sums[innermost] = Sum(before.count + row.live.samples, before.bytes + row.live.bytes)
    return sums


def run_code(door, script: str) -> subprocess.CompletedProcess:
    """Run Python code through a door; it must succeed."""
    done = door.run(sys.executable, "-c", script)
    assert done.returncode == 0, done.stderr
    return done


def test_without_the_core_nothing_happens(pools):
    """The program is not linked to the library, and does what it does."""
    done = run(pools, "exact")
    assert (done.returncode, done.stderr) == (0, "")
    needed = run("readelf", "-dW", pools).stdout
    assert "memleak" not in needed


def test_blocks_are_exact_in_full_mode(tracer, pools):
    done = tracer.same(pools, "exact")
    found = tracer.only(pools)
    assert of_pool(found, pools) == ledger(done.stdout)
    assert found.samples_lost == {} and found.mismatches == ()
    (use,) = Snapshot(found).pools()
    assert (use.name, use.regions, use.capacity_bytes, use.regions_ended) == ("things", 2, (1 << 20) + 4096, 0)
    assert (use.est_bytes, use.samples, use.outside_bytes) == (251 * 40 + 75 * 1000, 326, 0)
    assert use.idle_bytes == use.capacity_bytes - use.est_bytes
    emptiest, other = use.use
    assert (emptiest.bytes, emptiest.samples, emptiest.pins) == (4096, 0, ())
    assert (other.bytes, other.samples, len(other.pins)) == (1 << 20, 326, 3)
    assert other.pins[0].est_bytes == 75 * 1000
    assert all(row.ctx_name == "POOL" for row in Snapshot(found).rows() if row.mod_name == "things")


@pytest.mark.parametrize("how", [0, 1, 2])
def test_what_lies_in_a_region_that_ends_is_gone(tracer, pools, how):
    """Told, by free() of its memory, and by munmap(); what has its addresses then is no pool's."""
    for mode in ("full", "normal"):
        done = tracer.same(pools, f"ended{how}", mode=mode)
        found = tracer.only(pools)
        assert found.mismatches == ()
        (use,) = Snapshot(found).pools()
        assert (use.regions, use.regions_ended) == ((0, 2) if how == 2 else (1, 1))
        assert len(use.use) == use.regions
        if mode == "full":
            assert of_pool(found, pools) == ledger(done.stdout)
        tracer.forget()


@pytest.mark.parametrize("how", [0, 1])
def test_a_region_whose_pages_come_and_go(tracer, pools, how):
    """Committed by MAP_FIXED, and a part of it given back: the region stays, and all that was given out elsewhere in it."""
    done = tracer.same(pools, f"committed{how}")
    found = tracer.only(pools)
    assert found.mismatches == ()
    assert of_pool(found, pools) == ledger(done.stdout)
    (use,) = Snapshot(found).pools()
    assert (use.regions, use.regions_ended, use.capacity_bytes, use.outside_bytes) == (1, 0, 64 << 20, 0)
    (region,) = use.use
    assert region.samples == 300


@pytest.mark.parametrize("what", ["nested", "passing_on"])
def test_several_owners_at_one_address(tracer, pools, what):
    """A slab in a buddy's block in malloc's; a pool that passes on: each is freed to its own, and nothing is suspected."""
    for interval in (1, 2, 3, 5, 16):
        env = {"MEMLEAK_MIN_SAMPLE_INTERVAL": str(interval), "MEMLEAK_MAX_SAMPLE_INTERVAL": str(interval), "MEMLEAK_MODE": None}
        done = tracer.run(pools, what, env=env)
        assert (done.returncode, done.stderr) == (0, "")
        found = tracer.only(pools)
        assert found.header.counters["samples"] > 1000
        assert found.mismatches == () and found.header.counters["mismatches"] == 0
        assert not [row for row in found.rows if row.pool and row.live.samples]
        assert found.samples_lost == {}
        tracer.forget()


def test_threads(tracer, pools):
    """Four threads, each with blocks of its own, and then with blocks that change hands."""
    for mode in ("full", "normal"):
        done = tracer.same(pools, "threads", mode=mode)
        found = tracer.only(pools)
        assert found.mismatches == ()
        assert set(found.samples_lost) <= {"live_race"}
        if mode == "full" and not found.samples_lost:
            assert of_pool(found, pools) == ledger(done.stdout)
        tracer.forget()


def test_forked_child_has_the_pools_and_not_the_samples(tracer, pools):
    done = tracer.same(pools, "forked")
    parent, child = tracer.recordings()
    assert of_pool(parent, pools) == ledger(done.stdout)
    assert of_pool(child, pools) == {"give_large": Sum(50, 50000)}
    assert child.mismatches == ()
    (use,) = Snapshot(child).pools()
    assert (use.name, use.regions, use.capacity_bytes) == ("things", 1, 1 << 20)


def test_more_pools_and_regions_than_there_are_places(tracer, pools):
    """They are counted under a name; capacity stays exact."""
    done = tracer.run(pools, "many")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = tracer.only(pools)
    assert found.pools[64].name == "other" and len(found.pools) == 64
    assert of_pool(found, pools, "other") == {"give_small": Sum(1, 40)}
    counters = found.header.counters
    assert counters["pool_other"] >= 8 and counters["pool_full"] >= 2100 - 1984
    assert found.pools[1].regions == found.pools[1].capacity_bytes == 2100


def test_pools_are_in_no_total(tracer, pools):
    """Totals are those of the same program without its pools."""
    tracer.same(pools, "exact")
    found = tracer.only(pools)
    snapshot = Snapshot(found, symbolizer=Symbolizer())
    others = sum(row.est_bytes for row in snapshot.rows() if row.mod_name != "things")
    assert round(found.total_est_bytes) == others
    assert sum(row.est_bytes for row in snapshot.top(None, group_by="function") if "(pool things)" not in row.group) == others
    for key in ("module", "thread", "label:x"):
        grouped = snapshot.top(None, group_by=key)
        assert {row.group.endswith("(pool things)") for row in grouped} == {True, False}
        assert sum(row.est_bytes for row in grouped if not row.group.endswith("(pool things)")) == others
    ((by_thread,),) = snapshot.sql("SELECT sum(est_bytes) FROM threads").rows
    ((by_ctx,),) = snapshot.sql("SELECT sum(est_bytes) FROM malloc_sample_info WHERE ctx_name <> 'POOL'").rows
    assert by_thread == by_ctx == others
    done = run(sys.executable, "-m", "memleak", "ps", "--dead", "--json", env={**os.environ, "MEMLEAK_DIR": str(tracer.directory)})
    (path,) = map(str, tracer.paths())
    assert [one["est_bytes"] for one in json.loads(done.stdout) if one["path"] == path] == [others]


# ---- the import door -----------------------------------------------------------------------------------

LIBRARY = """
#include "memleak.h"
static unsigned char memory[1 << 16];
static unsigned pool;
__attribute__((noinline)) static void give(unsigned i) { memleak_pool_alloc(pool, memory + i * 64, 50); __asm__ volatile(""); }
unsigned tell(unsigned count)
{
	pool = memleak_pool("of a library");
	memleak_pool_region(pool, memory, sizeof(memory));
	for (unsigned i = 0; i < count; i++)
		give(i);
	return pool;
}
"""


@pytest.mark.parametrize("flags", [(), ("-Wl,-z,now,-z,relro",), ("-O0", "-fPIC"), ("-fno-plt", "-O2"), ("-Wl,-z,lazy,-z,norelro",)])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_library_that_was_loaded_without_the_core(door, tmp_path, flags, when):
    """Its weak references are filled when tracing begins, or when the library comes."""
    source = tmp_path / "library.c"
    source.write_text(LIBRARY)
    library = tmp_path / "library.so"
    built = run("gcc", "-shared", "-fPIC", "-O1", f"-I{HEADER}", *flags, "-o", library, source)
    assert built.returncode == 0, built.stderr
    load = f"library = ctypes.CDLL({str(library)!r})"
    start = "import memleak; memleak.start(1, 1)"
    script = "\n".join(
        ["import ctypes", *([load, "early = library.tell(0)", start] if when == "before" else [start, load]), "print(library.tell(30))",
         "import json",
         "found = memleak.snapshot()",
         "print(json.dumps([[u.name, u.regions, u.samples, u.est_bytes] for u in found.pools()]))"]
    )  # fmt: skip
    done = run_code(door, script)
    number, uses = done.stdout.splitlines()[-2:]
    assert int(number) >= 1
    assert json.loads(uses)[0][0] == "of a library" and json.loads(uses)[0][2:] == [30, 1500]


# ---- Python --------------------------------------------------------------------------------------------


def test_python_pool(door):
    """ctypes memory cut up by Python code; a no-op before start()."""
    done = run_code(
        door,
        """
import ctypes, json, memleak
pool = memleak.Pool("python arena")
pool.alloc(0x10000, 10)
pool.free(0x10000)
memleak.start(1, 1)
memory = ctypes.create_string_buffer(1 << 16)
base = ctypes.addressof(memory)
pool.region(base, 1 << 16)
def give(i):
    pool.alloc(base + 64 * i, 64)
for i in range(100):
    give(i)
for i in range(0, 100, 2):
    pool.free(base + 64 * i, 64)
pool.resize(base + 64, base + 64, 32)
pool.free(base + 3 * 64, 65)
snapshot = memleak.snapshot()
(use,) = snapshot.pools()
print(json.dumps([use.name, use.capacity_bytes, use.samples, use.est_bytes]))
(one,) = snapshot.mismatches()
print(one.kind, one.allocated.python_trace)
print(one.freed_trace)
pool.region_end(base)
print(memleak.snapshot().pools()[0].samples)
""",
    )
    lines = done.stdout.splitlines()
    assert json.loads(lines[0]) == ["python arena", 1 << 16, 49, 48 * 64 + 32]
    assert lines[1].startswith("pool_wrong_size give at <string>:11 <")
    assert "pool.py" not in lines[1] and "_native.py" not in lines[1] and "pool.py" not in lines[2]
    assert lines[3] == "0"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        ("Pool(3)", TypeError, "name must be a str"),
        ("Pool('')", ValueError, "1 to 63 bytes"),
        ("Pool('x' * 64)", ValueError, "1 to 63 bytes"),
        ("Pool('a').alloc('x', 1)", TypeError, "ptr must be a whole number"),
        ("Pool('a').alloc(-1, 1)", ValueError, "ptr must be between"),
        ("Pool('a').alloc(1, 1 << 64)", ValueError, "size must be between"),
        ("Pool('a').free(True)", TypeError, "ptr must be a whole number"),
        ("Pool('a').free(1, 1.5)", TypeError, "size must be a whole number"),
        ("Pool('a').resize(1, None, 1)", TypeError, "new must be a whole number"),
        ("Pool('a').region(4096, 0)", ValueError, "no 0 bytes"),
        ("Pool('a').region((1 << 64) - 4096, 8192)", ValueError, "there are no 8192 bytes"),
        ("Pool('a').region_end(4096)", ValueError, "no region that begins at"),
    ],
)
def test_bad_arguments(call, error, words):
    with pytest.raises(error, match=words):
        eval(f"memleak.{call}")


# ---- the header, the example ---------------------------------------------------------------------------


def test_the_header_is_installed():
    assert (Path(memleak.include()) / "memleak.h").read_text() == (HEADER / "memleak.h").read_text()


def test_the_buddy_example(tracer, tmp_path):
    """Built as its first lines say: leak, fragmentation and mismatch are named by the commands they name."""
    binary = tmp_path / "buddy"
    source = ROOT / "examples/buddy/buddy.c"
    built = run("cc", "-g", "-I", memleak.include(), source, "-o", binary)
    assert built.returncode == 0, built.stderr
    plain = run(binary)
    done = tracer.run(binary, mode="normal")
    assert (done.returncode, done.stdout, done.stderr) == (0, plain.stdout, "")
    (recording,) = tracer.paths()

    def ask(*words: str) -> str:
        answer = run(sys.executable, "-m", "memleak", *words, recording)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout

    top = json.loads(ask("top", "--json", "--where", "mod_name=buddy"))["rows"]
    assert top[0]["frames"][1]["function"] == "open_session"  # the leak
    assert 0.5 * 4000 * 200 < top[0]["est_bytes"] < 2 * 4000 * 200
    uses = {use["name"]: use for use in json.loads(ask("pools", "--json"))["pools"]}
    buddy = uses["buddy"]
    assert buddy["capacity_bytes"] == buddy["regions"] << 20 and buddy["regions"] > 30
    assert buddy["idle_share"] > 0.9  # the fragmentation
    pins = [pin["frames"][1]["function"] for region in buddy["use"] for pin in region["pins"]]
    assert "keep_record" in pins
    assert "buddy_alloc < keep_record < burst < main" in ask("pools", "-n", "100")
    (mismatch,) = json.loads(ask("mismatches", "--json"))["mismatches"]
    assert mismatch["kind"] == "pool_freed_to_other_pool"
    assert mismatch["what"] == "a block of pool buddy was freed to pool line slab"
    assert "drop_line" in [frame["function"] for frame in mismatch["freed_frames"]]
    assert "format_line" in [frame["function"] for frame in mismatch["allocated"]["frames"]]
    text = ask("mismatches") + ask("pools") + ask("top") + ask("status")
    assert text.count("mismatches: 1 certain") == 3 and "mismatch   1 certain" in text
