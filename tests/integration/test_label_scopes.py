"""Where labels reach: nesting, decorators, tasks, threads, executors, forks, later recordings; and where they end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

import nativemutant

PRELUDE = """
import asyncio, ctypes, json, os, sys, threading, contextvars
from concurrent.futures import ThreadPoolExecutor
import memleak
from memleak import label, labels
def start(): memleak.start(1, 1, python_min_sample_interval=10000, python_max_sample_interval=10000)
def block(n):
    ctypes.CDLL(None).malloc(ctypes.c_size_t(700_000 + n))  # looked up when it is called: the hooks may be new
def told():
    (found,) = memleak.snapshot().recordings
    rows = ((sample[1] - 700_000, dict(found.row_of(sample).labels)) for sample in found.live)
    return {size: labels for size, labels in sorted(rows, key=str) if 0 <= size < 1000}
start()
"""


def do(code: str, *, prelude: str = PRELUDE, **env: str):
    """Run a program that traces itself and prints JSON; return that."""
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], env={**os.environ, **env}, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0 and not done.stderr, done
    return json.loads(done.stdout)


def sizes(code: str, **env: str) -> dict[int, dict[str, str]]:
    """Run a program; return the labels of its marked blocks."""
    return {int(size): labels for size, labels in do(code + "\nprint(json.dumps(told()))", **env).items()}


def test_nesting():
    """Inner labels add to outer ones and hide those of the same name; what is None is not given."""
    found = sizes("""
block(0)
with label(tenant_id=7, ctx="A"):
    block(1)
    with label(ctx="B", sql=None): block(2)
    block(3)
    try:
        with label(sql="x"): raise KeyError
    except KeyError: block(4)
block(5)
""")
    outer = {"tenant_id": "7", "ctx": "A"}
    assert found == {0: {}, 1: outer, 2: {"tenant_id": "7", "ctx": "B"}, 3: outer, 4: outer, 5: {}}


def test_decorators():
    """Of functions and coroutine functions; one label object serves many at a time."""
    found = sizes("""
mine = label(who="me")
@mine
def plain(n): block(n); return n
@mine
async def slow(n):
    await asyncio.sleep(0.01 * n); block(n)
    with mine: block(10 + n)
async def other(n):
    with label(who="other"):
        await asyncio.sleep(0.01 * n); block(20 + n)
        with mine: await asyncio.sleep(0.001); block(30 + n)
        block(40 + n)
async def all(): await asyncio.gather(*[slow(n) for n in (1, 2)], *[other(n) for n in (1, 2)])
assert plain(0) == 0 and plain.__name__ == "plain"
asyncio.run(all())
block(50)
""")
    me, other = {"who": "me"}, {"who": "other"}
    expected = {0: me, 1: me, 2: me, 11: me, 12: me, 31: me, 32: me, 50: {}}
    assert found == {**expected, 21: other, 22: other, 41: other, 42: other}


def test_who_is_started_inside():
    """Tasks, threads, executors' functions, copied contexts; but not what an executor's thread runs for others."""
    found = sizes("""
pool = ThreadPoolExecutor(1)
async def work():
    with label(who="task"):
        later = asyncio.create_task(sub())
        await asyncio.get_running_loop().run_in_executor(None, block, 1)
        if sys.version_info >= (3, 9): await asyncio.to_thread(block, 2)
    await later
    block(3)
async def sub():
    await asyncio.sleep(0.02); block(4)
class Own(threading.Thread):
    def run(self): block(5); self.child = threading.Thread(target=block, args=(6,)); self.child.start(); self.child.join()
class Later(threading.Thread):
    _context = None  # as Thread has it from 3.14 on, which runs in it
    def run(self): self._context.run(block, 13)
with label(who="main"):
    later = Later(); later.start(); later.join()
    pool.submit(block, 7).result()
    assert list(pool.map(block, (8, 9))) == [None, None]
    own = Own()
    own.start()
    context = contextvars.copy_context()
