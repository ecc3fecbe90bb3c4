"""operator new and delete: counted once, named so, and backtraces begin at who asked."""

from __future__ import annotations

from pathlib import Path

import pytest
from tracing import Functions, ledger, outcome, run

JEMALLOC = Path("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2")


def assert_counted_once(tracer, binary: str, done, malloc_domain: str = "glibc_malloc") -> None:
    """Compare the one recording with the ledger; what came through operator new is named so."""
    found = tracer.only(binary)
    functions = Functions(binary)
    expected = ledger(done.stdout)
    assert found.samples_lost == {}
    plain = {name: entry for name, entry in expected.items() if name.endswith("_malloc")}
    assert functions.sums(found, "make_", domain=malloc_domain) == plain
    assert functions.sums(found, "make_", domain="operator_new") == {
        n: e for n, e in expected.items() if n not in plain
    }
    for row in found.rows:
        assert not any(name.startswith("operator new") for name in functions.stack(found, row)[:1])


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("shared", ()),
        ("lazy", ("-Wl,-z,lazy",)),
        ("now", ("-Wl,-z,now",)),
        ("no_pie", ("-no-pie",)),
        ("optimised", ("-O2", "-fno-plt")),
    ],
)
def test_every_form_equals_the_ledger(tracer, program, name, flags):
    """Plain, array, nothrow, aligned; exceptions and bad_alloc pass; on one thread."""
    binary = program("new.cc", *flags, name=f"new_{name}")
    done = tracer.same(binary)
    assert done.stdout.startswith("caught 200, bad_alloc 3 3, handler ran 3\n")
    assert_counted_once(tracer, binary, done)


def test_every_form_equals_the_ledger_on_threads(tracer, program):
    """The same, four more threads beside the main one."""
    binary = program("new.cc", name="new_threads")
    assert_counted_once(tracer, binary, tracer.same(binary, 4))


def test_static_library_whose_symbols_are_seen(tracer, program):
    """operator new linked into the program itself, in its dynamic symbol table."""
    binary = program("new.cc", "-static-libstdc++", "-static-libgcc", "-rdynamic", name="new_static_seen")
    assert_counted_once(tracer, binary, tracer.same(binary))


def test_static_library(tracer, program):
    """Without such symbols the core sees malloc's caller, operator new; still every block once."""
    binary = program("new.cc", "-static-libstdc++", "-static-libgcc", name="new_static")
    done = tracer.same(binary)
    found = tracer.only(binary)
    assert Functions(binary).sums(found, "make_", depth=4) == ledger(done.stdout)
    assert found.samples_lost == {}


def test_operator_new_that_does_not_call_malloc(tracer, program):
    """A pool of the program's own, exported so that libstdc++ uses it too."""
    binary = program("pool_new.cc", "-rdynamic", "-fno-builtin", name="pool_new")
    plain, done = run(binary), tracer.run(binary)
    assert outcome(done) == outcome(plain)
    found = tracer.only(binary)
    assert found.samples_lost == {}
    sums = Functions(binary).sums(found, "make_")
    assert sums["make_malloc"] == ledger(done.stdout)["make_malloc"]
    # Calls inside one object may be bound at link time and leave no slot to hook; none is counted twice.
    if "make_pooled" in sums:
        assert sums["make_pooled"] == ledger(done.stdout)["make_pooled"]


def test_pool_in_a_library_is_counted_through_the_slots(tracer, program):
    """Calls from one object to another's operator new go through a slot, whatever stands behind it."""
    library = program("pool_library.cc", "-shared", "-fPIC", name="libpool_library.so")
    binary = program("pool_user.cc", library, f"-Wl,-rpath,{Path(library).parent}", name="pool_user")
    done = tracer.same(binary)
    found = tracer.only(binary)
    assert Functions(binary).sums(found, "make_", domain="operator_new") == ledger(done.stdout)
    assert found.samples_lost == {}


@pytest.mark.skipif(not JEMALLOC.exists(), reason="libjemalloc2 is not installed")
@pytest.mark.parametrize("how", ["preloaded", "linked"])
def test_jemalloc_is_counted_once(tracer, program, how):
    """Its operator new does not call malloc: the slots see it; its own arenas are not counted."""
    flags = ["-Wl,--no-as-needed", str(JEMALLOC)] if how == "linked" else []
    binary = program("new.cc", *flags, name=f"new_jemalloc_{how}")
    preload = f"{tracer.core}:{JEMALLOC}" if how == "preloaded" else tracer.core
    plain = run(binary, 2, env={"LD_PRELOAD": str(JEMALLOC)})
    done = tracer.run(binary, 2, env={"LD_PRELOAD": preload})
    assert outcome(done) == outcome(plain)
    assert_counted_once(tracer, binary, done)
    assert [row for row in tracer.only(binary).rows if row.mod_name == "mmap"] == []
