"""The symbol before an address and its file, as BFD has it: each rule here was asked of GNU addr2line, too."""

from __future__ import annotations

import pytest
from elfwriter import ElfSymbol, write_elf
from gnuaddr2line import gnu, words

from memleak.symbolize.elf import elf_from_bytes
from memleak.symbolize.nearest import NearestSymbols, StickySymbols, section_number


def file(name: str) -> ElfSymbol:
    return ElfSymbol(name, 0, 0, kind="file", bind="local", section="abs")


def local(name: str, value: int, size: int = 0x10, **more) -> ElfSymbol:
    return ElfSymbol(name, value, size, bind="local", **more)


CASES = {
    "sizes do not end a symbol": [ElfSymbol("first", 0x1000, 4), ElfSymbol("second", 0x1020, 4)],
    "sizes of 0": [ElfSymbol("first", 0x1000, 0), local("label", 0x1010, 0, kind="notype")],
    "a symbol within another": [ElfSymbol("outer", 0x1000, 0x100), ElfSymbol("inner", 0x1010, 0x10)],
    "the largest of one address": [ElfSymbol("small", 0x1010, 2), ElfSymbol("large", 0x1010, 8)],
    "the first of equals": [ElfSymbol("zeta", 0x1010, 8), ElfSymbol("alpha", 0x1010, 8)],
    "data is no function": [ElfSymbol("code", 0x1000), ElfSymbol("data", 0x1010, kind="object")],
    "another section's": [ElfSymbol("code", 0x1000), ElfSymbol("elsewhere", 0x1010, section=".data")],
    "absolute and undefined": [
        ElfSymbol("code", 0x1000), ElfSymbol("absolute", 0x1010, section="abs"),
        ElfSymbol("missing", 0x1010, section="undef"),
    ],
    "an indirect function": [ElfSymbol("code", 0x1000), ElfSymbol("chosen", 0x1010, kind="ifunc")],
    "the file before a local symbol": [
        file("a.c"), local("in_a", 0x1000), file("b.c"), local("in_b", 0x1020), file(""), local("in_none", 0x1040),
    ],
    "a global symbol, one file": [file("a.c"), local("in_a", 0x1000), ElfSymbol("everywhere", 0x1020)],
    "a global symbol, two files first": [
        file("a.c"), file("b.c"), local("in_b", 0x1000), ElfSymbol("everywhere", 0x1020),
    ],
    "a global symbol, two files": [file("a.c"), local("in_a", 0x1000), file("b.c"), ElfSymbol("everywhere", 0x1020)],
    "a symbol before all files": [local("early", 0x1000), file("a.c"), ElfSymbol("everywhere", 0x1020)],
    "below the section": [ElfSymbol("below", 0x0800)],
    "a version": [ElfSymbol("free@@GLIBC_2.2.5", 0x1000)],
}  # fmt: skip
ASKED = [0x1000, 0x1001, 0x100F, 0x1010, 0x1012, 0x101F, 0x1020, 0x1030, 0x1040, 0x11FF, 0x13FF]


def answers(symbols: NearestSymbols, section: int) -> bytes:
    """Say it as addr2line does."""
    text = ""
    for address in ASKED:
        found = symbols.nearest(section, address)
        if found is None:
            text += "??\n??:0\n"
        else:
            text += f"{found.name}\n{'??' if found.file is None else found.file}:?\n"
    return text.encode()


@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_addr2lines(case, little_endian, bits, tmp_path):
    written = write_elf(symbols=CASES[case], bits=bits, little_endian=little_endian)
    image = elf_from_bytes(written)
    ours = answers(NearestSymbols(image), section_number(image.sections, ".text"))
    assert b"\n" in ours.strip()
    if little_endian:  # Debian's binutils know no other machine
        path = tmp_path / "binary"
        path.write_bytes(written)
        # One by one: what it answers depends on what it was asked before.
        assert ours == b"".join(gnu("-fe", str(path), word) for word in words(ASKED))
    else:
        again = elf_from_bytes(write_elf(symbols=CASES[case]))
        assert ours == answers(NearestSymbols(again), section_number(again.sections, ".text"))


def test_the_order_of_questions_matters_to_addr2line(tmp_path):
    written = write_elf(symbols=CASES["a symbol within another"])
    path = tmp_path / "binary"
    path.write_bytes(written)
    image = elf_from_bytes(written)
    plain, sticky = answers(NearestSymbols(image), 1), answers(StickySymbols(image), 1)
    assert sticky == gnu("-fe", str(path), *words(ASKED))
    assert plain != sticky


def test_the_file_is_that_of_the_compiler_and_may_be_empty():
    image = elf_from_bytes(write_elf(symbols=CASES["the file before a local symbol"]))
    symbols = NearestSymbols(image)
    files = [symbols.nearest(1, address).file for address in (0x1000, 0x1020, 0x1040)]
    assert files == ["a.c", "b.c", ""]


def test_the_dynamic_table_counts_where_the_full_one_is_missing_or_empty():
    exported = [ElfSymbol("exported", 0x1000)]
    stripped = elf_from_bytes(write_elf(dynamic_symbols=exported))
    assert NearestSymbols(stripped).nearest(1, 0x1080).name == "exported"
    whole = elf_from_bytes(write_elf(symbols=[ElfSymbol("mine", 0x1000)], dynamic_symbols=exported))
    assert NearestSymbols(whole).nearest(1, 0x1080).name == "mine"
    assert NearestSymbols(elf_from_bytes(write_elf())).nearest(1, 0x1080) is None


def test_a_symbol_is_found_by_its_name_the_first_of_several():
    symbols = [local("twice", 0x1010), ElfSymbol("twice", 0x1000), ElfSymbol("not_twice", 0x1020), file("a.c")]
    table = NearestSymbols(elf_from_bytes(write_elf(symbols=symbols)))
    assert [table.value_of(name) for name in ("twice", "not_twice", "wice", "nothing")] == [0x1010, 0x1020, None, None]
    assert list(table.values()) == [("twice", 0x1010), ("a.c", 0), ("twice", 0x1000), ("not_twice", 0x1020)]


def test_a_table_of_only_data_costs_no_long_search(monkeypatch):
    """A hostile table may have any number of symbols that are none of this section."""
    elsewhere = [ElfSymbol(f"s{number}", 0x1010, section=".data") for number in range(100)]
    image = elf_from_bytes(write_elf(symbols=[ElfSymbol("code", 0x1000), *elsewhere]))
    assert NearestSymbols(image).nearest(1, 0x1010).name == "code"
    monkeypatch.setattr("memleak.symbolize.nearest.MAX_STEPS", 50)
    assert NearestSymbols(image).nearest(1, 0x1010) is None
