"""Labels with an outcome: what an entry holds goes by how it ended, whoever else runs under the same labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest
from test_label_scopes import do, sizes
from test_labels import python, traced  # noqa: F401
from tracing import PROGRAMS

from memleak import query

STEP, OWNERS = 16, 70
BASES = (10_000, 20_000, 30_000)
NAMES = ["ok", "ValueError", "ok", "KeyError", "CancelledError", "ok"]


@pytest.mark.parametrize("mode", ["full", "normal"])
def test_tasks_and_threads_under_the_same_labels(python, mode, runtime_directory):  # noqa: F811
    """50 tasks and 20 threads: 99.5 % of the live bytes are under the right outcome, and each call is counted."""
    tracer = traced(python, runtime_directory)
    full = ("1", "1", "10000", "10000") if mode == "full" else ("4", "32", "256", "4096")
    names = (f"MEMLEAK_{side}{end}_SAMPLE_INTERVAL" for side in ("", "PYTHON_") for end in ("MIN", "MAX"))
    env = {"MEMLEAK_MODE": None, **dict(zip(names, full))}
    started = tracer.start(
        python, PROGRAMS / "outcome_work.py", env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    left = {int(size): number for size, number in json.loads(started.stdout.readline()).items()}
    snapshot = query.open(started.pid)
    (found,) = snapshot.recordings
    started.communicate("")
    right = wrong = 0
    seen: Counter[int] = Counter()
    for sample in found.live:
        size, labels = sample[1], dict(found.row_of(sample).labels)
        base = size // 10_000 * 10_000
        owner = (size - base) // STEP
        if base not in BASES or (size - base) % STEP or owner >= OWNERS:
            continue
        seen[size] += 1
        if labels.get("outcome") == NAMES[owner % len(NAMES)] and labels.get("sql") == "SELECT ?":
            right += size
        else:
            wrong += size
            print(size, owner, labels)
    print(f"{mode}: {right} bytes right, {wrong} wrong, in {sum(seen.values())} samples; {snapshot.calls}")
    assert right >= 0.995 * (right + wrong) and right > 0
    calls = {dict(labels)["outcome"]: number for labels, number in snapshot.calls.items()}
    assert calls == Counter(NAMES[owner % len(NAMES)] for owner in range(OWNERS))
    assert found.header.counters["outcome_missed"] == 0
    if mode == "full":  # nothing is lost, and nothing that was freed is left
        assert seen == left


def test_the_ways_a_block_ends():
    """Nested, caught inside, decorated; generators and cancelled tasks; a text is a label like any."""
    found = sizes("""
def failing(n, error, **more):
    try:
        with label(sql=1, outcome=True, **more): block(n); raise error
    except BaseException as found: assert found is error or type(found) is error
with label(sql=1, outcome=True):
    block(0)
    try: raise KeyError
    except KeyError: block(1)
    failing(2, ValueError, inner=2)
    with label(step=1):
        failing(3, OSError())
        block(4)
failing(10, SystemExit(3))
failing(11, StopIteration)
failing(12, GeneratorExit())
failing(13, KeyboardInterrupt)
try:
    with label(sql=1, outcome=True, mod=2):
        block(14)
        with label(sql=2, outcome="text"): block(15)
        with label(outcome=None, sql=3): block(16)
        with label(outcome=False, sql=4): block(17)
        with label(step=1): block(18)
        raise KeyError
except KeyError: block(19)
@label(job=1, outcome=True)
def decorated(n):
    block(n)
    if n == 21: raise ValueError
    return n
assert decorated(20) == 20
try: decorated(21)
except ValueError: pass
@label(job=1, outcome=True)
async def waits(n): block(n); await asyncio.sleep(5)
async def cancels():
    task = asyncio.ensure_future(waits(22)); await asyncio.sleep(0.01); task.cancel()
    try: await task
    except asyncio.CancelledError: pass
asyncio.run(cancels())
def generator(n):
    with label(gen=1, outcome=True):
        block(n); yield 1
        if n == 30: raise ValueError
for n in (30, 31):
    try: list(generator(n))
    except ValueError: pass
