"""Gauges of real programs: set by themselves and from outside, and memory per unit read off them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import pytest
from tracing import Tracer

from memleak import layout, query

SIZE = 548_584  # of a table's cache in the incident that this is for
LEVELS = (0.2, 0.4, 0.6, 0.8, 1.0)
TICK_S = layout.HISTORY_UNIT_CS / 100


def memleak(*words, status=0):
    """Run a verb; return what it printed."""
    done = subprocess.run([sys.executable, "-m", "memleak", *map(str, words)], capture_output=True, text=True, timeout=60)
    assert done.returncode == status, done
    return done.stdout if status == 0 else done.stderr


def hold(process, units):
    process.stdin.write(f"{units}\n")
    process.stdin.flush()
    assert process.stdout.readline() == f"{units}\n"


@pytest.fixture(scope="module")
def services(core_path, program, tmp_path_factory):
    """A small service, one ten times its size, one that knows nothing of gauges and one that is recorded in full; name -> JSON
    of what was said of each, and where its recording is."""
    directory = tmp_path_factory.mktemp("gauges")
    binary = program("gauges.c", "-ldl")
    units = {"small": 1000, "large": 10_000, "unaware": 1000, "exact": 1000}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    running = {}
    for name in units:
        place = directory / name
        place.mkdir(mode=0o700)
        aware = () if name == "unaware" else ("aware",)
        knobs = {"MEMLEAK_SAMPLE_BYTES": "262144"}
        mode = "full" if name == "exact" else "normal"
        running[name] = Tracer(core_path, place).start(binary, SIZE, *aware, mode=mode, env=knobs, **pipes)
    try:
        for level in LEVELS:
            for name, process in running.items():
                number = round(units[name] * level)
                hold(process, number)
                if name == "unaware":
                    memleak("gauge", process.pid, f"units={number}")
            time.sleep(TICK_S + 0.1)
        found = {}
        for name, process in running.items():
            answer = json.loads(memleak("gauge", process.pid, "--what-if", "units=10000", "--json"))
            found[name] = answer, query.open(process.pid), json.loads(memleak("gauge", process.pid, "--json"))
        found["words"] = memleak("gauge", running["small"].pid, "--what-if", "units=102400")
        yield found
    finally:
        for process in running.values():
            process.communicate("")


@pytest.mark.parametrize("name", ["small", "large", "unaware", "exact"])
def test_bytes_per_unit(services, name):
    """The stack that holds the blocks is named, with the truth in its interval; of 10,000 objects within 3 %."""
    answer, snapshot, _ = services[name]
    (law,) = [law for law in answer["rows"] if "hold_one" in "".join(law["row"]["trace"])]
    off = abs(law["bytes_per_unit"] / SIZE - 1)
    print(f"{name}: {law['bytes_per_unit']:.0f} [{law['low']:.0f}, {law['high']:.0f}] off by {off:.4f}, {law['samples']} samples")
    assert law["kind"] == "slope" and law["significant"] and law["gauge"] == "units"
    assert off < {"small": 0.12, "unaware": 0.12, "large": 0.03, "exact": 0.001}[name]
    assert law["low"] - 1 <= SIZE <= law["high"] + 1
    assert law["block_bytes"] == pytest.approx(SIZE) and law["count_per_unit"] == pytest.approx(1, abs=0.12)
    (total,) = answer["totals"]
    assert total["row"] is None and abs(total["bytes_per_unit"] / SIZE - 1) < 0.15


@pytest.mark.parametrize("name", ["small", *(["unaware", "exact"] if os.environ.get("MEMLEAK_TEST_LONG") == "1" else [])])
def test_what_if_at_ten_times_the_load(services, name):
    """What the small services foretell is what the large one holds, within 10 %: as estimated, and as it is."""
    (one,) = services[name][0]["totals"][0]["predictions"]
    holds = services["large"][0]["totals"][0]["est_bytes"]
    print(f"{name}: {one['bytes']:.4g} [{one['low']:.4g}, {one['high']:.4g}], large holds {holds:.4g}")
    assert one["bytes"] == pytest.approx(holds, rel=0.1)
    assert one["low"] <= 10_000 * SIZE * 1.01 and one["high"] >= 10_000 * SIZE * 0.99


def test_in_words(services):
    """The size that could not be tested: 52 GiB, beside the limit."""
    words = services["words"]
    (line,) = [one for one in words.splitlines() if "at units=102400:" in one and "limit" in one or "memory," in one]
    foretold = float(line.split("at units=102400: ")[1].split()[0])
    assert 52 * 0.88 < foretold < 53 * 1.12 and "GiB [" in line
    assert "102 times the greatest value seen" in words and "sampling:" in words and "hold_one" in words


def test_list(services):
    """Whose gauges they are, and since when; the history is that of the levels."""
    (mine,) = services["small"][2]
    (theirs,) = services["unaware"][2]
    assert (mine["name"], mine["value"], mine["from_outside"]) == ("units", 1000, False)
    assert (theirs["value"], theirs["least"], theirs["greatest"], theirs["from_outside"]) == (1000, 200, 1000, True)
    for history in (mine["history"], theirs["history"]):  # whoever writes it writes the same
        assert sorted({value for _, value in history}) == [200, 400, 600, 800, 1000]
    assert time.time() - 120 < mine["first_set"] < mine["last_set"] <= time.time()
    _, snapshot, _ = services["unaware"]
    columns, rows = snapshot.sql("SELECT name, value, from_outside FROM gauges")
    assert rows == [("units", 1000, 1)]
    assert snapshot.sql("SELECT max(value), min(value) FROM gauge_history").rows == [(1000, 200)]


# -- without waiting for ticks -----------------------------------------------------------------------


def python(code, runtime_directory, **env):
    """Run Python code that traces itself; return what it printed."""
    variables = {**os.environ, "MEMLEAK_DIR": str(runtime_directory), **env}
    done = subprocess.run([sys.executable, "-c", code], env=variables, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and not done.stderr, done
    return done.stdout


def test_before_start_and_after_a_restart(runtime_directory):
    """What was set before is there from the beginning, and again in the next recording."""
    out = python(
        """
