"""Names become readable, hostile ones stay as they are, and no demangler is no error."""

from __future__ import annotations

import shutil
import sys
import time

import pytest

from memleak.symbolize import demangle as demangle_module
from memleak.symbolize.demangle import Demangler, rust_legacy

# Expected values: `c++filt -i -r`, binutils 2.40, and GNU addr2line -C.
READABLE = {
    "_Znwm": "operator new(unsigned long)",
    "_ZN3foo3barEv": "foo::bar()",
    "_Z1fSs": "f(std::string)",
    "_ZNSt6vectorIiSaIiEE9push_backERKi": "std::vector<int, std::allocator<int> >::push_back(int const&)",
    "_ZN3foo3barEv.isra.0": "foo::bar() [clone .isra.0]",
}

DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@pytest.fixture(params=["c++filt", "worker"])
def demangler(request, monkeypatch):
    if request.param == "c++filt" and shutil.which("c++filt") is None:
        pytest.skip("c++filt is not installed")
    commands = [c for c in demangle_module._commands() if (c[0] == sys.executable) == (request.param == "worker")]
    monkeypatch.setattr(demangle_module, "_commands", lambda: list(commands))
    demangler = Demangler()
    yield demangler
    demangler.close()


def test_both_demanglers_spell_alike(demangler):
    assert demangler.names(READABLE) == READABLE


def test_what_is_not_mangled_or_broken_stays(demangler):
    names = ["main", "", "_Z", "_ZN", "_Z3fo", "_R", "_Znew\nline", "_Zé", "_ZN3foo3barEv\0", "a b _Znwm"]
    assert demangler.names(names) == {name: name for name in names}


def bomb(doublings: int) -> str:
    """Return a valid name whose readable form doubles with each of its last types."""
    numbers = ["_", *(f"{d}_" for d in DIGITS), *(f"1{d}_" for d in DIGITS)]
    types = ["0_", *numbers[4 : 4 + 2 * doublings : 2]]
    return "_Z1fP1XIiiE" + "".join(f"1YIS{n}S{n}E" for n in types)


def test_names_made_to_fill_the_memory_stay_and_the_rest_is_demangled(demangler):
    """12 doublings give 280 KB, 20 give 71 MB, 30 give 70 GB: each is stopped by another limit."""
    bombs = [bomb(12), bomb(20), bomb(30)]
    began = time.monotonic()
    names = demangler.names(["_ZN3foo3barEv", *bombs, "_Z3zzzv", "_Znwm"])
    assert time.monotonic() - began < 4 * demangle_module.TIMEOUT_S
    assert [names[name] for name in bombs] == bombs
    assert names["_ZN3foo3barEv"] == "foo::bar()"
    assert names["_Z3zzzv"] == "zzz()"
    assert names["_Znwm"] == "operator new(unsigned long)"


def test_names_are_demangled_once(demangler):
    demangler.names(["_Znwm"])
    demangler.close()
    demangler._commands = []
    assert demangler.names(["_Znwm"]) == {"_Znwm": "operator new(unsigned long)"}


def test_without_any_demangler_cxx_names_stay(monkeypatch):
    monkeypatch.setattr(demangle_module, "_commands", list)
    assert Demangler().names(["_Znwm"]) == {"_Znwm": "_Znwm"}


def test_a_demangler_that_cannot_work_gives_way_to_the_next(monkeypatch, tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    worker = [sys.executable, "-I", "-S", demangle_module._WORKER]
    monkeypatch.setattr(demangle_module, "_commands", lambda: [["/nonexistent"], [str(broken)], worker])
    demangler = Demangler()
    assert demangler.names(["_Znwm"]) == {"_Znwm": "operator new(unsigned long)"}
    demangler.close()


def test_names_that_kill_the_demangler_stay_and_it_is_given_up_in_the_end(monkeypatch, tmp_path):
    fragile = tmp_path / "fragile"
    fragile.write_text(
        '#!/bin/sh\nwhile read -r name; do case $name in *die*) kill -9 $$;; esac; echo "ok-$name"; done\n'
    )
    fragile.chmod(0o755)
    monkeypatch.setattr(demangle_module, "_commands", lambda: [[str(fragile)]])
    demangler = Demangler()
    assert demangler.names(["_Za", "_Zdie", "_Ze"]) == {"_Za": "ok-_Za", "_Zdie": "_Zdie", "_Ze": "ok-_Ze"}
    hostile = [f"_Zdie{number:02}" for number in range(30)]
    names = demangler.names(["_ZA", *hostile, "_Zz"])
    assert all(names[name] == name for name in hostile)
    assert names["_ZA"] == "ok-_ZA"
    assert names["_Zz"] == "_Zz"  # given up before
    demangler.close()


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE", "core::fmt::Write::write_fmt"),
        (
            "_ZN60_$LT$alloc..string..String$u20$as$u20$core..fmt..Display$GT$3fmt17h0123456789abcdefE",
            "<alloc::string::String as core::fmt::Display>::fmt",
        ),
        ("_ZN3foo28_$u7b$$u7b$closure$u7d$$u7d$17h0123456789abcdefE", "foo::{{closure}}"),
        ("_ZN3foo3bar17h0123456789abcdefE.llvm.1234", "foo::bar"),
        ("_ZN3foo3barEv", None),
        ("_ZN3foo17h0123456789abcdeE", None),
        ("_ZN9foo17h0123456789abcdefE", None),
        ("_ZN0017h0123456789abcdefE", None),
        ("_ZN3foo$u1b$17h0123456789abcdefE", None),
    ],
)
def test_rust_names_of_the_first_scheme_lose_their_hash(name, readable):
    assert rust_legacy(name) == readable


def test_rust_names_need_no_demangler(monkeypatch):
    monkeypatch.setattr(demangle_module, "_commands", list)
    name = "_ZN4core3fmt5Write9write_fmt17h0123456789abcdefE"
    assert Demangler().names([name]) == {name: "core::fmt::Write::write_fmt"}


def test_rust_names_of_the_second_scheme_are_demangled_by_cxxfilt():
    if shutil.which("c++filt") is None:
        pytest.skip("c++filt is not installed")
    demangler = Demangler()
    name = "_RNvCskwGfYPst2Cb_3foo16example_function"
    assert demangler.names([name]) == {name: "foo::example_function"}
    demangler.close()


@pytest.mark.parametrize(
    "name",
    [
        "_ZN" + "1a" * 4000,
        "_ZN" + "11111111" * 1000 + "E",
        "_ZN" + "17h" * 3000,
        "_ZN" + "1a17h0123456789abcdefE" * 500,
    ],
)
def test_names_made_to_split_in_many_ways_are_decided_at_once(name):
    began = time.process_time()
    assert rust_legacy(name) in (None, "a")
    assert time.process_time() - began < 0.5