left = generator(32); next(left); left.close()
""")
    ok, deeper = {"sql": "1", "outcome": "ok"}, {"sql": "1", "mod": "2", "outcome": "KeyError"}
    assert found == {
        0: ok, 1: ok, 2: {"sql": "1", "inner": "2", "outcome": "ValueError"},
        3: {"sql": "1", "step": "1", "outcome": "OSError"}, 4: {**ok, "step": "1"},
        10: {**ok, "outcome": "SystemExit"}, 11: ok, 12: ok, 13: {**ok, "outcome": "KeyboardInterrupt"},
        14: deeper, 15: {**deeper, "sql": "2", "outcome": "text"}, 16: {**deeper, "sql": "3"}, 17: {**deeper, "sql": "4"},
        18: {**deeper, "step": "1"}, 19: {},
        20: {"job": "1", "outcome": "ok"}, 21: {"job": "1", "outcome": "ValueError"}, 22: {"job": "1", "outcome": "CancelledError"},
        30: {"gen": "1", "outcome": "ValueError"}, 31: {"gen": "1", "outcome": "ok"}, 32: {"gen": "1", "outcome": "ok"},
    }  # fmt: skip


def test_what_goes_on_after_the_end():
    """A task that was started in a block that has failed goes on under its outcome; in one that ended well, under ok."""
    found = sizes("""
async def later(n): block(n); await asyncio.sleep(0.05); block(n + 10)
async def work(n):
    with label(sql=1, outcome=True):
        task = asyncio.ensure_future(later(n)); await asyncio.sleep(0.01)
        if n == 1: left.append(task); raise ValueError
    return await task
left = []
async def both():
    for n in (1, 2):
        try: await work(n)
        except ValueError: pass
    await left[0]
asyncio.run(both())
""")
    ok, failed = {"sql": "1", "outcome": "ok"}, {"sql": "1", "outcome": "ValueError"}
    assert found == {1: failed, 11: failed, 2: ok, 12: ok}


def test_freed_reallocated_and_of_the_other_layers():
    """What is freed is gone, what realloc gives out is the block's, mappings and Python's objects move as well."""
    found = do("""
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.realloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]; libc.free.argtypes = [ctypes.c_void_p]
libc.realloc.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
import mmap
before = libc.malloc(700_001)
memleak.configure(python_min_sample_interval=1, python_max_sample_interval=1)
for _ in range(100): str(_)
kept = []
try:
    with label(sql=1, outcome=True):
        gone = libc.malloc(700_002); libc.free(gone)
        moved = libc.realloc(libc.realloc(libc.malloc(700_003), 700_004), 900_005)
        moved = libc.realloc(before, 700_006)
        pages = mmap.mmap(-1, 700_416)
        kept = [object() for _ in range(500)]
        raise ValueError
except ValueError: pass
memleak.mode("off")
found, = memleak.snapshot().recordings
rows = [(s[1], dict(found.row_of(s).labels), found.row_of(s).mod_name) for s in found.live]
objects = sum(size == object.__basicsize__ and labels.get("outcome") == "ValueError" for size, labels, _ in rows)
row = next(row for row in memleak.snapshot().top(None) if row.labels and "ValueError" in row.labels and row.mod_name == "mmap")
print(json.dumps([[(s - 700_000, l) for s, l, _ in rows if 700_000 < s < 901_000], objects, row.total_bytes, row.alloc_bytes]))
""")
    blocks, objects, total, held = found
    failed = {"sql": "1", "outcome": "ValueError"}
    assert sorted(blocks, key=str) == [[200005, failed], [416, failed], [6, failed]]
    assert objects >= 500 and total == held == 700_416


def test_totals_count_what_moved_once():
    """The rows it came from and the rows it went to have in their totals what each stands for."""
    found = do("""
def work(n):
    with label(sql=1, outcome=True):
        block(n)
        if n % 2: raise ValueError
for n in range(10):
    try: work(n)
    except ValueError: pass
rows = memleak.snapshot().top(None, group_by="label:outcome", where={"label:sql": 1})
print(json.dumps({row.group: [row.est_bytes, row.total_bytes] for row in rows}))
""")
    assert {*found} == {"ok", "ValueError"}
    assert all(5 * 700_000 <= held <= total < 6 * 700_000 for held, total in found.values()), found


def test_a_leak_of_the_error_path(tmp_path):
    """Bytes that are kept only when a call fails show under its exception, with how often that happened."""
    path = tmp_path / "found.mlrec"
    do(f"""
kept = []
def serve(n):
    with label(route="/", outcome=True):
        answer = bytearray(20_000)
        if n % 10 == 0:
            kept.append(bytearray(30_000))
            raise ValueError(n)
for n in range(1000):
    try: serve(n)
    except ValueError: pass
