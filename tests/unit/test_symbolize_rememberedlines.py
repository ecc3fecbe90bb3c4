"""The cache before the reader of one binary's addresses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from memleak.symbolize.cache import SymbolCache
from memleak.symbolize.confined import ConfinedLines
from memleak.symbolize.elf import ElfError, open_elf
from memleak.symbolize.rememberedlines import CachedLines

SOURCE = "static int inner(int n) { return n * 3; }\nint work(int n) { return inner(n) + 1; }\nint main(void) { return work(2); }\n"


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program"
    (tmp_path / "a.c").write_text(SOURCE)
    subprocess.run(["gcc", "-g", "-O1", "-o", str(path), str(tmp_path / "a.c")], check=True)
    return str(path)


@pytest.fixture
def cache(tmp_path):
    return SymbolCache(str(tmp_path / "cache"))


def addresses(path: str) -> list[int]:
    with open_elf(path) as image:
        text = image.section(".text")
    return [text.address - 16, *range(text.address, text.address + text.size, 3), 2**64 - 1]


class Counted:
    """Starts the reader, and counts how often."""

    def __init__(self, path: str) -> None:
        self.path, self.times = path, 0

    def __call__(self) -> ConfinedLines:
        self.times += 1
        return ConfinedLines(self.path)


def asked(path, cache, *, start=None, demangle=True, engine="auto"):
    start = start or Counted(path)
    lines = CachedLines(path, start, cache, (), engine)
    found = lines.chains(addresses(path), demangle=demangle)
    lines.close()
    return [[(frame.function, frame.file, frame.line, frame.discriminator) for frame in chain] for chain in found], start


def test_what_was_answered_is_not_asked_again(program, cache):
    first, start = asked(program, cache)
    assert start.times == 1 and sum(map(bool, first)) > 10 and [] in first
    again, start = asked(program, cache)
    assert (again, start.times) == (first, 0)


def test_other_questions_and_other_engines_have_answers_of_their_own(program, cache):
    first, _ = asked(program, cache)
    for options in ({"demangle": False}, {"engine": "servers"}):
        found, start = asked(program, cache, **options)
        assert start.times == 1 and found == first  # it is a C program


def test_another_build_of_that_name_is_read(program, cache):
    first, _ = asked(program, cache)
    with open(program, "ab") as file:
        file.write(b"\0")
    again, start = asked(program, cache)
    assert start.times == 1 and again == first


def test_a_file_that_goes_away_is_a_problem_and_no_crash(program, cache):
    lines = CachedLines(program, Counted(program), cache, (), "auto")
    wanted = addresses(program)
    os.unlink(program)
    assert lines.chains(wanted) == [[] for _ in wanted]
    assert "No such file" in lines.problem
    assert (lines.has_section(".text"), lines.address_of("main")) == (False, None)
    lines.close()
    with pytest.raises(ElfError, match="No such file"):
        CachedLines(program, Counted(program), cache, (), "auto")


def test_offsets_in_a_section_go_by_the_cache(program, cache):
    asked(program, cache)
    start = Counted(program)
    lines = CachedLines(program, start, cache, (), "auto")
    assert lines.has_section(".text") and lines.chains([0], ".text")[0][0].function == "_start"
    lines.close()
    assert start.times == 1


def test_the_command_prints_the_same_with_and_without(program, tmp_path):
    environment = {**os.environ, "MEMLEAK_SYMBOL_CACHE": str(tmp_path / "kept")}
    words = [sys.executable, "-m", "memleak", "addr2line", "-afiCp", "-e", program, *map(hex, addresses(program))]

    def printed(*more: str) -> bytes:
        return subprocess.run([*words, *more], env=environment, capture_output=True, check=True).stdout

    without = printed("--no-cache")
    assert not os.path.exists(tmp_path / "kept")
    assert printed() == printed() == without
    assert len(os.listdir(tmp_path / "kept")) == 2  # answers, and what was learned of units
    if shutil.which("addr2line"):
        gnu = ["addr2line", "-afiCp", "-e", program, *map(hex, addresses(program)[1:-1])]
        theirs = subprocess.run(gnu, capture_output=True, check=True).stdout
        assert theirs.splitlines()[5] in without.splitlines()
