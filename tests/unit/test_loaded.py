"""Objects of a running process: how mappings make loads, and the loader's lists, however damaged."""

import contextlib
import os
import struct

import pytest

from memleak import linkmaps, loaded


def loads(*mappings):
    """The number of mappings in each load; a mapping is (offset in pages, executable)."""
    placed = [(0x1000 * at, 0x1000 * page, code) for at, (page, code) in enumerate(mappings)]
    made = [loaded._Mapping(low, low + 0x1000, offset, code) for low, offset, code in placed]
    return [len(load) for load in loaded._loads(made)]


def test_loads():
    """One for each time the code is mapped, however the file is laid out."""
    separate = [(0, False), (1, True), (2, False), (2, False), (3, False)]
    assert loads(*separate) == [5]
    assert loads(*separate, *separate) == [5, 5]
    joint = [(0, True), (0, False), (0, False)]  # code and data in one page of the file
    assert loads(*joint) == [3]
    assert loads(*joint, *joint) == [3, 3]
    assert loads((0, False), (1, True), (2, True), (3, True)) == [4]  # code split by mprotect
    assert loads(*separate, (0, False)) == [6]  # somebody reads the file
    assert loads((0, False)) == loads() == []


def memory(tmp_path, words):
    """A file that stands for a process's memory: {address: bytes}."""
    path = tmp_path / "mem"
    with open(path, "wb") as stream:
        for at, content in words.items():
            stream.seek(at)
            stream.write(content.ljust(256, b"\0"))
    return os.open(path, os.O_RDONLY)


def words(*values):
    return b"".join(value.to_bytes(8, "little") for value in values)


@pytest.mark.parametrize("following", [0x1000, 0x2000, 0x9000, 1 << 63])
def test_list_that_cannot_be_followed_ends(tmp_path, following):
    """A circle, unmapped memory, an address of the kernel."""
    first, second = words(0, 0x3000, 0x111, 0x2000), words(0, 0, 0x222, following)
    fd = memory(tmp_path, {0x1000: first, 0x2000: second, 0x3000: b"a\0b"})
    with contextlib.closing(os.fdopen(fd)):
        assert linkmaps._objects(fd, 0x1000) == [("a", 0x111), ("", 0x222)]


def test_name_without_end_is_cut(tmp_path):
    """However long the memory is."""
    fd = memory(tmp_path, {0x1000: words(0, 0x2000, 1, 0), 0x2000: b"x" * 100_000})
    with contextlib.closing(os.fdopen(fd)):
        ((name, _),) = linkmaps._objects(fd, 0x1000)
    assert set(name) == {"x"} and 4096 <= len(name) < 4096 + 256


def test_lists_of_this_process():
    """Python and libc, in the only namespace there is."""
    (own,) = linkmaps.read(os.getpid())
    assert own[0].name == "" and any("libc.so" in link.name for link in own)


def test_lists_that_never_end_are_cut(tmp_path):
    """A process that invents sixteen namespaces of endless lists costs no more than one of them."""
    memory = bytearray(1 << 20)
    struct.pack_into("<IIQQQQQQ", memory, 4096, 6, 4, 64, 4096, 4096, 112, 112, 8)
    struct.pack_into("<IIQQQQQQ", memory, 4152, 2, 4, 512, 4608, 4608, 64, 64, 8)
    struct.pack_into("<QQ", memory, 4608, 21, 5000)
    for number in range(17):
        struct.pack_into("<i4xQQQQQ", memory, 5000 + 48 * number, 2, 8192, 0, 0, 0, 5048 + 48 * number)
    memory[8192 + 32 * 8192 :] = b"x" * (len(memory) - 8192 - 32 * 8192)
    for number in range(8192):
        at = 8192 + 32 * number
        struct.pack_into("<QQQQ", memory, at, 4096, 8192 + 32 * 8192 + number, 4608, at + 32)
    path = tmp_path / "memory"
    path.write_bytes(memory)
    with open(path, "rb") as file:
        found = linkmaps.follow(file.fileno(), {3: 4096, 5: 2})
    assert len(found) == 16 and sum(map(len, found)) == 4096


def object_of(path):
    return loaded.LoadedObject(str(path), "", False, 4096, 0, False)


@pytest.fixture
def library(compiled):
    """A library that defines one allocator and asks for another, whose symbols are found by their hash or all."""
    text = "void *malloc(unsigned long); void *je_malloc(unsigned long n) { return malloc(n); }"
    return compiled(text, "-shared", "-fPIC", "-Wl,--hash-style=both", name="liballocator.so")


def test_allocators(library, tmp_path):
    """What an object defines, not what it asks for: `malloc` is the end of `je_malloc` in its table of names."""
    assert loaded.allocators_in(os.getpid(), object_of(library)) == ("je_malloc",)
    assert loaded.is_elf(os.getpid(), object_of(library))
    libc = next(link.name for link in linkmaps.read(os.getpid())[0] if "libc.so" in link.name)
    assert loaded.allocators_in(os.getpid(), object_of(libc)) == ("malloc",)
    assert loaded.allocators_in(os.getpid(), object_of(tmp_path / "missing")) == ()


def test_hash_table_that_leads_in_a_circle(library, tmp_path):
    """A hostile file ends no worse than without names; following its chains would never end."""
    from elftools.elf.elffile import ELFFile

    with open(library, "rb") as stream:
        places = [(each["sh_offset"], each["sh_size"]) for each in ELFFile(stream).iter_sections("SHT_HASH")]
        stream.seek(0)
        image = bytearray(stream.read())
    for offset, size in places:
        struct.pack_into(f"<{size // 4 - 2}I", image, offset + 8, *[1] * (size // 4 - 2))
    path = tmp_path / "hostile.so"
    path.write_bytes(image)
    assert places and loaded.allocators_in(os.getpid(), object_of(path)) == ("je_malloc",)


@pytest.mark.timeout(60)
def test_pipe_in_place_of_an_object(tmp_path):
    """The file that a process had loaded may have been replaced by anything: nothing is waited for."""
    os.mkfifo(tmp_path / "pipe")
    assert not loaded.is_elf(os.getpid(), object_of(tmp_path / "pipe"))
    assert loaded.allocators_in(os.getpid(), object_of(tmp_path / "pipe")) == ()
