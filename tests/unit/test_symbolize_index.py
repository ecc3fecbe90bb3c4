"""What the reader of DWARF keeps of a unit: the same answers as without it, in this process and in the next."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import pytest

from memleak.symbolize.elf import open_elf
from memleak.symbolize.engine import DwarfEngine
from memleak.symbolize.process import ToolError

SOURCES = Path(__file__).resolve().parents[1] / "data/lines"
BUILDS = {
    "gcc-2": ("g++", "-gdwarf-2 -O2"),
    "gcc-4": ("g++", "-gdwarf-4 -O2 -ffunction-sections"),
    "gcc-5": ("g++", "-gdwarf-5 -O2"),
    "gcc-split": ("g++", "-gdwarf-5 -gsplit-dwarf -O2"),
    "clang-5": ("clang++", "-gdwarf-5 -O2"),
}


@pytest.fixture(scope="module", params=BUILDS)
def program(request, tmp_path_factory):
    compiler, words = BUILDS[request.param]
    if not shutil.which(compiler):
        pytest.skip(f"{compiler} is not installed")
    path = tmp_path_factory.mktemp(request.param) / "program"
    plain = {"g++": "gcc", "clang++": "clang"}[compiler]
    for command in (
        [plain, *words.split(), "-c", str(SOURCES / "plain.c")],
        [compiler, "-std=c++17", *words.split(), str(SOURCES / "program.cc"), "plain.o", "-o", "program"],
    ):
        subprocess.run(command, cwd=path.parent, check=True)
    return str(path)


@pytest.fixture(params=[False, True], ids=["read", "mapped"])
def engine(request):
    engine = DwarfEngine(mapped=request.param)
    yield engine
    engine.close()


def addresses_of(path: str) -> list[int]:
    with open_elf(path) as image:
        text = image.section(".text")
    addresses = list(range(text.address - 8, text.address + text.size + 8))
    random.Random(3).shuffle(addresses)
    return addresses


@pytest.fixture
def truth(program):
    """Answers to each address of the program's code, from an engine that has learned nothing before."""
    engine = DwarfEngine()
    addresses = addresses_of(program)
    found = dict(zip(addresses, engine.lookup(program, addresses)))
    engine.close()
    assert sum(map(bool, found.values())) > 1000
    return found


def test_batches_of_any_size_are_answered_as_all_at_once_is(program, engine, truth):
    chance = random.Random(7)
    addresses = addresses_of(program)
    at = 0
    while at < len(addresses):
        batch = addresses[at : at + chance.choice((1, 1, 2, 5, 20, 300, 2000))]
        assert engine.lookup(program, batch) == [truth[address] for address in batch]
        at += len(batch) * chance.choice((1, 1, 3))


def test_what_one_engine_learned_another_one_knows(program, engine, truth):
    addresses = addresses_of(program)
    assert engine.learned(program) == b""
    engine.lookup(program, addresses[:50])
    learned = engine.learned(program)
    assert learned
    other = DwarfEngine()
    other.learn(program, learned)
    assert other.learned(program) == learned
    for address in addresses[50:150]:
        assert other.lookup(program, [address]) == [truth[address]]
    assert other.lookup(program, addresses) == [truth[address] for address in addresses]
    other.learn(program, learned)
    assert other.lookup(program, addresses) == [truth[address] for address in addresses]
    other.close()


def test_learned_bytes_that_were_changed_do_no_harm(program, engine):
    addresses = addresses_of(program)
    engine.lookup(program, addresses[:200])
    learned = engine.learned(program)
    chance = random.Random(11)
    for _ in range(150):
        data = bytearray(learned)
        for _ in range(chance.choice((1, 5, 100))):
            data[chance.randrange(len(data))] = chance.choice((0, 1, 255, chance.randrange(256)))
        other = DwarfEngine()
        other.learn(program, bytes(data[: chance.choice((len(data), chance.randrange(len(data))))]))
        assert len(other.lookup(program, addresses[:300])) == 300
        other.close()


def test_learning_needs_the_file(engine, tmp_path):
    with pytest.raises(ToolError, match="No such file"):
        engine.learn(str(tmp_path / "none"), b"")
