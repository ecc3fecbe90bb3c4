"""ELF files are read as they are, and hostile ones cost their names and nothing else."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import struct
import subprocess
import time

import pytest
from elfwriter import ElfSymbol, write_elf
from hypothesis import given, settings
from hypothesis import strategies as st

from memleak.symbolize import elf as elf_module
from memleak.symbolize.elf import ElfError, elf_from_bytes, open_elf, own_vdso
from memleak.symbolize.symbols import SymbolTable

BUILD_ID = bytes(range(20))
FORMATS = [(bits, little) for bits in (64, 32) for little in (True, False)]
FULL = {
    "symbols": [ElfSymbol("alpha", 0x1000), ElfSymbol("beta", 0x1010, bind="local")],
    "dynamic_symbols": [ElfSymbol("alpha", 0x1000)],
    "build_id": BUILD_ID,
    "debuglink": ("app.debug", 0x12345678),
    "sections": {".debug_info": b"x", ".debug_line": b"y"},
}


@pytest.mark.parametrize(("bits", "little"), FORMATS)
def test_every_class_and_byte_order_is_read(bits, little):
    image = elf_from_bytes(write_elf(**FULL, bits=bits, little_endian=little))
    assert (image.bits, image.little_endian) == (bits, little)
    assert image.build_id == BUILD_ID.hex()
    assert image.debuglink == ("app.debug", 0x12345678)
    assert image.has_lines
    assert SymbolTable([image]).find(0x1018) == "beta"


@pytest.mark.parametrize(("bits", "little"), FORMATS)
def test_the_build_id_is_found_without_a_section_table(bits, little):
    image = elf_from_bytes(write_elf(build_id=BUILD_ID, section_table=False, bits=bits, little_endian=little))
    assert image.build_id == BUILD_ID.hex()
    assert image.sections == []


def test_a_file_without_note_link_or_debug_sections_has_none():
    image = elf_from_bytes(write_elf())
    assert (image.build_id, image.debuglink, image.has_lines) == ("", None, False)
    assert SymbolTable([image]).find(0x1000) is None


@pytest.mark.parametrize(("bits", "little"), FORMATS)
def test_readelf_agrees_with_what_the_builder_writes(tmp_path, bits, little):
    if shutil.which("readelf") is None:
        pytest.skip("readelf is not installed")
    path = tmp_path / "app"
    path.write_bytes(write_elf(**FULL, bits=bits, little_endian=little))
    done = subprocess.run(
        ["readelf", "-hlSsnW", str(path)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C"},
    )
    assert "error" not in (done.stdout + done.stderr).lower()
    # A library without a dynamic section: readelf looks for its symbols at address 0.
    warnings = [line for line in done.stderr.splitlines() if "Virtual address 0 not located" not in line]
    assert warnings == []
    assert f"Build ID: {BUILD_ID.hex()}" in done.stdout
    assert re.search(r"0*1010\s+16 FUNC\s+LOCAL\s+DEFAULT\s+1 beta", done.stdout)


@pytest.mark.parametrize("name", ["../secret", "a/b", ".", ".."])
def test_a_debug_link_with_a_directory_is_refused(name):
    assert elf_from_bytes(write_elf(debuglink=(name, 1))).debuglink is None


def test_what_is_not_an_elf_program_is_refused(tmp_path):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    text = tmp_path / "text"
    text.write_text("#!/bin/sh\n")
    empty = tmp_path / "empty"
    empty.touch()
    relocatable = tmp_path / "a.o"
    relocatable.write_bytes(write_elf(type="rel"))
    for path, reason in [
        (fifo, "not a regular file"),
        (tmp_path, "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (text, "not an ELF file"),
        (empty, "not an ELF file"),
        (relocatable, "neither a program nor a library"),
        (tmp_path / "missing", "No such file"),
        ("with\0nul", "null"),
    ]:
        with pytest.raises(ElfError, match=reason):
            open_elf(str(path))


def test_refused_files_are_closed(tmp_path):
    path = tmp_path / "text"
    path.write_text("no")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(ElfError):
            open_elf(str(path))
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_section_that_claims_too_much_is_refused_and_costs_nothing(monkeypatch):
    image = elf_from_bytes(write_elf(**FULL))
    monkeypatch.setattr(elf_module, "MAX_SECTION_BYTES", 10)
    with pytest.raises(ElfError, match="says it has"):
        image.data(image.section(".symtab"))
    assert SymbolTable([image]).find(0x1000) is None


def test_absurd_counts_are_refused_or_ignored():
    good = bytearray(write_elf(**FULL))
    (table_offset,) = struct.unpack_from("<Q", good, 40)
    # e_shnum = 0 means: the count is in section 0's size.
    struct.pack_into("<H", good, 60, 0)
    struct.pack_into("<Q", good, table_offset + 32, 2**60)
    with pytest.raises(ElfError, match="sections"):
        elf_from_bytes(bytes(good))


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_no_mutation_of_a_file_raises_anything_but_elf_error(data):
    bits, little = data.draw(st.sampled_from(FORMATS))
    image = bytearray(write_elf(**FULL, bits=bits, little_endian=little, text=bytes(16)))
    # Headers and tables, not the padding in between, where a change would change nothing.
    places = st.one_of(st.integers(0, 240), st.integers(0x1000, len(image) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(places)
        value = data.draw(st.one_of(st.sampled_from([b"\xff" * 8, bytes(8), b"\x7f" * 4]), st.binary(max_size=8)))
        image[place : place + len(value)] = value
    image = image[: data.draw(st.one_of(st.just(len(image)), st.integers(0, len(image))))]
    try:
        elf = elf_from_bytes(bytes(image))
        _ = (elf.debuglink, elf.has_lines)
        table = SymbolTable([elf])
        for address in (0, 0x1000, 0x1015, 2**64 - 1):
            table.find(address)
    except ElfError:
        pass


def test_the_vdso_of_this_process_is_readable():
    try:
        image = own_vdso()
    except ElfError as error:
        assert "no vDSO" in str(error) or "cannot be read" in str(error)  # some sandboxes have none
        return
    assert image.build_id
    table = SymbolTable([image])
    assert len(table) > 0


def notes_file(content: bytes, sections: int) -> bytes:
    """A library whose *sections* are all the same notes."""
    table = 64 + 64 * sections
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, sections, 0)
    one = struct.pack("<IIQQQQIIQQ", 0, 7, 2, 0, table, len(content), 0, 0, 4, 0)
    return header + one * sections + content


def test_notes_take_time_in_proportion():
    """1 MB of properties in the note of 100 sections within 5 s on a busy machine (they took 30 s, and 160 MB)."""
    properties = struct.pack("<III4s", 4, (1 << 20) - 16, 5, b"GNU\0") + bytes((1 << 20) - 16)
    began = time.process_time()
    with contextlib.suppress(ElfError):
        elf_from_bytes(notes_file(properties, 100))
    assert time.process_time() - began < 5


@pytest.mark.parametrize(
    ("notes", "found"),
    [
        (struct.pack("<III4s3s", 4, 3, 3, b"GNU\0", b"abc"), "616263"),
        (struct.pack("<III4s4s", 4, 1, 1, b"GNU\0", b"x") + struct.pack("<III4s4s", 4, 4, 3, b"GNU\0", b"abcd"), "61626364"),
        (struct.pack("<III8s4s", 5, 4, 3, b"GNUX\0", b"abcd"), ""),
        (struct.pack("<III4s4s", 4, 4, 5, b"GNU\0", b"abcd"), ""),
        (struct.pack("<III4s4s", 4, 5, 3, b"GNU\0", b"abcd"), ""),
        (struct.pack("<III", 0xFFFFFFFF, 0xFFFFFFFF, 3), ""),
        (struct.pack("<III", 0, 0, 3) * 3, ""),
        (b"\0" * 11, ""),
    ],
    ids=["alone", "second", "another name", "another type", "cut", "huge", "no name", "short"],
)
def test_build_id_among_notes(notes, found):
    """The one of the type and name; what lies about its length hides what follows it."""
    assert elf_from_bytes(notes_file(notes, 1)).build_id == found
