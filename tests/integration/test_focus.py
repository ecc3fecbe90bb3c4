"""A focus: every allocation of a part is recorded with weight 1, all others are sampled as before.

Chance: an estimate is more than five of its standard errors off for fewer than one seed in a million.
"""

from __future__ import annotations

import json
import math
import mmap
import random
import subprocess
import sys
import threading
from collections import defaultdict

import pytest
from doors import Libraries
from tracing import PROGRAMS, assert_consistent, run

from memleak import control, layout, query, recording

LOOK = 64
THREADS = 3
MALLOC, STRDUP, NEW = range(3)
WAYS = ("malloc", "strdup", "new")
LAW = {"MEMLEAK_MIN_SAMPLE_INTERVAL": "16", "MEMLEAK_MAX_SAMPLE_INTERVAL": "256", "MEMLEAK_SAMPLE_BYTES": "0"}
WEIGHT = 136 * 1024
PIPES = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}


def memleak(*words: object) -> subprocess.CompletedProcess:
    """Run the command."""
    return run(sys.executable, "-m", "memleak", *words)


class Parts:
    """parts.c, running: a program with two libraries."""

    def __init__(self, tracer, program, threads: int = THREADS, *, mode: str = "normal", load: int = 2, **env) -> None:
        """Start it and load the libraries."""
        binary = program("focus/parts.c", "-ldl", name="parts")
        build = {"foo": "libfoo.so.1.2", "bar": "libbar.so"}
        self.paths = [
            program("focus/part.cc", "-shared", "-fPIC", "-fno-builtin", f"-DPART={part}", name=name)
            for part, name in build.items()
        ]
        self.libraries = Libraries([*self.paths, binary])
        self.tracer = tracer
        self.threads = threads
        law = LAW if mode == "normal" else {}
        self.process = tracer.start(binary, threads, mode=mode, env={**law, **env}, **PIPES)
        self.pid = self.process.pid
        for path in self.paths[:load]:
            self.do("load", path)

    def do(self, *words: object) -> int:
        """Let it do one thing; return the pid of who did it."""
        print(*words, file=self.process.stdin, flush=True)
        word, pid = self.process.stdout.readline().split()
        assert word == "done"
        return int(pid)

    def take(self, part: int, way: int, count: int, size: int) -> int:
        """Let each thread keep blocks; return how many that are."""
        self.do("take", part, way, count, size)
        return count * max(self.threads, 1)

    def settle(self) -> None:
        """Bring each thread past its next look."""
        for _ in range(2):
            self.take(-1, MALLOC, LOOK, 8)

    def focus(self, text: str, *more: object) -> str:
        """Change the focus from outside and let every thread notice; return what is said."""
        done = memleak("set", self.pid, "--focus", text, *more)
        assert (done.returncode, done.stderr) == (0, "")
        self.settle()
        return done.stdout

    def end(self) -> recording.Recording:
        """Let it end; return its recording, of the child that it forked if any."""
        output, errors = self.process.communicate(timeout=60)
        assert (self.process.returncode, output, errors) == (0, "", "")
        found = recording.load(self.tracer.paths()[-1])
        assert_consistent(found)
        return found

    def weights(self, found: recording.Recording) -> dict[tuple[str, int], list[int]]:
        """Return the weights of live samples by the place (libfoo.so.1.2:foo_malloc) or file, and the size, of each."""
        sums = defaultdict(list)
        for sample in found.live:
            row = found.row_of(sample)
            names = [name for name in self.libraries.stack(found, row) if not name.startswith("[")]
            sums[names[0] if names else "", sample[1]].append(sample[2])
        return sums


@pytest.fixture
def parts(tracer, program):
    """Start programs of two parts."""
    started = []

    def start(**options) -> Parts:
        started.append(Parts(tracer, program, **options))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


def assert_sampled(weights: list[int], made: int) -> None:
    """As the ordinary law draws: each with its weight, and as many as there should be."""
    assert set(weights) == {WEIGHT}
    assert abs(len(weights) * 136 - made) < 5 * math.sqrt(made * 135)


