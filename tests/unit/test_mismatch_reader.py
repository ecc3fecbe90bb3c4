"""Which suspects are reported: names decide, and what is not certain is said to be so."""

from types import SimpleNamespace

import pytest
from recordingwriter import RecordingWriter

from memleak import recording
from memleak.mismatches import KINDS
from memleak.query import Snapshot

MALLOC_DELETE, NEW_FREE, NEW_SIZE = 6, 7, 8


class Names:
    """Names places by address; None: nothing is known there."""

    def __init__(self, names):
        self.names = names

    def frames(self, path, build_id, vaddr, exact):
        name = self.names.get(vaddr)
        return [SimpleNamespace(function=name, file=None, line=None, inlined=False, brief=name or "?")] if name else []


def one_of(kind, *, lost=0, target=0, **more):
    """A block allocated at 0x10 under 0x11, freed at 0x20 under 0x21."""
    writer = RecordingWriter()
    app = writer.module("/nowhere/app", build_id=b"\x01" * 20, main=True)
    thread = writer.thread(77)
    domain = 2 if kind in (NEW_FREE, NEW_SIZE) else 1 if kind in (3, MALLOC_DELETE) else 128 + writer.pool(b"one")
    freed_pool = writer.pool(b"two") if kind in (2, 3) else 1 if kind in (4, 5) else 0
    row = writer.row([(app, 0x10), (app, 0x11)], domain=domain, lost=lost, samples=1)
    stub = app << 48 | 1 << 47 | target if target else 0
    given = {
        "thread": thread,
        "size": 24,
        "freed": 32,
        "count": 3,
        "weight": 136.0,
        "target": stub,
        "freed_pool": freed_pool,
        **more,
    }
    writer.mismatch(kind, row, [(app, 0x20), (app, 0x21)], **given)
    return recording.parse(writer.bytes(), "r")


NAMES = {0x10: "make()", 0x11: "main", 0x20: "drop()", 0x21: "main"}


def found(kind, names=NAMES, **more):
    shown = Snapshot(one_of(kind, **more), symbolizer=Names(names) if names is not None else None)
    return shown.mismatches(), shown.mismatches(undecided=True)


@pytest.mark.parametrize("kind", range(1, len(KINDS)))
def test_each_kind(kind):
    (one,), every = found(kind)
    assert every == [one] and one.undecided == "" and one.kind == KINDS[kind]
    assert one.est_count_low < 300 and 700 < one.est_count_high  # three samples
    assert (one.samples, round(one.est_count), one.tid, one.size_bytes) == (3, 408, 77, 24)
    assert one.freed_trace[0].startswith("drop() (app)") and one.allocated.trace[0].startswith("make() (app)")
    assert one.freed_back_trace.startswith("0x20 0x21 ")
    assert one.freed_to == ("two" if kind in (2, 3) else "one" if kind in (4, 5) else "")
    assert one.freed_bytes == (32 if kind in (4, NEW_SIZE) else None)
    assert ("24 bytes" in one.what and "32 bytes" in one.what) == (kind in (4, NEW_SIZE))
    assert "{" not in one.what and one.freed_to in one.what


@pytest.mark.parametrize(
    ("kind", "place", "name"),
    [
        (NEW_FREE, 0x20, "operator delete(void*)"), (NEW_FREE, 0x20, "operator delete[](void*, unsigned long)"),
        (NEW_FREE, 0x20, "_ZdlPvm"), (MALLOC_DELETE, 0x10, "operator new(unsigned long)"), (MALLOC_DELETE, 0x10, "_Znam"),
    ],
)  # fmt: skip
def test_operators_inside_a_program_are_no_mismatch(kind, place, name):
    assert found(kind, {**NAMES, place: name}) == ([], [])


@pytest.mark.parametrize(("kind", "place"), [(NEW_FREE, 0x20), (MALLOC_DELETE, 0x10)])
def test_without_a_name_it_is_undecided(kind, place):
    for names in ({**NAMES, place: None}, None):
        certain, (one,) = found(kind, names)
        assert certain == [] and one.undecided.startswith(f"no name for /nowhere/app+{place:#x}")


def test_a_members_operator_is_no_operator():
    """Of a class: the program's own code."""
    assert found(NEW_FREE, {**NAMES, 0x20: "Pool::operator delete(void*)"})[0]


@pytest.mark.parametrize("kind", [MALLOC_DELETE, NEW_FREE, NEW_SIZE])
def test_where_frees_went_past_it_is_undecided(kind):
    certain, (one,) = found(kind, lost=2)
    assert certain == [] and one.undecided.startswith("2 frees have gone past the hooks")


def test_frees_past_the_hooks_do_not_matter_to_pools():
    assert found(4, lost=2)[0]


def test_a_stub_that_cannot_be_looked_at_is_undecided():
    certain, (one,) = found(NEW_FREE, target=0x1030)
    assert certain == [] and "/nowhere/app cannot be read" in one.undecided


@pytest.mark.parametrize("damage", [{"state": 1}, {"state": 0}])
def test_half_written_ones_are_passed_over(damage):
    assert one_of(4, **damage).mismatches == ()


def test_unknown_kinds_and_rows():
    """A later core's kind is not shown; a row that is not here is counted as missing."""
    writer = RecordingWriter()
    app = writer.module("/opt/app", main=True)
    row = writer.row([(app, 1)], samples=1)
    writer.mismatch(99, row, [(app, 2)])
    writer.mismatch(4, 12345678, [(app, 2)])
    held = recording.parse(writer.bytes(), "r")
    assert Snapshot(held).mismatches(undecided=True) == []
    assert held.incomplete == ("1 mismatches whose row is not in this copy",)


def test_sql_and_footer():
    shown = Snapshot(one_of(MALLOC_DELETE, lost=1))
    ((kind, undecided, count, freed),) = shown.sql("SELECT kind, undecided, samples, freed_bytes FROM mismatches").rows
    assert (kind, undecided[:7], count, freed) == ("malloc_delete", "1 frees", 3, None)
    assert shown.footer()["mismatches"] == {"number": 0, "undecided": 1}
