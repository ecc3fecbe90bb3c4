"""Our own reader of DWARF against llvm-symbolizer, address by address, for what compilers write."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import linebuilds
import pytest

from memleak.symbolize.elf import open_elf
from memleak.symbolize.engine import DwarfEngine
from memleak.symbolize.lines import LlvmSymbolizer, SourceFrame, choose_engine
from memleak.symbolize.process import ToolError

ADDRESSES = 1500


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Build the program in one way, once; each lies in a directory of its own with its .dwo files."""
    done: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in done:
            try:
                done[name] = linebuilds.build(name, tmp_path_factory.mktemp(name))
            except linebuilds.CannotBuild as reason:
                pytest.skip(str(reason))
        return done[name]

    return get


def text(path: Path) -> tuple[int, bytes]:
    """Return where the program's code is, and the code."""
    with open_elf(str(path)) as image:
        section = image.section(".text")
        return section.address, image.data(section)


def text_addresses(path: Path, count: int) -> list[int]:
    """Return addresses of code, at random but the same in each run."""
    start, code = text(path)
    every = range(start, start + len(code))
    return sorted(random.Random(1).sample(every, min(count, len(every))))


def llvm() -> LlvmSymbolizer:
    """Return the tool that is compared with."""
    found = choose_engine("llvm-symbolizer")
    if found is None:
        pytest.skip("llvm-symbolizer is not installed")
    return found


def same(ours: list[SourceFrame], theirs: list[SourceFrame]) -> bool:
    """Tell whether depth, lines and files agree, and names where both have one that DWARF has."""
    if [(frame.file, frame.line) for frame in ours] != [(frame.file, frame.line) for frame in theirs]:
        return False
    return all(a.function == b.function for a, b in zip(ours[:-1], theirs[:-1]))


@pytest.mark.parametrize("name", linebuilds.BUILDS)
def test_every_address_has_llvms_lines(built, name):
    path = built(name)
    # llvm 14 loses inlined calls in split units: it is asked about the same code with all in one file.
    whole = built(name.replace("-split", ""))
    assert text(whole) == text(path)
    addresses = text_addresses(path, ADDRESSES)
    ours, theirs = DwarfEngine(), llvm()
    try:
        found, wanted = ours.lookup(str(path), addresses), theirs.lookup(str(whole), addresses)
    finally:
        ours.close()
        theirs.close()
    with_lines = [chain for chain in wanted if chain]
    assert len(with_lines) > 300 and max(map(len, with_lines)) >= (1 if "unoptimised" in name else 3)
    others = [f"{address:#x}: {a} for {b}" for address, a, b in zip(addresses, found, wanted) if not same(a, b)]
    assert not others, f"{len(others)} of {len(addresses)}\n" + "\n".join(others[:5])


MANGLE = """
import random, sys
from memleak.symbolize.elf import open_elf
from memleak.symbolize.engine import DwarfEngine
from memleak.symbolize.process import ToolError

path, copy, first, last = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
whole = open(path, "rb").read()
with open_elf(path) as image:
    sections = [s for s in image.sections if s.name.startswith(".debug_") and s.size]
    text = image.section(".text")
answers = 0
for seed in range(first, last):
    rng = random.Random(seed)
    data = bytearray(whole)
    for _ in range(rng.choice((1, 4, 40, 400))):
        section = rng.choice(sections)
        at = section.offset + rng.randrange(section.size)
        data[at : at + rng.choice((1, 1, 4))] = rng.choice((b"\\0", b"\\xff", rng.randbytes(1))) * 1
    if rng.random() < 0.2:
        del data[rng.randrange(len(data)) :]
    with open(copy, "wb") as file:
        file.write(data)
    engine = DwarfEngine()
    try:
        addresses = [text.address + rng.randrange(text.size) for _ in range(50)]
        answers += sum(map(len, engine.lookup(copy, addresses)))
    except ToolError:
        pass
    finally:
        engine.close()
print("survived", answers)
"""


@pytest.mark.parametrize("name", ["gcc-4", "gcc-5", "clang-5"])
def test_broken_debug_information_costs_names_and_no_more(built, name, tmp_path):
    """Bytes of it changed at random, the file cut short: no crash, no endless loop, some names left."""
    import sys

    words = [sys.executable, "-c", MANGLE, str(built(name)), str(tmp_path / "copy"), "0", "300"]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout.split()[1]) > 1000


def test_a_file_without_debug_information_has_no_lines(tmp_path):
    source = tmp_path / "a.c"
    source.write_text("int main(void) { return 0; }\n")
    subprocess.run(["gcc", "-o", str(tmp_path / "a"), str(source)], check=True)
    engine = DwarfEngine()
    assert engine.lookup(str(tmp_path / "a"), [0x1000, 0x1139]) == [[], []]
    engine.close()
    with pytest.raises(ToolError, match="not an ELF file"):
        engine.lookup(str(source), [1])


def test_a_separate_file_of_a_unit_that_is_gone_costs_its_functions(built, tmp_path):
    """Lines stand in the program itself."""
    path = tmp_path / "program"
    shutil.copy(built("gcc-split-5"), path)
    addresses = text_addresses(path, 200)
    # The .dwo files are named by their directory at the time.
    home = built("gcc-split-5").parent
    for dwo in home.glob("*.dwo"):
        dwo.rename(dwo.with_suffix(".away"))
    try:
        engine = DwarfEngine()
        found = [chain for chain in engine.lookup(str(path), addresses) if chain]
        engine.close()
    finally:
        for away in home.glob("*.away"):
            away.rename(away.with_suffix(".dwo"))
    assert len(found) > 100
    assert all(len(chain) == 1 and chain[0].line and chain[0].function is None for chain in found)


@pytest.mark.parametrize("name", ["gcc-split-4", "clang-split-4", "clang-split-5"])
def test_a_package_of_separate_files_says_what_they_say(built, name, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(built(name).parent, home)
    path = home / "program"
    addresses = text_addresses(path, 1500)

    def found() -> list[list[tuple]]:
        engine = DwarfEngine()
        try:  # but for the numbers of entries, which others have in a package
            return [[frame[:5] for frame in chain] for chain in engine.lookup(str(path), addresses)]
        finally:
            engine.close()

    if not shutil.which("llvm-dwp"):
        pytest.skip("llvm-dwp is not installed")
    wanted = found()
    subprocess.run(["llvm-dwp", "-e", "program", "-o", "program.dwp"], cwd=home, check=True, timeout=60)
    away = [dwo.rename(dwo.with_suffix(".away")) for place in (home, built(name).parent) for dwo in place.glob("*.dwo")]
    try:
        assert found() == wanted
        (home / "program.dwp").rename(home / "away")
        assert sum(map(len, found())) < sum(map(len, wanted))
    finally:
        for file in away:
            file.rename(file.with_suffix(".dwo"))