def test_a_module_is_recorded_wholly(parts):
    """By malloc, strdup and operator new, on each thread, from outside on and off; the other module as ever."""
    running = parts()
    made = {}
    for part in (0, 1):
        made[part, "before"] = running.take(part, MALLOC, 5000, 101)
    said = running.focus("module=libfoo.so")
    assert "no such module" not in said
    for part in (0, 1):
        for way in (MALLOC, STRDUP, NEW):
            made[part, way] = running.take(part, way, 5000, 201 + way)
    assert running.take(-1, MALLOC, 5000, 301) == 15000
    (status,) = json.loads(memleak("status", running.pid, "--json").stdout)
    assert status["focus"]["requested"] == status["focus"]["effective"] == "module=libfoo.so"
    assert status["adopted"] and status["focus"]["adopted"] and status["focus"]["matched"] == 45000 + THREADS  # each thread's text
    shown = memleak("status", running.pid).stdout
    assert "focus      module=libfoo.so: 45,003 allocations, all of them recorded" in shown
    assert "\nfocus: module=libfoo.so: 45,003 allocations, all of them recorded\n" in memleak("top", running.pid).stdout
    running.focus("none")
    assert "\nfocus " not in memleak("status", running.pid).stdout
    for part in (0, 1):
        made[part, "after"] = running.take(part, MALLOC, 5000, 401)
    found = running.end()
    weights = running.weights(found)
    for way, name in enumerate(WAYS):
        assert weights[f"libfoo.so.1.2:foo_{name}", 201 + way] == [1024] * made[0, way]
        assert_sampled(weights[f"libbar.so:bar_{name}", 201 + way], made[1, way])
    assert_sampled(weights["parts:own_malloc", 301], 15000)
    for size, when in ((101, "before"), (401, "after")):
        assert_sampled(weights["libfoo.so.1.2:foo_malloc", size], made[0, when])
        assert_sampled(weights["libbar.so:bar_malloc", size], made[1, when])
    assert found.header.focus_cost_ns > 0 and found.header.counters["knobs_rejected"] == 0
    assert found.samples_lost == {}
    assert not any(row.exact for row in query.Snapshot(found).top(1000))


@pytest.mark.parametrize("name", ["main", "parts"])
def test_the_program_itself(parts, name):
    """By the word for it, and by its file's name."""
    running = parts()
    running.focus(f"module={name}")
    made = running.take(-1, MALLOC, 3000, 301)
    running.take(0, NEW, 3000, 302)
    found = running.end()
    weights = running.weights(found)
    assert weights["parts:own_malloc", 301] == [1024] * made
    assert_sampled(weights["libfoo.so.1.2:foo_new", 302], made)


