"""Where Python frames go among the native ones."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memleak.mixing import Runs, mix, summary
from memleak.shown import NATIVE, PYTHON, UNPLACED, ShownFrame, file_name, joined, lines

LOOP = "_PyEval_EvalFrameDefault"


def native(function, *, module="/usr/bin/python3.11", file=None, line=None, inlined=False):
    return ShownFrame(NATIVE, function, file, line, module, 0x10, inlined, True)


def python(function, *, file="app.py", line=3):
    return ShownFrame(PYTHON, function, file, line, None, None, False, True)


def place(names):
    """A place of the native stack; `a<b` is a that was inlined into b."""
    parts = names.split("<")
    return tuple(
        native(None if name == "-" else name, inlined=number < len(parts) - 1) for number, name in enumerate(parts)
    )


def mixed(places, frames, *, whole=True):
    """Mix names: a Python frame with `!` is an entry, with `-` before it there is a run without frame further in.

    Python names come back in capitals, `?` when not placed.
    """
    words = frames.split()
    shown = mix(
        [place(names) for names in places.split()],
        [python(word.strip("-!")) for word in words],
        [Runs(word.endswith("!"), word.count("-")) for word in words],
        whole=whole,
    )
    return " ".join(
        (frame.function.upper() + ("" if frame.placed else "?")) if frame.kind == PYTHON else frame.function or "-"
        for frame in shown
    )


@pytest.mark.parametrize(
    ("places", "frames", "expected"),
    [
        # One frame a run, as in 3.9 and 3.10.
        (f"alloc {LOOP} sort {LOOP} main", "f! g!", "alloc F sort G main"),
        # Several a run, up to the entry.
        (f"alloc {LOOP} sort {LOOP} main", "f g! h i!", "alloc F G sort H I main"),
        # Clones that a compiler made are the loop too, and so is what was inlined into it.
        (f"{LOOP}.cold a {LOOP}.constprop.0 b list_new<{LOOP} c", "f! g! h!", "F a G b H c"),
        # Ways into the loop, and calls out of it, are left out next to a Python frame and nowhere else.
        (
            f"PyObject_Call a PyObject_Vectorcall {LOOP} _PyEval_EvalFrame<_PyEval_Vector PyEval_EvalCode b main",
            "f!",
            "PyObject_Call a F b main",
        ),
        (f"a {LOOP} _PyEval_EvalFrame<gen_send b", "f!", "a F gen_send b"),
        (f"{LOOP} _PyFunction_Vectorcall call_function<{LOOP} a", "f! g!", "F G a"),
        (f"{LOOP} function_code_fastcall _PyObject_Vectorcall PyEval_EvalCode {LOOP} a PyObject_Call", "f! g!",
         "F G a PyObject_Call"),
        # Nothing of Python, nothing native.
        (f"alloc {LOOP} main", "", f"alloc {LOOP} main"),
        ("", "f g!", "F G"),
        # A run that begins or ends has no frame.
        (f"alloc {LOOP} sort {LOOP} c {LOOP} main", "-f g! h!", "alloc sort F G c H main"),
        (f"a {LOOP} b {LOOP} {LOOP} c {LOOP} d", "f! --g!", "a F b c G d"),
        (f"a {LOOP} b", "-f!", f"a {LOOP} b F?"),
    ],
)  # fmt: skip
def test_mixing(places, frames, expected):
    """Runs take Python frames from the innermost on."""
    assert mixed(places, frames) == expected


@pytest.mark.parametrize(
    ("places", "frames", "whole", "expected"),
    [
        # A native stack that was cut: what lies further out is told, and that its place is not known.
        (f"a {LOOP} b", "f! g h!", False, "a F b G? H?"),
        ("a b", "f!", False, "a b F?"),
        # Of a cut stack runs without Python frames stay; without an entry at its outer end it is as long as it is.
        (f"a {LOOP} b {LOOP} c", "f!", False, f"a F b {LOOP} c"),
        (f"a {LOOP} b {LOOP} c", "f g", False, f"a F G b {LOOP} c"),
        # More runs than there must be: one of them is another interpreter's, and it is not known which.
        (f"a {LOOP} b {LOOP} c", "f!", True, f"a {LOOP} b {LOOP} c F?"),
        (f"a {LOOP} b {LOOP} c", "f g", True, f"a {LOOP} b {LOOP} c F? G?"),
        # No names, or not those of every run: a guess would be wrong.
        ("- -", "f! g!", True, "- - F? G?"),
        (f"a {LOOP} - b", "f! g!", True, f"a {LOOP} - b F? G?"),
    ],
)
def test_python_frames_without_a_place(places, frames, whole, expected):
    """They come last, marked."""
    assert mixed(places, frames, whole=whole) == expected


def test_lines_and_marks():
    """As addr2line prints native frames; Python frames with file and line; a line before those without a place."""
    frames = [
        native("inner", file="a.c", line=3, inlined=True),
        native("outer", file="a.c"),
        native(None, module="/lib/lib x.so"),
        python("f"),
        native("main"),
        python("g", line=None)._replace(placed=False),
        python(None, file=None)._replace(placed=False),
    ]
    assert lines(frames) == (
        "inner at a.c:3", " (inlined by) outer at a.c:?", "lib?x.so+0x10", "f at app.py:3", "main (python3.11)",
        UNPLACED, "g at app.py:?", "(Python code that was not recorded)",
    )  # fmt: skip
    assert joined(frames) == (
        f"inner (a.c:3) < outer (a.c) < lib?x.so+0x10 < f at app.py:3 < main < {UNPLACED} < g at app.py:?"
        " < (Python code that was not recorded)"
    )
    assert lines([frame._replace(placed=False) for frame in frames[3:4]]) == ("f at app.py:3",)
    assert file_name("") == file_name(None) == "??"


def test_an_inlined_function_that_python_replaced_is_not_the_callers():
    """The mark of inlining belongs to two native frames in sequence."""
    frames = mix([place(f"x<{LOOP}"), place("_PyEval_EvalFrame<gen_send")], [python("f")], [Runs(True)], whole=True)
    assert lines(frames) == ("f at app.py:3", "gen_send (python3.11)")


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([native("deflateInit2_", module="/lib/libz.so.1"), native("compress"), python("f")],
         "f at app.py:3 ← deflateInit2_ (libz.so.1)"),
        ([native("_PyObject_Malloc"), native("gc_alloc"), native("PyList_New"), python("f"), python("g")],
         "f at app.py:3 ← PyList_New"),
        ([native(None), native("PyList_New"), python("f")], "f at app.py:3 ← PyList_New"),
        ([native(None, module="/x/_json.so"), python("f")], "f at app.py:3 ← _json.so+0x10"),
        ([native("PyMem_RawMalloc"), python("f")], "f at app.py:3"),
        ([python("f"), native("main")], "f at app.py:3"),
        ([native("main")], None),
        ([], None),
    ],
)  # fmt: skip
def test_summary(frames, expected):
    """The innermost Python frame, and what it called that is not merely an allocator."""
    assert summary(frames) == expected


@given(
    st.lists(st.lists(st.sampled_from([LOOP, "a", "_PyEval_Vector", None]), min_size=1, max_size=3), max_size=12),
    st.lists(st.builds(Runs, st.booleans(), st.integers(0, 2)), max_size=12),
    st.booleans(),
)
def test_no_python_frame_is_lost(names, runs, whole):
    """Whatever the stacks: each Python frame comes once, in order, those without a place last."""
    frames = [python(f"f{number}") for number in range(len(runs))]
    found = mix([tuple(map(native, one)) for one in names], frames, runs, whole=whole)
    assert [frame.function for frame in found if frame.kind == PYTHON] == [frame.function for frame in frames]
    placed = [frame.placed for frame in found]
    assert placed == sorted(placed, reverse=True)