memleak.snapshot().save({str(path)!r})
print("{{}}")
""")
    command = [sys.executable, "-m", "memleak"]
    done = subprocess.run([*command, "top", path, "--group-by", "label:outcome", "--json"], capture_output=True, text=True, check=True)
    rows = {row["group"]: row for row in json.loads(done.stdout)["rows"]}
    assert rows["ValueError"]["est_bytes"] >= 100 * 30_000
    assert "ok" not in rows or rows["ok"]["est_bytes"] < 100_000
    sql = (
        "SELECT l.value, l.calls, (SELECT sum(est_bytes) FROM malloc_sample_info m WHERE m.labels = l.labels) / l.calls AS each"
        " FROM labels l WHERE name = 'outcome' ORDER BY 1"
    )
    done = subprocess.run([*command, "sql", path, sql, "--json"], capture_output=True, text=True, check=True)
    found = {row["value"]: (row["calls"], row["each"]) for row in json.loads(done.stdout)}
    assert found["ok"][0] == 900 and found["ValueError"][0] == 100
    assert 30_000 < found["ValueError"][1] < 33_000 and (found["ok"][1] or 0) < 1000


def test_a_fork_in_the_block():
    """Parent and child end the block each by itself, in recordings of their own."""
    found = do("""
reader, writer = os.pipe()
try:
    with label(sql=1, outcome=True):
        block(1)
        pid = os.fork()
        if pid == 0:
            memleak.is_running()
            block(2)
        else:
            block(3)
        raise KeyError if pid == 0 else OSError
except (KeyError, OSError): pass
block(4)
calls = [[dict(labels), n] for labels, n in memleak.snapshot().calls.items()]
if pid == 0:
    os.write(writer, json.dumps([told(), calls]).encode())
    os._exit(0)
os.waitpid(pid, 0)
print(json.dumps([json.loads(os.read(reader, 10000)), [told(), calls]]))
""")
    child, parent = found
    assert child == [{"2": {"sql": "1", "outcome": "KeyError"}, "4": {}}, [[{"sql": "1", "outcome": "KeyError"}, 1]]]
    failed = {"sql": "1", "outcome": "OSError"}
    assert parent == [{"1": failed, "3": failed, "4": {}}, [[failed, 1]]]


def test_a_stop_and_a_start_in_the_block():
    """The frozen recording stays as it is; the next has what it saw itself, under its outcome."""
    found = do("""
memleak.stop()
def work():
    with label(sql=1, outcome=True):
        start(); block(1)
        with label(step=1): block(2)
        first.append(told()); memleak.stop(); path = memleak.snapshot().recordings[0]
        start(); block(3)
        raise ValueError
first = []
try: work()
except ValueError: pass
second = told()
try:
    with label(sql=1, outcome=True): block(4); first.append(told()); memleak.stop(); raise ValueError
except ValueError: pass
third = told()
print(json.dumps([*first, second, third]))
""")
    ok, failed = {"sql": "1", "outcome": "ok"}, {"sql": "1", "outcome": "ValueError"}
    assert found[0] == {"1": ok, "2": {**ok, "step": "1"}}
    assert found[2] == {"3": failed} and found[3] == found[1] == {"3": failed, "4": ok}


def test_many_kinds_of_exceptions():
    """32 have their names, what comes after is `error`; a class that calls itself `ok` is an error."""
    found = sizes("""
kinds = [type(f"Kind{n}", (Exception,), {}) for n in range(40)] + [type("ok", (Exception,), {}), type("a\\nb=c", (Exception,), {})]
for n, kind in enumerate(kinds):
    try:
        with label(outcome=True): block(n); raise kind
    except kind: pass
""")
    names = {n: labels["outcome"] for n, labels in found.items()}
    assert names == {n: f"Kind{n}" if n < 32 else "error" for n in range(42)}


def test_more_samples_than_are_noted():
    """What an entry took so many samples ago that their notes are gone stays under ok, which a counter tells."""
    found = do("""
kept = []
try:
    with label(sql=1, outcome=True):
        block(0)
        for n in range(33_000): kept.append(bytearray(600))
        block(1)
        raise ValueError
except ValueError: pass
header = memleak.snapshot().recordings[0].header
print(json.dumps([told(), header.counters["outcome_missed"]]))
""")
    told, missed = found
    assert told == {"0": {"sql": "1", "outcome": "ok"}, "1": {"sql": "1", "outcome": "ValueError"}} and missed == 1


def test_a_million_entries():
    """They leave nothing behind: no memory, no reference, nothing for the garbage collector."""
    found = do("""