def test_errors_of_the_part_are_0(parts):
    """Its rows have no error; a row of before and after keeps its own."""
    running = parts()
    running.take(0, MALLOC, 20000, 111)
    running.focus("module=libfoo.so")
    running.take(0, MALLOC, 100, 111)
    running.take(0, NEW, 100, 112)
    running.take(1, NEW, 20000, 113)
    found = running.end()
    by_size = {row.alloc_bytes // row.alloc_count: row for row in query.Snapshot(found).top(1000) if row.alloc_count}
    assert by_size[112].est_bytes_se == 0 and by_size[112].est_count == 300 == by_size[112].samples
    assert by_size[112].est_bytes_low == by_size[112].est_bytes_high == 300 * 112
    mixed = by_size[111]
    assert mixed.est_bytes_se > 0 and mixed.est_bytes_low < mixed.est_bytes < mixed.est_bytes_high
    assert by_size[113].est_bytes_se > 0
    assert not any(row.exact for row in by_size.values())


def test_off_mode_records_the_part_alone(parts):
    """As OceanBase's one-module Memleak did; mappings are part of it."""
    running = parts(mode="off")
    running.take(0, MALLOC, 1000, 101)
    said = running.focus("module=libfoo.so", "--mode", "off")
    assert said.startswith(f"pid {running.pid}: off, ")
    made = running.take(0, STRDUP, 1000, 201)
    running.take(1, STRDUP, 1000, 202)
    running.do("map", 10, 1 << 20)
    running.focus("module=main")
    running.do("map", 10, 1 << 21)
    running.focus("mod=mmap")
    running.take(0, STRDUP, 1000, 203)
    running.do("map", 10, 1 << 22)
    found = running.end()
    weights = running.weights(found)
    assert weights.pop(("libfoo.so.1.2:foo_strdup", 201)) == [1024] * made
    for size in (1 << 21, 1 << 22):
        assert weights.pop(("parts:main", size)) == [1024] * 10
    # While it was on the program; and thread-local storage, which the loader makes when foo_strdup first asks for it.
    assert {place for place, size in weights if size < 1 << 16} <= {"parts:own_malloc", "parts:main", ""}


def test_by_mod_name(parts):
    """operator new and malloc are told apart as the rows do, by who calls malloc."""
    running = parts(mode="off")
    for mod, size in (("operator_new", 211), ("glibc_malloc", 221), ("pymalloc_obj", 231)):
        running.focus(f"mod={mod}")
        for way in (MALLOC, STRDUP, NEW):
            running.take(1, way, 500, size + way)
    found = running.end()
    got = {(row.mod_name, sample[1]) for sample in found.live for row in [found.row_of(sample)] if sample[1] > 200}
    assert got >= {("operator_new", 213), ("glibc_malloc", 221), ("glibc_malloc", 222)}
    assert {size for _, size in got if size < 300} == {213, 221, 222}
    weights = running.weights(found)
    for way, size in ((NEW, 213), (MALLOC, 221), (STRDUP, 222)):
        assert weights[f"libbar.so:bar_{WAYS[way]}", size] == [1024] * 1500


def test_a_module_that_comes_later(parts):
    """Taken, with a word that there is no such one yet; recorded from its first allocation on."""
    running = parts(load=1)
    assert "no such module loaded yet: libbar.so" in running.focus("module=libbar.so")
    assert "no such module loaded yet: libbar.so" in memleak("status", running.pid).stdout
    running.do("load", running.paths[1])
    made = running.take(1, NEW, 2000, 201)
    running.take(0, NEW, 2000, 202)
    assert "no such module" not in memleak("status", running.pid).stdout
    found = running.end()
    weights = running.weights(found)
    assert weights["libbar.so:bar_new", 201] == [1024] * made
    assert_sampled(weights["libfoo.so.1.2:foo_new", 202], made)


def test_a_forked_child_inherits_it(parts):
    """In its own recording, from that recording's beginning on."""
    running = parts()
    running.focus("module=libfoo.so")
    child = running.do("fork")
    assert child != running.pid
    running.threads = 0
    running.take(-1, MALLOC, 3000, 50)  # until its own recording is open
    made = running.take(0, NEW, 3000, 201)
    running.take(1, NEW, 30000, 202)
    found = running.end()
    assert found.header.pid == child
    assert found.header.focus[:3] == ("module=libfoo.so", "module=libfoo.so", True)
    weights = running.weights(found)
    assert weights["libfoo.so.1.2:foo_new", 201] == [1024] * made
    assert_sampled(weights["libbar.so:bar_new", 202], 30000)


def test_full_mode_makes_it_moot(parts):
    """Everything is recorded, and the answer stays exact."""
    running = parts(mode="full")
    running.take(0, NEW, 100, 201)
    assert "in full mode every allocation is recorded" in running.focus("module=libfoo.so")
    running.take(1, NEW, 100, 202)
    found = running.end()
    assert query.Snapshot(found).footer()["exact"]
    weights = running.weights(found)
    assert weights["libfoo.so.1.2:foo_new", 201] == weights["libbar.so:bar_new", 202] == [1024] * 300


def test_the_budget_is_for_the_rest(parts):
    """A part that costs many times the budget widens nothing."""
    wide = {"MEMLEAK_MIN_SAMPLE_INTERVAL": "1000", "MEMLEAK_MAX_SAMPLE_INTERVAL": "9000"}
    running = parts(MEMLEAK_BUDGET="0.01", **wide)
    running.focus("module=libfoo.so")
    for _ in range(30):
        running.take(0, MALLOC, 3000, 40)
    found = running.end()
    header = found.header
    assert header.focus_cost_ns > 200_000_000 and header.own_cost_ns < header.focus_cost_ns / 500
    assert header.governor.widened == 1.0 and header.cost_ns == header.own_cost_ns + header.focus_cost_ns


# ---- asking --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("colour=red", "is not one that is known: give module=NAME"),
        ("libfoo.so", "is not one that is known"),
        ("", "is not one that is known"),
        ("module=", "names nothing"),
        ("module=/usr/lib/libfoo.so", "without its directory, as in module=libfoo.so"),
        ("module=" + "x" * 250, "longer than 255 bytes"),
        ("label=tenant", "a label is NAME=VALUE"),
        ("label==7", "a label is NAME=VALUE"),
        ("mod=malloc", "unknown mod 'malloc': there are glibc_malloc, operator_new"),
        ("module=a\nb", "control characters"),
    ],
)
def test_bad_focus_changes_nothing(parts, text, words):
    """One line that says what is wrong, with knobs that were right beside it."""
    running = parts()
    running.focus("module=libfoo.so")
    before = recording.load_header(running.tracer.paths()[0])
    for form in (["--focus", text], [f"focus={text}"]):
        done = memleak("set", running.pid, "--min", 5, *form)
        assert done.returncode == 2 and words in done.stderr and done.stdout == ""
    after = recording.load_header(running.tracer.paths()[0])
    assert (after.requested, after.focus) == (before.requested, before.focus)
    running.end()