own.join()
pool.submit(block, 10).result()
context.run(block, 11)
asyncio.run(work())
timer = threading.Thread(target=block, args=(12,)); timer.start(); timer.join()
""")
    task, main = {"who": "task"}, {"who": "main"}
    assert found == {
        1: task, 2: task, 3: {}, 4: task, 5: main, 6: main, 7: main, 8: main, 9: main, 10: {}, 11: main, 12: {}, 13: main,
    }  # fmt: skip


def test_greenlets():
    """Each has its own, like any context variable; switches take them along."""
    pytest.importorskip("greenlet")
    found = sizes("""
from greenlet import greenlet
main = greenlet.getcurrent()
def work(n):
    with label(who=n):
        block(n); main.switch(); block(10 + n); main.switch()
    block(20 + n)
greenlets = [greenlet(work) for n in range(3)]
for n, g in enumerate(greenlets): g.switch(n)
block(30)
for _ in range(2):
    for g in greenlets: g.switch()
block(31)
""")
    expected = {10 * turn + n: {"who": str(n)} for turn in (0, 1) for n in range(3)}
    assert found == {**expected, 20: {}, 21: {}, 22: {}, 30: {}, 31: {}}


def test_gevent():
    """What it spawns begins with the labels in force; threads, too, that are greenlets."""
    pytest.importorskip("gevent")
    prelude = PRELUDE.replace("import memleak\n", "from gevent import monkey; monkey.patch_all()\nimport gevent, gevent.pool, time\nimport memleak\n")
    code = """
def work(n):
    block(n); time.sleep(0.01); block(10 + n)
    with label(inner=n): time.sleep(0.01); block(20 + n)
    time.sleep(0.01); block(30 + n)
pool = gevent.pool.Pool(3)
with label(who="spawned"):
    greenlets = [gevent.spawn(work, 1), pool.spawn(work, 2)]
    thread = threading.Thread(target=work, args=(3,)); thread.start()
greenlets.append(gevent.spawn(work, 4))
gevent.joinall(greenlets); thread.join()
block(5)
print(json.dumps(told()))
"""
    found = {int(size): labels for size, labels in do(code, prelude=prelude).items()}
    who = {"who": "spawned"}
    expected = {5: {}}
    for n, outer in ((1, who), (2, who), (3, who), (4, {})):
        expected.update({n: outer, 10 + n: outer, 20 + n: {**outer, "inner": str(n)}, 30 + n: outer})
    assert found == expected


def test_before_the_start_and_after_a_stop():
    """A label that is in force when tracing begins counts; a second recording has the texts again."""
    code = """
memleak.stop()
with label(early=1):
    with label(inner=2):
        start(); block(1)
        first = told()
        memleak.stop(); start(); block(2)
        second = told()
    block(3)
print(json.dumps([first, second, told()]))
"""
    early, inner = {"early": "1"}, {"early": "1", "inner": "2"}
    assert do(code) == [{"1": inner}, {"2": inner}, {"2": inner, "3": early}]
    never = PRELUDE.replace("\nstart()\n", "\n")
    code = "with label(early=1, inner=2):\n    start()\n    block(1)\n    print(json.dumps(told()))"
    assert do(code, prelude=never) == {"1": inner}


def test_a_forked_child():
    """It keeps the labels it was forked under; its own recording has their texts."""
    found = do("""
with label(who="parent"):
    pid = os.fork()
    if pid == 0:
        memleak.is_running()
        block(1)
        with label(who="child"): block(2)
        block(3)
        print(json.dumps(told()), flush=True)
        os._exit(0)
os.waitpid(pid, 0)
""")
    assert found == {"1": {"who": "parent"}, "2": {"who": "child"}, "3": {"who": "parent"}}


def test_labels_from_c():
    """A thread's own number, where Python code has set none."""
    found = sizes(r"""
from memleak import _native
core = ctypes.CDLL(_native.library_path())
number = core.memleak_label_number(b"driver=one\nb=2")
def thread():
    core.memleak_label_set(number); block(1)
    with label(who="python"): block(2)
    assert core.memleak_label_set(0) == number
    block(3)
t = threading.Thread(target=thread); t.start(); block(4); t.join()
""")
    assert found == {1: {"driver": "one", "b": "2"}, 2: {"who": "python"}, 3: {}, 4: {}}


