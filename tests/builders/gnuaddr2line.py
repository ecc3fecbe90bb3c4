"""GNU addr2line as the second opinion, and programs to ask it about."""

from __future__ import annotations

import functools
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from memleak.symbolize.elf import open_elf

VERSION = "2.40"  # the text that is compared with
SOURCES = Path(__file__).resolve().parents[1] / "data/lines"


@functools.lru_cache(maxsize=1)
def program() -> str | None:
    """Return the path of addr2line, if it is of the version that we promise to agree with."""
    found = shutil.which("addr2line")
    if found is None:
        return None
    said = subprocess.run([found, "--version"], capture_output=True, text=True).stdout.split("\n")[0]
    return found if said.endswith(VERSION) else ""


def gnu(*words: str, lines: bytes | None = None) -> bytes:
    """Return what addr2line prints. Skips the test if it is not there."""
    found = program()
    if not found:
        pytest.skip("addr2line is not installed" if found is None else "addr2line is of another version")
    return subprocess.run([found, *words], input=lines, capture_output=True).stdout


def build(home: Path, flags: str, *, compiler: str = "g++", link: str = "") -> Path:
    """Build the program of tests/data/lines in *home*."""
    plain = {"g++": "gcc", "clang++": "clang"}[compiler]
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    for command in (
        [plain, *flags.split(), "-c", str(SOURCES / "plain.c"), "-o", "plain.o"],
        [compiler, "-std=c++17", *flags.split(), "-c", str(SOURCES / "program.cc"), "-o", "program.o"],
        [compiler, *flags.split(), *link.split(), "program.o", "plain.o", "-o", "program"],
    ):
        subprocess.run(command, cwd=home, check=True, capture_output=True)
    return home / "program"


def code_addresses(path: Path | str, count: int, seed: int = 1) -> list[int]:
    """Return addresses at random, the same in each run: most of .text, some of other sections with code."""
    with open_elf(str(path)) as image:
        sections = [section for section in image.sections if section.executable and section.size]
    text = max(sections, key=lambda section: section.size)
    rng = random.Random(seed)
    chosen = [text if rng.random() < 0.9 else rng.choice(sections) for _ in range(count)]
    return [section.address + rng.randrange(section.size) for section in chosen]


def words(addresses: Sequence[int]) -> list[str]:
    """Return addresses as they are typed."""
    return [f"{address:#x}" for address in addresses]