import gc, time
memleak.configure(min_sample_interval=16, max_sample_interval=256)
def rss(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
mine, plain = label(sql=1, outcome=True), label(step=1)
def turn(n):
    began = time.perf_counter()
    for _ in range(n):
        with mine: pass
    ok = time.perf_counter() - began
    for _ in range(n // 10):
        try:
            with mine, plain: raise ValueError
        except ValueError: pass
    return ok / n
turn(20_000); gc.collect()
root, before, objects = labels._ROOT, rss(), len(gc.get_objects())
counts = [sys.getrefcount(each) for each in (root, mine, plain, labels._current, None, label)]
each = turn(1_000_000)
gc.collect()
after = [sys.getrefcount(each) for each in (root, mine, plain, labels._current, None, label)]
more = [b - a for a, b in zip(counts, after)]
print(json.dumps([rss() - before, len(gc.get_objects()) - objects, more, each * 1e9]))
""")
    memory, objects, more, each = found
    print(f"{memory} bytes more after a million entries, {each:.0f} ns each")
    assert memory < 2 << 20 and abs(objects) < 20
    assert all(abs(n) < 20 for n in more), more


def test_an_interrupt_while_an_entry_ends():
    """It goes on as it would from any function; what else goes wrong there leaves the program's exception as it is."""
    found = do("""
class Named(type):
    @property
    def __name__(self): raise wanted
class Failure(Exception, metaclass=Named): pass
seen = []
for wanted in (KeyboardInterrupt, SystemExit, GeneratorExit, ValueError, MemoryError):
    try:
        with label(x=1, outcome=True): raise Failure
    except BaseException as error: seen.append([type(error) is wanted, isinstance(error, Failure), labels.current()])
print(json.dumps(seen))
""")
    assert found == [[True, False, {}]] * 3 + [[False, True, {}]] * 2


def test_labels_too_long_for_an_outcome():
    """An entry whose labels have no room for the exception's name is not counted as one that ended well."""
    calls, missed = do("""
mine = label(a="x" * 195, b="x" * 195, c="x" * 195, d="x" * 194, e="x" * 194, outcome=True)
for n in range(10):
    try:
        with mine:
            block(n)
            if n % 2: raise ValueError
    except ValueError: pass
(found,) = memleak.snapshot().recordings
print(json.dumps([[(dict(of).get("outcome"), n) for of, n in found.calls.items()], found.header.counters["outcome_missed"]]))
""")
    assert calls == [["ok", 5]] and missed == 5


def test_references(python):  # noqa: F811
    """Each way in and out gives back what it took, on each CPython; cycles through a label are collected."""
    code = """
import gc, sys, weakref
from memleak import label, labels
def refs(): return [sys.getrefcount(each) for each in (labels._ROOT, mine, inner, labels._current, labels._get().labels)]
mine, inner, kept = label(sql=1, outcome=True), label(step=1), label(tenant_id=7)
def turn():
    with mine: pass
    with kept, mine, inner, kept: pass
    with label(a=1, outcome=True): pass
    with label(a=[1]): pass
    try:
        with kept, mine: raise ValueError
    except ValueError: pass
    mine.__enter__(); mine.__exit__()
    mine.__exit__()  # once too often: nothing
    kept.__enter__(); mine.__exit__(ValueError, None, None)
    mine.__enter__(); inner.__enter__(); mine.__exit__(KeyError, KeyError(), None); inner.__exit__(None, None, None)
    try: label(7)
    except TypeError: pass
for _ in range(10): turn()
gc.collect(); before, objects = refs(), len(gc.get_objects())
for _ in range(1000): turn()
gc.collect(); after = refs()
assert all(abs(a - b) < 5 for a, b in zip(after, before)), (before, after)
assert abs(len(gc.get_objects()) - objects) < 100  # of 6000 entries
class Value:
    def __str__(self): return "value"
value = Value(); value.label = label(v=value, outcome=True); found = weakref.ref(value)
with value.label: pass
class Sub(label): pass
sub = Sub(x=1, outcome=True)
with sub as entered: assert entered is sub and labels.current() == {"x": "1", "outcome": "ok"}
kinds = sys.getrefcount(Sub)
for _ in range(100): Sub(x=1)
assert sys.getrefcount(Sub) == kinds
labels._ROOT.inner.clear()
del value; gc.collect()
assert found() is None
labels._current.set(7)  # not ours any more: blocks run without labels
with mine as entered: assert entered is mine
labels._current.set(labels._ROOT)
assert labels.current() == {}
def generator():
    with mine: yield 1
left = generator(); next(left)  # is closed when the interpreter ends
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_methods_of_labels(python):  # noqa: F811
    """`with` makes no bound methods; who asks for one gets it, and may do with it as with any; entries within entries."""
    code = """
import contextlib, copy, gc, sys, weakref
from memleak import label, labels, _scopes
mine = label(step=1); judged = label(sql=1, outcome=True)
if sys.version_info < (3, 14):
    with mine:
        kinds = [type(r).__name__ for r in gc.get_referrers(mine)]
        assert "builtin_function_or_method" not in kinds and "method" not in kinds, kinds
bound = mine.__enter__
assert bound.__self__ is mine and bound.__name__ == "__enter__" and "__enter__" in repr(bound), bound
assert label.__enter__.__name__ == "__enter__" and label.__exit__.__doc__
assert label.__enter__(mine) is mine and labels.current() == {"step": "1"}; label.__exit__(mine, None, None, None)
assert labels.current() == {}
with contextlib.ExitStack() as stack:
    assert stack.enter_context(mine) is mine and labels.current() == {"step": "1"}
    stack.callback(label(a=1).__enter__().__exit__, None, None, None)
assert labels.current() == {}
class Sub(label):
    def __enter__(self): entered.append(super().__enter__()); return 7
    def __exit__(self, *error): way.append(super().__exit__); return super().__exit__(*error)
entered, way = [], []
sub = Sub(x=1)
with sub as found: assert found == 7 and labels.current() == {"x": "1"}
assert entered == [sub] and labels.current() == {}
dead = weakref.ref(sub)
entered.clear(); del sub, found
way = way.pop()
assert way(None, None, None) is None  # holds on to its label
kind = type(way)
for wrong in (kind, lambda: kind.__new__(kind), lambda: object.__new__(kind), lambda: copy.copy(way), lambda: way(x=1), lambda: type(way).__call__(way, x=1),
              lambda: _scopes.Label.__dict__["__enter__"].__get__(7, int), lambda: mine.__enter__(1),
              lambda: super(Sub, Sub()).__enter__(1), lambda: super(Sub, Sub()).__enter__(*range(9)),
              type(_scopes.Label.__dict__["__enter__"])):
    try: wrong()
    except TypeError: continue
    else: print("no TypeError", wrong)
assert dead() is not None; del way, kind; assert dead() is None
class Value: pass
value = Value(); value.leave = label(v=value).__exit__; gone = weakref.ref(value)
del value; gc.collect(); assert gone() is None
# more copies than are kept as spares, within each other and side by side
def deep(n):
    with judged:
        with mine:
            scope = labels._get(); assert scope.entry and scope.outer.entry == scope.entry
            entries.append(scope.entry)
            if n: deep(n - 1)
            assert labels._get() is scope
entries = []
for _ in range(3): deep(120)  # two scopes each: fewer than where chains are cut
assert len(set(entries)) == 363 and labels.current() == {}
def gen():
    with judged: yield labels._get().entry
many = [gen() for _ in range(200)]
for each in many: next(each)  # are closed when the interpreter ends
"""
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_in_sub_interpreters(python):  # noqa: F811
    """Each has labels of its own, which are not followed; with a GIL of its own as well."""
    code = """
import sys
import memleak
memleak.start()
with memleak.label(a=1, outcome=True): pass
sub = '''
import sys; sys.path[:] = %r
from memleak import _scopes
from contextvars import ContextVar, copy_context
root = _scopes.Scope(None, {}, 0, True)
variable = ContextVar("v", default=root)
def find(outer, given): return _scopes.Scope(outer, given, 0, False)
_scopes.set_up(variable, find, lambda scope, kind: seen.append((scope.labels, kind)))
seen = []
for n in range(100):
    try:
        with _scopes.Label(n=n, outcome=True): raise ValueError
    except ValueError: pass
assert variable.get() is root and len(seen) == 100 and seen[3] == ({"n": 3, "outcome": "ok"}, ValueError)
''' % sys.path
try: import _interpreters as interpreters
except ImportError: import _xxsubinterpreters as interpreters
for n in range(3):
    each = interpreters.create()
    failed = interpreters.run_string(each, sub)
    assert not failed, failed
    interpreters.destroy(each)
with memleak.label(a=2, outcome=True): pass
print(len(memleak.snapshot().calls))
"""
    done = subprocess.run([python, "-c", code], env=os.environ, capture_output=True, text=True, timeout=100)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
