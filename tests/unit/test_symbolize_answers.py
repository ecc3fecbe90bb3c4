"""Answers come back as they were given, and no damage to a table makes others of them but the one asked for."""

from __future__ import annotations

import contextlib
from array import array

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from memleak.symbolize import answers as answers_module
from memleak.symbolize.answers import MAX_CHAIN, AnswerFrame, AnswerTable, TableError, build, from_bytes, merge

ADDRESSES = st.integers(0, 2**64 - 1)
NAMES = st.one_of(st.none(), st.text(max_size=12), st.sampled_from(["", "main", "a\0b", "\udcff.c", "Ωmega"]))
FRAMES = st.builds(
    AnswerFrame,
    NAMES,
    NAMES,
    st.one_of(st.none(), st.integers(1, 2**32 - 1)),
    st.booleans(),
    st.integers(0, 2**31 - 1),
)
ANSWERS = st.dictionaries(ADDRESSES, st.lists(FRAMES, max_size=4).map(tuple), max_size=12)

FEW = {
    0x10: (AnswerFrame("inner", "a.h", 3, True, 2), AnswerFrame("outer", "a.c", 30, False, 0)),
    0x18: (AnswerFrame("outer", "a.c", 31, False, 0),),
    0x30: (AnswerFrame(None, None, None, False, 0),),
    0x44: (),
}


@settings(max_examples=100, deadline=None)
@given(ANSWERS, st.lists(ADDRESSES, max_size=4))
def test_answers_come_back_as_given(answers, others):
    table = from_bytes(build(answers).pack())
    assert len(table) == len(answers)
    for address, answer in answers.items():
        assert table.find(address) == answer
    for address in others:
        assert table.find(address) == answers.get(address)


@settings(max_examples=100, deadline=None)
@given(ANSWERS, ANSWERS)
def test_a_merged_table_has_the_answers_of_both_and_the_newer_count(old, new):
    merged = merge(from_bytes(build(old).pack()).parts(), build(new))
    table = from_bytes(merged.pack())
    assert list(table.addresses) == sorted({*old, *new})
    for address, answer in {**old, **new}.items():
        assert table.find(address) == answer


def test_merging_twice_still_has_all():
    table = build({})
    for address in (5, 1, 9, 5, 3):
        table = merge(table, build({address: (AnswerFrame(f"f{address}", None, address, False, 0),)}))
    found = from_bytes(table.pack())
    assert [found.find(address)[0].function for address in (1, 3, 5, 9)] == ["f1", "f3", "f5", "f9"]
    assert found.find(2) is None


def test_names_frames_and_chains_are_shared():
    answer = (AnswerFrame("f" * 1000, "/a/long/path.c", 7, False, 0),)
    once = build({1: answer}).pack()
    often = build(dict.fromkeys(range(1000), answer)).pack()
    assert len(often) - len(once) == 999 * 12


@pytest.mark.parametrize(
    "frame",
    [
        AnswerFrame("f", "a.c", 2**32, False, 0),
        AnswerFrame("f", "a.c", 1, False, 2**31),
        AnswerFrame("f", "a.c", -1, False, 0),
        AnswerFrame("f" * 2**20, "a.c", 1, False, 0),
    ],
)
def test_what_has_no_place_in_a_table_is_left_out(frame):
    table = from_bytes(build({1: (frame,), 2: FEW[0x18]}).pack())
    assert table.find(1) is None
    assert table.find(2) == FEW[0x18]
    assert from_bytes(build({1: FEW[0x18] * (MAX_CHAIN + 1), -1: FEW[0x18], 2**64: FEW[0x18]}).pack()).find(1) is None


def test_another_version_is_refused(monkeypatch):
    monkeypatch.setattr(answers_module, "VERSION", 2)
    later = build(FEW).pack()
    monkeypatch.undo()
    with pytest.raises(TableError, match="version 2"):
        from_bytes(later)


@pytest.mark.parametrize("content", [b"", b"MLANSWER", b"x" * 100, bytes(100)])
def test_what_is_no_table_is_refused(content):
    with pytest.raises(TableError, match="not a table"):
        from_bytes(content)


def test_no_change_of_a_byte_does_more_than_spoil_an_answer():
    """The checksum stands elsewhere: here nothing may be raised but TableError, and nothing take long."""
    sound = build(FEW).pack()
    for at in range(len(sound)):
        for flip in (1, 0x80, 0xFF):
            damaged = bytearray(sound)
            damaged[at] ^= flip
            ask(bytes(damaged))
    for end in range(len(sound)):
        with pytest.raises(TableError):
            from_bytes(sound[:end])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_mutation_does_either(data):
    table = bytearray(build(FEW).pack())
    for _ in range(data.draw(st.integers(1, 5))):
        at = data.draw(st.integers(0, len(table) - 1))
        value = data.draw(st.one_of(st.sampled_from([b"\xff" * 4, bytes(4), b"\xff" * 8]), st.binary(max_size=8)))
        table[at : at + len(value)] = value
    ask(bytes(table))


def ask(content: bytes) -> None:
    for address in (*FEW, 0x11, 2**64 - 1):
        try:
            answer = from_bytes(content).find(address)
        except TableError:
            continue
        assert answer is None or all(isinstance(frame, AnswerFrame) for frame in answer)
    with contextlib.suppress(TableError):
        merge(from_bytes(content).parts(), build(FEW)).pack()


def test_chains_and_names_that_overlap_are_refused_before_they_fill_the_memory():
    """A table of 100 KB could else make 10,000 answers of 1024 frames each, or as many long names."""
    frame = AnswerFrame("f", None, 1, False, 0)
    many = build({address: (frame,) * (address % 3 + 1) for address in range(2000)})
    links = array("I", [0] * 1000)
    chains = array("I", [0 if number % 2 else 1000 for number in range(2000)])
    lying = many._replace(chain_of=array("I", range(2000)), chain_ends=chains, links=links)
    table = from_bytes(lying.pack())
    found = refused = 0
    for address in range(2000):
        try:
            found += len(table.find(address))
        except TableError:
            refused += 1
    assert found <= 1000 and refused > 1900

    names = build({address: (AnswerFrame(f"{address}" * 3, None, 1, False, 0),) for address in range(500)})
    ends = array("I", [0 if number % 2 else len(names.text) for number in range(len(names.string_ends))])
    table = from_bytes(names._replace(string_ends=ends).pack())
    characters = 0
    for address in range(500):
        with contextlib.suppress(TableError):
            characters += len(table.find(address)[0].function)
    assert characters <= len(names.text)


def test_only_what_is_asked_for_is_read():
    numbers = range(5000)
    content = build({number: (AnswerFrame(f"function {number}", "a.c", 1, False, 0),) for number in numbers}).pack()
    read = 0

    def count(offset: int, size: int) -> bytes:
        nonlocal read
        read += size
        return content[offset : offset + size]

    table = AnswerTable(count, len(content))
    opened = read
    assert opened < 5000 * 8 + 100
    assert table.find(4000)[0].function == "function 4000"
    assert read - opened < 200


def test_many_answers_are_merged_with_one():
    """A loop in a loop would take minutes for these."""
    answers = {
        address: (AnswerFrame(f"f{address // 7}", f"{address % 50}.c", address % 999 + 1, False, 0),)
        for address in range(0, 600_000, 3)
    }
    merged = from_bytes(merge(build(answers), build({1: FEW[0x18]})).pack())
    assert merged.find(1) == FEW[0x18]
    assert merged.find(599_997) == answers[599_997]

