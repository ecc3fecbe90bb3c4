"""Our own reader of DWARF on what was written byte by byte: each answer is spelled out, or known to a model."""

from __future__ import annotations

import os
import resource
import struct
from pathlib import Path

import pytest
from compression import compressed, zstd_frame
from dwarfcases import CASES
from elfwriter import write_elf
from randomdwarf import RandomProgram

from memleak.symbolize.engine import DwarfEngine
from memleak.symbolize.lines import choose_engine
from memleak.symbolize.process import ToolError

LONG = os.environ.get("MEMLEAK_TEST_LONG") == "1"
RANDOM_PROGRAMS = 100_000 if LONG else 1_200


def answers(path: Path, addresses) -> list[list[tuple]]:
    """Return what our reader says, the first time as the second, when it knows where things are."""
    engine = DwarfEngine()
    try:
        first, second = (engine.lookup(str(path), list(addresses)) for _ in range(2))
        assert first == second
        return [[tuple(frame[:4]) for frame in chain] for chain in first]
    finally:
        engine.close()


def learned_before(path: Path, addresses: list[int]) -> list[list[tuple]]:
    """Return what a reader says that was given what another one learned of a few addresses."""
    first, second = DwarfEngine(), DwarfEngine()
    try:
        first.lookup(str(path), addresses[:: max(1, len(addresses) // 5)])
        second.learn(str(path), first.learned(str(path)))
        return [[tuple(frame[:4]) for frame in chain] for chain in second.lookup(str(path), addresses)]
    finally:
        first.close()
        second.close()


def written(directory: Path, elf: bytes, beside: dict[str, bytes]) -> Path:
    """Write a program and the files beside it."""
    path = directory / "program"
    path.write_bytes(elf)
    for name, content in beside.items():
        (directory / name).write_bytes(content)
    return path


def made(name: str, directory: Path):
    """Write a case; return it and its program."""
    case = CASES[name]()
    elf = case.elf()
    return case, written(directory, elf, {file: content() for file, content in case.beside.items()})


@pytest.mark.parametrize("name", CASES)
def test_case(name, tmp_path):
    case, path = made(name, tmp_path)
    assert dict(zip(case.want, answers(path, case.want))) == {address: case.frames(address) for address in case.want}


@pytest.mark.parametrize("name", CASES)
def test_each_address_of_a_case_asked_for_alone_has_the_same_answer(name, tmp_path):
    case, path = made(name, tmp_path)
    for address in case.want:
        assert answers(path, [address]) == [case.frames(address)]


@pytest.mark.parametrize(
    ("name", "tool"), [(name, tool) for name, make in CASES.items() for tool in make().agree], ids=lambda word: word
)
def test_tools_agree(name, tool, tmp_path):
    """Where they are right: lines and depth, and names of what was inlined."""
    case, path = made(name, tmp_path)
    engine = choose_engine({"llvm": "llvm-symbolizer", "gnu": "addr2line"}[tool])
    if engine is None:
        pytest.skip(f"{'llvm-symbolizer' if tool == 'llvm' else 'addr2line'} is not installed")
    try:
        found = engine.lookup(str(path), list(case.want))
    finally:
        engine.close()
    for address, chain in zip(case.want, found):
        theirs = [(frame.function, frame.file, frame.line) for frame in chain]
        ours = [frame[:3] for frame in case.frames(address)]
        assert theirs == ours, hex(address)


@pytest.mark.parametrize("how", ["zlib", "zlib-gnu", "zstd"])
@pytest.mark.parametrize("bits", [64, 32])
def test_compressed_sections(how, bits, tmp_path):
    case = CASES["all_versions_and_formats_in_one_file"]()
    sections, flags = compressed(case.file.sections(), how, bits=bits)
    path = written(tmp_path, write_elf(sections=sections, section_flags=flags, bits=bits), {})
    if how == "zstd" and not has_zstd():
        pytest.skip("libzstd is not installed")
    assert dict(zip(case.want, answers(path, case.want))) == {address: case.frames(address) for address in case.want}


def has_zstd() -> bool:
    """Tell whether the library is there that undoes it."""
    import ctypes

    try:
        ctypes.CDLL("libzstd.so.1")
    except OSError:
        return False
    return True


@pytest.mark.timeout(3600)
def test_random_programs(tmp_path_factory, record_property):
    """Every address of each, and some beside its code."""
    directory = tmp_path_factory.mktemp("random", numbered=True)
    addresses = 0
    for seed in range(RANDOM_PROGRAMS):
        program = RandomProgram(seed).make()
        path = written(directory, program.elf, program.beside)
        wanted = [program.truth.answer(address) for address in program.addresses]
        found = answers(path, program.addresses)
        different = [(hex(address), a, b) for address, a, b in zip(program.addresses, found, wanted) if a != b]
        assert not different, f"seed {seed}: {different[:3]}"
        addresses += len(wanted)
        if seed % 5 == 0:
            assert learned_before(path, list(program.addresses)) == wanted, seed
        for name in program.beside:
            (directory / name).unlink()
    record_property("addresses of random programs", addresses)


def test_llvm_agrees_on_random_programs_of_usual_forms(tmp_path):
    """The model is right, and not only in our eyes: depth, lines, files, and names but the outermost."""
    engine = choose_engine("llvm-symbolizer")
    if engine is None:
        pytest.skip("llvm-symbolizer is not installed")
    compared = 0
    try:
        for seed in range(40):
            program = RandomProgram(seed, usual=True).make()
            path = tmp_path / f"program{seed}"
            path.write_bytes(program.elf)
            found = engine.lookup(str(path), list(program.addresses))
            for address, chain in zip(program.addresses, found):
                wanted = program.truth.answer(address)
                assert [frame[1:4] for frame in chain] == [frame[1:] for frame in wanted], (seed, hex(address))
                assert [frame.function for frame in chain[:-1]] == [frame[0] for frame in wanted[:-1]]
                compared += bool(wanted)
    finally:
        engine.close()
    assert compared > 1000


@pytest.mark.parametrize("kind", [1, 2])
@pytest.mark.parametrize("size", [1 << 31, (1 << 63) - 1, 10_000_000])
def test_a_compressed_section_that_lies_about_its_size_takes_no_memory(kind, size, tmp_path):
    sections, flags = compressed(CASES["all_versions_and_formats_in_one_file"]().file.sections(), "zlib")
    sections[".debug_info"] = struct.pack("<IIQQ", kind, 0, size, 1) + zstd_frame(b"few")
    path = written(tmp_path, write_elf(sections=sections, section_flags=flags), {})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ToolError, match="debug_info"):
        answers(path, [0x1000])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10
