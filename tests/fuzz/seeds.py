"""Write the first inputs of the C targets: real objects, real unwind tables and debug information, small.

Usage: .test-venv/bin/python tests/fuzz/seeds.py DIRECTORY

What is kept in tests/fuzz/corpus/ came from these and from what the fuzzers made of them.
"""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from elftools.elf.elffile import ELFFile

sys.path.insert(0, str(Path(__file__).resolve().parent))

import columnseeds  # noqa: E402
import symbolizeseeds  # noqa: E402

SOURCE = """
void *get(void); void put(void *); extern __attribute__((weak)) void maybe(void);
void *(*variable)(void) = get; void *(*const constant)(void) = get;
int mine(void) { return 1; }
void *a_function_of_a_rather_long_name(long n) { __builtin_memset(__builtin_alloca(n), 1, n); return get(); }
void work(int n) { _Alignas(64) char room[64]; put(room); for (int i = 0; i < n; i++) { put(get()); put(room); } if (maybe) maybe(); }
"""
LINKED = {"gnu": ["-Wl,--hash-style=gnu"], "sysv": ["-Wl,--hash-style=sysv"]}
SMALL = [
    "-shared", "-fPIC", "-O1", "-nostdlib", "-Wl,-N", "-Wl,-Ttext-segment=0", "-Wl,-z,max-page-size=4096", "-Wl,--build-id=sha1",
]  # fmt: skip
PAGE = 4096


def build(directory: Path, *flags: str) -> bytes:
    """Return a library."""
    (directory / "source.c").write_text(SOURCE)
    subprocess.run(["gcc", *SMALL, *flags, "-o", directory / "it.so", directory / "source.c"], check=True)
    return (directory / "it.so").read_bytes()


def memory(library: bytes) -> bytes:
    """Return its memory as the loader lays it out, before it is relocated."""
    image = bytearray(library[:PAGE])  # the headers, which no segment of so small a library holds
    for segment in ELFFile(io.BytesIO(library)).iter_segments("PT_LOAD"):
        at, data = segment["p_vaddr"], segment.data()
        image = image[:at] if len(image) > at else image + bytes(at - len(image))
        image += data
    return bytes(image)


def tables(library: bytes) -> list[bytes]:
    """Return inputs of the target cfi: its two sections as they stand, asked about each function."""
    elf = ELFFile(io.BytesIO(library))
    header, frames = (elf.get_section_by_name(name) for name in (".eh_frame_hdr", ".eh_frame"))
    gap = frames["sh_addr"] - header["sh_addr"] - header["sh_size"]
    raw = bytearray(header.data() + bytes(gap) + frames.data().rstrip(b"\0") + bytes(4))
    # The functions move to where the target has its code: behind the memory of the tables.
    moved = header["sh_addr"] + len(raw)
    text = elf.get_section_by_name(".text")["sh_addr"]
    places = []
    for at in range(12, header["sh_size"], 8):
        function, entry = struct.unpack_from("<ii", raw, at)
        vaddr = function + header["sh_addr"]
        if vaddr < text:
            vaddr = text  # the PLT
        place = vaddr - text
        struct.pack_into("<i", raw, at, moved + place - header["sh_addr"])
        struct.pack_into("<i", raw, entry + 8, moved + place - (entry + 8) - header["sh_addr"])
        places.append(place)
    return [struct.pack("<HHB", 0, place + step, 3) + bytes(raw) for place in places for step in (0, 12, 60)]


def main() -> None:
    """Write them all."""
    home = Path(sys.argv[1])
    for name in ("elfimage", "relocs", "cfi", "symbolize", "symbols", "columns"):
        (home / name).mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(columnseeds.inputs()):
        (home / "columns" / f"seed-{number}").write_bytes(data)
    with tempfile.TemporaryDirectory() as directory:
        for kind, flags in LINKED.items():
            library = build(Path(directory), *flags)
            image = memory(library)
            (home / "elfimage" / f"seed-{kind}").write_bytes(image)
            (home / "relocs" / f"seed-{kind}").write_bytes(image)
            for number, table in enumerate(tables(library)):
                (home / "cfi" / f"seed-{kind}-{number}").write_bytes(table)
        for name, data in symbolizeseeds.inputs(Path(directory)):
            (home / "symbolize" / f"seed-{name}").write_bytes(data)
        for name, data in symbolizeseeds.symbol_tables():
            (home / "symbols" / f"seed-{name}").write_bytes(data)


if __name__ == "__main__":
    main()
