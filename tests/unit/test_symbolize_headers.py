"""What the headers say is what pyelftools says, of whole files and of damaged ones."""

from __future__ import annotations

import struct
import sys

import pytest
from elfwriter import ElfSymbol, write_elf
from hypothesis import given, settings
from hypothesis import strategies as st

from memleak.symbolize.elf import ElfError, elf_from_bytes, open_elf
from memleak.symbolize.headers import Headers, read_headers

BUILD_ID = bytes(range(20))
FORMATS = [(bits, little) for bits in (64, 32) for little in (True, False)]
FULL = {
    "symbols": [ElfSymbol("alpha", 0x1000)],
    "build_id": BUILD_ID,
    "debuglink": ("app.debug", 0x12345678),
    "sections": {".debug_info": b"x", ".debug_line": b"y", ".gnu_debugaltlink": b"../dwz/app\0" + bytes(20)},
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("headers") / "app"


def by_pyelftools(image: bytes) -> tuple[str, bool, bool] | None:
    """Return build-id, whether there are lines, and symbols; None if the file is refused."""
    try:
        with elf_from_bytes(image) as elf:
            names = {section.name for section in elf.sections if section.type != "SHT_NOBITS"}
            has_lines = any({prefix + "info", prefix + "line"} <= names for prefix in (".debug_", ".zdebug_"))
            return elf.build_id, has_lines, ".symtab" in names
    except ElfError:
        return None


def by_headers(path, image: bytes) -> tuple[str, bool, bool] | None:
    path.write_bytes(image)
    try:
        return read_headers(str(path))[:3]
    except ElfError:
        return None


@pytest.mark.parametrize(("bits", "little"), FORMATS)
def test_all_that_a_file_has_is_seen(place, bits, little):
    image = write_elf(**FULL, bits=bits, little_endian=little)
    place.write_bytes(image)
    link = ("app.debug", 0x12345678)
    expected = Headers(BUILD_ID.hex(), True, True, link, "../dwz/app", bits, len(image), place.stat().st_mtime_ns)
    assert read_headers(str(place)) == expected


@pytest.mark.parametrize(("bits", "little"), FORMATS)
def test_the_build_id_is_found_without_a_section_table(place, bits, little):
    image = write_elf(build_id=BUILD_ID, section_table=False, bits=bits, little_endian=little)
    assert by_headers(place, image) == (BUILD_ID.hex(), False, False)


def test_a_file_with_nothing_has_nothing(place):
    place.write_bytes(write_elf())
    assert read_headers(str(place))[:5] == ("", False, False, None, None)


@pytest.mark.parametrize("name", ["../secret", "a/b", ".", ".."])
def test_a_debug_link_with_a_directory_is_refused(place, name):
    place.write_bytes(write_elf(debuglink=(name, 1)))
    assert read_headers(str(place)).debuglink is None


def test_a_relocatable_file_is_refused(place):
    place.write_bytes(write_elf(type="rel"))
    with pytest.raises(ElfError, match="neither a program nor a library"):
        read_headers(str(place))


@pytest.mark.parametrize("path", [sys.executable, "/lib/x86_64-linux-gnu/libc.so.6"])
def test_real_files_are_read_alike(path):
    try:
        elf = open_elf(path)
    except ElfError as error:
        pytest.skip(f"{path}: {error}")
    with elf:
        names = {section.name for section in elf.sections if section.type != "SHT_NOBITS"}
    assert read_headers(path)[:3] == (elf.build_id, {".debug_info", ".debug_line"} <= names, ".symtab" in names)


def test_a_count_that_stands_in_section_0_is_found_there(place):
    image = bytearray(write_elf(**FULL))
    (table,) = struct.unpack_from("<Q", image, 40)
    (count, names) = struct.unpack_from("<HH", image, 60)
    struct.pack_into("<HH", image, 60, 0, 0xFFFF)
    struct.pack_into("<Q", image, table + 32, count)
    struct.pack_into("<I", image, table + 40, names)
    assert by_headers(place, bytes(image)) == by_pyelftools(bytes(image)) == (BUILD_ID.hex(), True, True)


def test_absurd_counts_are_refused(place):
    image = bytearray(write_elf(**FULL))
    (table,) = struct.unpack_from("<Q", image, 40)
    struct.pack_into("<H", image, 60, 0)
    struct.pack_into("<Q", image, table + 32, 2**60)
    place.write_bytes(image)
    with pytest.raises(ElfError, match="sections"):
        read_headers(str(place))


def notes_file(content: bytes) -> bytes:
    """A library with one section: these notes."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 0, 64, 0, 64, 56, 0, 64, 1, 0)
    return header + struct.pack("<IIQQQQIIQQ", 0, 7, 2, 0, 128, len(content), 0, 0, 4, 0) + content


GOOD = struct.pack("<III4s4s", 4, 4, 3, b"GNU\0", b"abcd")


@pytest.mark.parametrize(
    ("notes", "found"),
    [
        (struct.pack("<III4s3s", 4, 3, 3, b"GNU\0", b"abc"), "616263"),
        (struct.pack("<III4s4s", 4, 1, 1, b"GNU\0", b"x") + GOOD, "61626364"),
        (struct.pack("<III8s4s", 5, 4, 3, b"GNUX\0", b"abcd") + GOOD, "61626364"),
        (struct.pack("<III4s4s", 4, 4, 5, b"GNU\0", b"abcd"), ""),
        (struct.pack("<III4s4s", 4, 5, 3, b"GNU\0", b"abcd"), ""),
        (struct.pack("<III", 0, 0xFFFFFFFC, 1) + GOOD, ""),
        (struct.pack("<III", 0, 0, 3) * 3, ""),
        (b"\0" * 11, ""),
    ],
    ids=["alone", "second", "another name", "another type", "cut", "behind a lie", "no name", "short"],
)
def test_the_build_id_among_notes(place, notes, found):
    content = notes_file(notes)
    assert by_headers(place, content) == by_pyelftools(content) == (found, False, False)


def test_sections_without_bytes_are_none(place):
    """In a debug file the code's sections are named and empty; so may these be in what `strip` leaves."""
    image = bytearray(write_elf(**FULL))
    (table,) = struct.unpack_from("<Q", image, 40)
    (count,) = struct.unpack_from("<H", image, 60)
    for number in range(1, count):
        kind = struct.unpack_from("<I", image, table + 64 * number + 4)[0]
        if kind in (1, 2):
            struct.pack_into("<I", image, table + 64 * number + 4, 8)
    assert by_headers(place, bytes(image)) == by_pyelftools(bytes(image)) == (BUILD_ID.hex(), False, False)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_files_are_read_alike(place, data):
    bits, little = data.draw(st.sampled_from(FORMATS))
    image = bytearray(write_elf(**FULL, bits=bits, little_endian=little, text=bytes(16)))
    places = st.one_of(st.integers(0, 240), st.integers(0x1000, len(image) - 1))
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(places)
        value = data.draw(st.one_of(st.sampled_from([b"\xff" * 8, bytes(8), b"\x7f" * 4]), st.binary(max_size=8)))
        image[at : at + len(value)] = value
    image = image[: data.draw(st.one_of(st.just(len(image)), st.integers(0, len(image))))]
    # It refuses a little more: to find one count it reads parts of section 0 that we do not need.
    expected = by_pyelftools(bytes(image))
    assert by_headers(place, bytes(image)) == expected or expected is None


@pytest.mark.parametrize(("bits", "little"), FORMATS)
def test_each_byte_of_the_headers_counts_as_pyelftools_says(place, bits, little):
    image = write_elf(**FULL, bits=bits, little_endian=little, text=bytes(16))
    for at in [*range(0, 180), *range(0x1000, len(image), 7)]:
        damaged = bytearray(image)
        damaged[at] ^= 0xFF
        assert by_headers(place, bytes(damaged)) == by_pyelftools(bytes(damaged)), at
