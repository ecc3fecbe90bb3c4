"""How frames print, what is plumbing, and what an import costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from memleak.symbolize import Frame, Symbolizer, format_frame, format_frames, is_plumbing


def test_a_frame_with_a_line_prints_like_addr2line():
    frame = Frame("grow", "/src/table.c", 42, False, "/opt/app", 0x1234)
    assert format_frame(frame) == "grow at /src/table.c:42"
    assert format_frame(frame, inlined_by=True) == " (inlined by) grow at /src/table.c:42"


def test_a_frame_without_a_file_prints_module_and_offset():
    frame = Frame("grow", None, None, False, "/opt/lib/libtable.so.1", 0x1234)
    assert format_frame(frame) == "grow at libtable.so.1+0x1234"
    assert format_frame(frame._replace(function=None)) == "?? at libtable.so.1+0x1234"
    assert format_frame(frame._replace(function=None, module="")) == "?? at ??+0x1234"


def test_a_frame_with_a_file_but_no_line_prints_a_question_mark():
    assert format_frame(Frame("grow", "table.c", None, False, "/opt/app", 1)) == "grow at table.c:?"


def test_a_chain_says_where_code_was_inlined():
    inner = Frame("get", "a.h", 1, True, "/opt/app", 1)
    outer = Frame("main", "a.c", 2, False, "/opt/app", 1)
    assert format_frames([inner, outer]) == ["get at a.h:1", " (inlined by) main at a.c:2"]


def test_a_frame_cannot_be_changed():
    frame = Frame("grow", None, None, False, "/opt/app", 1)
    with pytest.raises(AttributeError):
        frame.function = "other"
    assert not hasattr(frame, "__dict__")


@pytest.mark.parametrize(
    "name",
    [
        "operator new(unsigned long)",
        "operator new[](unsigned long)",
        "operator new(unsigned long, std::align_val_t, std::nothrow_t const&)",
        "operator new",
        "_Znwm",
        "_Znam",
        "_ZnwmSt11align_val_tRKSt9nothrow_t",
    ],
)
def test_the_global_operators_new_are_plumbing(name):
    assert is_plumbing(name)


@pytest.mark.parametrize(
    "name",
    [
        None,
        "",
        "malloc",
        "Pool::operator new(unsigned long)",
        "operator newest(int)",
        "operator delete(void*)",
        "_ZN4PoolnwEm",
        "std::allocator<int>::allocate(unsigned long)",
    ],
)
def test_other_functions_are_not_plumbing(name):
    assert not is_plumbing(name)


def test_importing_loads_nothing_heavy():
    """The first lookup, not the import, loads pyelftools and whatever starts processes."""
    program = (
        "import sys, memleak.symbolize as s; s.Symbolizer();"
        "print([m for m in ('elftools', 'subprocess', 'json', 'lzma', 'selectors', 'dataclasses') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_an_unknown_engine_is_refused():
    with pytest.raises(ValueError, match="memleak, llvm-symbolizer, addr2line, none"):
        Symbolizer(engine="gdb")
