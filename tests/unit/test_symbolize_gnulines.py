"""Frames as GNU addr2line has them, and better where it is wrong: address by address, for what compilers write."""

from __future__ import annotations

import io
import lzma
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from elfwriter import ElfSymbol, write_elf
from gnuaddr2line import SOURCES, build, code_addresses, gnu, words

from memleak.cli import gnutext
from memleak.cli.gnutext import Answer, Style
from memleak.symbolize.elf import ElfError
from memleak.symbolize.gnulines import BinaryLines
from memleak.symbolize.lines import SourceFrame, choose_engine

ADDRESSES = 1000
BUILDS = {
    "gcc-2": ("-gdwarf-2 -O2", {}),
    "gcc-4-unoptimised": ("-gdwarf-4 -O0", {}),
    "gcc-5": ("-gdwarf-5 -O2", {}),
    "gcc-5-unoptimised": ("-gdwarf-5 -O0", {}),
    "gcc-lto": ("-gdwarf-5 -O2 -flto -fno-fat-lto-objects", {}),
    "gcc-fixed-address": ("-g -O2 -fno-pie", {"link": "-no-pie"}),
    "gcc-static": ("-g -O1 -fno-pie", {"link": "-static -no-pie"}),
    "gcc-relative-paths": (f"-g -O1 -ffile-prefix-map={SOURCES.parent}=.", {}),
    "gcc-without": ("-O2", {}),
    "clang-4": ("-gdwarf-4 -O2", {"compiler": "clang++"}),
    "clang-5": ("-gdwarf-5 -O2", {"compiler": "clang++"}),
}
# GNU addr2line loses the inlined calls of DWARF 5 by clang: nothing to be compatible with.
COMPATIBLE = [name for name in BUILDS if name != "clang-5"]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the program in one way, once."""
    done: dict[str, Path] = {}

    def one(name: str) -> Path:
        if name not in done:
            flags, options = BUILDS[name]
            done[name] = build(tmp_path_factory.mktemp(name), flags, **options)
        return done[name]

    return one


def printed(lines: BinaryLines, addresses: list[int], style: Style) -> bytes:
    out = io.BytesIO()
    chains = lines.chains(addresses)
    gnutext.write((Answer(f"0x{at:016x}", chain) for at, chain in zip(addresses, chains)), style, out)
    return out.getvalue()


def assert_same(ours: bytes, theirs: bytes) -> None:
    """Compare texts; say the first lines that differ."""
    if ours != theirs:
        pairs = list(zip(ours.split(b"\n"), theirs.split(b"\n")))
        assert [a for a, b in pairs if a != b][:5] == [b for a, b in pairs if a != b][:5]
        assert len(ours) == len(theirs)


@pytest.mark.parametrize("name", COMPATIBLE)
def test_compatible_text_is_addr2lines_byte_for_byte(built, name):
    path = built(name)
    addresses = code_addresses(path, ADDRESSES)
    style = Style(addresses=True, functions=True, inlines=True)
    theirs = gnu("-fia", "-e", str(path), *words(addresses))
    with BinaryLines(str(path), gnu_compat=True) as lines:
        assert_same(printed(lines, addresses, style), theirs)
    assert theirs.count(b"program.cc:") > (300 if name not in ("gcc-static", "gcc-without") else 0)


@pytest.mark.parametrize("strip", ["--strip-all", "--strip-debug"])
@pytest.mark.parametrize("name", ["gcc-5", "gcc-without"])
def test_stripped_programs_are_named_as_by_addr2line(built, name, strip, tmp_path):
    path = tmp_path / "program"
    subprocess.run(["strip", strip, "-o", str(path), str(built(name))], check=True)
    addresses = code_addresses(path, ADDRESSES)
    with BinaryLines(str(path)) as lines:
        ours = printed(lines, addresses, Style(functions=True))
    assert_same(ours, gnu("-f", "-e", str(path), *words(addresses)))
    assert (b"main\n??:?" if strip == "--strip-debug" else b"??\n??:0") in ours


def test_a_separate_debug_file_is_found(built, tmp_path):
    whole, path = built("gcc-5"), tmp_path / "program"
    subprocess.run(["objcopy", "--only-keep-debug", str(whole), str(tmp_path / "program.debug")], check=True)
    subprocess.run(["strip", "-o", str(path), str(whole)], check=True)
    subprocess.run(["objcopy", "--add-gnu-debuglink=program.debug", str(path)], check=True, cwd=tmp_path)
    addresses = code_addresses(path, ADDRESSES)
    with BinaryLines(str(path), gnu_compat=True) as lines:
        assert_same(
            printed(lines, addresses, Style(functions=True, inlines=True)), gnu("-fie", str(path), *words(addresses))
        )


def test_names_that_dwz_moved_to_a_file_of_several_programs_are_found(built, tmp_path):
    if not shutil.which("dwz"):
        pytest.skip("dwz is not installed")
    for name in ("gcc-5", "gcc-4-unoptimised"):
        shutil.copy(built(name), tmp_path / name)
    subprocess.run(["dwz", "-m", "shared", "gcc-5", "gcc-4-unoptimised"], cwd=tmp_path, check=True)
    path = tmp_path / "gcc-5"
    addresses = code_addresses(path, ADDRESSES)
    with BinaryLines(str(path)) as lines, BinaryLines(str(built("gcc-5"))) as whole:
        found = lines.chains(addresses)
        assert [[frame[:5] for frame in chain] for chain in found] == [
            [frame[:5] for frame in chain] for chain in whole.chains(addresses)
        ]


def llvm(path: Path, addresses: list[int]) -> list[list[SourceFrame]]:
    engine = choose_engine("llvm-symbolizer")
    if engine is None:
        pytest.skip("llvm-symbolizer is not installed")
    try:
        return engine.lookup(str(path), addresses)
    finally:
        engine.close()


def chains_of(text: bytes) -> list[list[tuple[str, str]]]:
    """Split what `addr2line -fia` prints into (function, place) pairs."""
    chains: list[list[tuple[str, str]]] = []
    rows = text.decode().split("\n")[:-1]
    at = 0
    while at < len(rows):
        if rows[at].startswith("0x"):
            chains.append([])
            at += 1
        chains[-1].append((rows[at], rows[at + 1]))
        at += 2
    return chains


@pytest.mark.parametrize(
    ("name", "least"),
    [("gcc-2", 20), ("gcc-4-unoptimised", 10), ("gcc-5", 20), ("gcc-5-unoptimised", 30), ("clang-5", 300)],
)
def test_where_the_answer_is_not_addr2lines_a_second_reader_gives_it(built, name, least):
    """Names and files that binutils takes from elsewhere, and inlined calls that it loses."""
    path = built(name)
    addresses = code_addresses(path, ADDRESSES)
    with BinaryLines(str(path)) as lines:
        ours = chains_of(printed(lines, addresses, Style(addresses=True, functions=True, inlines=True)))
    theirs = chains_of(gnu("-fiae", str(path), *words(addresses)))
    differ = [number for number, (a, b) in enumerate(zip(ours, theirs)) if a != b]
    assert len(ours) == len(theirs) and len(differ) >= least
    for number, second in zip(differ, llvm(path, [addresses[number] for number in differ])):
        places = [place.partition(" (")[0] for _, place in ours[number]]
        assert places == [f"{frame.file}:{frame.line or '?'}" for frame in second], hex(addresses[number])
        # Only what has no linker's name differs: its own name if it was inlined, the symbol's if not.
        named = [function for function, _ in ours[number]]
        assert named == [frame.function for frame in second], hex(addresses[number])


def test_split_programs_have_functions(tmp_path):
    """binutils opens no .dwo file."""
    split = build(tmp_path, "-gdwarf-5 -O2 -gsplit-dwarf")
    whole = tmp_path / "whole"
    whole.mkdir()
    same = build(whole, "-gdwarf-5 -O2")
    addresses = code_addresses(split, 500)
    with BinaryLines(str(split)) as lines, BinaryLines(str(same)) as other:
        found = lines.chains(addresses)
        strip = [[frame[:4] for frame in chain] for chain in found]
        assert strip == [[frame[:4] for frame in chain] for chain in other.chains(addresses)]
    assert max(map(len, found)) >= 3
    assert not re.search(rb"program.cc:\d", gnu("-fie", str(split), *words(addresses)))


def test_the_same_question_has_the_same_answer_unless_compatible(built):
    """binutils forgets the symbol's name once it was asked: here that is the whole difference."""
    path = built("gcc-5")
    with BinaryLines(str(path)) as lines, BinaryLines(str(path), gnu_compat=True) as compatible:
        addresses = code_addresses(path, ADDRESSES)
        assert lines.chains(addresses) == lines.chains(addresses)
        first, again = compatible.chains(addresses), compatible.chains(addresses)
    differ = [(a, b) for a, b in zip(first, again) if a != b]
    assert differ and all([f[1:] for f in a] == [f[1:] for f in b] for a, b in differ)
    assert ("main", "deep_3") in {(a[0].function, b[0].function) for a, b in differ}


