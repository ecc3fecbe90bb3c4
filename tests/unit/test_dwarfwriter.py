"""What the writer of DWARF writes is what other readers read."""

from __future__ import annotations

import io
import random
import shutil
import subprocess

import pytest
from compression import compressed, zstd_frame
from dwarftables import Ranges
from dwarfwriter import NEXT, Die, DwarfFile, Unit
from elftools.elf.elffile import ELFFile
from elfwriter import write_elf
from linewriter import LineProgram
from randomdwarf import RandomProgram


def small(version: int, **options: int) -> DwarfFile:
    """A unit with a function and a call inlined into it, of forms that every reader knows."""
    shared = Die("subprogram", [("name", "string", "callee"), ("inline", "data1", 1)])
    ranges = Ranges(
        [("pair", 0, 4), ("pair", 6, 8)] if version < 5 else [("offset_pair", 0, 4), ("start_length", 0x1006, 2)]
    )
    offset = "sec_offset" if version >= 4 else f"data{options.get('offset_size', 4)}"
    call = Die("inlined_subroutine", [
        ("abstract_origin", "ref4", shared), ("ranges", offset, ranges),
        ("call_file", "data1", 1), ("call_line", "udata", 300),
    ])  # fmt: skip
    high = ("high_pc", "data2", 16) if version >= 4 else ("high_pc", "addr", 0x1010)
    function = Die(
        "subprogram", [("sibling", "ref4", NEXT), ("name", "strp", "caller"), ("low_pc", "addr", 0x1000), high], [call]
    )
    tables = {"directories": ["/src"], "files": [("f.c", 0), ("g.c", 0)]} if version >= 5 else {"files": [("f.c", 0)]}
    program = LineProgram(version, **tables, **options)
    program.set_address(0x1000).standard("advance_line", 9).standard("copy").special(8, 3).standard(
        "advance_pc", 8
    ).end_sequence()
    root = Die("compile_unit", [
        ("name", "string", "f.c"), ("comp_dir", "strp", "/src"), ("stmt_list", offset, program),
        ("low_pc", "addr", 0x1000), high,
    ], [shared, function])  # fmt: skip
    return DwarfFile([Unit(version, root, aranges=[(0x1000, 16)], **options)])


def written(tmp_path, file: DwarfFile, **options: object) -> str:
    path = tmp_path / "program"
    path.write_bytes(write_elf(sections=file.sections(), **options))
    return str(path)


def entries(content: bytes):
    """Yield every entry as pyelftools reads it."""
    info = ELFFile(io.BytesIO(content)).get_dwarf_info(relocate_dwarf_sections=False)
    for unit in info.iter_CUs():
        yield from unit.iter_DIEs()


@pytest.mark.parametrize(
    ("version", "offset_size"),
    [(version, size) for version in (2, 3, 4, 5) for size in (4, 8) if version > 2 or size == 4],
)
def test_pyelftools_reads_what_was_written(version, offset_size):
    content = write_elf(sections=small(version, offset_size=offset_size).sections())
    found = [die for die in entries(content) if die.tag]
    names = [die.attributes["DW_AT_name"].value for die in found if "DW_AT_name" in die.attributes]
    assert names == [b"f.c", b"callee", b"caller"]
    assert found[3].get_DIE_from_attribute("DW_AT_abstract_origin") == found[1]
    assert found[3].attributes["DW_AT_call_line"].value == 300
    info = ELFFile(io.BytesIO(content)).get_dwarf_info()
    rows = [entry.state for entry in info.line_program_for_CU(found[0].cu).get_entries() if entry.state]
    assert [(row.address, row.line, row.end_sequence) for row in rows] == [
        (0x1000, 10, False), (0x1008, 13, False), (0x1010, 13, True),
    ]  # fmt: skip
    lists = info.range_lists()
    ranges = lists.get_range_list_at_offset(found[3].attributes["DW_AT_ranges"].value, cu=found[0].cu)
    assert len(ranges) == 2 and (ranges[0].begin_offset, ranges[0].end_offset) == (0, 4)
    if offset_size == 4:  # it knows no others of these
        assert info.get_aranges().cu_offset_at_addr(0x100F) == 0


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_llvms_verifier_finds_nothing(version, tmp_path):
    if not shutil.which("llvm-dwarfdump"):
        pytest.skip("llvm-dwarfdump is not installed")
    path = written(tmp_path, small(version))
    ran = subprocess.run(["llvm-dwarfdump", "--verify", path], capture_output=True, text=True)
    assert ran.returncode == 0 and "No errors." in ran.stdout, ran.stdout
    dump = subprocess.run(["llvm-dwarfdump", "--debug-info", path], capture_output=True, text=True)
    assert "[0x0000000000001006, 0x0000000000001008)" in dump.stdout and not dump.stderr


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_readelf_has_no_warnings(version, tmp_path):
    if not shutil.which("readelf"):
        pytest.skip("objcopy is not installed")  # they come together
    path = written(tmp_path, small(version))
    dump = subprocess.run(["readelf", "--debug-dump", path], capture_output=True, text=True)
    assert dump.returncode == 0 and not dump.stderr and "caller" in dump.stdout


@pytest.mark.parametrize("how", ["zlib", "zlib-gnu", "zstd"])
def test_compressed_sections_are_undone_by_objcopy(how, tmp_path):
    if not shutil.which("objcopy"):
        pytest.skip("objcopy is not installed")
    plain = small(4).sections()
    sections, flags = compressed(plain, how)
    path = tmp_path / "program"
    path.write_bytes(write_elf(sections=sections, section_flags=flags))
    undone = tmp_path / "undone"
    ran = subprocess.run(["objcopy", "--decompress-debug-sections", path, undone], capture_output=True, text=True)
    elf = ELFFile(io.BytesIO(undone.read_bytes() if ran.returncode == 0 else path.read_bytes()))
    section = elf.get_section_by_name(".debug_info")
    if how == "zstd" and (ran.returncode or section["sh_flags"] & 1 << 11):
        pytest.skip("objcopy is not installed with zstd")
    assert section.data() == plain[".debug_info"]


def test_a_frame_of_zstd_says_its_bytes_in_blocks():
    data = random.Random(1).randbytes(300_000)
    if shutil.which("zstd"):
        ran = subprocess.run(["zstd", "-d"], input=zstd_frame(data), capture_output=True)
        assert ran.stdout == data
    assert len(zstd_frame(data)) == len(data) + 13 + 3 * 3


def test_pyelftools_reads_every_entry_of_random_programs():
    """As many as were written, each where the writer says."""
    seen = 0
    for seed in range(400):
        program = RandomProgram(seed)
        written = program.make()
        if any(unit.header_version is not None or unit.version == 5 for unit in program.file.units):
            continue  # it stops at a unit of an unknown version, and at some of the forms of DWARF 5
        wanted = [die.offset for unit in program.file.units for die in unit.root.all()]
        assert [die.offset for die in entries(written.elf) if die.tag] == wanted
        seen += len(wanted)
    assert seen > 1000