import memleak, subprocess, sys
a, b, c = map(memleak.gauge, ("early", "unset", "later"))
a.set(5); a.inc(2)
assert memleak.gauge("early") is a and a.value == 7 and b.value is None
memleak.start()
def seen():
    return [(g.name, g.value) for g in memleak.snapshot().gauges()]
print(seen())
c.set(2.6); a.dec(10)
import os
subprocess.run([sys.executable, "-m", "memleak", "gauge", str(os.getpid()), "outside=9", "later=4"], check=True, stdout=subprocess.DEVNULL)
print(seen(), c.value)
memleak.stop()
a.set(-8)
memleak.start()
print(seen())
""",
        runtime_directory,
    )
    assert out.splitlines() == [
        "[('early', 7), ('later', None), ('unset', None)]",
        "[('early', -3), ('later', 4), ('outside', 9), ('unset', None)] 3",
        "[('early', -8), ('later', 3), ('outside', 9), ('unset', None)]",
    ]


def test_bad_values(runtime_directory):
    """Refused as they would be without the core, and nothing is changed."""
    python(
        """
import memleak
g = memleak.gauge("x")
for started in (False, True):
    g.set(1)
    for bad, error in ((float("nan"), ValueError), (float("inf"), ValueError), (1 << 63, ValueError), ("1", (TypeError, ValueError)), (None, TypeError)):
        try:
            g.set(bad)
        except error:
            continue
        raise AssertionError(bad)
    g.set(-1 << 63); assert g.value == -1 << 63
    g.set((1 << 63) - 1); g.inc(); assert g.value == -1 << 63
    g.set(True); assert g.value == 1
    memleak.start()
for bad in ("", "a b", "1", "x" * 49, "a=b", "\\u00e4", None, 3):
    try:
        memleak.gauge(bad)
    except ValueError:
        continue
    raise AssertionError(bad)
""",
        runtime_directory,
    )


def test_more_than_there_is_room_for(runtime_directory):
    """The 65th works as others do and is not recorded, which is counted."""
    out = python(
        """
import memleak
memleak.start()
for n in range(70):
    memleak.gauge(f"g{n}").set(n)
assert memleak.gauge("g69").value == 69
found = memleak.snapshot()
print(len(found.gauges()), found.footer()["counters"]["gauge_full"] >= 6)
""",
        runtime_directory,
    )
    assert out == "64 True\n"


def test_threads(runtime_directory):
    """Eight threads that add and set at once lose nothing, and the file ends with the last value."""
    out = python(
        """
import memleak, threading
memleak.start()
g, h = memleak.gauge("added"), memleak.gauge("set")
def work(n):
    for i in range(20000):
        g.inc(3); g.dec(2); h.set(n * 100000 + i)
threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
found = {one.name: one.value for one in memleak.snapshot().gauges()}
print(g.value, found["added"], found["set"] == h.value, h.value % 100000)
""",
        runtime_directory,
    )
    assert out == "160000 160000 True 19999\n"


def test_fork(runtime_directory):
    """A child has names and no values: what was counted is its parent's. What it sets is in its own recording."""
    out = python(
        """
import memleak, os
g, h = memleak.gauge("mine"), memleak.gauge("also")
g.set(100); h.set(1)
memleak.start()
if os.fork() == 0:
    assert g.value is None and h.value is None
    g.inc(3)
    kept = [bytearray(i) for i in range(20000)]
    found = {one.name: one.value for one in memleak.snapshot().gauges()}
    print(found, flush=True)
    os._exit(0)
assert os.wait()[1] == 0
print({one.name: one.value for one in memleak.snapshot().gauges()})
""",
        runtime_directory,
    )
    assert out.splitlines() == ["{'also': None, 'mine': 3}", "{'also': 1, 'mine': 100}"]


def test_without_tracing(runtime_directory):
    """A program that is not traced has its gauges all the same, also in children; the core is not loaded for them."""
    python(
        """
import memleak, os
g = memleak.gauge("x")
g.set(4); g.inc()
assert g.value == 5 and "libmemleak" not in open("/proc/self/maps").read()
if os.fork() == 0:
    assert g.value is None
    g.inc()
    os._exit(g.value)
assert os.waitstatus_to_exitcode(os.wait()[1]) == 1 if hasattr(os, "waitstatus_to_exitcode") else True
""",
        runtime_directory,
    )


def test_refusals(tracer, program):
    """One line for each, which says what was tried and why not; nothing is changed."""
    process = tracer.start(program("gauges.c", "-ldl"), 100, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        hold(process, 3)
        assert "no gauges" in memleak("gauge", process.pid)
        assert "no gauge was set" in memleak("gauge", process.pid, "--per-unit", status=1)
        for words, text in ((("x=1.5",), "a gauge is a count"), (("x=1", "9y=2"), "no name for a gauge"), (("x=1", "x=2"), "given twice"),
                            ((f"x={1 << 63}",), "64 bits"), (("x",), "expected NAME=VALUE"), (("x=1", "--per-unit"), "either set gauges")):  # fmt: skip
            assert text in memleak("gauge", process.pid, *words, status=2)
        assert "no place for g16" in memleak("gauge", process.pid, *(f"g{n}={n}" for n in range(17)), status=1)
        assert "no gauges" in memleak("gauge", process.pid)
        assert memleak("gauge", process.pid, "a=1e6", "b=-5").strip() == f"pid {process.pid}: a=1000000, b=-5"
        assert "no gauge 'z'" in memleak("gauge", process.pid, "--gauge", "z", status=1)
        ratio = json.loads(memleak("gauge", process.pid, "--gauge", "a", "--json"))["totals"][0]
        assert ratio["kind"] == "ratio" and "3 are needed" in ratio["notes"][-1]
    finally:
        process.communicate("")
    (path,) = tracer.paths()
    assert "is closed" in memleak("gauge", path, "a=2", status=1)
    assert "no process" in memleak("gauge", process.pid, "a=2", status=1)
    assert "a  " in memleak("gauge", path)


def test_set_by_finalizers_and_signal_handlers(runtime_directory):
    """They may come while their own thread is about a gauge, also before tracing begins: nobody waits, nothing gets lost."""
    code = """
import faulthandler, gc, json, signal, sys
faulthandler.dump_traceback_later(60, exit=True)
import memleak
sessions, alarms = memleak.gauge("sessions"), 0
class Session:
    def __init__(self): self.me = self; sessions.inc()
    def __del__(self): sessions.dec()
def alarm(number, frame):
    global alarms
    alarms += 1; sessions.inc()
def turn(n):
    Session()
    sessions.inc(2); sessions.value; sessions.dec()
    memleak.gauge(f"g{n % 60}").inc()
signal.signal(signal.SIGALRM, alarm)
threshold = gc.get_threshold()
gc.set_threshold(1); signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
for n in range(8000): turn(n)
memleak.start()
for n in range(1000): turn(n)
signal.setitimer(signal.ITIMER_REAL, 0); gc.set_threshold(*threshold)
gc.collect()
print(json.dumps([sessions.value - alarms, alarms > 10, memleak.gauge("g0").value]))
"""
    assert json.loads(python(code, runtime_directory)) == [9000, True, 151]