def test_debug_information_of_code_left_out_says_nothing_of_data(tmp_path):
    """The linker leaves it at address 0, where the file's headers and notes are."""
    source = tmp_path / "a.c"
    unused = "int unused(int x)\n{\n" + "\tx = x * 3 + x / 7;\n" * 200 + "\treturn x;\n}\n"
    source.write_text(unused + "int main(void) { return 0; }\n")
    path = tmp_path / "a"
    flags = ["-g", "-ffunction-sections", "-Wl,--gc-sections", "-O1"]
    subprocess.run(["gcc", *flags, "-o", str(path), str(source)], check=True)
    asked = list(range(0x300, 0x340))
    with BinaryLines(str(path)) as lines:
        assert all(not chain for chain in lines.chains(asked))
    assert b"unused" in gnu("-fe", str(path), *words(asked))


def test_a_big_endian_file_is_named_by_its_symbols(tmp_path):
    path = tmp_path / "binary"
    path.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000)], little_endian=False, bits=32))
    with BinaryLines(str(path)) as lines:
        assert lines.bits == 32
        assert lines.chains([0x1004, 0x5000]) == [[SourceFrame("f", None, None)], []]


def test_sections_and_their_edges(tmp_path):
    path = tmp_path / "binary"
    data = ElfSymbol("d", 0x101000, section=".data", kind="notype")
    path.write_bytes(write_elf(symbols=[ElfSymbol("f", 0x1000), data]))
    with BinaryLines(str(path)) as lines:
        found = lines.chains([0xFFF, 0x1000, 0x13FF, 0x1400, 0x101008])
        assert [chain[0].function if chain else None for chain in found] == [None, "f", "f", None, "d"]
        assert [bool(chain) for chain in lines.chains([0, 15, 16], ".data")] == [True, True, False]
        assert lines.chains([0], ".symtab") == [[]]  # is not loaded
        with pytest.raises(KeyError):
            lines.chains([0], ".nothing")


