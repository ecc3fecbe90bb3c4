"""Which symbol names an address, and under which of its names."""

from __future__ import annotations

import lzma
import random
import time

import pytest
from elfwriter import ElfSymbol, write_elf

from memleak.symbolize import symboltables
from memleak.symbolize.elf import elf_from_bytes, open_elf
from memleak.symbolize.nativesymbols import NativeSymbolTable, symbol_table
from memleak.symbolize.symbols import SymbolTable, split_version


class Both:
    """The table in Python and that in C, which must not differ."""

    def __init__(self, image: bytes) -> None:
        self.tables = [kind([elf_from_bytes(image)]) for kind in (SymbolTable, NativeSymbolTable)]

    def names(self, address: int) -> list[str]:
        one, other = (table.names(address) for table in self.tables)
        assert one == other
        return one

    def find(self, address: int) -> str | None:
        found = self.names(address)
        assert [table.find(address) for table in self.tables] == [found[0] if found else None] * 2
        return found[0] if found else None


def table_of(*symbols: ElfSymbol, dynamic: tuple[ElfSymbol, ...] = (), **options) -> Both:
    return Both(write_elf(symbols=symbols, dynamic_symbols=dynamic, **options))


def test_a_symbol_covers_its_size_and_no_more():
    table = table_of(ElfSymbol("first", 0x1000, 0x10), ElfSymbol("second", 0x1020, 0x10))
    assert [table.find(a) for a in (0xFFF, 0x1000, 0x100F, 0x1010, 0x1020, 0x102F, 0x1030)] == [
        None, "first", "first", None, "second", "second", None,
    ]  # fmt: skip


def test_a_symbol_without_a_size_reaches_to_the_next_and_to_its_sections_end():
    table = table_of(ElfSymbol("start", 0x1000, 0), ElfSymbol("next", 0x1020, 0x10), ElfSymbol("tail", 0x1040, 0))
    assert table.find(0x101F) == "start"
    assert table.find(0x1030) is None
    assert table.find(0x13FF) == "tail"
    assert table.find(0x1400) is None


def test_a_function_with_a_size_wins_over_a_label_inside_of_it():
    table = table_of(ElfSymbol("function", 0x1000, 0x40), ElfSymbol("label", 0x1010, 0, kind="notype", bind="local"))
    assert table.find(0x1020) == "function"


def test_what_lies_in_a_function_with_a_size_ends_with_it():
    """A linker script that gives a function a second version leaves the first one's symbol without a size."""
    sized = ElfSymbol("function", 0x1000, 0x40)
    for inside in (ElfSymbol("function", 0x1000, 0), ElfSymbol("label", 0x1010, 0, kind="notype", bind="local")):
        for symbols in ([sized, inside], [inside, sized]):
            table = table_of(*symbols)
            assert [table.find(a) for a in (0x1020, 0x103F, 0x1040, 0x1200)] == ["function", "function", None, None]


def test_the_innermost_of_nested_functions_wins_and_the_outer_comes_back_after_it():
    table = table_of(ElfSymbol("outer", 0x1000, 0x100), ElfSymbol("inner", 0x1010, 0x10))
    assert [table.find(a) for a in (0x1008, 0x1018, 0x1028)] == ["outer", "inner", "outer"]


@pytest.mark.parametrize(
    ("names", "best"),
    [
        ([ElfSymbol("here", 0x1000, bind="local"), ElfSymbol("everywhere", 0x1000)], "everywhere"),
        ([ElfSymbol("everywhere", 0x1000, bind="weak"), ElfSymbol("here", 0x1000, bind="local")], "everywhere"),
        ([ElfSymbol("__libc_malloc", 0x1000), ElfSymbol("malloc", 0x1000)], "malloc"),
        ([ElfSymbol("fopen64", 0x1000), ElfSymbol("fopen", 0x1000)], "fopen"),
        ([ElfSymbol("code", 0x1000), ElfSymbol("label", 0x1000, kind="notype")], "code"),
        ([ElfSymbol("cfree@GLIBC_2.2.5", 0x1000), ElfSymbol("longer_free@@GLIBC_2.2.5", 0x1000)], "longer_free"),
        ([ElfSymbol("_ZN3fooC2Ev", 0x1000), ElfSymbol("_ZN3fooC1Ev", 0x1000)], "_ZN3fooC1Ev"),
    ],
)
def test_of_several_names_the_known_one_is_taken_in_any_order(names, best):
    assert table_of(*names).find(0x1008) == best
    assert table_of(*reversed(names)).find(0x1008) == best


def test_a_dynamic_symbol_kept_for_old_programs_comes_last():
    dynamic = (ElfSymbol("cfree", 0x1000, old_version=True), ElfSymbol("free_it", 0x1000))
    assert table_of(dynamic=dynamic).names(0x1000) == ["free_it", "cfree"]


def test_data_undefined_and_mapping_symbols_name_nothing():
    table = table_of(
        ElfSymbol("variable", 0x1000, 0x10, kind="object"),
        ElfSymbol("imported", 0x1000, 0x10, section="undef"),
        ElfSymbol("_edata", 0x1000, 0, kind="notype", section=".data"),
        ElfSymbol("limit", 0x1000, 0, kind="notype", section="abs"),
        ElfSymbol("$x", 0x1000, 0, kind="notype", bind="local"),
    )
    assert table.find(0x1004) is None


def test_the_full_table_replaces_the_dynamic_one():
    table = table_of(ElfSymbol("full", 0x1000), dynamic=(ElfSymbol("exported", 0x1000),))
    assert table.names(0x1000) == ["full"]