def test_two_ask_at_once(parts):
    """Four that change it all the time and one that changes knobs: what is in force is one of what was asked for."""
    running = parts()
    running.settle()
    asked = [f"module=lib{'x' * number}.so" for number in (1, 60, 200)] + ["label=tenant=1"]
    stop, problems = threading.Event(), []

    def ask(text: str, seed: int) -> None:
        chance = random.Random(seed)
        while not stop.is_set():
            try:
                control.set_knobs(running.pid, focus=text, timeout=0.002)
                if chance.random() < 0.2:
                    control.set_knobs(running.pid, max=chance.randint(200, 300), timeout=0.002)
            except Exception as error:
                problems.append(error)
                return

    threads = [threading.Thread(target=ask, args=(text, seed)) for seed, text in enumerate(asked)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        running.take(-1, MALLOC, 200, 24)
        assert recording.load_header(running.tracer.paths()[0]).focus.effective in ["", *asked]
    stop.set()
    for thread in threads:
        thread.join()
    assert problems == []
    running.focus("module=libfoo.so", "--max", 256)
    made = running.take(0, MALLOC, 1000, 201)
    found = running.end()
    assert running.weights(found)["libfoo.so.1.2:foo_malloc", 201] == [1024] * made
    assert found.header.counters["knobs_rejected"] == 0


def test_hostile_bytes_are_counted(parts):
    """Whatever stands in the header: the program goes on, with the focus that it had."""
    running = parts()
    running.focus("module=libfoo.so")
    (path,) = running.tracer.paths()
    at, at_text = (layout.HEADER.offsets[name] for name in ("focus_requested", "focus_requested_text"))
    chance = random.Random(7)
    with path.open("r+b") as file, mmap.mmap(file.fileno(), layout.HEADER_BYTES) as page:
        for _ in range(100):
            page[at_text : at_text + layout.FOCUS_BYTES] = chance.randbytes(layout.FOCUS_BYTES)
            page[at : at + 8] = chance.randbytes(8)
            running.take(-1, MALLOC, 300, 16)
    header = recording.load_header(path)
    assert header.counters["knobs_rejected"] >= 90
    assert header.focus.effective == "module=libfoo.so" and not header.focus.adopted
    assert "not adopted" in memleak("status", running.pid).stdout
    made = running.take(0, MALLOC, 1000, 201)
    running.focus("module=libbar.so")
    made_after = running.take(1, MALLOC, 1000, 202)
    weights = running.weights(running.end())
    assert weights["libfoo.so.1.2:foo_malloc", 201] == [1024] * made
    assert weights["libbar.so:bar_malloc", 202] == [1024] * made_after


def test_from_the_environment_and_the_command_run(tracer, program, tmp_path):
    """`memleak run --focus` from the first allocation on; a bad variable gives one line and none."""
    binary = program("sites.c", name="sites")
    words = (binary, "small", 1000, 1)
    done = memleak("run", "--quiet", "--mode", "off", "--focus", "module=sites", "-o", tmp_path / "a.mlrec", *words)
    assert done.returncode == 0 and done.stderr == ""
    found = recording.load(tmp_path / "a.mlrec")
    assert found.header.mode == "off" and found.header.focus[:3] == ("module=sites", "module=sites", True)
    assert found.header.counters["samples"] == found.header.focus_matched > 0
    done = memleak("run", "--focus", "mod=heap", binary)
    assert done.returncode == 2 and "unknown mod 'heap'" in done.stderr
    for variable in (" none ", "off", " "):
        traced = tracer.run(*words, env={"MEMLEAK_FOCUS": variable})
        assert traced.stderr == "" and recording.load(tracer.paths()[-1]).header.focus == ("", "", True, 0)
    traced = tracer.run(*words, env={"MEMLEAK_FOCUS": " module=sites\t"})
    assert recording.load(tracer.paths()[-1]).header.focus.effective == "module=sites"
    traced = tracer.run(*words, env={"MEMLEAK_FOCUS": "colour=red"})
    forms = "module=NAME, label=NAME=VALUE or mod=NAME"
    assert traced.stderr.splitlines() == [f"memleak: MEMLEAK_FOCUS is not {forms}, not used: colour=red"]
    assert recording.load(tracer.paths()[-1]).header.focus == ("", "", True, 0)


# ---- Python --------------------------------------------------------------------------------------


class Tenants:
    """tenants.py, running."""

    def __init__(self, door, **env: str) -> None:
        """Wait until it traces itself."""
        script = PROGRAMS / "focus/tenants.py"
        self.process = door.start(sys.executable, script, mode="normal", env={**LAW, **env}, **PIPES)
        self.answer("ready")

    def answer(self, word: str | None = None) -> str:
        """Read its answer."""
        line = self.process.stdout.readline().rstrip("\n")
        assert word in (None, line), (line, self.process.poll() is not None and self.process.stderr.read())
        return line

    def do(self, *words: object) -> str:
        """Let it do one thing."""
        print(*words, file=self.process.stdin, flush=True)
        return self.answer()


def python_weights(found: recording.Recording) -> dict[int, list[int]]:
    """Return the weights of the objects that were kept, by size."""
    sums = defaultdict(list)
    for sample in found.live:
        row = found.row_of(sample)
        if any(frame.name == "keep_objects" for frame in row.python_stack):
            sums[sample[1]].append(sample[2])
    return sums


@pytest.mark.parametrize("who", ["configure", "set"])
def test_a_tenant_is_recorded_wholly(door, who):
    """Small objects and those that malloc gives, by one label of several, from within and from outside; later sets, too."""
    running = Tenants(door)
    for tenant in ("a", "b", "-"):
        running.do("take", tenant, 3000, 96)
    text = "label=tenant=a"
    if who == "configure":
        running.do("focus", text)
    else:
        done = memleak("set", running.process.pid, "--focus", text)
        assert (done.returncode, done.stderr) == (0, "")
    running.do("take", "-", 300, 64)
    running.do("take", "-", 300, 1000)  # past each look
    made = 20000
    for size in (112, 1200):
        for number, tenant in enumerate(("a", "b", "c", "-")):
            running.do("take", tenant, made, size + 16 * number)
    assert running.do("status").startswith("('label=tenant=a', 'label=tenant=a', True, ")
    running.do("focus", "none")
    running.do("take", "-", 300, 64)
    running.do("take", "-", 300, 1000)
    running.do("take", "a", made, 192)
    running.do("focus", "label=tenant=later")
    running.do("take", "-", 300, 64)
    running.do("take", "later", made, 176)
    output, errors = running.process.communicate(timeout=60)
    assert (running.process.returncode, output, errors) == (0, "", "")
    found = door.last()
    weights = python_weights(found)
    assert weights[112] == weights[1200] == weights[176] == [1024] * made
    for size in (128, 144, 160, 192, 1216, 1232, 1248):
        mean = 2176 if size < 512 else 136
        assert set(weights[size]) <= {mean * 1024}
        assert abs(len(weights[size]) * mean - made) < 5 * math.sqrt(made * (mean - 1))
    assert found.samples_lost == {}


def test_small_objects_are_recorded_wholly(door):
    """mod=pymalloc_obj in off mode: those of Python's object domain, of any size, and nothing else."""
    running = Tenants(door)
    done = memleak("set", running.process.pid, "--mode", "off", "--focus", "mod=pymalloc_obj")
    assert (done.returncode, done.stderr) == (0, "")
    running.do("take", "-", 300, 64)
    running.do("take", "-", 300, 1000)
    for size in (112, 1200):
        running.do("take", "-", 5000, size)
    output, errors = running.process.communicate(timeout=60)
    assert (running.process.returncode, output, errors) == (0, "", "")
    found = door.last()
    weights = python_weights(found)
    assert weights[112] == weights[1200] == [1024] * 5000


def test_an_extension_module(door):
    """What it asks Python's allocators for is its own, whatever of libpython is in between; Python code's is not."""
    import _json

    script = (
        "import json, memleak, sys, _json\n"
        "memleak.start(10000, 10000, focus='module=_json')\n"
        "text = json.dumps([str(n) * 5 for n in range(3000)])\n"
        "kept = json.loads(text)\n"
        "own = [str(n) * 5 for n in range(3000)]\n"
        "print(memleak.status().focus.matched)\n"
        "memleak.stop()\n"
    )
    if not hasattr(_json, "__file__"):
        pytest.skip("_json is part of this interpreter")
    done = door.run(sys.executable, "-c", script, mode="off")
    assert done.returncode == 0 and done.stderr == ""
    assert int(done.stdout) >= 3000
    found = door.last()
    for row in found.rows:
        if row.alloc_samples and not row.overflow:
            assert any("/_json." in found.module(frame.module_id).path for frame in row.stack), row
