"""Put the Python frames of a stack where they belong among its native ones.

A native stack of a Python program goes through the interpreter's loop once for each run of it. One run
executes one Python frame (CPython 3.9, 3.10) or several that call each other without C in between
(3.11 and later): then all up to and including the one for which the interpreter was entered. So the
runs, innermost first, take their Python frames from the innermost on.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple, Optional

from .shown import NATIVE, PYTHON, ShownFrame, file_name

_LOOP = "_PyEval_EvalFrameDefault"
# Calls of anything, and how the interpreter gets from one into its loop: of no interest next to a Python frame.
_CALLS = {
    "PyEval_EvalCode",
    "PyEval_EvalCodeEx",
    "PyEval_EvalFrame",
    "PyEval_EvalFrameEx",
    "PyObject_Call",
    "PyObject_Vectorcall",
    "PyVectorcall_Call",
    "_PyEval_EvalCode",
    "_PyEval_EvalCodeWithName",
    "_PyEval_EvalFrame",
    "_PyEval_Vector",
    "_PyFunction_FastCallDict",
    "_PyFunction_Vectorcall",
    "_PyObject_Call",
    "_PyObject_FastCallDictTstate",
    "_PyObject_Vectorcall",
    "_PyObject_VectorcallTstate",
    "_PyVectorcall_Call",
    "call_function",
    "do_call_core",
    "function_code_fastcall",
    "method_vectorcall",
}
# Allocators in front of malloc: not what a reader wants to know of a stack in one line. Names begin like this, or are.
_ALLOCATOR_PREFIXES = (
    "PyMem_",
    "PyObject_Calloc",
    "PyObject_GC_",
    "PyObject_Malloc",
    "PyObject_New",
    "PyObject_Realloc",
    "_PyMem_",
    "_PyObject_Arena",
    "_PyObject_Calloc",
    "_PyObject_GC_",
    "_PyObject_Malloc",
    "_PyObject_New",
    "_PyObject_Realloc",
    "arena_map_",
    "pymalloc_",
)
_ALLOCATORS = {
    "PyType_GenericAlloc",
    "_PyType_AllocNoTrack",
    "allocate_from_new_pool",
    "calloc",
    "gc_alloc",
    "malloc",
    "new_arena",
    "realloc",
}
_INTERPRETER_FILES = ("python", "libpython")

# The frames of one address: an inlined function, what it was inlined into, … ; the last one is the function itself.
Place = tuple[ShownFrame, ...]


class Runs(NamedTuple):
    """How a Python frame lies among runs of the interpreter."""

    entry: bool  # its run was begun for it; the next frame is another one's
    empty: int = 0  # runs between it and the frame before that have none: they begin or end just now


def mix(
    places: Sequence[Place], python: Sequence[ShownFrame], runs: Sequence[Runs], *, whole: bool
) -> list[ShownFrame]:
    """Return one stack of both kinds, innermost first.

    Python frames for which there is no run of the interpreter come last, not `placed`. Native frames of runs
    for which there is no Python frame stay.

    Args:
        places: the native stack.
        python: the Python stack.
        runs: of each Python frame.
        whole: neither stack was cut. If there are other runs among the native frames then than there must be, some
            were not recognised, or are another interpreter's, and no Python frame is placed.
    """
    if not python or not places:
        return [frame for place in places for frame in place] + list(python)
    loops = [_is_loop(place) for place in places]
    begun = sum(run.entry + run.empty for run in runs)
    if not any(loops) or (whole and sum(loops) != begun):
        return [frame for place in places for frame in place] + [_unplaced(frame) for frame in python]
    mixed: list[ShownFrame] = []
    between: list[ShownFrame] = []  # native frames since the last run
    taken, empty = 0, runs[0].empty
    for place, is_loop in zip(places, loops):
        if taken == len(python) or not is_loop:
            # Part of the way into the loop may be inlined into what called it.
            for frame in place:
                if between or not mixed or _name(frame) not in _CALLS:
                    between.append(frame)
            continue
        while between and _name(between[-1]) in _CALLS:
            between.pop()
        mixed += between
        between = []
        if empty:
            empty -= 1
            continue
        while taken < len(python):
            mixed.append(python[taken])
            taken += 1
            if taken < len(python):
                empty = runs[taken].empty
            if runs[taken - 1].entry:
                break
    return mixed + between + [_unplaced(frame) for frame in python[taken:]]


def summary(frames: Iterable[ShownFrame]) -> Optional[str]:
    """Return the innermost Python frame and what it called that allocates, in one line; None without Python frames."""
    native: list[ShownFrame] = []
    for frame in frames:
        if frame.kind == PYTHON:
            leaf = next((each for each in native if _tells(each)), None)
            return f"{frame} ← {_callee(leaf)}" if leaf else str(frame)
        native.append(frame)
    return None


def _tells(frame: ShownFrame) -> bool:
    """Whether a native frame says something about who allocates: neither an allocator nor a nameless part of Python."""
    if frame.function:
        return frame.function not in _ALLOCATORS and not frame.function.startswith(_ALLOCATOR_PREFIXES)
    return not _is_interpreter(frame)


def _callee(frame: ShownFrame) -> str:
    if frame.function and not _is_interpreter(frame):
        return f"{frame.function} ({file_name(frame.module)})"
    return frame.function or str(frame)


def _is_interpreter(frame: ShownFrame) -> bool:
    return file_name(frame.module).startswith(_INTERPRETER_FILES)


@lru_cache(maxsize=1 << 16)
def _is_loop(place: Place) -> bool:
    return any(_name(frame) == _LOOP for frame in place)


def _name(frame: ShownFrame) -> str:
    """Return the function without what a compiler adds to its clones: `.cold`, `.constprop.0`."""
    return (frame.function or "").partition(".")[0] if frame.kind == NATIVE else ""


@lru_cache(maxsize=1 << 16)  # the same few frames in thousands of stacks
def _unplaced(frame: ShownFrame) -> ShownFrame:
    return frame._replace(placed=False)
