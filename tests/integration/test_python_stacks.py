"""Mixed stacks of real programs under each CPython: every Python frame where it belongs among the native ones."""

from __future__ import annotations

import json
import subprocess
import sys

import compatenv
import pytest
from tracing import PROGRAMS

from memleak import query
from memleak.symbolize import Symbolizer

PROGRAM = PROGRAMS / "python_stacks.py"
SOURCE = str(PROGRAM)
LINES = {text.strip(): number for number, text in enumerate(PROGRAM.read_text().splitlines(), 1)}


def memleak(*words: object) -> str:
    """Return what a verb prints."""
    command = [sys.executable, "-m", "memleak", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def at(name: str, text: str) -> str:
    """Return a Python frame of the program: what it is called, on the line with *text*."""
    return f"{name} at {SOURCE}:{LINES[text]}"


@pytest.fixture(params=compatenv.VERSIONS)
def process(request, tracer):
    """The program under one CPython, everything recorded, waiting."""
    python = compatenv.interpreter(request.param)
    if python is None and request.param == "{}.{}".format(*sys.version_info):
        python = sys.executable
    if python is None:
        pytest.skip(f"no CPython {request.param} on this machine")
    started = tracer.start(python, SOURCE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert started.stdout.readline() == "ready\n"
    started.minor = int(request.param.split(".")[1])
    yield started
    started.stdin.close()
    started.wait(20)
    started.stdout.close()


def test_each_chain_is_told_in_order(process):
    """Python calls Python, C calls Python back, C resumes a generator; nothing is lost or out of place."""
    with Symbolizer(engine="none") as symbolizer:
        rows = query.open(process.pid, symbolizer=symbolizer).top(80, by="alloc_bytes")
    plain = process.minor < 11  # names are not qualified
    main = [at("main", text) for text in ("Store().grow(5)", "sorted(range(4), key=key)", "kept.extend(numbers(6))")]
    loads = at("main", 'json.loads("[{}, {}]", object_pairs_hook=hook)')
    made = at("listed", "return [bytearray(350_000) for _ in range(3)]")
    comprehension = made.replace("listed", "<listcomp>" if plain else "listed.<locals>.<listcomp>")
    task = [at("loop", "coroutine.send(None)"), at("main", "loop(handle(2))")]
    module = f"<module> at {SOURCE}:{max(LINES.values())}"
    chains = {
        at("add" if plain else "Store.add", "kept.append(bytearray(300_000))"): (
            5, 300_000, [at("grow" if plain else "Store.grow", "self.add()"), main[0], module],
        ),
        at("key", "kept.append(bytearray(400_000))"): (4, 400_000, ["list_sort", main[1], module]),
        at("numbers", "yield bytearray(200_000)"): (6, 200_000, ["gen_", "list", main[2], module]),
        at("hook", "kept.append(bytearray(100_000))"): (
            2, 100_000, ["_json", "raw_decode at", "loads at", loads, module],
        ),
        at("blocks", "yield bytearray(150_000)"): (
            7, 150_000, [at("delegate", "yield from blocks(count)"), at("main", "kept.extend(delegate(7))"), module],
        ),
        (made if process.minor >= 12 else comprehension): (
            3, 350_000, ([] if process.minor >= 12 else [made]) + [at("main", "kept.extend(listed())"), module],
        ),
        at("fetch", "kept.append(bytearray(450_000))"): (2, 450_000, [at("handle", "await fetch()"), *task, module]),
        at("stream", "yield bytearray(250_000)"): (
            2, 250_000, [at("handle", "async for block in stream(count):"), *task, module],
        ),
    }  # fmt: skip
    for innermost, (count, least, further) in chains.items():
        found = [row for row in rows if row.python_trace and row.python_trace.startswith(innermost + " < ")]
        found = [row for row in found if row.alloc_count and row.alloc_bytes / row.alloc_count >= least]
        # The first calls may come another way than the following ones, for which the interpreter adapts its code.
        assert sum(row.alloc_count for row in found) == count, innermost
        for row in found:
            assert all(frame.placed for frame in row.frames), row.mixed_trace
            assert not any("_PyEval_" in (frame.function or "") for frame in row.frames), row.mixed_trace
            texts = [str(frame) for frame in row.frames]
            assert [text for text in texts if SOURCE in text or "json/" in text] == row.python_trace.split(" < ")
            place = texts.index(innermost)
            assert place > 0 and texts[0] == str(row.frames[0]) and row.frames[0].kind == "native"
            if any(frame.kind == "native" and not frame.function for frame in row.frames):
                continue  # a binary without symbols: the order of Python frames has to do
            for words in further:
                place = next((n for n in range(place + 1, len(texts)) if words in texts[n]), None)
                assert place is not None, (words, texts)


def test_frames_are_named_by_every_verb(process):
    """status and doctor say that they are read; top calls rows by them; groups add up."""
    words = f"3.{process.minor}."
    lines = memleak("status", process.pid).splitlines()
    assert any(line.startswith(f"python     {words}") and line.endswith(": frames read") for line in lines)
    assert f"ok    pid {process.pid}: Python {words}" in memleak("doctor", process.pid)
    shown = memleak("top", process.pid, "-n", "3")
    assert f"add at {SOURCE}:{LINES['kept.append(bytearray(300_000))']}" in shown and f"python: {words}" in shown
    groups = json.loads(memleak("top", process.pid, "--json", "--no-symbols", "--group-by", "python_function"))["rows"]
    name = "add" if process.minor < 11 else "Store.add"
    assert [row["alloc_bytes"] >= 5 * 300_000 for row in groups if row["group"] == f"{name} ({SOURCE})"] == [True]