def test_what_a_driver_holds_for_a_statement():
    """Pages of a database in memory are asked for by sqlite, without the GIL, while a statement runs."""
    found = do("""
import sqlite3
from memleak.integrations import dbapi
connection = dbapi.labelled(sqlite3.connect(":memory:"))
with label(tenant_id=3):
    connection.execute("CREATE TABLE t (a)")
    connection.executemany("INSERT INTO t VALUES (?)", [(b"x" * 3000,)] * 500)
rows = memleak.snapshot().top(None, group_by="label:sql", where={"label:tenant_id": 3})
print(json.dumps({row.group: row.alloc_bytes for row in rows}))
""")
    assert found["INSERT INTO t VALUES (?)"] > 500 * 3000


def test_odd_values():
    """Whatever a value is, nothing fails: text is cut and made printable."""
    found = sizes(r"""
class Odd:
    def __str__(self): raise OSError
    __hash__ = None
with label(a=Odd(), b=[1], c="x\ny=\0\udc80", d="é" * 300, **{"e=\n": 1}): block(1)
with label(): block(2)
""")
    (labels, nothing) = found[1], found[2]
    assert labels == {"a": "?", "b": "[1]", "c": labels["c"], "d": "é" * 200, "e_ ": "1"} and nothing == {}
    assert re.fullmatch(r"x y=..?", labels["c"])


def test_a_million_labels():
    """They take no more memory than 255, and what is over is counted, by name."""
    found = do("""
def rss(): return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
import time
def turn(first, last):
    began = time.perf_counter()
    for n in range(first, last):
        with label(request=n):
            if n % 1000 == 0: block(0)
    return (time.perf_counter() - began) / (last - first)
turn(0, 10_000)
before = rss()
each = turn(10_000, 1_000_000)
more = rss() - before
snapshot = memleak.snapshot()
(found,) = snapshot.recordings
with label(request=1): block(1)
groups = {row.group: row.est_count for row in snapshot.top(None, group_by="label:request")}
print(json.dumps([more, each, found.header.counters["label_other"], groups["(other)"], len(groups), told()[1]]))
""")
    more, each, other, in_group, groups, known = found
    print(f"{more} bytes more, {each * 1e9:.0f} ns each, {other} samples under `other`")
    assert more < 8 << 20
    assert other >= 990 and in_group >= 990
    assert groups <= 257
    assert known == {"request": "1"}


WRONG = {
    "3.9": ".thread_context = 240", "3.10": ".thread_context = 240", "3.11": ".thread_context = 224",
    "3.12": ".thread_context = 208", "3.13": ".thread_context = 208",
}  # fmt: skip


def test_a_core_that_reads_elsewhere_finds_out(tmp_path):
    """What is read back is not what was set: labels are off, which the recording says, and the program goes on."""
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    place = f".minor = {sys.version_info[1]},\n     .thread_interp = 16, {WRONG[version]}"
    core = nativemutant.mutated_core(tmp_path, "pylayout", place, place.replace(WRONG[version], ".thread_context = 16"))
    code = f"""
import ctypes, json
core = ctypes.PyDLL({str(core)!r})
assert core.memleak_start(1, 1, 10000, 10000, ctypes.c_ulonglong(0), 64, 1, 1) == 0
from contextvars import Context, ContextVar
variable = ContextVar("v")
def follow():
    variable.set("x")
    return core.memleak_label_follow(
        ctypes.c_void_p(id(variable)), ctypes.c_longlong(hash(variable)), ctypes.c_void_p(id(str)), 40, 200)
outcome = Context().run(follow), Context().run(follow)
core.memleak_recording_path.restype = ctypes.c_char_p
print(json.dumps([outcome, core.memleak_recording_path().decode()]))
"""
    outcome, path = do(code, prelude="")
    assert outcome == [-1, -1]
    from memleak import recording

    found = recording.load(path)
    os.unlink(path)
    assert found.header.label_state == 2


