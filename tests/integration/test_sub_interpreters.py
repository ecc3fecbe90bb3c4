"""Sub-interpreters: what is asked for in them has native frames only, none of the main interpreter's."""

from __future__ import annotations

import os
import subprocess

import compatenv
import pytest

from memleak import recording

# Each kept block's size tells where it was asked for. While the other interpreter runs, the main one has frames.
PROGRAM = """
import os, sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
IN_SUB = '''
def in_sub():
    return [bytearray(77_777) for _ in range(40)], [(i, i) for i in range(3000)]
kept = in_sub()
'''
def in_main(size):
    return [bytearray(size) for _ in range(40)]
kept = [in_main(55_555)]
def run():
    sub = interpreters.create()
    kept.append(in_main(66_666))
    interpreters.run_string(sub, IN_SUB)
    kept.append(in_main(88_888))
    return sub
sub = run()
print("ready", flush=True)
sys.stdin.read()
os._exit(0)
"""


@pytest.mark.parametrize("version", compatenv.VERSIONS)
def test_main_interpreter_keeps_its_lines_to_itself(tracer, version):
    """Blocks of the one have no Python frames, those of the other have theirs."""
    python = compatenv.interpreter(version)
    if python is None:
        pytest.skip(f"no CPython {version} on this machine")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with tracer.start(python, "-c", PROGRAM, **pipes) as started:
        assert started.stdout.readline() == "ready\n", started.wait()
        (path,) = tracer.paths()
        found = recording.load(path)
        started.stdin.close()
    counts = dict.fromkeys((55_555, 66_666, 77_777, 88_888), 0)
    line = next(n for n, text in enumerate(PROGRAM.split("\n"), 1) if "run_string(sub" in text)
    nameless = calling = 0
    for row in found.rows:
        modules = {os.path.basename(found.module(frame.module_id).path) for frame in row.stack}
        if any(name.startswith(("_xxsubinterpreters.", "_interpreters.")) for name in modules):
            nameless += row.live.samples if not row.python_stack else 0
            calling += row.live.samples if [frame.line for frame in row.python_stack[:1]] == [line] else 0
        size = row.live.bytes // row.live.samples - 1 if row.live.samples else 0  # a bytearray keeps one byte more
        if size in counts:
            counts[size] += row.live.samples
            expected = [] if size == 77_777 else ["in_main"]
            assert [frame.name for frame in row.python_stack if "<listcomp>" not in frame.name][:1] == expected
    assert counts == dict.fromkeys(counts, 40)
    assert nameless > 3000 and calling < 100  # the call itself is the main interpreter's
    assert found.header.python.endswith(": frames read, sub-interpreters: native frames only")