def test_names_are_readable_within_dots_and_versions(built):
    if not shutil.which("c++filt"):
        pytest.skip("c++filt is not installed")
    with BinaryLines(str(built("gcc-5"))) as lines:
        names = ["_Z3fooi", "_Z3fooi@@VERS_1", "._Z3fooi", "_Z3fooi.cold", "foo@VERS_1", "main", "", "_Zzz"]
        assert [lines.demangled(names)[name] for name in names] == [
            "foo(int)", "foo(int)@@VERS_1", ".foo(int)", "foo(int) [clone .cold]", "foo@VERS_1", "main", "", "_Zzz",
        ]  # fmt: skip
        assert lines.address_of("local_class(int)") == lines.address_of("_Z11local_classi") is not None


@pytest.mark.parametrize("content", [b"", b"words", b"\x7fELF" + bytes(60)])
def test_what_is_no_program_is_refused(tmp_path, content):
    path = tmp_path / "binary"
    path.write_bytes(content)
    with pytest.raises(ElfError):
        BinaryLines(str(path))


def test_local_functions_come_from_gnu_debugdata(tmp_path):
    """GNU's tools do not look there, and name the exported function before."""
    embedded = lzma.compress(write_elf(symbols=[ElfSymbol("hidden", 0x1100, bind="local")]))
    path = tmp_path / "library.so"
    path.write_bytes(
        write_elf(
            dynamic_symbols=[ElfSymbol("exported", 0x1000), ElfSymbol("further", 0x1200)],
            sections={".gnu_debugdata": embedded},
        )
    )
    for compat, expected in ((False, ["exported", "hidden", "further"]), (True, ["exported", "exported", "further"])):
        with BinaryLines(str(path), gnu_compat=compat) as lines:
            assert [chain[0].function for chain in lines.chains([0x1004, 0x1104, 0x1204])] == expected