def test_labels_that_two_threads_meet_first_at_once():
    """While the one has their number given the other does not go without."""
    found = sizes("""
number, asked = labels._number, []
def slow(found):
    asked.append(found)
    if len(asked) == 1:
        thread = threading.Thread(target=other); thread.start(); thread.join()
    return number(found)
def other():
    with label(who="both"): block(2)
with label(who="first"): pass
labels._number = slow
with label(who="both"): block(1)
assert len(asked) == 2
""")
    assert found == {1: {"who": "both"}, 2: {"who": "both"}}


CHAINS = {
    "callbacks": """
async def main():
    loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()
    def tick(n):
        with mine:
            turn(n)
            if n < N: loop.call_soon(tick, n + 1)
            else: done.set_result(None)
    tick(0)
    await done
asyncio.run(main())
""",
    "tasks": """
async def main():
    done = asyncio.get_running_loop().create_future()
    async def step(n):
        with mine:
            turn(n)
            if n < N: asyncio.create_task(step(n + 1))
            else: done.set_result(None)
    await step(0)
    await done
asyncio.run(main())
""",
    "executors": """
import queue
done = queue.Queue()
pool = ThreadPoolExecutor(1)
def step(n):
    with mine:
        turn(n)
        if n < N: pool.submit(step, n + 1)
        else: done.put(None)
pool.submit(step, 0); done.get(); pool.shutdown()
""",
}


@pytest.mark.parametrize("outcome", [False, True])
@pytest.mark.parametrize("chain", CHAINS)
def test_what_makes_its_own_successor(chain, outcome):
    """Each begins with the labels of the one before and adds its own: that takes no more memory, nor stack in the end."""
    found = do(f"""
import gc
N = 60_000
mine, seen = label(job="tick", outcome={outcome}), []
def turn(n):
    if n in (2000, N): gc.collect(); seen.append(len(gc.get_objects()))
    if n % 1000 == 500: block(n // 1000); told_of.add(labels.current()["job"])
told_of = set()
threading.stack_size(64 << 10)
{CHAINS[chain]}
gc.collect()
with label(after=1): block(900)
print(json.dumps([seen[1] - seen[0], labels._kept, sorted(told_of), [*told().items()]]))
""")
    more, kept, labels, sizes = found
    assert more < 2000 and kept < 100 and labels == ["tick"]
    assert {size for size, _ in sizes} == {*range(60), 900}
    assert all(found.get("job") == "tick" for size, found in sizes if size < 900) and sizes[-1][1] == {"after": "1"}


def test_nesting_deeper_than_scopes_go():
    """What is entered within very many others has all labels, and leaves no trace; up to 256 nothing differs."""
    found = do("""
sys.setrecursionlimit(10_000)
def down(n):
    with label(depth=n % 7, outcome=n % 2 == 0):
        assert labels.current()["depth"] == str(n % 7)
        if n: down(n - 1)
def spare(n, deepest):
    with label(a=n):
        if n < deepest: spare(n + 1, deepest)
        assert labels.current() == {"a": str(n)}, (n, labels.current())
spare(0, 200)
down(2000)
with label(outer=1):
    down(2000)
print(json.dumps(labels.current()))
""")
    assert found == {}


def test_a_label_that_was_made_in_another_way():
    """A derived class need not call __init__(); copies, and what goes through pickle, are labels of the same."""
    found = sizes("""
import copy, pickle
class Mine(label):
    def __init__(self, note): self.note = note
with Mine(1): block(1)
mine = Mine([2])
for again in copy.copy(mine), copy.deepcopy(mine), pickle.loads(pickle.dumps(mine)):
    assert type(again) is Mine and again.note == [2]
    with again: block(2)
for n, again in enumerate((copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one)))):
    try:
        with again(label(n=n, outcome=True)): block(3 + n); raise KeyError
    except KeyError: pass
""")
    assert found == {1: {}, 2: {}, **{3 + n: {"n": str(n), "outcome": "KeyError"} for n in range(3)}}
