"""A program whose debug information was moved, shared or packed has the answers of the one that it was made of."""

from __future__ import annotations

import random
import re
import shutil
import struct
import subprocess
from pathlib import Path

import linebuilds
import pytest

from memleak.symbolize import Symbolizer
from memleak.symbolize.elf import open_elf

ADDRESSES = 1500
Frames = list  # of (function, file, line, discriminator)


@pytest.fixture(scope="module")
def derived(tmp_path_factory):
    """Make a program of another; return both, and the directory of its debug files."""
    bases: dict[str, Path] = {}

    def get(name: str) -> tuple[Path, Path, list[str]]:
        what = linebuilds.DERIVED[name]
        try:
            if what.base not in bases:
                bases[what.base] = linebuilds.build(what.base, tmp_path_factory.mktemp(what.base))
            home = tmp_path_factory.mktemp(name)
            program = linebuilds.derive(name, bases[what.base], home)
        except linebuilds.CannotBuild as reason:
            pytest.skip(str(reason))
        return bases[what.base], program, [str(home / what.debug_dir)] if what.debug_dir else []

    return get


def text_addresses(path: Path) -> list[int]:
    with open_elf(str(path)) as image:
        section = image.section(".text")
    every = range(section.address, section.address + section.size)
    return sorted(random.Random(2).sample(every, min(ADDRESSES, len(every))))


def answers(path: Path, addresses: list[int], debug_dirs: list[str] = [], engine: str = "memleak") -> list[Frames]:  # noqa: B006
    with Symbolizer(engine=engine, debug_dirs=debug_dirs) as symbolizer:
        found = symbolizer.resolve([(str(path), None, address, True) for address in addresses])
        assert not symbolizer.problems()
    return [[(frame.function, frame.file, frame.line, frame.discriminator) for frame in chain] for chain in found]


@pytest.mark.parametrize("name", [name for name in linebuilds.DERIVED if name != "debugdata"])
def test_every_answer_is_that_of_the_program_it_was_made_of(derived, name):
    base, program, debug_dirs = derived(name)
    addresses = text_addresses(base)
    wanted, found = answers(base, addresses), answers(program, addresses, debug_dirs)
    assert sum(len(chain) > 1 for chain in wanted) > 300
    others = [f"{address:#x}: {a} for {b}" for address, a, b in zip(addresses, found, wanted) if a != b]
    assert not others, f"{len(others)} of {len(addresses)}\n" + "\n".join(others[:3])


def test_a_packed_symbol_table_has_the_names_of_the_one_that_it_was_made_of(derived):
    base, program, _ = derived("debugdata")
    addresses = text_addresses(base)
    wanted = answers(base, addresses, engine="none")
    assert len({chain[0][0] for chain in wanted}) > 20
    assert answers(program, addresses) == wanted


@pytest.mark.parametrize("name", ["dwz-alternate", "dwz-alternate-5"])
def test_elfutils_agrees_on_what_files_share(derived, name):
    """The one tool that follows it: lines and names, but of the outermost function, where it has the symbol table's."""
    if not shutil.which("eu-addr2line"):
        pytest.skip("eu-addr2line is not installed")
    _, program, _ = derived(name)
    addresses = text_addresses(program)[::5]
    words = ["eu-addr2line", "-a", "-f", "-i", "-C", "-e", str(program), *map(hex, addresses)]
    blocks = re.split(
        r"^0x[0-9a-f]+\n", subprocess.run(words, capture_output=True, text=True).stdout, flags=re.MULTILINE
    )[1:]
    alike = compared = 0
    for block, ours in zip(blocks, answers(program, addresses)):
        theirs = block.splitlines()
        places = [re.sub(r":\d+(?: \(discriminator \d+\))?$", "", line) for line in theirs[1::2]]
        if places == ["??"] or ours[0][1] is None:  # it has the line before, too, for what has none
            continue
        names = [line.partition(" inlined at ")[0] for line in theirs[::2]]
        compared += 1
        alike += places == [f"{file}:{line or 0}" for _, file, line, _ in ours] and names[:-1] == [
            function for function, *_ in ours[:-1]
        ]
    assert compared > 150 and alike > 0.97 * compared


@pytest.mark.parametrize("words", ["-gdwarf-4", "-gdwarf-5", "-gdwarf-5 -gsplit-dwarf"])
def test_what_the_linker_took_out_has_no_addresses(words, tmp_path):
    """It lies at the address 0, longer than the way from there to the code; addr2line and llvm are wrong about it."""
    dead = "".join(f"if (n == {number}) sink += n * {number} + {number};\n" for number in range(600))
    (tmp_path / "a.c").write_text(
        f"int sink;\nvoid dead(int n) {{\n{dead}}}\nint kept(int n) {{ return n * 3 + sink; }}\n"
    )
    (tmp_path / "b.c").write_text("int kept(int);\nint main(int n, char **v) { (void)v; return kept(n); }\n")
    flags = [*words.split(), "-O1", "-ffunction-sections", "-Wl,--gc-sections"]
    try:
        linebuilds.run(["gcc", *flags, "a.c", "b.c", "-o", "program"], tmp_path)
    except linebuilds.CannotBuild as reason:
        pytest.skip(str(reason))
    with open_elf(str(tmp_path / "program")) as image:
        places = {name: symbol_address(image, name) for name in ("kept", "main")}
    found = answers(tmp_path / "program", list(places.values()))
    assert [(chain[-1][0], chain[-1][1], chain[-1][2]) for chain in found] == [
        ("kept", str(tmp_path / "a.c"), 604), ("main", str(tmp_path / "b.c"), 2),
    ]  # fmt: skip


def symbol_address(image, name: str) -> int:
    """Return the value of a symbol."""
    strings, entries = (image.data(image.section(part)) for part in (".strtab", ".symtab"))
    values = {
        strings[start:].partition(b"\0")[0].decode(): value
        for start, _, _, _, value, _ in struct.iter_unpack("<IBBHQQ", entries)
    }
    return values[name]