def test_local_functions_come_from_gnu_debugdata():
    embedded = write_elf(symbols=[ElfSymbol("hidden", 0x1100, bind="local")])
    table = table_of(dynamic=(ElfSymbol("exported", 0x1000),), sections={".gnu_debugdata": lzma.compress(embedded)})
    assert (table.find(0x1000), table.find(0x1108)) == ("exported", "hidden")


@pytest.mark.parametrize("content", [b"", b"not xz", lzma.compress(b"not ELF"), lzma.compress(write_elf())[:-9]])
def test_broken_gnu_debugdata_costs_only_itself(content):
    table = table_of(dynamic=(ElfSymbol("exported", 0x1000),), sections={".gnu_debugdata": content})
    assert table.find(0x1000) == "exported"


def test_gnu_debugdata_is_unpacked_to_a_limit(monkeypatch):
    monkeypatch.setattr(symboltables, "MAX_DEBUGDATA_BYTES", 1 << 20)
    bomb = lzma.compress(bytes(64 << 20))
    table = table_of(dynamic=(ElfSymbol("exported", 0x1000),), sections={".gnu_debugdata": bomb})
    assert table.find(0x1000) == "exported"


def test_symbols_at_the_end_of_the_address_space_do_not_overflow():
    table = table_of(ElfSymbol("last", 2**64 - 16, 2**64 - 1))
    assert table.find(2**64 - 2) == "last"


def test_a_table_made_to_be_slow_is_not():
    """10,000 nested functions with 1,000 aliases each time they are asked for stay cheap."""
    nested = [ElfSymbol(f"f{i}", 0x1000 + i, 0x8000 - 2 * i) for i in range(10_000)]
    aliases = [ElfSymbol("$", 0x5000, 0x100, kind="notype") for _ in range(10_000)]
    table = table_of(*nested, *aliases, text=bytes(0x8000))
    for one in table.tables:
        began = time.process_time()
        for address in range(0x5001, 0x5041):
            one.find(address)
        assert time.process_time() - began < 2


def test_both_tables_agree_on_random_symbols():
    """Starts, sizes and names that meet often."""
    chance = random.Random(5)
    for _ in range(150):
        symbols = [
            ElfSymbol(
                chance.choice(("a", "_a", "__b", "_Zc", "c@@V1", "c@V0", "$d", ".L1", "", "e" * 300)) + chance.choice("xyz "),
                0x1000 + chance.randrange(64),
                chance.choice((0, 0, 1, 8, 40, 2**64 - 1)),
                old_version=chance.random() < 0.3,
                kind=chance.choice(("func", "func", "notype", "object", "file", "ifunc")),
                bind=chance.choice(("local", "global", "weak")),
                section=chance.choice((".text", ".text", ".data", "abs", "undef")),
            )
            for _ in range(chance.randrange(1, 40))
        ]
        if chance.random() < 0.3:
            table = table_of(dynamic=tuple(symbol for symbol in symbols if symbol.bind != "local"))
        else:
            table = table_of(*symbols)
        for address in range(0xFFE, 0x1080):
            table.names(address)


@pytest.mark.parametrize("library", ["/libc", "/ld-linux"])
def test_both_tables_agree_on_real_libraries(library):
    with open("/proc/self/maps") as maps:
        path = next(line.split()[5] for line in maps if library in line)
    with open_elf(path) as image:
        python, native = SymbolTable([image]), NativeSymbolTable([image])
        text = image.section(".text")
    assert len(python) == len(native) > 20
    addresses = [text.address + text.size * i // 3000 for i in range(-5, 3005)]
    assert python.names_of(addresses) == native.names_of(addresses)


def test_a_file_that_was_replaced_gives_no_names(tmp_path):
    path = tmp_path / "program"
    path.write_bytes(write_elf(symbols=[ElfSymbol("right", 0x1000)]))
    with open_elf(str(path)) as image:
        table = symbol_table([image])
    assert table.find(0x1000) == "right"
    path.write_bytes(write_elf(symbols=[ElfSymbol("wrong", 0x1000), ElfSymbol("longer", 0x1010)]))
    assert table.find(0x1000) is None
    path.unlink()
    assert table.find(0x1000) is None


def test_a_big_endian_file_is_read_in_python():
    image = elf_from_bytes(write_elf(symbols=[ElfSymbol("here", 0x1000)], little_endian=False))
    table = symbol_table([image])
    assert isinstance(table, SymbolTable) and table.find(0x1000) == "here"


def test_files_of_local_functions_are_known_and_those_of_global_ones_only_if_there_is_one_group():
    def file(name):
        return ElfSymbol(name, 0, 0, kind="file", bind="local", section="abs")

    one = [file("a.c"), ElfSymbol("mine", 0x1000, bind="local"), ElfSymbol("everybodys", 0x1010)]
    two = [file("a.c"), ElfSymbol("mine", 0x1000, bind="local"), file("b.c"), ElfSymbol("everybodys", 0x1010)]
    for symbols, expected in ((one, ["a.c", "a.c"]), (two, ["a.c", None])):
        table = NativeSymbolTable([elf_from_bytes(write_elf(symbols=symbols))])
        assert [table.file_of(address) for address in (0x1000, 0x1010)] == expected


def test_versions_are_split_from_names():
    assert split_version("memcpy@@GLIBC_2.14") == ("memcpy", "@@")
    assert split_version("memcpy@GLIBC_2.2.5") == ("memcpy", "@")
    assert split_version("plain") == ("plain", "")
    assert split_version("@odd") == ("@odd", "")
